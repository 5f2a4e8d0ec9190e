"""Makes the data of a new study: three sources in three forms, and questions that none of them holds.

    write(Path("my_study"))     # my_study/data, my_study/questions

They are exercises of the debug world (`nemo_distill.debug`), which the teacher that comes with the package has learnt:
sums and facts, so that the shares of a blend decide what a student learns again. The same bytes every time.
"""

import gzip
import itertools
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nemo_distill.debug import corpora, skills
from nemo_distill.debug.world import Exercise, held_out

SEED = 7
ROWS = 3_000
"""Rows of each source."""
QUESTIONS = 40
"""Questions of each file of them."""


def write(folder: Path) -> None:
    """Write data and questions into the study `folder`."""
    data, questions = folder / "data", folder / "questions"
    for made in (data / "sums", questions):
        made.mkdir(parents=True)
    half = ROWS // 2
    sums = [_sharegpt(exercise) for exercise in _exercises("sft-math")]
    for part, rows in enumerate((sums[:half], sums[half:])):
        (data / "sums" / f"part{part}.jsonl").write_text(_lines(rows), encoding="utf-8")
    _write_parquet(data / "facts.parquet", [_messages(exercise) for exercise in _exercises("stem")])
    notes = _lines(corpora.as_text(exercise) for exercise in _exercises("sft-general"))
    (data / "notes.jsonl.gz").write_bytes(gzip.compress(notes.encode(), mtime=0))
    for name, drawn in (("sums", (skills.addition, skills.subtraction)), ("facts", (skills.knowledge, skills.science))):
        (questions / f"{name}.jsonl").write_text(_lines(_questions(drawn)), encoding="utf-8")


def _questions(drawn: Sequence[corpora.Skill]) -> Iterator[dict]:
    """Exercises of these skills in turn, held out of the corpora, no two of the same content."""
    rng = random.Random(SEED)
    seen: set[tuple] = set()
    while len(seen) < QUESTIONS:
        exercise = drawn[len(seen) % len(drawn)](rng)
        if held_out(*exercise.key) and exercise.key not in seen:
            seen.add(exercise.key)
            yield {"id": f"{len(seen)}", "question": exercise.prompt, "answer": exercise.answer}


def _exercises(stand_in: str) -> Iterable[Exercise]:
    return itertools.islice(corpora.exercises(stand_in, seed=SEED), ROWS)


def _sharegpt(exercise: Exercise) -> dict:
    answer = f"<think>{exercise.thinking}</think>{exercise.response}"
    return {"conversations": [{"from": "human", "value": exercise.prompt}, {"from": "gpt", "value": answer}]}


def _messages(exercise: Exercise) -> list[dict]:
    return corpora.as_messages(exercise, reasoning=True)["messages"]


def _write_parquet(path: Path, chats: list[list[dict]]) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"messages": chats}), path)


def _lines(rows: Iterable[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
