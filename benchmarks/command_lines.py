"""Command lines made of the settings' types and of the command's grammar, each run, and what became of them.

    python -m benchmarks.command_lines                       # all, and a table by class
    python -m benchmarks.command_lines --only executor. --show
    python -m benchmarks.command_lines --sample 900 --seed 3

Every line (`command_lines_made`) is a preview, or looks at runs, in a folder of its own. Whether what was taken can
work is asked of the steps and libraries (`command_lines_oracles`); a refusal has to name what was fed, in one sentence,
and its advice has to get past it.
"""

import argparse
import collections
import contextlib
import dataclasses
import io
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.command_lines_made import SEED, Line, all_lines, sample
from benchmarks.command_lines_oracles import Taken, cannot_work
from nemo_distill import cli, experiment
from nemo_distill.run.manifest import Run

ROOT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 60
"""Longest that a line may take before it counts as hanging, on a machine that may be shared."""
SLURM = {"account": "tests", "partition": "batch"}
"""What a site fills in."""
FAULTS = ("traceback", "hang", "wrote", "taken, cannot work", "refused, can work", "misleading")
"""How a line can end as it should not."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a line."""

    code: int | None
    """Exit code; None: it ended otherwise."""
    out: str
    """Standard output."""
    error: str
    """Standard error."""
    raised: str = ""
    """Traceback of what came out of the command."""
    hung: bool = False
    """It took longer than `LIMIT_SECONDS`."""
    wrote: tuple[str, ...] = ()
    """Paths that are there after and were not before, or are otherwise."""
    taken: Taken | None = None
    """What was previewed; None: nothing."""


class _Hung(BaseException):
    pass


@contextlib.contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """The current folder is `folder`, with the recipes in it and a site's file; no hub answers."""
    shutil.copytree(ROOT / "recipes", folder / "recipes", ignore=shutil.ignore_patterns("__pycache__", "slurm.yaml"))
    (folder / "runs").mkdir()
    (folder / "recipes/executors/slurm.yaml").write_text("".join(f"{key}: {value}\n" for key, value in SLURM.items()))
    said = {"HF_ENDPOINT": "http://127.0.0.1:9", "COLUMNS": "300", "PYTHONDONTWRITEBYTECODE": "1"}
    before, kept = Path.cwd(), dict(os.environ)
    for name in ("HF_TOKEN", "HF_SOURCES", "NEMORUN_HOME", "JUDGE_URL"):
        os.environ.pop(name, None)
    os.environ.update(said)
    without_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(kept)
        sys.dont_write_bytecode = without_bytecode


def run(line: Line) -> Outcome:
    """Run `line` in the current folder, a `workplace`."""
    put, seen = [], []
    for name, text in line.files.items():
        path, there = Path(name), Path(name).read_bytes() if Path(name).is_file() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        put.append((path, there))
    before = _listing()
    kept, out, error = experiment.print_preview, io.StringIO(), io.StringIO()

    def look(run: Run, console: Any, **said: Any) -> None:
        frame = sys._getframe(1)
        seen.append((run, said, frame.f_locals["ctx"].executor))
        kept(run, console, **said)

    code, raised, hung = None, "", False
    experiment.print_preview = look  # type: ignore[assignment]
    signal.signal(signal.SIGALRM, _hang)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error), warnings.catch_warnings():
            code = cli.main(list(line.words))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else (0 if ended.code is None else 1)
    except _Hung:
        hung = True
    except BaseException:
        raised = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        experiment.print_preview = kept  # type: ignore[assignment]
        logging.disable(logging.NOTSET)
    after = _listing()
    wrote = tuple(sorted({path for path in {*before, *after} if before.get(path) != after.get(path)}))
    for path, there in put:
        path.unlink(missing_ok=True) if there is None else path.write_bytes(there)
    for path in wrote:
        if path not in before:
            shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink(missing_ok=True)
    taken = None
    if code == 0 and seen:
        previewed, said, executor = seen[-1]
        taken = Taken(
            recipe=said["recipe"], run=previewed, said=out.getvalue() + error.getvalue(), teacher=said["teacher"],
            asked=said["asked"], executor=executor,
        )  # fmt: skip
    return Outcome(
        code=code, out=out.getvalue(), error=error.getvalue(), raised=raised, hung=hung, wrote=wrote, taken=taken
    )


def _hang(*_: object) -> None:
    raise _Hung


def _listing() -> dict[str, tuple]:
    found = {}
    for path in Path().rglob("*"):
        stat = path.lstat()
        found[str(path)] = (stat.st_size if path.is_file() else 0, stat.st_mtime_ns if path.is_file() else 0)
    return found


