"""30% pre-training data, 70% post-training data (v3): the chosen blend's forerunner.

    nemo-run recipes/distill_v3.py --executor slurm       the study, on a cluster
    nemo-run recipes/distill_v3.py --executor local       the same code on a laptop, in minutes

Published are the 30/70 split, the 30% of mathematics with its second part, and that exercism and text-to-SQL were
dropped; the rest is reconstructed from what the study says changed between this blend and the chosen one.
"""

from nemo_distill import Blend, Context, Distill, Settings, entrypoint, main, reconstructed, run_experiment

AS_CHOSEN = reconstructed("as in 30pre_70post_v1v3")
REST = reconstructed("what is left of 70%, and IFEval rose with this blend")

# fmt: off
BLEND = Blend.of(
    "30pre_70post_v3",
    # pre-training data: 30%, published as a sum
    ("sft-code",                    5, AS_CHOSEN),
    ("sft-general",                20, reconstructed("the study raised General to 20 for its v3 blends")),
    ("sft-math",                    5, AS_CHOSEN),
    # post-training data: 70%, published as a sum
    ("math-v2-part00",             15, reconstructed("half of the published 30% of mathematics")),
    ("math-v2-part01",             15, reconstructed("the other half; this part was added here")),
    ("competitive-python",         15, AS_CHOSEN),
    ("competitive-cpp",             5, AS_CHOSEN),
    ("science-mcq",                 7, reconstructed("14 passes over 0.497B tokens in 100B, as in 30pre_70post_v1v2")),
    ("science-rqa",                 4, reconstructed("14 passes over 0.278B tokens in 100B, as in 30pre_70post_v1v2")),
    ("instruction-reasoning-on",    5, REST),
    ("instruction-reasoning-off",   4, REST),
)
# fmt: on
MILESTONES = (400, 800, 3_200, 6_400, 9_600, 12_800)  # 2.5B, 5B, 20B, 40B, 60B, 80B tokens
SETTINGS = Settings(blend=BLEND, distill=Distill(milestones={"full": MILESTONES}))


@entrypoint
def distill_v3(ctx: Context, settings: Settings = SETTINGS) -> None:
    """Prune the teacher, distil it on the blend, evaluate every milestone."""
    run_experiment(ctx, settings)


if __name__ == "__main__":
    main(distill_v3)
