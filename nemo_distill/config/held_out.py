"""How often a distillation is measured on held-out documents, and on how many tokens, for the time that it may take.

>>> from nemo_distill.config.held_out import measuring
>>> measuring(iterations=12_800, milestones=7, tokens_per_iteration=768 * 8_192, sources=10)
Measuring(every=128, tokens=65536)
>>> measuring(iterations=150, milestones=3, tokens_per_iteration=16 * 256, sources=10)  # for milestones alone
Measuring(every=0, tokens=128)
"""

import math
from dataclasses import dataclass

from nemo_distill.errors import UserError

TIME = 0.01
"""Share of the training's time that measuring takes at most, unless a recipe says otherwise."""
MOST_SHARE = 0.5
"""Largest share of the documents that can be held out."""
MOST_TOKENS, LEAST_TOKENS = 1 << 16, 1 << 7
"""Tokens of a source that are measured at a time, at most and at least."""
MOST_POINTS = 100
"""Measurements between milestones, unless a recipe asks for more."""
RELATIVE = 2 / 3
"""Time of a held-out token, which both models read forward, by that of one that is trained on, which the student takes
backward too: less than this for every student of a third of the teacher or more."""


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """When the held-out documents are measured, besides at the start and at milestones, and how many of them."""

    every: int = 0
    """Iterations from one measurement to the next; 0: at milestones only."""
    tokens: int = MOST_TOKENS
    """Tokens of each source that are measured, padding included."""


def measuring(
    *,
    iterations: int,
    milestones: int,
    tokens_per_iteration: int,
    sources: int,
    time: float = TIME,
    every: int | None = None,
) -> Measuring:
    """What fits into a share `time` of the training's time.

    Args:
        iterations: That are trained in all.
        milestones: Number of them; each is measured, and so is the student before the first iteration.
        tokens_per_iteration: Of a global batch.
        sources: Of the blend, number of them.
        time: Share of the training's time that measuring takes at most.
        every: Iterations between measurements; None: as many measurements as there is time for, `MOST_POINTS` at most.

    Raises `UserError` where that leaves less than `LEAST_TOKENS` of each source at a time.
    """
    each = time * iterations * tokens_per_iteration / RELATIVE / sources
    fixed = milestones + 1
    if every is None:
        points = int(min(MOST_POINTS, each / MOST_TOKENS - fixed))
        every = math.ceil(iterations / points) if points > 0 else 0
    times = fixed + (iterations // every if every else 0)
    if each / times < LEAST_TOKENS:
        near = math.ceil(1000 * time * LEAST_TOKENS * times / each) / 1000
        raise UserError(
            f"distill.held_out_time={time:g} leaves {int(each / times):,} tokens of each of {sources} sources for each "
            f"of {times} measurements, and {LEAST_TOKENS} are the least: say distill.held_out_time={near:g}"
            f"{', or measure less often' if every else ''}."
        )
    return Measuring(every=every, tokens=min(MOST_TOKENS, 2 ** int(math.log2(each / times))))


def time_taken(plan: Measuring, *, iterations: int, milestones: int, tokens_per_iteration: int, sources: int) -> float:
    """Share of the training's time that measuring takes, at most."""
    times = milestones + 1 + (iterations // plan.every if plan.every else 0)
    return RELATIVE * times * plan.tokens * sources / (iterations * tokens_per_iteration)
