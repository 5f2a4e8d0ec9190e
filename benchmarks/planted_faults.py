"""Plants small faults in a copy of the code, one at a time, and says whether the tests named for each catch it.

    python benchmarks/planted_faults.py                      # all of planted_faults.toml
    python benchmarks/planted_faults.py lock-not-taken holm-dropped
    python benchmarks/planted_faults.py --area resume --table
    python benchmarks/planted_faults.py --check              # only whether the texts and tests are still there

`planted_faults.toml` says for each fault what breaks for a user, which text becomes which, and the tests that are to
fail, the cheapest first. Neither files nor folders are named, so that code and tests may move: the old text stands once
in all of the product's code, and a test is a part of its name that is found in one file of tests. Before a fault is
planted its tests have to pass in the copy, so that none is caught by a test that fails anyway.

caught      a test failed
SURVIVED    the tests passed: one is missing, or does not look
NOT RUN     the tests are skipped here, fail without the fault or could not be collected, or the text is gone

Exits with 1 unless every fault was caught.
"""

import argparse
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_suffix(".toml")
PACKAGES = "nemo_distill", "evaluator"
"""Folders of the product's code."""
LIMIT_SECONDS = 1800
"""Longest run of one fault's tests; a fault that hangs longer is caught by that."""
ENDING_SECONDS = 60
"""What pytest has to stop what its fixtures started, once told to end."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One small change of the product's code that makes it wrong."""

    name: str
    """What the command calls it, e.g. `lock-not-taken`."""
    area: str
    """Part of the product's promise that it breaks, e.g. `lock`."""
    breaks: str
    """What goes wrong for a user, in one sentence."""
    old: str
    """Text that stands exactly once in the code of `PACKAGES`."""
    new: str
    """Text put in its place."""
    tests: tuple[str, ...]
    """Parts of the names of the tests that catch it, the cheapest first."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run of pytest came to."""

    code: int
    """Its exit code; 0 when no test failed."""
    seconds: float
    """What the tests took, by pytest's own clock."""
    passed: int = 0
    """Number of tests that passed."""
    failed: tuple[str, ...] = ()
    """Names of the tests that failed, or whose fixtures did."""
    skipped: tuple[str, ...] = ()
    """Why tests were skipped."""
    hung: bool = False
    """It took longer than `LIMIT_SECONDS`."""
    output: str = field(default="", repr=False)
    """What it printed."""


def main() -> int:
    """Plant, run, tell; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults to plant; all without one")
    parser.add_argument("--area", action="append", default=[], help="faults of this area; may be given again")
    parser.add_argument("--check", action="store_true", help="run nothing: are the texts and the tests still there?")
    parser.add_argument("--list", action="store_true", help="print the faults and end")
    parser.add_argument("--table", action="store_true", help="print the results as a Markdown table at the end")
    parser.add_argument("--under", default="", metavar="CMD", help="words before each pytest, e.g. 'nice -n 19'")
    options = parser.parse_args()
    faults = chosen(load(), options.names, options.area, parser)
    complaints = stale(faults)
    for name, why in complaints.items():
        print(f"{name}: {why}", file=sys.stderr)
    if options.check:
        print(f"{len(faults)} faults, of which {len(complaints)} no longer fit")
        return bool(complaints)
    if options.list:
        for fault in faults:
            print(f"{fault.area:10} {fault.name:32} {fault.breaks}")
        return 0
    with tempfile.TemporaryDirectory(prefix="planted-faults-") as folder:
        copy = Path(folder) / "copy"
        copy_checkout(copy)
        check_that_it_runs(copy)
        rows = [(fault, "NOT RUN", complaints[fault.name], 0.0) for fault in faults if fault.name in complaints]
        fitting = [fault for fault in faults if fault.name not in complaints]
        rows += judged(fitting, copy, shlex.split(options.under))
    if options.table:
        print("\n" + markdown(rows))
    caught = sum(verdict == "caught" for _, verdict, *_ in rows)
    print(f"\n{caught} of {len(rows)} faults caught.")
    for fault, verdict, why, _ in rows:
        if verdict != "caught":
            print(f"{verdict}: {fault.name} ({why}). {fault.breaks}")
    return caught != len(rows)


def load() -> list[Fault]:
    """The faults of `planted_faults.toml`."""
    records = tomllib.loads(TABLE.read_text(encoding="utf-8"))["fault"]
    return [Fault(**record | {"tests": tuple(record["tests"])}) for record in records]


def chosen(faults: list[Fault], names: list[str], areas: list[str], parser: argparse.ArgumentParser) -> list[Fault]:
    """The faults of these names and areas; all of them when there are neither."""
    for known, asked in ((([f.name for f in faults]), names), ([f.area for f in faults], areas)):
        for one in asked:
            if one not in known:
                parser.error(f"there is no fault or area '{one}'; known: {', '.join(dict.fromkeys(known))}")
    return [f for f in faults if not (names or areas) or f.name in names or f.area in areas]


def stale(faults: list[Fault], root: Path = ROOT) -> dict[str, str]:
    """By name, what no longer fits the tree: a text that does not stand in the code once, tests not in one file."""
    code, tests, complaints = read(root, PACKAGES), read(root, ["tests"]), {}
    for fault in faults:
        if (times := sum(text.count(fault.old) for text in code.values())) != 1:
            complaints[fault.name] = f"its old text stands {times} times in the code, not once"
        for test in fault.tests:
            if len(found := files_of(test, tests)) != 1:
                complaints[fault.name] = f"tests named '{test}' are in {len(found)} files, not in one"
    return complaints


def read(root: Path, folders: Iterable[str]) -> dict[Path, str]:
    """The Python files in `folders` of `root` and what stands in them."""
    return {path: path.read_text(encoding="utf-8") for folder in folders for path in (root / folder).rglob("*.py")}


def files_of(test: str, tests: dict[Path, str]) -> list[Path]:
    """The files that hold tests with `test` in their names."""
    named = re.compile(rf"^ *def test_\w*{test}|^ *def {test}", re.MULTILINE)
    return [path for path, text in tests.items() if named.search(text)]


def copy_checkout(copy: Path) -> None:
    """Copy what git tracks, and what it does not ignore, as it lies here."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file():  # git lists what was deleted, too
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy / name)


