"""Tokens per second of `prepare` and of ModelOpt's `megatron_preprocess_data`, in turn, and what memory ours takes.

    python benchmarks/tokenise.py [--pairs 3] [--megabytes 80] [--vocabulary 32000]

Makes a corpus of the Python and text files of this environment (documents of 200 to 12,000 characters, 2,500 in the
mean), trains a byte-level tokenizer on a part of it, and has both tokenise it on the first two cores, two worker
processes each, every attempt in a process of its own. What is timed is the tokenising call, imports left out for both;
tokens come from the .bin. Their files must be equal, byte for byte. On a shared machine the clock says little and the
processors' time more: the second ratio is of tokens per second of processor time, workers included. Then ours runs on
1x and 8x the corpus, a process each, and the peak of its memory, its workers' included, is printed.
"""

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CORES = 2


def main() -> None:
    """Make the corpus, run the pairs, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=80)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--attempt", nargs=3, metavar=("WHO", "CORPUS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attempt:
        who, corpus, folder = options.attempt
        attempt(who, Path(corpus), Path(folder))
        return
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        make_corpus(scratch / "corpus.jsonl", options.megabytes * 10**6)
        train_tokenizer(scratch / "tokenizer", scratch / "corpus.jsonl", options.vocabulary)
        print("| pair | ModelOpt, tokens/s | ours, tokens/s | ratio | ratio per processor second |", flush=True)
        print("|---|---:|---:|---:|---:|", flush=True)
        ratios = []
        for pair in range(options.pairs):
            order = ("modelopt", "ours") if pair % 2 == 0 else ("ours", "modelopt")
            rate = {who: run(who, scratch / "corpus.jsonl", scratch / f"{who}-{pair}") for who in order}
            same(scratch / f"modelopt-{pair}", scratch / f"ours-{pair}")
            theirs, ours = rate["modelopt"], rate["ours"]
            ratios.append([ours[kind] / theirs[kind] for kind in ("rate", "processor_rate")])
            shown = " | ".join(f"{ratio:.2f}" for ratio in ratios[-1])
            print(f"| {pair + 1} | {theirs['rate']:,.0f} | {ours['rate']:,.0f} | {shown} |", flush=True)
        medians = " | ".join(f"**{statistics.median(kind):.2f}**" for kind in zip(*ratios, strict=True))
        print(f"| **median** | | | {medians} |\n", flush=True)
        eightfold = scratch / "eightfold.jsonl"
        with open(eightfold, "wb") as file:
            for _ in range(8):
                file.write((scratch / "corpus.jsonl").read_bytes())
        print("| corpus | tokens | peak memory, MiB |\n|---|---:|---:|")
        for label, corpus in (("1x", scratch / "corpus.jsonl"), ("8x", eightfold)):
            found = run("ours", corpus, scratch / label)
            print(f"| {label} | {found['tokens']:,} | {found['peak']:,.0f} |", flush=True)


def run(who: str, corpus: Path, folder: Path) -> dict:
    """One attempt in a process of its own on the first cores; its rates, tokens and peak of memory in MiB."""
    command = [sys.executable, __file__, "--attempt", who, str(corpus), str(folder)]
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, memory_of(process.pid))
        time.sleep(0.02)
    assert process.returncode == 0, f"{who} failed: {' '.join(command)}"
    seconds, processor_seconds = json.loads(process.stdout.read().splitlines()[-1])
    (binary,) = folder.rglob("*.bin")
    tokens = binary.stat().st_size // 2
    return {
        "rate": tokens / seconds,
        "processor_rate": tokens / processor_seconds,
        "tokens": tokens,
        "peak": peak / 2**20,
    }


def memory_of(process: int) -> int:
    """Bytes that a process and its children have to themselves, what they share counted once (PSS)."""
    total = 0
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        total += sum(memory_of(int(child)) for child in children)
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has just ended
    return total


def attempt(who: str, corpus: Path, folder: Path) -> None:
    """Tokenise `corpus` into `folder`; the last line printed is the seconds of it, and of processor time."""
    tokenizer = str(corpus.parent / "tokenizer")
    if who == "ours":
        from nemo_distill.data.files import LocalFile
        from nemo_distill.data.tokenise import Job, Treatment, Workers, tokenise
        from nemo_distill.data.tokenizer import Tokenizer

        folder.mkdir()
        treatment = Treatment(field="text", max_document_tokens=256_000, join_newlines=False)
        job = Job(source="corpus", files=[LocalFile(corpus, corpus.name)], treatment=treatment, max_malformed=0.01)
        started = time.perf_counter(), processor_time()
        with Workers(Tokenizer(tokenizer)) as workers:
            tokenise(job, workers, folder / "corpus", say=lambda share, tokens_per_second: None)
    else:
        from modelopt.torch.utils.plugins.megatron_preprocess_data import megatron_preprocess_data

        started = time.perf_counter(), processor_time()
        megatron_preprocess_data(
            jsonl_paths=[str(corpus)],
            output_dir=folder,
            tokenizer_name_or_path=tokenizer,
            append_eod=True,
            max_sequence_length=256_000,
            workers=CORES,
        )
    seconds = time.perf_counter() - started[0]
    gc.collect()  # ModelOpt leaves its pool to be collected; its workers' time counts once they have ended
    print(f"\n{[seconds, processor_time() - started[1]]}")


def processor_time() -> float:
    """Seconds of processor time of this process and of those of its children that have ended."""
    return sum(os.times()[:4])


def same(one: Path, other: Path) -> None:
    """Fail unless both folders hold the same .bin and .idx."""
    for ending in ("bin", "idx"):
        (ours,), (theirs,) = one.rglob(f"*.{ending}"), other.rglob(f"*.{ending}")
        assert ours.read_bytes() == theirs.read_bytes(), f"{ours} and {theirs} differ"


def make_corpus(path: Path, characters: int) -> None:
    """Documents cut from the files of this environment, in an order that is always the same."""
    rng = random.Random(0)
    site = Path(json.__file__).parent.parent, *(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
    files = sorted(
        file for folder in site for ending in ("py", "md", "txt", "rst") for file in folder.rglob(f"*.{ending}")
    )
    rng.shuffle(files)
    written = 0
    with open(path, "w", encoding="utf-8") as out:
        for file in files:
            text = file.read_text(encoding="utf-8", errors="ignore")
            at = 0
            while at < len(text) and written < characters:
                length = int(min(max(rng.lognormvariate(7.6, 0.9), 200), 12_000))
                out.write(json.dumps({"text": text[at : at + length]}, ensure_ascii=False) + "\n")
                at += length
                written += length


def train_tokenizer(folder: Path, corpus: Path, size: int) -> None:
    """A byte-level BPE tokenizer with GPT-2's pre-tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    with open(corpus, encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line, _ in zip(file, range(5_000))]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)


if __name__ == "__main__":
    main()
