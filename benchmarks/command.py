"""How long the command makes one wait: help, a dry run, the preview of all five blends, a run that is already done.

    python benchmarks/command.py [--times 5]

Each command runs so many times, all in turn and each in a process of its own, and the medians are printed as a Markdown
table, beside what a Python that imports NeMo-Run takes in the same turns, which a command does that launches.
The run that is already done is the small one of the tests, made once beforehand.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEMO_RUN = [sys.executable, "-m", "nemo_distill.cli"]
FLOOR = "import nemo_run"


def main() -> None:
    """Time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        shutil.copytree(ROOT / "recipes", place / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "tests/nemo_distill/recipe_for_tests.py", place / "small.py")
        recipes = sorted(str(path.relative_to(place)) for path in place.glob("recipes/*.py"))
        commands = {
            "nemo-run --help": [*NEMO_RUN, "--help"],
            FLOOR: [sys.executable, "-c", FLOOR],
            "nemo-run recipes/distill_v3.py --executor slurm --dryrun": [
                *NEMO_RUN, "recipes/distill_v3.py", "--executor", "slurm", "--dryrun",
            ],
            "nemo-run recipes/*.py --executor slurm --dryrun": [*NEMO_RUN, *recipes, "--executor", "slurm", "--dryrun"],
            "a run that is already done": [*NEMO_RUN, "small.py"],
        }  # fmt: skip
        seconds(commands["a run that is already done"], place)
        taken = {name: [] for name in commands}
        for _ in range(times):
            for name, command in commands.items():
                taken[name].append(seconds(command, place))
    floor = statistics.median(taken[FLOOR])
    print("| command | median, s | fastest, s | slowest, s | times `import nemo_run` |\n|---|---:|---:|---:|---:|")
    for name, values in taken.items():
        median = statistics.median(values)
        print(f"| `{name}` | {median:.2f} | {min(values):.2f} | {max(values):.2f} | {median / floor:.2f} |")


def seconds(command: list[str], place: Path) -> float:
    """What the command takes by the clock; it has to succeed."""
    paths = [str(ROOT), str(ROOT / "evaluator"), str(ROOT / "tests/nemo_distill")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HOME": str(place)}
    begin = time.perf_counter()
    subprocess.run(command, cwd=place, env=environment, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
