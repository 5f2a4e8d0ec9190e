"""Computes the minimum detectable effect of a benchmark, and what it would take to show a difference that was seen.

>>> round(detectable_difference(198, 1), 4), round(detectable_difference(198, 10), 4)
(0.1327, 0.0757)
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from evaluator.stats.paired import differences
from evaluator.stats.scores import as_table, stderr_of_mean

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


@dataclass(frozen=True)
class Needed:
    """What it would take to show a difference of two checkpoints that is as large as was seen."""

    questions: int
    """Questions of this kind, asked as often as they were."""
    repeats: int | None
    """Repeats of the questions there are; None when no number would do, or when asking once left it unknown."""


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

    None when no difference was seen. The variance of the differences is that between questions and, over the repeats,
    that of single answers: only the second gets smaller by asking again.
    """
    one, other = as_table(scores), as_table(others)
    by_question = differences(one, other)
    mean, questions = by_question.mean(), len(by_question)
    variance = questions * stderr_of_mean(by_question, clusters) ** 2
    if mean == 0:
        return None
    # Variance of a question's difference at which the mean's standard error is small enough, per question asked.
    bearable = (mean / (NormalDist().inv_cdf(1 - significance / 2) + NormalDist().inv_cdf(power))) ** 2
    more_questions = max(2, math.ceil(variance / bearable))
    if one.shape[1] == 1 or other.shape[1] == 1:
        return Needed(more_questions, None)
    answers = [table.var(axis=1, ddof=1).mean() for table in (one, other)]
    between = max(0.0, variance - answers[0] / one.shape[1] - answers[1] / other.shape[1])
    room = bearable * questions - between
    return Needed(more_questions, max(1, math.ceil(sum(answers) / room)) if room > 0 else None)
