"""Finds the Pareto front: what nothing else is better than in one respect and at least as good as in the other.

>>> front([(794, 66.1), (963, 65.1), (963, 64.0)])
[True, True, False]
"""

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each point is on the front, more being better in both; equal points are on it together."""
    best: dict[float, float] = {}
    for gain, score in points:
        best[gain] = max(score, best.get(gain, score))
    on_it, highest = set(), float("-inf")
    for gain in sorted(best, reverse=True):
        if best[gain] > highest:
            highest = best[gain]
            on_it.add((gain, highest))
    return [point in on_it for point in points]
