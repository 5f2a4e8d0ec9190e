"""As many sums as facts.

    nemo-run recipes/balanced.py --dryrun                # what it would do, and what that costs
    nemo-run recipes/balanced.py                         # on this machine
    nemo-run recipes/balanced.py --executor slurm        # on a cluster, once executors/slurm.yaml is filled in

Copy it for another blend, and let another source be one in `_study.py`.
"""

from _study import FACTS, NOTES, SUMS, study
from nemo_distill import Blend, Context, Settings, entrypoint, run_experiment

# A row is a source, its percent of the tokens, and where that figure comes from. A name is one of the study's sources.
# fmt: off
BLEND = Blend.of(
    "balanced",
    (SUMS,   45, "a guess"),
    (FACTS,  45, "a guess"),
    (NOTES,  10, "a guess"),
)
# fmt: on
SETTINGS = study(BLEND)


@entrypoint
def balanced(ctx: Context, settings: Settings = SETTINGS) -> None:
    """Prune the teacher, distil it on the blend, evaluate every milestone."""
    run_experiment(ctx, settings)
