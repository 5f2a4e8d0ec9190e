"""Made-up reports of a few benchmarks, whose chances are known, for the tests of the verdicts."""

from collections.abc import Sequence

import numpy as np

from evaluator.results.run import Report, Row
from evaluator.results.scores import CheckpointResult, TaskResult
from evaluator.suites.catalogue import get_suite

SUITE = get_suite("offline").with_repeats(1)
TASKS = [benchmark.task for benchmark in SUITE.benchmarks]


def row(chances: Sequence[float], drawn: np.random.Generator, *, label: str, tokens: int | None, questions=400) -> Row:
    """A checkpoint that answers a benchmark's questions, each asked once, with these chances, a benchmark each."""
    role = {None: "teacher", 0: "pruned"}.get(tokens, "milestone")
    tasks = []
    for task, chance in zip(TASKS, chances, strict=True):
        right = (drawn.random((questions, 1)) < chance).astype(float)
        ids = tuple(map(str, range(questions)))
        tasks.append(TaskResult(task, ids, tuple(map(tuple, right.tolist())), 1.0, 0.0))
    return Row(role, CheckpointResult(label, SUITE.name, 1, 1.0, (), tuple(tasks)), tokens=tokens, iteration=tokens)


def report(
    name: str,
    milestones: Sequence[Sequence[float]],
    drawn: np.random.Generator,
    *,
    base: Report | None = None,
    chances: tuple[float, float] = (0.9, 0.1),
):
    """A run whose milestones have these chances; `base` has the teacher and the pruned student that it shares, or
    `chances` are theirs."""
    if base is None:
        pairs = zip(("teacher", "pruned"), chances, (None, 0))
        ends = tuple(row([chance] * 5, drawn, label=label, tokens=tokens) for label, chance, tokens in pairs)
    else:
        ends = base.rows[:2]
    rows = [row(one, drawn, label=f"{place}B", tokens=place * 10**9) for place, one in enumerate(milestones, 1)]
    return Report(name, SUITE, (*ends, *rows))
