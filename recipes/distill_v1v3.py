"""30% pre-training data, 70% post-training data (v1 and v3): the study's chosen blend.

    nemo-run recipes/distill_v1v3.py --executor slurm       the study, on a cluster
    nemo-run recipes/distill_v1v3.py --executor local       the same code on a laptop, in minutes

The only blend whose weights are published, all of them.
"""

from nemo_distill import PUBLISHED, Blend, Context, Distill, Settings, entrypoint, main, run_experiment

# fmt: off
BLEND = Blend.of(
    "30pre_70post_v1v3",
    # pre-training data: 30%
    ("sft-code",                    5, PUBLISHED),
    ("sft-general",                20, PUBLISHED),
    ("sft-math",                    5, PUBLISHED),
    # post-training data: 70%
    ("math-v2-part00",             15, PUBLISHED),
    ("math-v2-part01",             15, PUBLISHED),
    ("competitive-python",         15, PUBLISHED),
    ("competitive-cpp",             5, PUBLISHED),
    ("stem",                       10, PUBLISHED),
    ("science-mcq",                 3, PUBLISHED),
    ("science-rqa",                 2, PUBLISHED),
    ("instruction-reasoning-on",    3, PUBLISHED),
    ("instruction-reasoning-off",   2, PUBLISHED),
)
# fmt: on
MILESTONES = (400, 3_200, 6_400, 9_600, 12_800)  # 2.5B, 20B, 40B, 60B, 80B tokens
SETTINGS = Settings(blend=BLEND, distill=Distill(milestones={"full": MILESTONES}))


@entrypoint
def distill_v1v3(ctx: Context, settings: Settings = SETTINGS) -> None:
    """Prune the teacher, distil it on the blend, evaluate every milestone."""
    run_experiment(ctx, settings)


if __name__ == "__main__":
    main(distill_v1v3)
