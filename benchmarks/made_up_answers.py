"""Reports of checkpoints that never were, with answers drawn from chances that are known: truth for what is judged.

    page = MadeUpPage(np.random.default_rng(0))                     # one set of questions, hard and easy
    model = page.model(STUDY["80B"], own=0.7)                       # chances per question, 8 benchmarks
    report = page.report("a", teacher, pruned, [model, better])     # an `evaluator.results.run.Report`

Scores are like the study's. A question's chance rises with the model's level less the question's hardness, which all
models share, and less what this model alone finds hard (`own`, a standard deviation in logits): so answers pair as
those of real models do. SciCode's sub-steps share their problem's hardness. Where a harness keeps no answers, the score
and its standard error are all that there is, as in the suite.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from evaluator.results.clusters import clusters_of
from evaluator.results.run import Report, Row
from evaluator.results.scores import CheckpointResult, TaskResult
from evaluator.stats.scores import Summary
from evaluator.suites.catalogue import get_suite
from evaluator.suites.suite import Benchmark, Suite

TITLES = ("MMLU", "MMLU Pro", "GPQA Diamond", "LCB v6", "AIME 2025", "MATH-500", "IFEval", "SciCode")
STUDY = {
    label: dict(zip(TITLES, scores, strict=True))
    for label, scores in {
        "2.5B": (70.7, 68.4, 52.7, 57.0, 60.7, 93.7, 63.2, 12.2),
        "20B": (71.3, 71.7, 54.8, 62.0, 68.1, 95.2, 63.8, 21.2),
        "40B": (71.1, 71.6, 53.7, 60.9, 71.9, 95.6, 68.0, 19.9),
        "60B": (72.1, 72.1, 54.9, 61.6, 71.9, 95.4, 64.7, 22.8),
        "80B": (72.2, 73.0, 56.9, 62.6, 72.6, 95.8, 66.2, 21.3),
    }.items()
}
"""The published scores of the study's choice of blend, by milestone, from 0 to 100."""
TEACHER = dict(zip(TITLES, (74.7, 74.9, 56.1, 64.4, 73.7, 95.9, 65.8, 23.1), strict=True))
PRUNED = dict(zip(TITLES, (67.8, 11.9, 17.7, 1.4, 0.4, 6.0, 41.8, 0.1), strict=True))
"""The published scores of its teacher and of its pruned student."""
HARDNESS = dict(zip(TITLES, (2.5, 2.5, 2.0, 3.0, 2.5, 3.0, 2.5, 3.0), strict=True))
"""How far questions differ: standard deviation in logits, of which standard errors like the study's follow."""
OWN = 0.7
"""What one model alone finds hard: standard deviation in logits."""
_SHARED = 0.7
"""How much of a sub-step's hardness is its own; the rest is its problem's."""

Model = tuple[np.ndarray, ...]
"""Chances of a right answer, by question, of each benchmark in the suite's order."""


@dataclass(frozen=True)
class Lost:
    """Answers of an evaluation that did not arrive and count as wrong."""

    title: str
    """Title of the benchmark."""
    share: float
    """Share of its answers, from 0 to 1."""
    by: str = "answer"
    """Whether single answers are lost, all repeats of a `question`, or a `block` of questions in a row."""


