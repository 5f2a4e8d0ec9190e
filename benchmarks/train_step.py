"""A distillation step with everything on, at the study's shapes, through NeMo's trainer, over the GPUs of this machine.

    python benchmarks/train_step.py --to FOLDER [--layouts dp2-fp8teacher,tp2-fp8both] [--iterations 10] [--warm-up 5]
        [--breakdown]
    python benchmarks/train_step.py --to FOLDER --only microbatch        # on one GPU, while nothing else runs on it
    python benchmarks/train_step.py --to FOLDER --shape debug --layouts dp2,tp2            # on CPUs, over gloo

Teacher and student of random weights, made on the GPUs; no checkpoint is read or written. All else is a training's own:
NeMo's trainer, its distributed optimizer, gradients in bf16, our kernels and loss, the health gate, the data loader,
over random tokens. Each copy of the model takes 8 sequences of 8,192 tokens in an iteration, one at a time.

A layout is parts joined by `-`: `dp2` (copies of the model), `tp2` (ranks that share each layer), `cp2` (that share
each sequence), `fp8teacher` or `fp8both`; ranks are their product. A candidate is a layout and what is changed, behind
`+`: `micro_batch_size=2`, `recompute=mlp`, `gradients=float32`, `sequence_parallel=false`, `overlap_grad_reduce=false`,
`overlap_param_gather=false`, `bucket_size=200000000`, or a variable (`CUDA_DEVICE_MAX_CONNECTIONS=1`,
`NCCL_MIN_NCHANNELS=16`). NCCL_NVLS_ENABLE is 0 throughout: programs that use NVLink multicast can stop a shared host.

Layouts run one after another, each in processes of its own, the next of which import NeMo while one trains
(`--no-ahead`: not before it has ended). Beside them stands the microbatch of the same precision on one GPU without an
optimizer (`benchmarks/kd_step.py`), measured first or by `--only microbatch`. Every figure is a JSON line of
FOLDER/train_step.jsonl as soon as it is known; a table of all lines there comes last, and `--only table` makes it anew.

Tokens per second are of the median iteration, from the end of the one before to its end. The bound is how long the
step's matrix products, 2 FLOPs per parameter and token forward and 4 backward, would take at the card's own rate of
each precision. With `--breakdown` one iteration more is profiled, on every rank.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

HERE = Path(__file__).resolve()
LAYOUTS = "dp2-fp8teacher,dp2-fp8both,tp2-fp8teacher,tp2-fp8both"
LINES = "train_step.jsonl"
BASELINES = {"none": "mixer", "teacher": "fp8-teacher", "both": "fp8-both"}
"""Line of `kd_step.py` that a precision is measured by."""
SETTINGS = ("micro_batch_size", "recompute", "gradients")
STRATEGY = ("sequence_parallel", "overlap_grad_reduce", "overlap_param_gather", "bucket_size")
NVLS = "NCCL_NVLS_ENABLE"
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How ranks share the work, and what is tried with it."""

    name: str
    """As it was given."""
    data_parallel: int = 1
    """Copies of the model."""
    tensor_parallel: int = 1
    """Ranks that share each layer."""
    context_parallel: int = 1
    """Ranks, times as many, that share each sequence."""
    fp8: str = "none"
    """Models whose matrix products are in FP8."""
    changes: dict[str, str] = field(default_factory=dict)
    """Settings in `SETTINGS` and `STRATEGY`."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables."""

    @classmethod
    def of(cls, name: str) -> "Layout":
        """The layout of that name. Raises `ValueError` where it is none.

        >>> Layout.of("tp2-fp8both+micro_batch_size=2").ranks
        2
        """
        shape, *changes = name.split("+")
        fields: dict = {}
        sizes = {"dp": "data_parallel", "tp": "tensor_parallel", "cp": "context_parallel"}
        for part in shape.split("-"):
            if part[:2] in sizes and part[2:].isdigit() and int(part[2:]):
                fields[sizes[part[:2]]] = int(part[2:])
            elif part in ("fp8teacher", "fp8both"):
                fields["fp8"] = part.removeprefix("fp8")
            else:
                raise ValueError(f"{name!r}: {part!r} is none of dpN, tpN, cpN, fp8teacher, fp8both")
        made: dict[str, dict[str, str]] = {"changes": {}, "variables": {}}
        for change in changes:
            key, _, value = change.partition("=")
            if key not in (*SETTINGS, *STRATEGY) and not key.isupper():
                raise ValueError(f"{name!r}: {key!r} is no variable and none of {', '.join((*SETTINGS, *STRATEGY))}")
            if key == NVLS and value != "0":
                raise ValueError(f"{name!r}: NVLink multicast stays off")
            made["variables" if key.isupper() else "changes"][key] = value
        return cls(name=name, **fields, **made)

    @property
    def ranks(self) -> int:
        """Processes, each with a GPU."""
        return self.data_parallel * self.tensor_parallel * self.context_parallel