def judge(line: Line, outcome: Outcome, again: Callable[[Line], Outcome] = run) -> tuple[str, str] | None:
    """(fault, why) of what became of `line`; None: it ended as it should."""
    if outcome.hung:
        return "hang", f"over {LIMIT_SECONDS} s"
    if outcome.raised or "Traceback" in outcome.out + outcome.error:
        return "traceback", (outcome.raised or outcome.error or outcome.out).strip().splitlines()[-1]
    if outcome.code not in (0, 2):
        return "traceback", f"exit code {outcome.code}: {outcome.error.strip()[:200]}"
    if outcome.wrote and not (line.writes and outcome.code == 0):
        return "wrote", ", ".join(outcome.wrote[:4])
    if outcome.code == 0:
        if line.code == 2:
            return "taken, cannot work", "the way it was made says that there is no such thing"
        why = cannot_work(outcome.taken) if outcome.taken else None
        return ("taken, cannot work", why) if why else None
    if line.code == 0:
        return "refused, can work", outcome.error.strip()
    why = misleading(line, outcome, again)
    return ("misleading", f"{why} | {outcome.error.strip()}") if why else None


_ADVICE = re.compile(
    r"(?:nearest(?: that \w+)? is|say|take|give|;) ((?:[a-z_]+\.)*[a-z_]+=(?:\{[^}]*\}|[^\s;:,?]*[^\s;:,?.]))"
)


def misleading(line: Line, outcome: Outcome, again: Callable[[Line], Outcome]) -> str | None:
    """Why the refusal of `line` does not help; None: it does.

    It has to be one sentence that names what was fed, and what it advises has to get past it.
    """
    said = outcome.error.strip()
    sentence = said.removeprefix("nemo-run: ")
    if not said.startswith("nemo-run: ") or "\n" in sentence.replace("line\nbreak", ""):
        return "it is not one sentence"
    if not sentence.endswith((".", "?")):
        return "it is no whole sentence"
    if line.feeds and not any(_names(sentence, feed) for feed in line.feeds):
        return "it names nothing of what was said"
    for advice in _ADVICE.findall(sentence):
        key, _, value = advice.partition("=")
        if not value or value.isupper() or "..." in value or key in ("params", "key"):  # what stands for a value
            continue
        followed = dataclasses.replace(line, words=_with(line.words, key, advice))
        after = again(followed).error.strip()
        if after and re.sub(r"[\d.,]+", "#", after) == re.sub(r"[\d.,]+", "#", said):
            return f"{advice} is advised, and refused alike"
    return None


def _names(sentence: str, feed: str) -> bool:
    key, _, value = feed.partition("=")
    if f"'{feed or '.'}'" in sentence or f"'{feed}'" in sentence or f"'{key}'" in sentence:
        return True
    parts = {feed, key, key.rpartition(".")[2], key.strip("-"), value, feed[:40]}
    if any(part.strip() in sentence for part in parts if len(part.strip()) > (0 if part == feed else 2)):
        return True
    return any(f"'{word}'" in sentence for word in re.findall(r"\w+", value))


def _with(words: tuple[str, ...], key: str, word: str) -> tuple[str, ...]:
    kept = [one for one in words if one.partition("=")[0] != key]
    return (*kept, word)


def main() -> int:
    """Run the lines and print a table; 1 where one of them ended as it should not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="lines with this text in them")
    parser.add_argument("--sample", type=int, help="so many of them")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--show", action="store_true", help="print every line and what was said")
    options = parser.parse_args()
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    begun, faults = time.process_time(), []
    with tempfile.TemporaryDirectory(prefix="command-lines-") as folder, workplace(Path(folder)):
        lines = [line for line in all_lines(options.seed) if options.only in f"{line.kind} {line}"]
        for line in sample(lines, options.sample, options.seed) if options.sample else lines:
            outcome = run(line)
            fault = judge(line, outcome)
            counts[line.kind]["lines"] += 1
            counts[line.kind]["taken" if outcome.code == 0 else "refused"] += 1
            if fault:
                counts[line.kind][fault[0]] += 1
                faults.append((line, *fault))
            if options.show:
                shown = outcome.error.strip() or outcome.out.strip().partition("\n")[0]
                print(f"[{line.kind}] {line}\n    {outcome.code} {fault or ''} {shown[:400]}", flush=True)
    columns = ("lines", "taken", "refused", *FAULTS)
    print("\n| class | " + " | ".join(columns) + " |\n|---|" + "---:|" * len(columns))
    for kind, row in [*counts.items(), ("all", sum(counts.values(), collections.Counter()))]:
        print(f"| {kind} | " + " | ".join(str(row[column]) for column in columns) + " |")
    for line, fault, why in faults:
        print(f"\n{fault}: {line}\n    {why}")
    print(f"\n{time.process_time() - begun:.0f} s of processor time")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
