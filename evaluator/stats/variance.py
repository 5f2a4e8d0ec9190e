"""Tests a value whose error has parts that are known unequally well: over many questions, over few trainings.

>>> parts = [Part(0.006**2), Part(0.005**2, freedom=2)]     # over 5,000 questions; of three seeds
>>> round(p_of(0.02, parts), 3), round(p_of(0.02, [Part(0.006**2), Part(0.005**2)]), 3)
(0.077, 0.01)

S. K. Banerjee, "Approximate confidence interval for linear functions of means of k populations when the population
variances are not equal", Sankhya 22 (1960): where each part's variance is estimated with degrees of freedom of its own,
|value| > sqrt(sum of t_i^2 x variance_i), each t_i the two-sided quantile of its own degrees, comes by chance in at
most the level's share of cases, whatever the true variances are. Satterthwaite's approximation, which promises no such
thing, is too rash for one or two degrees of freedom.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from evaluator.stats.paired import SMALLEST_P


@dataclass(frozen=True)
class Part:
    """One part of the variance of an estimate."""

    variance: float
    """Its variance, estimated or assumed."""
    freedom: float = math.inf
    """Degrees of freedom of the estimate; infinite where it is assumed or from very many values."""


def p_of(value: float, parts: Sequence[Part]) -> float:
    """Two-sided p-value of `value`, whose expectation is 0 where nothing differs; 0 with no error at all is 1."""
    parts = [part for part in parts if part.variance > 0]
    if not parts or value == 0:
        return float(value == 0)
    if all(math.isinf(part.freedom) for part in parts):
        return math.erfc(abs(value) / math.sqrt(2 * sum(part.variance for part in parts)))
    # The bound falls as its level rises: halve the range of the level's logarithm.
    low, high = math.log(SMALLEST_P), 0.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if half_width(parts, math.exp(middle)) > abs(value) else (low, middle)
    return math.exp(high)


def half_width(parts: Sequence[Part], level: float) -> float:
    """Half the length of the interval that misses the truth in at most `level` of cases."""
    return math.sqrt(sum(_quantile(part.freedom, level) ** 2 * part.variance for part in parts))


def pooled(groups: Sequence[Sequence[float]]) -> Part:
    """The variance within groups of values, all alike in it, with its degrees of freedom: values less groups.

    >>> pooled([(3.0, 5.0), (4.0,), (7.0, 8.0, 9.0)])
    Part(variance=1.3333333333333333, freedom=3)
    """
    freedom = sum(len(group) - 1 for group in groups)
    if freedom < 1:
        raise ValueError("no group has two values, so that their scatter is not known.")
    return Part(float(sum(np.var(group) * len(group) for group in groups)) / freedom, freedom)


def _quantile(freedom: float, level: float) -> float:
    return float(-ndtri(level / 2) if math.isinf(freedom) else -stdtrit(freedom, level / 2))
