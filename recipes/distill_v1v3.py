"""30% pre-training data, 70% post-training data (v1 and v3): the study's chosen blend.

    nemo-run recipes/distill_v1v3.py --executor slurm       the study, on a cluster
    nemo-run recipes/distill_v1v3.py --executor local       the same code on a laptop, in minutes

Every weight is published.
"""

import nemo_run as run

from nemo_distill.blend import Blend
from nemo_distill.context import Context
from nemo_distill.experiment import run_experiment
from nemo_distill.settings import Distill, Evaluate, Prune

BLEND = Blend(
    name="30pre_70post_v1v3",
    shares={
        # pre-training data: 30%
        "sft-code": 5,
        "sft-general": 20,
        "sft-math": 5,
        # post-training data: 70%
        "math-v2-part00": 15,
        "math-v2-part01": 15,
        "competitive-python": 15,
        "competitive-cpp": 5,
        "stem": 10,
        "science-mcq": 3,
        "science-rqa": 2,
        "instruction-reasoning-on": 3,
        "instruction-reasoning-off": 2,
    },
    provenance="published",
)


@run.cli.entrypoint(type="experiment", run_ctx_cls=Context)
def distill_v1v3(
    ctx: Context,
    blend: Blend = BLEND,
    prune: Prune = Prune(),
    distill: Distill = Distill(),
    evaluate: Evaluate = Evaluate(),
    scale: str = "",
    runs: str = "runs",
    seed: int = 1234,
) -> None:
    """Prune the teacher, distil it on the blend, evaluate every milestone."""
    run_experiment(ctx, blend=blend, prune=prune, distill=distill, evaluate=evaluate, scale=scale, runs=runs, seed=seed)


if __name__ == "__main__":
    run.cli.main(distill_v1v3)
