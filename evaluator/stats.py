"""Means, standard errors and differences of scores, over questions.

A benchmark is a sample of questions, so how far its score may be off is judged from how questions differ. Asking a
question again says only how much the answers scatter: that is kept apart, as re-run noise.

>>> table = [[1, 0, 1, 0], [1, 1, 0, 0], [0, 1, 1, 1]]        # 3 questions, each asked 4 times
>>> summary = summarize(table)
>>> round(summary.mean, 4), round(summary.stderr, 4), round(summary.rerun_sd, 4)
(0.5833, 0.0833, 0.1667)

Before anything is asked, how small a difference could be seen at all:

>>> round(detectable_difference(198, 1), 4), round(detectable_difference(198, 10), 4)
(0.1327, 0.0757)

Formulas: E. Miller, "Adding Error Bars to Evals", 2024 (arXiv:2411.00640).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

BETWEEN, WITHIN = 1 / 9, 1 / 6
"""Variances to plan with before there are answers (Miller, section 5): of the difference between two checkpoints from
question to question, and of one answer about its question's mean. The second is that of right or wrong where chances
are spread evenly from 0 to 1; the first, that of two such checkpoints whose chances correlate at a third."""


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


def summarize(scores) -> Summary:
    """The score of a table (questions, repeats). Raises ValueError for fewer than two questions or a gap."""
    table = _table(scores)
    questions, repeats = table.shape
    return Summary(
        mean=float(table.mean()),
        stderr=_stderr(table.mean(axis=1)),
        rerun_sd=float(table.mean(axis=0).std(ddof=1)) if repeats > 1 else None,
        questions=questions,
        repeats=repeats,
    )


def paired_difference(scores, others) -> Estimate:
    """How much `scores` is above `others`, two tables (questions, repeats) over the same questions in one order.

    The questions are the same, so what makes one hard for both cancels: the error is that of the differences.
    """
    one, other = _table(scores), _table(others)
    if len(one) != len(other):
        raise ValueError(f"a paired difference is over the same questions, not {len(one)} and {len(other)}.")
    differences = one.mean(axis=1) - other.mean(axis=1)
    return Estimate(mean=float(differences.mean()), stderr=_stderr(differences))


def average(parts: Sequence[Summary | Estimate]) -> Estimate:
    """The unweighted mean of benchmarks that share no question, each counting alike whatever its size."""
    return Estimate(
        mean=float(np.mean([part.mean for part in parts])),
        stderr=float(np.sqrt(np.sum([part.stderr**2 for part in parts])) / len(parts)),
    )


def detectable_difference(
    questions: int,
    repeats: float,
    between: float = BETWEEN,
    within: float = WITHIN,
    *,
    significance: float = 0.05,
    power: float = 0.8,
) -> float:
    """The smallest true difference of two checkpoints that a paired, two-sided test finds, on the scale of the scores.

    Args:
        questions: Asked of both, the same ones.
        repeats: Times each is asked of each; `math.inf` for what no asking again betters.
        between: Variance, from question to question, of the difference between the two checkpoints' chances.
        within: Variance of one answer about the chance of its question.
        significance: How often a difference is seen where there is none.
        power: How often a difference of this size is seen.

    Raises ValueError for fewer than two questions or less than one repeat.
    """
    if questions < 2 or repeats < 1:
        raise ValueError(f"{questions} questions asked {repeats} times tell nothing apart.")
    quantile = NormalDist().inv_cdf(1 - significance / 2) + NormalDist().inv_cdf(power)
    return quantile * float(np.sqrt((between + 2 * within / repeats) / questions))


@dataclass(frozen=True)
class ErrorRange:
    """Where a standard error lies when only the score is known and not the single answers."""

    least: float
    """If all questions were alike, so that asking one again says as much as asking another."""
    most: float
    """If a question were always or never answered rightly, so that asking it again says nothing."""

    def with_other(self, other: "ErrorRange") -> "ErrorRange":
        """Of the difference of two scores with these errors, whose answers are independent."""
        return ErrorRange(math.hypot(self.least, other.least), math.hypot(self.most, other.most))


def binomial_stderr(mean: float, *, questions: int, repeats: int) -> ErrorRange:
    """The standard error of a share of right answers, from 0 to 1, that was published without the answers.

    Each answer is right or wrong, so the variance of a question's mean lies between p(1-p)/repeats and p(1-p).
    """
    if not 0 <= mean <= 1 or questions < 1 or repeats < 1:
        raise ValueError(f"no share of right answers: {mean} of {questions} questions asked {repeats} times.")
    variance = mean * (1 - mean) / questions
    return ErrorRange(least=math.sqrt(variance / repeats), most=math.sqrt(variance))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: below 0.05 each stands although so many were tested."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _stderr(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _table(scores) -> np.ndarray:
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2 or table.shape[1] < 1:
        raise ValueError(f"scores must be a table of at least two questions x repeats, not of shape {table.shape}.")
    if not np.isfinite(table).all():
        raise ValueError("scores have a gap: a question was not answered in every repeat.")
    return table
