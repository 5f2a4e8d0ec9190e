"""The scores of one finished evaluation, for who wants numbers and no report.

scores_of(RUNS / "evaluate-0.1M/5b1c0d3e9a77")          # {"Average": 61.2, "Code": 40.0, ...}
"""

from pathlib import Path

from evaluator.results.run import AVERAGE, Row
from evaluator.results.scores import CheckpointResult
from nemo_distill.outcome.suites import suite_of
from nemo_distill.run.step import SPEC_FILE, Spec


def scores_of(evaluation: Path, *, average: bool = True) -> dict[str, float]:
    """Means from 0 to 100 by benchmark, as tables call it, and their average unless that is of a part of them."""
    row = Row("", CheckpointResult.load(evaluation))
    spec = evaluation / SPEC_FILE
    declared = Spec.load(spec).config.get("benchmarks", ()) if spec.is_file() else ()
    suite = suite_of(row.result.suite, None, declared=declared)
    titles = {benchmark.task: benchmark.title for benchmark in suite.benchmarks}
    scores = {titles.get(task, task): 100 * summary.mean for task, summary in row.summaries.items()}
    return {AVERAGE: 100 * row.average.mean, **scores} if average else scores