class MadeUpPage:
    """Questions that all checkpoints of a page are asked."""

    def __init__(self, rng: np.random.Generator, suite: Suite | None = None) -> None:
        self.rng = rng
        self.suite = suite or get_suite("study")
        self._hardness = [self._scatter(benchmark, HARDNESS[benchmark.title]) for benchmark in self.suite.benchmarks]

    def model(self, scores: Mapping[str, float], own: float = OWN, shift: float = 0.0) -> Model:
        """Chances of a model that gets these scores, from 0 to 100, of all questions there could be.

        Args:
            scores: By benchmark's title.
            own: What it alone finds hard, in logits.
            shift: Standard deviation, in points of each benchmark, of what its training's seed did; drawn apart.
        """
        return self.like(scores, self.quirks(own), shift)

    def quirks(self, own: float = OWN) -> list[np.ndarray]:
        """What one model alone finds hard, by question."""
        return [self._scatter(benchmark, own) for benchmark in self.suite.benchmarks]

    def like(self, scores: Mapping[str, float], quirks: Sequence[np.ndarray], shift: float = 0.0) -> Model:
        """Chances of a model with `quirks` that another may share: its next milestone, or its other seed."""
        chances = []
        for benchmark, hardness, own in zip(self.suite.benchmarks, self._hardness, quirks, strict=True):
            score = scores[benchmark.title] + (self.rng.normal(0, shift) if shift else 0.0)
            spread = float(np.hypot(HARDNESS[benchmark.title], own.std()))
            chances.append(_chance(_level(np.clip(score / 100, 0.001, 0.999), spread) - hardness - own))
        return tuple(chances)

    def answers(self, model: Model, lost: Lost | None = None) -> tuple[TaskResult, ...]:
        """Results of a model that is asked everything, as often as the suite asks."""
        return tuple(
            self._result(benchmark, chances, lost if lost and lost.title == benchmark.title else None)
            for benchmark, chances in zip(self.suite.benchmarks, model, strict=True)
        )

    def report(
        self,
        name: str,
        teacher: Sequence[TaskResult],
        pruned: Sequence[TaskResult],
        milestones: Mapping[str, Sequence[TaskResult]],
    ) -> Report:
        """A run whose milestones, called `2.5B` and the like, gave these results."""
        rows = [self._row("teacher", "teacher", teacher, None), self._row("pruned", "pruned", pruned, 0)]
        rows += [
            self._row(label, "milestone", results, round(float(label[:-1]) * 1e9))
            for label, results in milestones.items()
        ]
        return Report(name, self.suite, tuple(rows), min_learning_rate=1e-5)

    def _row(self, label: str, role: str, results: Sequence[TaskResult], tokens: int | None) -> Row:
        result = CheckpointResult(label, self.suite.name, 1234, 1.0, ("made up",), tuple(results))
        return Row(role, result, tokens=tokens, iteration=tokens, learning_rate=1e-5)

    def _result(self, benchmark: Benchmark, chances: np.ndarray, lost: Lost | None) -> TaskResult:
        shape = (benchmark.questions, benchmark.repeats)
        right = (self.rng.random(shape) < chances[:, None]).astype(np.float64)
        if lost:
            right *= ~self._lost(lost, shape)
        if not benchmark.harness:  # keeps no answers
            stderr = right.mean(axis=1).std(ddof=1) / np.sqrt(benchmark.questions)
            reported = Summary(float(right.mean()), float(stderr), None, *shape)
            return TaskResult(benchmark.task, (), (), 100.0, 0.0, reported=reported)
        names, clusters = _names(benchmark)
        result = TaskResult(benchmark.task, names, ((0.0,),), 100.0, 0.0, clusters=clusters)
        vars(result)["table"] = (
            right  # in place of 36,000 numbers as tuples, which would take longer than to judge them
        )
        return result

    def _lost(self, lost: Lost, shape: tuple[int, int]) -> np.ndarray:
        if lost.by == "answer":
            return self.rng.random(shape) < lost.share
        count = round(lost.share * shape[0])
        if lost.by == "block":
            places = (self.rng.integers(shape[0]) + np.arange(count)) % shape[0]
        else:
            places = self.rng.permutation(shape[0])[:count]
        gone = np.zeros(shape, dtype=bool)
        gone[places] = True
        return gone

    def _scatter(self, benchmark: Benchmark, sd: float) -> np.ndarray:
        own = self.rng.normal(0, sd, benchmark.questions)
        if not benchmark.problems:
            return own
        problem = [int(name.split(".")[0]) - 1 for name in _names(benchmark)[0]]
        return _SHARED * own + np.sqrt(1 - _SHARED**2) * self.rng.normal(0, sd, benchmark.problems)[problem]


@cache
def _names(benchmark: Benchmark) -> tuple[tuple[str, ...], tuple[str, ...]]:
    numbers = range(benchmark.questions)
    if not benchmark.problems:
        return tuple(f"q{number}" for number in numbers), ()
    names = tuple(f"{1 + number % benchmark.problems}.{1 + number // benchmark.problems}" for number in numbers)
    return names, clusters_of(benchmark.task, names)


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
_LEVELS = np.linspace(-25, 25, 1001)


def _chance(logit):
    return 1 / (1 + np.exp(-logit))


def _level(share: float, spread: float) -> float:
    """The level at which questions whose hardness scatters by `spread` about 0 are answered rightly so often."""
    return float(np.interp(share, _scores_at(round(spread, 2)), _LEVELS))


@cache
def _scores_at(spread: float) -> np.ndarray:
    return _chance(_LEVELS[:, None] + spread * _NODES) @ (_WEIGHTS / _WEIGHTS.sum())
