"""How long the comparison of five blends takes, at the study's size, and how large its page is.

    python benchmarks/report.py [--runs 5] [--milestones 7]

Makes up finished runs with every question of the study's suite (MMLU 14,042, AIME 30 asked 32 times, ...), then times
`nemo-run report RUN RUN ...`, the whole command, in a process of its own. Prints a Markdown table: how long the command
took, by the clock and of a processor, which is what it would take on a machine that is not shared; then, of a processor
and within one process, reading the answers, judging, and drawing; and the page's size.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from made_up_runs import ITERATIONS, make_run

from evaluator.report.comparison import Comparison, write_comparison
from evaluator.suites.catalogue import get_suite
from evaluator.verdicts.judge import judge
from nemo_distill.outcome.gather import gather


def main() -> None:
    """Make, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--milestones", type=int, default=len(ITERATIONS))
    options = parser.parse_args()
    suite = get_suite("study")
    with tempfile.TemporaryDirectory() as scratch:
        runs = Path(scratch)
        made = [
            make_run(
                runs,
                f"run-{number}",
                suite=suite,
                skills=[0.3 * step + 0.05 * number for step in range(options.milestones)],
                shares={"stem": 100},
            )
            for number in range(options.runs)
        ]
        command = ["report", *(run.name for run in made), "--runs", str(runs)]
        begin, before = time.perf_counter(), os.times()
        subprocess.run([sys.executable, "-m", "nemo_distill.cli", *command], stdout=subprocess.DEVNULL, check=True)
        whole, after = time.perf_counter() - begin, os.times()
        busy = after.children_user + after.children_system - before.children_user - before.children_system
        page = next(runs.glob("comparisons/*/report.html"))
        reports: dict = {}
        reading = timed(lambda: reports.update({run.name: gather(run.specs["report"]) for run in made}))
        judged: list = []
        judging = timed(lambda: judged.append(judge(reports)))
        writing = timed(lambda: write_comparison(Comparison(judged[0], dict.fromkeys(reports, "")), page.parent))
        answers = sum(row.result.tasks[i].table.size for r in reports.values() for row in r.rows for i in range(8))
        contrasts = len(judged[0].between) + len(judged[0].teacher) + sum(map(len, judged[0].within.values()))
        size = f"{options.runs} blends, {options.milestones} milestones"
        print(f"| {size}, {answers:,} answers, {contrasts:,} contrasts | |")
        print("|---|---:|")
        print(f"| the command, by the clock | {whole:.1f} s |")
        print(f"| the command, of a processor | {busy:.1f} s |")
        for name, seconds in (("reading", reading), ("judging", judging), ("writing and drawing", writing)):
            print(f"| {name} | {seconds:.1f} s |")
        print(f"| report.html | {os.path.getsize(page) / 1e6:.2f} MB |")


def timed(work) -> float:
    """Seconds of a processor that `work` takes."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
