"""Computes means and standard errors of scores, over questions.

A benchmark is a sample of questions, so how far its score may be off is judged from how questions differ. Asking a
question again says only how much the answers scatter: that is kept apart, as re-run noise.

>>> table = [[1, 0, 1, 0], [1, 1, 0, 0], [0, 1, 1, 1]]        # 3 questions, each asked 4 times
>>> summary = summarize(table)
>>> round(summary.mean, 4), round(summary.stderr, 4), round(summary.rerun_sd, 4)
(0.5833, 0.0833, 0.1667)

Formulas: E. Miller, "Adding Error Bars to Evals", 2024 (arXiv:2411.00640).
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """One benchmark's score for one checkpoint, on the scale of its scores."""

    mean: float
    """Mean over questions and repeats."""
    stderr: float
    """Standard error of the mean over questions: sd of the questions' means (ddof 1) / sqrt(questions)."""
    rerun_sd: float | None
    """Standard deviation (ddof 1) of the score from one repeat to the next; None when asked once."""
    questions: int
    """Number of questions."""
    repeats: int
    """Times each was asked."""


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error."""

    mean: float
    """The value."""
    stderr: float
    """Its standard error."""


def summarize(scores, clusters: Sequence[Hashable] = ()) -> Summary:
    """The score of a table (questions, repeats).

    `clusters` says, per question, which share a passage and so stand or fall together; the error then is that over
    clusters. Raises ValueError for fewer than two questions or clusters, or a gap.
    """
    table = as_table(scores)
    questions, repeats = table.shape
    return Summary(
        mean=float(table.mean()),
        stderr=stderr_of_mean(table.mean(axis=1), clusters),
        rerun_sd=float(table.mean(axis=0).std(ddof=1)) if repeats > 1 else None,
        questions=questions,
        repeats=repeats,
    )


def average(parts: Sequence[Summary | Estimate]) -> Estimate:
    """The unweighted mean of benchmarks that share no question, each counting alike whatever its size."""
    return Estimate(
        mean=float(np.mean([part.mean for part in parts])),
        stderr=float(np.sqrt(np.sum([part.stderr**2 for part in parts])) / len(parts)),
    )


@dataclass(frozen=True)
class ErrorRange:
    """Where a standard error lies when only the score is known and not the single answers."""

    least: float
    """If all questions were alike, so that asking one again says as much as asking another."""
    most: float
    """If a question were always or never answered rightly, so that asking it again says nothing."""

    def with_other(self, other: "ErrorRange") -> "ErrorRange":
        """Range of the standard error of the difference of two scores whose answers are independent."""
        return ErrorRange(math.hypot(self.least, other.least), math.hypot(self.most, other.most))


def binomial_stderr(mean: float, *, questions: int, repeats: int) -> ErrorRange:
    """The standard error of a share of right answers, from 0 to 1, that was published without the answers.

    Each answer is right or wrong, so the variance of a question's mean lies between p(1-p)/repeats and p(1-p).
    """
    if not 0 <= mean <= 1 or questions < 1 or repeats < 1:
        raise ValueError(f"no share of right answers: {mean} of {questions} questions asked {repeats} times.")
    variance = mean * (1 - mean) / questions
    return ErrorRange(least=math.sqrt(variance / repeats), most=math.sqrt(variance))


def wilson(right: int, questions: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share of right answers: of use where few are right, or few wrong, and the error is 0.

    >>> [round(end, 4) for end in wilson(22, 30)]
    [0.5555, 0.8582]
    """
    if not 0 <= right <= questions or questions < 1:
        raise ValueError(f"no share of right answers: {right} of {questions}.")
    from scipy.stats import binomtest

    interval = binomtest(right, questions).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def stderr_of_mean(values: np.ndarray, clusters: Sequence[Hashable] = ()) -> float:
    """Standard error of the mean of values that are independent, or independent between `clusters` only.

    Miller, section 2.2. Raises ValueError where all are in one cluster.
    """
    sums = sum_by_cluster(values - values.mean(), clusters)
    if len(sums) < 2:
        raise ValueError(f"all {len(values)} questions are in one cluster, so that their error cannot be known.")
    return float(np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(values))


def sum_by_cluster(values: np.ndarray, clusters: Sequence[Hashable]) -> np.ndarray:
    """The values summed over each cluster, in the order in which clusters first occur; as they are without clusters."""
    if not len(clusters):
        return values
    if len(clusters) != len(values):
        raise ValueError(f"{len(clusters)} clusters are named for {len(values)} questions.")
    index = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    return np.bincount([index[name] for name in clusters], weights=values)


def as_table(scores) -> np.ndarray:
    """The scores as an array (questions, repeats). Raises ValueError for fewer than two questions, or a gap."""
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2 or table.shape[1] < 1:
        raise ValueError(f"scores must be a table of at least two questions x repeats, not of shape {table.shape}.")
    if not np.isfinite(table).all():
        raise ValueError("scores have a gap: a question was not answered in every repeat.")
    return table
