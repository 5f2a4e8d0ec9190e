"""Post-training data only (v1 and v2): one of the study's two baselines.

    nemo-run recipes/distill_pt_v1v2.py --executor slurm       the study, on a cluster
    nemo-run recipes/distill_pt_v1v2.py --executor local       the same code on a laptop, in minutes

Published is that all of it is post-training data, and the same as in 30pre_70post_v1v2; the shares are that blend's
post-training part, made whole and rounded.
"""

from nemo_distill import Blend, Context, Distill, Settings, entrypoint, main, reconstructed, run_experiment

# fmt: off
BLEND = Blend.of(
    "pt_v1v2",
    # post-training data: 100%, published as a sum
    ("math-v2-part00",             21, reconstructed("the 15% of 30pre_70post_v1v2, times 10/7")),
    ("competitive-python",         29, reconstructed("the 20% of 30pre_70post_v1v2, times 10/7")),
    ("competitive-cpp",            14, reconstructed("the 10% of 30pre_70post_v1v2, times 10/7")),
    ("exercism",                    3, reconstructed("the 2% of 30pre_70post_v1v2, times 10/7")),
    ("text-to-sql",                 3, reconstructed("the 2% of 30pre_70post_v1v2, times 10/7")),
    ("science-mcq",                10, reconstructed("the 7% of 30pre_70post_v1v2, times 10/7")),
    ("science-rqa",                 6, reconstructed("the 4% of 30pre_70post_v1v2, times 10/7")),
    ("instruction-reasoning-on",    8, reconstructed("the 6% of 30pre_70post_v1v2, times 10/7")),
    ("instruction-reasoning-off",   6, reconstructed("the 4% of 30pre_70post_v1v2, times 10/7")),
)
# fmt: on
MILESTONES = (400, 800, 3_200, 6_400)  # 2.5B, 5B, 20B, 40B tokens
SETTINGS = Settings(blend=BLEND, distill=Distill(milestones={"full": MILESTONES}))


@entrypoint
def distill_pt_v1v2(ctx: Context, settings: Settings = SETTINGS) -> None:
    """Prune the teacher, distil it on the blend, evaluate every milestone."""
    run_experiment(ctx, settings)


if __name__ == "__main__":
    main(distill_pt_v1v2)
