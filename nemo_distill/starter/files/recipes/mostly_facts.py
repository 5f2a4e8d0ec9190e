"""Mostly facts, and few sums: what `balanced` is compared with."""

from _study import FACTS, NOTES, SUMS, study
from nemo_distill import Blend, Context, Settings, entrypoint, run_experiment

# fmt: off
BLEND = Blend.of(
    "mostly_facts",
    (SUMS,   10, "a guess"),
    (FACTS,  80, "a guess"),
    (NOTES,  10, "a guess"),
)
# fmt: on
SETTINGS = study(BLEND)


@entrypoint
def mostly_facts(ctx: Context, settings: Settings = SETTINGS) -> None:
    """Prune the teacher, distil it on the blend, evaluate every milestone."""
    run_experiment(ctx, settings)
