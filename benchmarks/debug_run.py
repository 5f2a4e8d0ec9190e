"""Where the time of the debug run goes, step by step, and how much of it is spent importing.

    python benchmarks/debug_run.py [RECIPE] [--keep FOLDER]

Runs `nemo-run RECIPE --executor local` into an empty folder with CPython's import timer on (`PYTHONPROFILEIMPORTTIME`;
it adds about a tenth to every import), then reads when each step started and ended from its mark of success, and its
imports from its log. What is imported ahead, for the steps that are forked, has a row of its own. Prints a Markdown
table, the seconds of processor time that the run took, and the machine's load before and after.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

IMPORT = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|", re.MULTILINE)
AHEAD = re.compile(r"^imported ahead in ([\d.]+) s", re.MULTILINE)


def main() -> None:
    """Run, read, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="recipes/distill_v1v3.py")
    parser.add_argument("--keep", type=Path, help="run into this folder, which must not exist, and keep it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = options.keep or Path(scratch) / "runs"
        if runs.exists():
            parser.error(f"{runs} is there already; the run is to start from nothing")
        command = ["nemo-run", options.recipe, "--executor", "local", f"runs={runs}"]
        begin, load, before = time.time(), os.getloadavg()[0], os.times()
        subprocess.run(command, check=True, env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"}, capture_output=True)
        print(table(runs, begin, time.time()))
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        print(f"\nProcessor time: {used:.0f} s. Load: {load:.1f} before, {os.getloadavg()[0]:.1f} after.")


def table(runs: Path, begin: float, end: float) -> str:
    """The steps in the order in which they started, and the whole."""
    rows = []
    for mark in runs.glob("*/*/_SUCCESS"):
        record = json.loads(mark.read_text())
        started = record["finished"] - record["seconds"] - begin
        rows.append((started, record["seconds"], imported(mark.parent / "log.txt"), mark.parent.parent.name))
    for log in runs.glob(".nemo-run/experiments/*/*/forkserver.log"):
        seconds = float(AHEAD.search(log.read_text(errors="replace"))[1])
        rows.append((log.stat().st_mtime - seconds - begin, seconds, imported(log), "(imported ahead)"))
    rows.sort()
    lines = ["| step | starts at, s | takes, s | of it importing, s |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {start:.0f} | {seconds:.1f} | {imports:.1f} |" for start, seconds, imports, name in rows]
    busy, importing = sum(row[1] for row in rows), sum(row[2] for row in rows)
    lines += [
        f"| all steps | | {busy:.0f} | {importing:.0f} ({importing / busy:.0%}) |",
        f"| **the run, two steps at a time** | | **{end - begin:.0f}** | |",
    ]
    return "\n".join(lines)


def imported(log: Path) -> float:
    """Seconds of imports in a log with the import timer's lines."""
    return sum(int(microseconds) for microseconds in IMPORT.findall(log.read_text(errors="replace"))) / 1e6


if __name__ == "__main__":
    main()
