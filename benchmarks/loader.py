"""Tokens per second of the blend's data loader over those of a training step, and how long its indices take to build.

    python benchmarks/loader.py [--gigabytes 1.5] [--step 11000] [--workers 4] [--seconds 10]

Writes made-up tokens of the study's 30pre_70post_v1v3 blend, a .bin and .idx for each of its twelve sources in the
proportion of their shares, with documents of 1,500 tokens in the mean. Then, each in a process of its own:

- the indices of the study's whole run (12.3M sequences of 8,192 tokens, 100B) are built, as a step would that finds
  none, and opened, as one does that finds them;
- sequences are read through the data module and the sampler that training uses, one rank, micro batch 1, from files
  that are in the page cache and from files that are not.

`--step` is what one GPU trains in tokens per second; the loader is to give twenty times as many. Files are put out of
the page cache with posix_fadvise and the share that is still in it is measured with mincore; on a file system that
ignores it that share says so.
"""

import argparse
import ctypes
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SHARES = {
    "sft-code": 5, "sft-general": 20, "sft-math": 5, "math-v2-part00": 15, "math-v2-part01": 15,
    "competitive-python": 15, "competitive-cpp": 5, "stem": 10, "science-mcq": 3, "science-rqa": 2,
    "instruction-reasoning-on": 3, "instruction-reasoning-off": 2,
}  # fmt: skip
COURSE = {
    "max_iterations": 16_000, "global_batch_size": 768, "micro_batch_size": 1, "seq_length": 8192,
    "learning_rate": 1e-4, "min_learning_rate": 1e-5, "warmup_iterations": 100, "weight_decay": 0.1, "clip_grad": 1.0,
    "seed": 1234, "precision": "32",
}  # fmt: skip
VOCABULARY, MEAN_TOKENS = 131_072, 1500
WARM_UP = 64
"""Sequences that are read before the clock starts."""


def main() -> None:
    """Make the files, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.5)
    parser.add_argument("--step", type=float, default=11_000, help="tokens per second that one GPU trains")
    parser.add_argument("--workers", type=int, default=4, help="processes of the loader, as in training")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--attempt", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attempt:
        what, folder = options.attempt
        print(json.dumps(attempt(what, Path(folder), options)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = make(folder, options.gigabytes * 1e9)
        print(f"{made:,} tokens in {len(SHARES)} sources, {options.workers} workers", flush=True)
        print("| indices of 16,000 iterations | s | of which blending |\n|---|---:|---:|", flush=True)
        for what in ("build", "open"):
            found = run("index", folder, options)
            print(f"| {what} | {found['seconds']:.1f} | {found['blending']:.1f} |", flush=True)
        size = sum(path.stat().st_size for path in (folder / "index").iterdir())
        print(f"\n{size / 1e9:.2f} GB of indices\n", flush=True)
        print(
            "| .bin files | in the page cache before | tokens/s | over the step's |\n|---|---:|---:|---:|", flush=True
        )
        for what in ("cold", "warm"):
            for path in folder.glob("*.bin"):
                drop(path) if what == "cold" else path.read_bytes()
            before = cached(folder)
            rate = run("read", folder, options)["rate"]
            print(f"| {what} | {before:.0%} | {rate:,.0f} | **{rate / options.step:.1f}** |", flush=True)


def make(folder: Path, size: float) -> int:
    """Write the sources, `size` bytes of tokens in all; returns the number of tokens."""
    from nemo_distill.data.indexed import IndexedWriter

    numbers, made = np.random.default_rng(0), 0
    for source, share in SHARES.items():
        wanted = int(size / 4 * share / 100)
        with IndexedWriter(folder / source, vocab_size=VOCABULARY) as writer:
            while writer.tokens < wanted:
                lengths = numbers.lognormal(np.log(MEAN_TOKENS) - 0.5, 1.0, 512).astype(np.int32) + 1
                writer.add(numbers.integers(0, VOCABULARY, lengths.sum(), dtype=np.int32), lengths)
            made += writer.tokens
            writer.finish()
    return made


def run(what: str, folder: Path, options) -> dict:
    """An attempt in a process of its own."""
    command = [sys.executable, __file__, "--attempt", what, str(folder)]
    command += ["--workers", str(options.workers), "--seconds", str(options.seconds)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def attempt(what: str, folder: Path, options) -> dict:
    """Build or open the indices, or read sequences; returns what was measured."""
    from nemo_distill import backends

    backends.prepared()
    from nemo.utils import AppState

    from nemo_distill.backends.nemo import trainer as training
    from nemo_distill.backends.nemo.indices import build, one_process
    from nemo_distill.config.blend import megatron_blend
    from nemo_distill.train.course import Course

    with one_process():
        course = Course(**COURSE)
        data = training.data_module(
            course,
            megatron_blend(SHARES, {source: str(folder / source) for source in SHARES}),
            tokenizer=StandIn(),
            index_folder=folder / "index",
        )
        blending = time_of_blending()
        started = time.perf_counter()
        build(data, course)
        seconds = time.perf_counter() - started
        if what == "index":
            return {"seconds": seconds, "blending": sum(blending)}
        data.num_workers = options.workers
        data.trainer = type("Trainer", (), {"global_step": 0})
        AppState().data_parallel_size = 1
        data.data_sampler.setup(0)
        loader = data.data_sampler.transform_dataloader(data.train_dataloader())
        batches, tokens = iter(loader), 0
        for _ in range(WARM_UP):
            next(batches)
        started = time.perf_counter()
        while time.perf_counter() - started < options.seconds:
            tokens += next(batches)["tokens"].numel()
        return {"rate": tokens / (time.perf_counter() - started)}


class StandIn:
    """What Megatron asks of a tokenizer while it reads tokens."""

    unique_identifiers = "none"
    eod = eos_id = 2
    pad = 0


def time_of_blending() -> list[float]:
    """A list that receives the seconds of each call that spreads the run's sequences over the sources."""
    from megatron.core.datasets import helpers

    taken, inside = [], helpers.build_blending_indices

    def timed(*arguments):
        started = time.perf_counter()
        inside(*arguments)
        taken.append(time.perf_counter() - started)

    helpers.build_blending_indices = timed
    return taken


def drop(path: Path) -> None:
    """Put a file out of the page cache."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached(folder: Path) -> float:
    """The share of the .bin files that is in the page cache."""
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    pages = inside = 0
    for path in folder.glob("*.bin"):
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            count = -(-len(mapped) // mmap.PAGESIZE)
            seen = (ctypes.c_ubyte * count)()
            start = ctypes.c_char.from_buffer(mapped)
            if mincore(ctypes.byref(start), ctypes.c_size_t(len(mapped)), seen):
                raise OSError(ctypes.get_errno(), "mincore")
            del start
            pages, inside = pages + count, inside + int((np.frombuffer(seen, np.uint8) & 1).sum())
    return inside / pages


if __name__ == "__main__":
    main()
