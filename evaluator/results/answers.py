"""Keeps what a checkpoint answered, question by question: the file behind the scores, for those who want to look.

    for question in load_answers(folder / ANSWERS_FILE):
        print(question.prompt, [(answer.text, answer.score) for answer in question.answers])

One line of JSON per question in `answers.jsonl`, beside `results.json`:

    {"task": ..., "question": ..., "prompt": ..., "reference": ...,
     "answers": [{"text": ..., "score": ..., "finish_reason": ...}, ...]}

Scores are compared by `evaluator.results.scores`; nothing is computed from this file, so its texts may be shortened.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluator.results.files import form, json_lines, number, text
from evaluator.text import valid_unicode

ANSWERS_FILE = "answers.jsonl"
KEPT_PROMPT = 2_000
"""Characters kept of a prompt; what is left out is marked."""
KEPT_ANSWER = 2_000
"""Characters kept of an answer: its end, where the conclusion is, and what is left out is marked."""
CUT = "[...]"
_HEAD = re.compile(rb'\{"task": "([\w.:/-]+)", "question": "([\w.:/ -]+)", ', re.ASCII)
"""How a line begins, with the task and the question, where neither holds anything that JSON escapes."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One repeat of a question."""

    text: str
    """What the model wrote, its end when it is long."""
    score: float
    """Score of the answer, from 0 to 1."""
    finish_reason: str
    """`stop` or `length`; empty where the harness does not say."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question with all its answers."""

    task: str
    """The task's name, see `evaluator.suites.suite`."""
    question: str
    """The question's id, as in `TaskResult.questions`."""
    prompt: str
    """What was asked, its beginning when it is long."""
    reference: str
    """The right answer, or what a right answer must fulfil."""
    answers: tuple[Answer, ...]
    """One per repeat, in the order of `TaskResult.scores`."""


def shortened_prompt(text: str) -> str:
    """The beginning of `text`."""
    return text if len(text) <= KEPT_PROMPT else f"{text[:KEPT_PROMPT]} {CUT}"


def shortened_answer(text: str) -> str:
    """The end of `text`."""
    return text if len(text) <= KEPT_ANSWER else f"{CUT} {text[-KEPT_ANSWER:]}"


def save_answers(folder: Path, questions: Iterable[Question]) -> None:
    """Write answers.jsonl into `folder`, long texts shortened."""
    with open(folder / ANSWERS_FILE, "w", encoding="utf-8") as file:
        for question in questions:
            record = asdict(question) | {"prompt": shortened_prompt(question.prompt)}
            record["answers"] = [
                asdict(answer) | {"text": shortened_answer(answer.text)} for answer in question.answers
            ]
            # A model may write, and a harness keep, half of a surrogate pair, which no file can hold.
            file.write(valid_unicode(json.dumps(record, ensure_ascii=False)) + "\n")


def load_answers(path: Path, wanted: Mapping[str, Collection[str]] | None = None) -> Iterator[Question]:
    """Read what `save_answers` wrote into the file at `path`: of each task the `wanted` questions, or all of them.

    Of the others no more than their beginning is looked at, so that a few of a file of gigabytes are read in seconds
    and in the memory of one.

    Raises ValueError naming the file and the line where it is damaged.
    """
    if path.is_file() and not path.stat().st_size:
        return  # no harness kept any

    def is_other(line: bytes) -> bool:
        head = _HEAD.match(line)
        # What is escaped in an id is told by parsing the line.
        return bool(wanted is not None and head and head[2].decode() not in wanted.get(head[1].decode(), ()))

    for where, record in json_lines(path, passed_over=is_other):
        with form(where):
            if wanted is not None and record["question"] not in wanted.get(record["task"], ()):
                continue
            answers = tuple(Answer(**answer) for answer in record["answers"])
            yield _checked(Question(**record | {"answers": answers}))


def _checked(question: Question) -> Question:
    """A question that was read, if its values are of the kinds that they have to be."""
    for name in ("task", "question", "prompt", "reference"):
        text(getattr(question, name), name)
    for answer in question.answers:
        text(answer.text, "the text of an answer")
        text(answer.finish_reason, "finish_reason")
        number(answer.score, "the score of an answer", most=2)
    return question
