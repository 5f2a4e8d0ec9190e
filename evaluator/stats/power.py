"""Computes the minimum detectable effect of a benchmark, and what it would take to show a difference that was seen.

>>> round(detectable_difference(198, 1), 4), round(detectable_difference(198, 10), 4)
(0.1327, 0.0757)
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.special import stdtrit

from evaluator.stats.paired import differences
from evaluator.stats.scores import Estimate, as_table, stderr_of_mean

BETWEEN, WITHIN = 1 / 9, 1 / 6
"""Variances to plan with before there are answers (Miller, section 5): of the difference between two checkpoints from
question to question, and of one answer about its question's mean. The second is that of right or wrong where chances
are spread evenly from 0 to 1; the first, that of two such checkpoints whose chances correlate at a third."""


def detectable_difference(
    questions: int,
    repeats: float,
    between: float = BETWEEN,
    within: float = WITHIN,
    *,
    significance: float = 0.05,
    power: float = 0.8,
) -> float:
    """Minimum detectable effect: the smallest true difference of two checkpoints that a paired, two-sided test finds.

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
        raise ValueError(
            f"questions={questions}, repeats={repeats} can show no difference: at least 2 questions and 1 repeat."
        )
    quantile = NormalDist().inv_cdf(1 - significance / 2) + NormalDist().inv_cdf(power)
    return quantile * float(np.sqrt((between + 2 * within / repeats) / questions))


WORTHWHILE = 0.005
"""Smallest difference of two scores, from 0 to 1, for which it is worth asking more: half a point, about as much as
one blend's scores differ by from one training seed to the next."""


@dataclass(frozen=True)
class Needed:
    """What it would take to show a difference of two checkpoints that is as large as was seen."""

    questions: int
    """Questions of this kind, asked as often as they were."""
    questions_range: tuple[int, int]
    """The same for a difference that is a standard error larger, and for one that is as much smaller."""
    repeats: int | None = None
    """Repeats of the questions there are; None when no number would do, or when asking once left it unknown."""
    repeats_range: tuple[int | None, int | None] = (None, None)
    """The same for the larger and for the smaller difference."""


def needed(
    scores, others, clusters: Sequence[Hashable] = (), *, significance: float = 0.05, power: float = 0.8
) -> Needed | None:
    """How much more would have to be asked so that a difference as large as the one seen is found.

    Args:
        scores: Table (questions, repeats) of one checkpoint.
        others: The other's, over the same questions.
        clusters: Per question what it shares with others, as in `summarize`: more questions then are more of such
            clusters, and asking again betters less.
        significance: Two-sided level of the test that has to find it.
        power: How often it does.

    None where `is_worth_asking` says no. The variance of the differences is that between questions and, over the
    repeats, that of single answers: only the second gets smaller by asking again.
    """
    tables = [as_table(scores), as_table(others)]
    by_question = differences(scores, others)
    seen = Estimate(float(by_question.mean()), stderr_of_mean(by_question, clusters))
    if not is_worth_asking(seen):
        return None
    questions, units = len(by_question), len(set(clusters)) or len(by_question)
    counts = [questions_needed(size, seen.stderr, questions, units, significance, power) for size in _sizes(seen)]
    if any(table.shape[1] == 1 for table in tables):
        return Needed(counts[1], (counts[0], counts[2]))
    answers = [table.var(axis=1, ddof=1).mean() for table in tables]
    noise = sum(variance / table.shape[1] for variance, table in zip(answers, tables, strict=True))
    between = max(0.0, questions * seen.stderr**2 - noise)
    repeats = []
    for size in _sizes(seen):
        room = questions * (size / _distance(units - 1, significance, power)) ** 2 - between
        repeats.append(max(1, math.ceil(sum(answers) / room)) if room > 0 else None)
    return Needed(counts[1], (counts[0], counts[2]), repeats[1], (repeats[0], repeats[2]))


def is_worth_asking(seen: Estimate) -> bool:
    """Whether more questions are worth naming: not below a standard error, of which nothing is known, nor where nothing
    is gained."""
    return abs(seen.mean) >= max(WORTHWHILE, seen.stderr) and seen.stderr > 0


def needed_of_scores(seen: Estimate, questions: int, *, significance: float, power: float = 0.8) -> Needed | None:
    """What `needed` says where only the difference of two scores is known and not the answers."""
    if not is_worth_asking(seen):
        return None
    counts = [questions_needed(size, seen.stderr, questions, questions, significance, power) for size in _sizes(seen)]
    return Needed(counts[1], (counts[0], counts[2]))


def questions_needed(
    difference: float, stderr: float, questions: int, units: int, significance: float, power: float
) -> int:
    """Questions at which a difference is found so often, if so many in so many independent `units` have `stderr`."""
    variance, count = units * stderr**2, float(units)
    for _ in range(8):  # the limit of t, and so the count, hardly moves after the third
        count = max(2.0, variance * (_distance(count - 1, significance, power) / difference) ** 2)
    return math.ceil(count * questions / units)


def _sizes(seen: Estimate) -> tuple[float, float, float]:
    """The difference a standard error larger than was seen, as it was seen, and as much smaller, if worthwhile."""
    size = abs(seen.mean)
    return size + seen.stderr, size, max(WORTHWHILE, size - seen.stderr)


def _distance(freedom: float, significance: float, power: float) -> float:
    """Standard errors from 0 at which a two-sided t test finds a difference so often.

    By the normal approximation to the noncentral t distribution (Johnson, Kotz and Balakrishnan, "Continuous Univariate
    Distributions 2", 31.6). The exact test that verdicts go by has the t test's power at 30 questions, not that of the
    normal distribution.
    """
    freedom = max(1.0, freedom)
    limit = float(stdtrit(freedom, 1 - significance / 2))
    return limit * (1 - 1 / (4 * freedom)) + NormalDist().inv_cdf(power) * math.sqrt(1 + limit**2 / (2 * freedom))
