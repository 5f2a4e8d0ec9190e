"""Training corpora of the debug world: one stand-in for each source of the study's blend, in that source's schema.

A ``text`` source holds ``{"text": ...}`` per line, a ``messages`` source ``{"messages": [user, assistant]}`` whose
assistant message carries ``reasoning_content`` beside ``content`` (absent where the real source has reasoning off).
Each stand-in is about what its real source is about, so that the shares of a blend decide what a student relearns.

Documents are drawn from a seed: the same seed and number of documents give the same bytes.  No document holds an
exercise whose key is held out for the questions.

>>> from nemo_distill.debug.corpora import documents
>>> [list(document) for document in documents("science-rqa", seed=0, count=2)]
[['messages'], ['messages']]
"""

import functools
import itertools
import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.debug import skills
from nemo_distill.debug.world import Exercise, held_out
from nemo_distill.errors import UserError, nearest

Skill = Callable[[random.Random], Exercise]


@dataclass(frozen=True)
class StandIn:
    """What a debug source is made of."""

    field: str
    """"text" or "messages", as in the real source."""
    skills: tuple[tuple[float, Skill], ...]
    """(weight, skill): which exercises its documents hold."""
    reasoning: bool = True
    """Whether answers come with their reasoning."""


_cpp = functools.partial(skills.code, language="C++")

STAND_INS = {
    "sft-code": StandIn("text", ((3, skills.code), (1, _cpp))),
    "sft-general": StandIn(
        "text", ((3, skills.knowledge), (1, skills.fact), (2, skills.science), (1, skills.open_science),
                 (3, skills.instruction))
    ),
    "sft-math": StandIn("text", ((1, skills.addition), (1, skills.subtraction))),
    "math-v2-part00": StandIn("messages", ((1, skills.addition),)),
    "math-v2-part01": StandIn("messages", ((1, skills.subtraction),)),
    "competitive-python": StandIn("messages", ((1, skills.code),)),
    "competitive-cpp": StandIn("messages", ((1, _cpp),)),
    "exercism": StandIn("messages", ((1, skills.code),), reasoning=False),
    "text-to-sql": StandIn("messages", ((1, skills.code),)),
    "stem": StandIn("messages", ((2, skills.knowledge), (1, skills.science))),
    "science-mcq": StandIn("messages", ((1, skills.science),)),
    "science-rqa": StandIn("messages", ((1, skills.open_science),)),
    "instruction-reasoning-on": StandIn("messages", ((1, skills.instruction),)),
    "instruction-reasoning-off": StandIn("messages", ((1, skills.instruction),), reasoning=False),
}  # fmt: skip
"""Source name -> how its stand-in is made."""


def as_text(exercise: Exercise) -> dict:
    """The exercise as a document of a ``text`` source."""
    return {"text": f"Question: {exercise.prompt}\nThinking: {exercise.thinking}\n{exercise.response}"}


def as_messages(exercise: Exercise, *, reasoning: bool) -> dict:
    """The exercise as a document of a ``messages`` source."""
    assistant = {"role": "assistant", "content": exercise.response}
    if reasoning:
        assistant["reasoning_content"] = exercise.thinking
    return {"messages": [{"role": "user", "content": exercise.prompt}, assistant]}


def exercises(source: str, *, seed: int) -> Iterator[Exercise]:
    """Endless exercises of a source's stand-in, none of them held out; raises UserError for an unknown source."""
    stand_in = _stand_in(source)
    rng = random.Random(f"{source}/{seed}")
    weights, functions = zip(*stand_in.skills)
    while True:
        exercise = rng.choices(functions, weights)[0](rng)
        if not held_out(*exercise.key):
            yield exercise


def documents(source: str, *, seed: int, count: int) -> list[dict]:
    """``count`` documents of a source's stand-in, each a row of its JSONL."""
    stand_in = _stand_in(source)
    drawn = itertools.islice(exercises(source, seed=seed), count)
    if stand_in.field == "text":
        return [as_text(exercise) for exercise in drawn]
    return [as_messages(exercise, reasoning=stand_in.reasoning) for exercise in drawn]


def _stand_in(source: str) -> StandIn:
    if source not in STAND_INS:
        raise UserError(f"the debug world has no source '{source}'. {nearest(source, STAND_INS)}")
    return STAND_INS[source]


def write(folder: Path, *, seed: int, counts: dict[str, int]) -> dict[str, dict]:
    """Write ``FOLDER/<source>.jsonl`` for each source in ``counts``; returns a description of each file by source.

    Every file is replaced in one go, so what an interrupted attempt left behind is never taken for a corpus.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for source, count in counts.items():
        lines = "".join(json.dumps(row) + "\n" for row in documents(source, seed=seed, count=count))
        part = folder / f".{source}.part"
        part.write_text(lines, encoding="utf-8")
        os.replace(part, folder / f"{source}.jsonl")
        written[source] = {"file": f"{source}.jsonl", "field": STAND_INS[source].field, "documents": count,
                           "bytes": len(lines.encode())}  # fmt: skip
    return written
