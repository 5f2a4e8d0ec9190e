"""Compares two checkpoints question by question, and tests many such comparisons together.

>>> one, other = [[1], [1], [1], [1], [1], [1], [0]], [[0], [0], [0], [0], [0], [0], [1]]
>>> difference = paired_difference(one, other)
>>> round(difference.mean, 4), sign_flip(differences(one, other))
(0.7143, 0.125)
>>> holm([0.01, 0.04])
[0.02, 0.04]
"""

import math
from collections.abc import Hashable, Sequence

import numpy as np
from scipy.special import bdtr

from evaluator.stats.scores import Estimate, as_table, stderr_of_mean, sum_by_cluster

SMALLEST_P = 1e-12
"""Smallest p-value of the sign-flip test; smaller ones are reported as this."""
_MOST_STEPS = 2**14
"""Sign-flip sums are counted on a grid of at most so many steps."""


def paired_difference(scores, others, clusters: Sequence[Hashable] = ()) -> Estimate:
    """How much `scores` is above `others`, two tables (questions, repeats) over the same questions in one order.

    The questions are the same, so what makes one hard for both cancels: the error is that of the differences. It is
    over `clusters` where there are any, as in `summarize`.
    """
    by_question = differences(scores, others)
    return Estimate(mean=float(by_question.mean()), stderr=stderr_of_mean(by_question, clusters))


def differences(scores, others, clusters: Sequence[Hashable] = ()) -> np.ndarray:
    """Mean over repeats of each question of `scores` less that of `others`, summed over each of the `clusters`."""
    one, other = as_table(scores), as_table(others)
    if len(one) != len(other):
        raise ValueError(f"a paired difference is over the same questions, not {len(one)} and {len(other)}.")
    return sum_by_cluster(one.mean(axis=1) - other.mean(axis=1), clusters)


def covariance_of_means(tables: Sequence, clusters: Sequence[Hashable] = ()) -> np.ndarray:
    """How the errors of several checkpoints' means go together: variances and covariances over the same questions.

    Any contrast of the means has its standard error from it; of two it is `paired_difference`'s.

    >>> one, other = [[1], [1], [0], [1]], [[0], [1], [0], [0]]
    >>> covariance = covariance_of_means([one, other])
    >>> error = np.sqrt(np.array([1, -1]) @ covariance @ np.array([1, -1]))
    >>> bool(np.isclose(error, paired_difference(one, other).stderr))
    True
    """
    by_question = np.stack([as_table(table).mean(axis=1) for table in tables], axis=1)
    centred = by_question - by_question.mean(axis=0)
    sums = np.stack([sum_by_cluster(column, clusters) for column in centred.T], axis=1)
    return len(sums) / (len(sums) - 1) * (sums.T @ sums) / len(by_question) ** 2


def sign_flip(by_question) -> float:
    """Two-sided p-value of paired differences: how often their sum is as far from 0 when each has a sign by chance.

    Two checkpoints that are alike could as well have swapped their answers to any question. All 2^questions ways to
    swap are counted, none is drawn: the sum's distribution has a characteristic function that is a product, one factor
    a question. Asked once, it is McNemar's exact test. No normal distribution is assumed, so it holds for 30
    questions and where all differences are equal, which have no standard error.

    Args:
        by_question: A difference per question or cluster. They are multiples of 1/repeats, as a rule; others are
            rounded to a grid, which leaves the test exact, for they are what is then tested.
    """
    up, down = _steps(np.asarray(by_question, dtype=np.float64))
    sizes, counts = np.unique(np.concatenate([up, down]), return_counts=True)
    if len(sizes) < 2:
        return mcnemar(len(up), len(down))
    total = int(sizes @ counts)
    waves = np.ones(total // 2 + 1, dtype=np.complex128)
    for size, count in zip(sizes, counts, strict=True):
        angles = np.arange(len(waves)) * size % (total + 1) * (2 * np.pi / (total + 1))
        waves *= (0.5 + 0.5 * np.exp(-1j * angles)) ** count
    chances = np.fft.irfft(waves, n=total + 1)  # of the steps that point up: 0 to total
    sums = np.abs(2 * np.arange(total + 1) - total)
    p_value = chances[sums >= abs(2 * int(up.sum()) - total)].sum()
    return float(np.clip(p_value, SMALLEST_P, 1))


def mcnemar(only_one: int, only_other: int) -> float:
    """McNemar's exact test, two-sided, of questions asked once that just one of two checkpoints answered rightly.

    >>> round(mcnemar(8, 2), 6)
    0.109375
    """
    fewer, trials = min(only_one, only_other), only_one + only_other
    return min(1.0, 2 * float(bdtr(fewer, trials, 0.5)))


def normal_p(estimate: Estimate) -> float:
    """Two-sided p-value of an estimate from so many questions that it is normally distributed; 0 has no error."""
    if estimate.stderr == 0:
        return float(estimate.mean == 0)
    return math.erfc(abs(estimate.mean) / estimate.stderr / math.sqrt(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: below 0.05 each stands although so many were tested."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _steps(by_question: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The differences above and below 0 as whole numbers of the largest step that all are multiples of."""
    sizes = np.abs(by_question)
    largest = sizes.max(initial=0.0)
    if largest > 0:
        for parts in range(1, 129):
            steps = sizes * parts
            if np.abs(steps - np.rint(steps)).max() < 1e-9 and steps.sum() <= _MOST_STEPS:
                break
        else:
            steps = sizes * (_MOST_STEPS / sizes.sum())
        sizes = np.rint(steps).astype(np.int64)
    return sizes[(by_question > 0) & (sizes > 0)], sizes[(by_question < 0) & (sizes > 0)]