def environment(copy: Path) -> dict[str, str]:
    """In which every process, a step's or a job's too, imports the code of `copy`, whatever is installed."""
    path = os.pathsep.join(map(str, filter(None, (copy, copy / "evaluator", os.environ.get("PYTHONPATH")))))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


def check_that_it_runs(copy: Path) -> None:
    """Raise RuntimeError unless the packages are imported from `copy`."""
    code = "import nemo_distill, evaluator, core_evals.nemo_distill as c; "
    code += "print(nemo_distill.__file__, evaluator.__file__, c.__file__)"
    words = [sys.executable, "-c", code]
    found = subprocess.run(
        words, check=True, capture_output=True, text=True, cwd=copy.parent, env=environment(copy)
    ).stdout.split()
    if not all(Path(file).is_relative_to(copy) for file in found):
        raise RuntimeError(f"the code that runs is not the copy's in {copy}: {found}")


def judged(faults: list[Fault], copy: Path, under: list[str]) -> Iterator[tuple[Fault, str, str, float]]:
    """Each fault, its verdict, the test that caught it or why not, and the seconds that took; printed as it goes."""
    sound: dict[str, str | None] = {}
    for fault in faults:
        spent, verdict, why = 0.0, "NOT RUN", ""
        for test in fault.tests:
            if test not in sound:
                sound[test] = _why_unsound(pytest(copy, test, under))
            if sound[test]:
                why = sound[test]
                continue
            with planted(fault, copy):
                outcome = pytest(copy, test, under)
            spent += outcome.seconds
            if outcome.code == 1 or outcome.hung:
                verdict, why = "caught", outcome.failed[0] if outcome.failed else f"{test} hung"
                break
            verdict, why = ("SURVIVED", test) if outcome.code == 0 else ("NOT RUN", f"pytest ended with {outcome.code}")
            if outcome.code != 0:
                print(outcome.output[-3000:])
        print(f"{verdict:9} {fault.name:34} {spent:6.1f} s  {why}", flush=True)
        yield fault, verdict, why, spent


def _why_unsound(outcome: Outcome) -> str | None:
    """Why tests show nothing here: skipped, or failing without a fault; None when they pass."""
    if outcome.code or outcome.hung:
        print(outcome.output[-3000:])
        return f"fails without the fault: {', '.join(outcome.failed) or f'pytest ended with {outcome.code}'}"
    return None if outcome.passed else f"skipped: {'; '.join(outcome.skipped)}"


@contextlib.contextmanager
def planted(fault: Fault, copy: Path) -> Iterator[None]:
    """Within the block `fault` is in the copy's code."""
    ((path, sound),) = ((path, text) for path, text in read(copy, PACKAGES).items() if fault.old in text)
    try:
        _write(path, sound.replace(fault.old, fault.new))
        yield
    finally:
        _write(path, sound)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    # Python takes compiled code for current by the source's size and whole second, which may both be the same.
    shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)


def pytest(copy: Path, test: str, under: list[str]) -> Outcome:
    """Run the tests with `test` in their names in the copy."""
    (file,) = files_of(test, read(copy, ["tests"]))
    report = copy.parent / "junit.xml"
    report.unlink(missing_ok=True)
    limited = ["timeout", f"--kill-after={ENDING_SECONDS}", "--signal=INT", str(LIMIT_SECONDS)]
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:warnings",
        file,
        "-k",
        test,
    ]
    words += [f"--junitxml={report}", f"--basetemp={copy.parent / 'scratch'}"]
    done = subprocess.run(
        [*under, *limited, *words], cwd=copy, env=environment(copy), capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    root = ElementTree.parse(report).getroot() if report.is_file() else ElementTree.Element("nothing")
    cases = list(root.iter("testcase"))
    failed = [case.get("name") for case in cases if {"failure", "error"} & {child.tag for child in case}]
    skipped = [child.get("message") for case in cases for child in case.iter("skipped")]
    return Outcome(
        code=done.returncode,
        seconds=sum(float(suite.get("time")) for suite in root.iter("testsuite")),
        passed=len(cases) - len(failed) - len(skipped),
        failed=tuple(failed),
        skipped=tuple(skipped),
        hung=done.returncode == 124 and report.is_file(),  # pytest, told to end, has said how far it came
        output=done.stdout + done.stderr,
    )


def markdown(rows: list[tuple[Fault, str, str, float]]) -> str:
    """The results as a table."""
    lines = ["| area | fault | what breaks for a user | verdict | s |", "|---|---|---|---|---:|"]
    for fault, verdict, why, seconds in rows:
        said = verdict if verdict == "caught" else f"**{verdict}**: {why}"
        lines.append(f"| {fault.area} | `{fault.name}` | {fault.breaks} | {said} | {seconds:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
