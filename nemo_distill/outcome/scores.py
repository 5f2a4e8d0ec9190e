"""The scores of one finished evaluation, for who wants numbers and no report.

scores_of(RUNS / "evaluate-0.1M/5b1c0d3e9a77")          # {"Average": 61.2, "Code": 40.0, ...}
"""

from pathlib import Path

from evaluator.results.run import AVERAGE
from evaluator.results.scores import CheckpointResult
from evaluator.stats.scores import average
from evaluator.suites.catalogue import get_suite


def scores_of(evaluation: Path) -> dict[str, float]:
    """Means from 0 to 100 by benchmark, as tables call it, and their average."""
    result = CheckpointResult.load(evaluation)
    titles = {benchmark.task: benchmark.title for benchmark in get_suite(result.suite).benchmarks}
    summaries = {titles.get(task.task, task.task): task.summary for task in result.tasks}
    return {
        AVERAGE: 100 * average(list(summaries.values())).mean,
        **{title: 100 * summary.mean for title, summary in summaries.items()},
    }
