"""Pre-training data only (Nemotron-Pretraining-SFT-v1): one of the study's two baselines.

    nemo-run recipes/distill_pre_sft_v1.py --executor slurm       the study, on a cluster
    nemo-run recipes/distill_pre_sft_v1.py --executor local       the same code on a laptop, in minutes

Published is that nothing but this data set was used; how its three parts were weighted is reconstructed.
"""

import nemo_run as run

from nemo_distill.config.blend import Blend, reconstructed
from nemo_distill.config.settings import Distill, Settings
from nemo_distill.experiment import run_experiment
from nemo_distill.launch.context import Context

BY_SIZE = reconstructed("as much of each source as it holds: 7B, 16B and 12B")

# fmt: off
BLEND = Blend.of(
    "pre_sft_v1",
    # pre-training data: 100%, published as a sum
    ("sft-code",                   20, BY_SIZE),
    ("sft-general",                46, BY_SIZE),
    ("sft-math",                   34, BY_SIZE),
)
# fmt: on
MILESTONES = (3_020, 8_901)  # 19B and 56B tokens
SETTINGS = Settings(blend=BLEND, distill=Distill(milestones={"full": MILESTONES}))


@run.cli.entrypoint(type="experiment", run_ctx_cls=Context)
def distill_pre_sft_v1(ctx: Context, settings: Settings = SETTINGS) -> None:
    """Prune the teacher, distil it on the blend, evaluate every milestone."""
    run_experiment(ctx, settings)


if __name__ == "__main__":
    run.cli.main(distill_pre_sft_v1)
