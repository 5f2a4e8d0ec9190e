"""The scores of one finished evaluation, for who wants numbers and no report.

scores_of(RUNS / "evaluate-0.1M/5b1c0d3e9a77")          # {"Average": 61.2, "Code": 40.0, ...}
"""

from pathlib import Path

from evaluator.results.run import AVERAGE, Row
from evaluator.results.scores import CheckpointResult
from evaluator.suites.catalogue import get_suite


def scores_of(evaluation: Path) -> dict[str, float]:
    """Means from 0 to 100 by benchmark, as tables call it, and their average."""
    row = Row("", CheckpointResult.load(evaluation))
    titles = {benchmark.task: benchmark.title for benchmark in get_suite(row.result.suite).benchmarks}
    scores = {titles.get(task, task): 100 * summary.mean for task, summary in row.summaries.items()}
    return {AVERAGE: 100 * row.average.mean, **scores}
