"""How often what `nemo-run report` says is right: pages whose truth is known, through the code that judges real ones.

    python benchmarks/calibration.py [--quick] [--only null power ...] [--into docs/reference/calibration.md]

Draws answers from chances (`made_up_answers.py`), gives them to `evaluator.verdicts` and counts what is said of them
(`calibration_measures.py`). Prints a table of rates beside their goals, then the tables that it sums up
(`calibration_page.py`), and ends with 1 if a goal is missed. Two processes; `--quick` takes a fiftieth of the pages,
which shows that it runs and misses no goal, for so few pages say nothing of one.
"""

import argparse
import math
import multiprocessing
import os
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from calibration_measures import Measure, measures
from calibration_page import Counted, goals, page_of

SEED = 20260601
PARTS = 16
"""Parts into which the pages of a measure are cut, so that two processes end together."""


def count(chosen: list[Measure], scale: float) -> dict[str, Counter]:
    """What was counted, by the measure's part and name; `pages` is of how many."""
    tasks = []
    for measure in chosen:
        pages = max(2, math.ceil(measure.pages * scale))
        parts = min(PARTS, pages)
        tasks += [(measure, part, pages // parts + (part < pages % parts)) for part in range(parts)]
    _tasks[:] = tasks  # which forked processes have: measures are functions within functions, and cannot be sent
    found: dict[str, Counter] = {f"{measure.part}: {measure.name}": Counter() for measure in chosen}
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for (measure, *_), counts in zip(tasks, pool.imap(_work, range(len(tasks))), strict=True):
            found[f"{measure.part}: {measure.name}"].update(counts)
    return found


_tasks: list[tuple[Measure, int, int]] = []


def _work(number: int) -> Counter:
    measure, part, pages = _tasks[number]
    rng = np.random.default_rng([SEED, zlib.crc32(measure.name.encode()), part])
    counts = Counter(pages=pages)
    for _ in range(pages):
        counts.update(measure.draw(rng))
    return counts


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--into", type=Path)
    options = parser.parse_args()
    begin = time.perf_counter()
    chosen = [measure for measure in measures() if not options.only or measure.part in options.only]
    counted = Counted(count(chosen, 0.02 if options.quick else 1.0))
    spent = os.times()
    seconds = (time.perf_counter() - begin, spent.children_user + spent.children_system)
    words = [*(["--quick"] if options.quick else []), *(["--only", *options.only] if options.only else [])]
    command = " ".join(["python benchmarks/calibration.py", *words])
    page = page_of(counted, not options.quick, command, seconds)
    print(page)
    if options.into:
        options.into.write_text(page, encoding="utf-8")
    sys.exit(not options.quick and not all(goal.holds for goal in goals(counted)))


if __name__ == "__main__":
    main()
