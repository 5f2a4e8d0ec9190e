"""Says how many trainings of two blends would decide between them, where their Averages do not differ significantly.

    found = runs_needed(contrast, judgement.scatters, pairs=10)
    found.fewest, found.most                # 6, 40: runs of each blend, under other seeds

For one benchmark it is questions or repeats that are wanted (`evaluator.stats.power`); an Average is over a whole
suite,
and what is open once another seed is included only more trainings can close.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

from evaluator.stats.power import WORTHWHILE, is_worth_asking
from evaluator.verdicts.contrasts import LEVEL, Contrast
from evaluator.verdicts.seeds import Scatters

POWER = 0.8
"""How often so many runs find the difference, if it is real."""


@dataclass(frozen=True)
class RunsNeeded:
    """Runs of each of two blends, each under a seed of its own."""

    fewest: int
    """If the difference is a standard error larger than the one seen."""
    most: int
    """If it is one smaller, though not below half a point."""


def runs_needed(contrast: Contrast, scatters: Scatters, *, pairs: int) -> RunsNeeded | None:
    """Runs of each blend, at least, that show a difference of Averages which is open, in a family of so many `pairs`.

    At least, for the error of these answers is taken to fall with the number of runs as that of training does; what of
    it is of the questions asked does not. None where it is not worth asking: below a standard error, of which nothing
    is known, or half a point.
    """
    seen = contrast.difference
    if not is_worth_asking(seen):
        return None
    normal = NormalDist()
    distance = normal.inv_cdf(1 - LEVEL / pairs / 2) + normal.inv_cdf(POWER)
    scatter = scatters.of(contrast.column)
    training = max(0.0, scatter.sd**2 - scatter.answers)
    variance = seen.stderr**2 + 2 * training
    sizes = (abs(seen.mean) + seen.stderr, max(WORTHWHILE, abs(seen.mean) - seen.stderr))
    fewest, most = (max(2, math.ceil(variance * (distance / size) ** 2)) for size in sizes)
    return RunsNeeded(fewest, most)
