"""30% pre-training data, 70% post-training data (v1 and v2): the study's first 30/70 blend.

    nemo-run recipes/distill_v1v2.py --executor slurm       the study, on a cluster
    nemo-run recipes/distill_v1v2.py --executor local       the same code on a laptop, in minutes

Published are the 30/70 split, that exercism, text-to-SQL and one part of Math-v2 were in it, and that Science-v1 was
passed over about 14 times in 100B tokens; the rest is reconstructed.
"""

from nemo_distill import Blend, Context, Distill, Settings, entrypoint, main, reconstructed, run_experiment

BY_SIZE = reconstructed("of the 30%, as much of each source as it holds: 7B, 16B and 12B")
CODE = reconstructed("code as in v1v3, and what v3 took for its mathematics")
REST = reconstructed("what is left of 70%")

# fmt: off
BLEND = Blend.of(
    "30pre_70post_v1v2",
    # pre-training data: 30%, published as a sum
    ("sft-code",                    6, BY_SIZE),
    ("sft-general",                14, BY_SIZE),
    ("sft-math",                   10, BY_SIZE),
    # post-training data: 70%, published as a sum
    ("math-v2-part00",             15, reconstructed("half of what v3 has, which added the other part")),
    ("competitive-python",         20, CODE),
    ("competitive-cpp",            10, CODE),
    ("exercism",                    2, reconstructed("not published; some 17 passes over about 0.12B tokens in 100B")),
    ("text-to-sql",                 2, reconstructed("not published; some 11 passes over about 0.19B tokens in 100B")),
    ("science-mcq",                 7, reconstructed("14 passes over 0.497B tokens in 100B")),
    ("science-rqa",                 4, reconstructed("14 passes over 0.278B tokens in 100B")),
    ("instruction-reasoning-on",    6, REST),
    ("instruction-reasoning-off",   4, REST),
)
# fmt: on
MILESTONES = (400, 800, 3_200, 6_400, 9_600, 12_800, 16_000)  # 2.5B, 5B, 20B, 40B, 60B, 80B, 100B tokens
SETTINGS = Settings(blend=BLEND, distill=Distill(milestones={"full": MILESTONES}))


@entrypoint
def distill_v1v2(ctx: Context, settings: Settings = SETTINGS) -> None:
    """Prune the teacher, distil it on the blend, evaluate every milestone."""
    run_experiment(ctx, settings)


if __name__ == "__main__":
    main(distill_v1v2)
