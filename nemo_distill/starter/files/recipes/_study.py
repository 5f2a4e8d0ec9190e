"""What the blends of this study share: teacher, sources, settings. Put yours in the place of what is here.

It runs as it is: `nemo-run new` made the data, for the teacher of a million parameters that comes with the package.
"""

from pathlib import Path

from nemo_distill import Blend, Distill, Evaluate, Prepare, Questions, Settings, Source

FOLDER = Path(__file__).resolve().parent.parent

# The model that is pruned and learnt from: a folder, or one of the Hub, "nvidia/NVIDIA-Nemotron-Nano-9B-v2@COMMIT".
# "" is the one of the scale: on this machine that which comes with the package, on a cluster the study's 9B.
TEACHER = ""

# A file, a folder or a pattern of .jsonl, .jsonl.gz, .jsonl.zst or .parquet; dataset="ORG/NAME" is one of the Hub. Rows
# are plain text, or chats in any schema, which `nemo-run recipes/balanced.py --dryrun` looks at before anything runs.
SUMS = Source(name="sums", path=f"{FOLDER}/data/sums", field="messages")  # chats as ShareGPT has them
FACTS = Source(name="facts", path=f"{FOLDER}/data/facts.parquet", field="messages")  # chats with their reasoning
NOTES = Source(name="notes", path=f"{FOLDER}/data/notes.jsonl.gz")  # a column `text`

# What a milestone is asked, each question `repeats` times; `kind`: choice, boxed, exact, regex, instruction or code.
# This teacher needs not be told how to answer; yours may, and is where there is no `prompt`.
BENCHMARKS = (
    Questions(name="sums_quiz", path=f"{FOLDER}/questions/sums.jsonl", kind="boxed", prompt="{question}", repeats=4),
    Questions(name="facts_quiz", path=f"{FOLDER}/questions/facts.jsonl", kind="choice", prompt="{question}", repeats=4),
)


def study(blend: Blend) -> Settings:
    """Settings of a run on `blend`. What is left open is the scale's: `nemo-run recipes/balanced.py --dryrun`."""
    return Settings(
        blend=blend,
        teacher=TEACHER,
        prepare=Prepare(held_out=0.02),  # documents that are never trained on, and show what is learnt meanwhile
        evaluate=Evaluate(benchmarks=BENCHMARKS, tasks=("sums_quiz", "facts_quiz")),  # None: those of the scale, too
        distill=Distill(milestones={"debug": (25, 75)}),  # iterations; at other scales, theirs
    )
