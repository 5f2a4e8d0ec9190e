"""Pre-training data only (Nemotron-Pretraining-SFT-v1): one of the study's two baselines.

    nemo-run recipes/distill_pre_sft_v1.py --executor slurm       the study, on a cluster
    nemo-run recipes/distill_pre_sft_v1.py --executor local       the same code on a laptop, in minutes

Published is that nothing but this data set was used; how its three parts were weighted is reconstructed.
"""

from nemo_distill import Blend, Context, Distill, Settings, entrypoint, main, reconstructed, run_experiment

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


@entrypoint
def distill_pre_sft_v1(ctx: Context, settings: Settings = SETTINGS) -> None:
    """Prune the teacher, distil it on the blend, evaluate every milestone."""
    run_experiment(ctx, settings)


if __name__ == "__main__":
    main(distill_pre_sft_v1)