def main() -> None:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, required=True, help="folder of the figures and of what ranks write")
    parser.add_argument(
        "--layouts", default=LAYOUTS, help="in turn, separated by commas; `name+key=value`: a candidate"
    )
    parser.add_argument("--only", choices=("microbatch", "layouts", "table"), help="that alone")
    parser.add_argument("--shape", choices=("study", "debug"), default="study")
    parser.add_argument("--iterations", type=int, default=10, help="that are measured")
    parser.add_argument("--warm-up", type=int, default=5, help="iterations before them")
    parser.add_argument("--sequences", type=int, default=8, help="of an iteration and copy of the model")
    parser.add_argument("--seq-length", type=int, help="tokens; 8192, of the debug shape 64")
    parser.add_argument("--breakdown", action="store_true", help="profile one iteration more")
    parser.add_argument("--no-ahead", action="store_true", help="start a layout's processes once the one before ended")
    parser.add_argument("--limit", type=float, default=240, help="seconds a layout may take")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the ranks would stay on their GPUs
    least = {"iterations": 1, "warm_up": 0, "sequences": 1, "seq_length": 1, "limit": 1}
    for name, at_least in least.items():
        number = getattr(options, name)
        if number is not None and number < at_least:
            parser.error(f"--{name.replace('_', '-')} {number}: at least {at_least}")
    try:
        layouts = [Layout.of(name) for name in options.layouts.split(",")]
    except ValueError as error:
        parser.error(str(error))
    options.to.mkdir(parents=True, exist_ok=True)
    options.seq_length = options.seq_length or (8192 if options.shape == "study" else 64)
    begin = time.monotonic()
    if options.only in (None, "microbatch") and options.shape == "study":
        microbatch(options, sorted({layout.fp8 for layout in layouts}))
    if options.only in (None, "layouts"):
        for layout, seconds, problem in run(layouts, options):
            note(options.to, {"layout": layout.name, "event": "ended", "seconds": seconds, "problem": problem})
    print(f"\n{table(read(options.to))}\n\nin {time.monotonic() - begin:.0f} s", flush=True)


# -- processes


def run(layouts: list[Layout], options: argparse.Namespace) -> Iterator[tuple[Layout, float, str]]:
    """Train with each layout in turn; yields how long it took from its turn on, and what went wrong."""
    started: dict[str, subprocess.Popen] = {}
    try:
        for place, layout in enumerate(layouts):
            if layout.name not in started:
                started[layout.name] = start(layout, options)
            begin = time.monotonic()
            (folder_of(options.to, layout) / "go").touch()
            if not options.no_ahead and place + 1 < len(layouts):
                following = layouts[place + 1]
                started[following.name] = start(following, options)
            problem = ended(started[layout.name], options.limit)
            del started[layout.name]
            if problem:
                problem = f"{problem}; {last_words(folder_of(options.to, layout) / 'log.txt')}"
            yield layout, time.monotonic() - begin, problem
    finally:
        for process in started.values():
            stop(process)


def folder_of(to: Path, layout: Layout) -> Path:
    """Folder of what the layout's ranks write."""
    return to / layout.name.replace("/", "_")


