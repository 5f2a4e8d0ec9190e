"""Defines what a harness kept of one answer; `evaluator.harness.readers` makes them of its files.

>>> Sample(question="aime/3", repeat=0, score=judged(True)).score
1.0
>>> Sample(question="aime/3", repeat=0, score=judged("1"))
Traceback (most recent call last):
ValueError: its score is the text '1', not a number.
"""

from dataclasses import dataclass
from typing import Any

from evaluator.results.files import number, text, whole


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One answer of one question. Raises ValueError for values that none can have."""

    question: str
    """The question's id."""
    repeat: int
    """Which of its answers, from 0."""
    score: float
    """Score of the answer, from 0 to `Benchmark.most`."""
    prompt: str = ""
    """What was asked."""
    reference: str = ""
    """The right answer."""
    text: str | None = None
    """What was answered; None where the harness does not keep it."""
    tokens: int | None = None
    """Length of the answer; None where the harness does not say."""
    finish_reason: str | None = ""
    """`stop` or `length`; empty where the harness does not say."""
    cluster: str = ""
    """The problem that the question is a part of; empty where it stands alone."""
    empty: bool | None = None
    """Whether there was no text to judge, where the harness says so; else that is seen by the text."""
    asked: bool = True
    """Whether it was asked at all: a prompt longer than the context is not, and is wrong."""
    why: str = ""
    """What the endpoint said of a question that was not asked; empty where it is not kept."""
    not_taken: int = 0
    """Number of replies before it that were taken for none, and asked for again."""
    counted: bool = True
    """Whether it is in the mean that the harness reports."""

    def __post_init__(self) -> None:
        for name in ("question", "prompt", "reference", "cluster", "why"):
            text(getattr(self, name), name)
        if not self.question:
            raise ValueError("its question has no id.")
        self.question.encode()  # names files and lines of tables, and so has to be valid Unicode
        for name in ("text", "finish_reason"):
            if getattr(self, name) is not None:
                text(getattr(self, name), name)
        whole(self.repeat, "its repeat")
        whole(self.not_taken, "its number of replies that were none")
        number(self.score, "its score")
        if self.tokens is not None:
            whole(self.tokens, "its tokens")
        if self.empty is not None and not isinstance(self.empty, bool):
            raise ValueError(f"whether it is empty is {self.empty!r}, neither true nor false.")

    @property
    def is_blank(self) -> bool:
        """Whether nothing was answered; not, where that is not known."""
        return self.text is not None and not self.text.strip()

    @property
    def is_empty(self) -> bool | None:
        """Whether there was no text to judge, all of it being reasoning, say; None where that is not known."""
        return self.is_blank if self.empty is None and self.text is not None else self.empty


def judged(value: Any) -> float:
    """The score that a harness gave an answer, which may be true or false."""
    return float(value) if isinstance(value, bool) else number(value, "its score")