def start(layout: Layout, options: argparse.Namespace) -> subprocess.Popen:
    """Start the layout's ranks, which wait for the file `go` in their folder once they have imported all."""
    folder = folder_of(options.to, layout)
    folder.mkdir(exist_ok=True)
    (folder / "go").unlink(missing_ok=True)
    asked = {name: value for name, value in vars(options).items() if name not in ("to", "layouts")}
    record = {"layout": dataclasses.asdict(layout), "options": asked, "folder": str(folder), "to": str(options.to)}
    rank = [str(HERE.with_name("train_step_rank.py")), json.dumps(record)]
    command = ["-m", "nemo_distill.run.torchrun", "--ranks-per-node", str(layout.ranks), "--", *rank]
    variables = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", **os.environ, **layout.variables}
    variables |= {NVLS: "0", "STARTED": str(time.time()), "PYTHONUNBUFFERED": "1"}
    with open(folder / "log.txt", "wb") as log:
        return subprocess.Popen(
            [sys.executable, *command], env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def ended(process: subprocess.Popen, seconds: float) -> str:
    """Wait for its end; what went wrong, or nothing."""
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        stop(process)
        return f"was stopped after {seconds:.0f} s"
    return f"exit code {code}" if code else ""


def stop(process: subprocess.Popen) -> None:
    """End the process and all that it has started: ranks, which torchrun gives sessions of their own, as well."""
    if process.poll() is None:
        for one in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.kill()
        process.wait()


def last_words(log: Path) -> str:
    """The last line of a log that names an error."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if "Error" in line]
    # torchrun's own comes after the one that it tells of
    own = [line for line in lines if "ChildFailedError" not in line and "SignalException" not in line]
    return (own or lines or [f"{log} says no error"])[-1][:300]


# -- figures


def note(to: Path, line: dict) -> None:
    """Add a line to the figures, and print it."""
    text = json.dumps(line)
    with open(to / LINES, "a") as file:
        file.write(text + "\n")
    print(text, flush=True)


def read(to: Path) -> list[dict]:
    """All lines."""
    path = to / LINES
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def microbatch(options: argparse.Namespace, precisions: list[str]) -> None:
    """Measure the microbatch on one GPU, by `kd_step.py`, in a process of its own."""
    command = [sys.executable, str(HERE.with_name("kd_step.py")), "--no-gradient-buffer", "--times", "4", "--json"]
    command += ["--seq-length", str(options.seq_length), "--lines", ",".join(BASELINES[one] for one in precisions)]
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    with open(options.to / "microbatch.txt", "wb") as log:
        made = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, "CUDA_VISIBLE_DEVICES": first, NVLS: "0"}
        )
    for line in made.stdout.decode().splitlines():
        if line.startswith("{"):
            note(options.to, {"event": "microbatch", **json.loads(line)})
    if made.returncode:
        words = last_words(options.to / "microbatch.txt")
        note(options.to, {"event": "microbatch", "problem": f"exit code {made.returncode}; {words}"})


def table(lines: list[dict]) -> str:
    """Of all layouts, each by its last attempt."""
    alone = {line["line"]: line for line in lines if line["event"] == "microbatch" and "line" in line}
    rows = [
        "| layout | ms | tokens/s/GPU | of the microbatch | of the bound | peak GiB | loss, first to last | start to "
        "first iteration, s: import, building, first |",
        "|---|---:|---:|---:|---:|---|---|---|",
    ]
    latest: dict[str, dict[str, dict]] = {}
    for line in lines:
        if line["event"] == "setup":
            latest[line["layout"]] = {}
        if "layout" in line:
            latest.setdefault(line["layout"], {})[line["event"]] = line
    for name, found in latest.items():
        if "measured" not in found:
            rows.append(f"| {name} | {found.get('ended', {}).get('problem') or 'not measured'} | | | | | | |")
            continue
        rows.append(row(found["measured"], alone))
    for baseline in alone.values():
        rate = baseline["tokens"] / baseline["seconds"]
        memory, loss = f"{baseline['memory'] / GIB:.1f}", f"{baseline['loss']:.5f}"
        seconds = f"{1e3 * baseline['seconds']:.0f}"
        rows.append(f"| microbatch, {baseline['line']} | {seconds} | {rate:,.0f} | | | {memory} | {loss} | |")
    for name, found in latest.items():
        for rank, parts in enumerate(found.get("breakdown", {}).get("ranks", [])):
            if parts:
                rows += ["", f"{name}, rank {rank}, ms of {parts['whole']:.0f}: {in_words(parts)}"]
    return "\n".join(rows)


def row(measured: dict, alone: dict[str, dict]) -> str:
    """Of the table, of a layout's figures and the microbatches."""
    seconds = statistics.median(measured["seconds"])
    rate = measured["tokens"] / seconds / measured["ranks"]
    baseline = alone.get(BASELINES[measured["fp8"]])
    share = bound = ""
    if baseline:
        share = f"{rate / (baseline['tokens'] / baseline['seconds']):.1%}"
        teacher, student = (
            "fp8_rate" if on else "rate" for on in (measured["fp8"] != "none", measured["fp8"] == "both")
        )
        least = 2 * measured["teacher"] / baseline[teacher] + 6 * measured["student"] / baseline[student]
        bound = f"{least * rate:.0%}"
    memory = " ".join(f"{one / GIB:.1f}" for one in measured["memory"])
    losses, start = measured["losses"], measured["start"]
    parts = ", ".join(f"{start[name]:.0f}" for name in ("import", "building", "first iteration"))
    return (
        f"| {measured['layout']} | {1e3 * seconds:.0f} | {rate:,.0f} | {share} | {bound} | {memory} | "
        f"{losses[0]:.5f} to {losses[-1]:.5f} | {sum(start.values()):.0f}: {parts} |"
    )


def in_words(parts: dict) -> str:
    """A breakdown in one line."""
    kinds = ", ".join(f"{kind} {ms:.0f}" for kind, ms in parts["kinds"].items())
    rest = ("collectives exposed", "collectives hidden", "waiting", "waiting in long pauses")
    return f"{kinds}; {', '.join(f'{name} {parts[name]:.0f}' for name in rest)}; {parts['kernels']:,} kernels"


if __name__ == "__main__":
    main()
