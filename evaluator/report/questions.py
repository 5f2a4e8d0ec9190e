"""Shows what each checkpoint made of every question, on the page and as a table.

    view = View("Milestone 80B", (teacher, pruned, one, other))
    made = sheets(columns, [view, ...], rivals=(2, 3))          # one per benchmark
    made[0].differing, made[0].rows[0].question                 # 3211, "mmlu-virology-17"
    write_questions(made, Path("out"))                          # questions.csv

A page cannot show 14,042 questions as a table that is there from the start, and need not: the ones on which the
checkpoints differ most stand in it, readable without a script, and the scores of all of them lie beside it, packed to a
letter per checkpoint and question, from which `report.js` makes a table to search, sort and leaf through.

Where an evaluation kept its answers (`answers.jsonl`, a line a question: task, question, prompt, reference and
`answers`, a list of text, score, finish_reason), the questions that differ most are shown with them.
"""

import base64
import csv
import dataclasses
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from evaluator.results.answers import Question, load_answers
from evaluator.results.run import Row
from evaluator.text import TIE, cells, fixed

QUESTIONS = "questions.csv"
FEW = 60
"""A benchmark of at most so many questions is shown whole."""
SHOWN = 20
"""Questions of a larger one that are on the page from the start."""
WITH_ANSWERS = 12
"""Questions of a benchmark shown with their answers."""
SHOWN_PROMPT, SHOWN_ANSWER = 1200, 600
"""Letters of a prompt and of an answer that are shown."""
_FIRST_LETTER = 35
"""A packed score is the letter with this code plus the place of the score among all that occur."""
_MOST_LEVELS = 90
"""More different scores than this are rounded to hundredths."""


@dataclass(frozen=True)
class Column:
    """One checkpoint, as a column."""

    name: str
    """Name of the run, or what the checkpoint is: `Teacher`."""
    at: str
    """Title of the milestone; empty where the name says it all."""
    row: Row
    """The checkpoint."""
    number: int = 0
    """Number of the run, which decides its colour and symbol; 0 for none."""

    @property
    def title(self) -> str:
        """Name and milestone."""
        return f"{self.name} {self.at}".strip()


@dataclass(frozen=True)
class View:
    """Columns that are looked at together."""

    label: str
    """What the page's menu calls it."""
    columns: tuple[int, ...]
    """Places in the columns."""


@dataclass(frozen=True)
class ShownAnswer:
    """One answer of a checkpoint, on the page."""

    by: Column
    """Checkpoint that wrote it."""
    text: str
    """Clipped."""
    score: float
    """Score of the answer, from 0 to 1."""
    finish_reason: str
    """`stop`, or `length` where the token limit cut it."""


@dataclass(frozen=True)
class ShownQuestion:
    """One question that is on the page from the start."""

    question: str
    """Its id."""
    cells: tuple[tuple[str, float], ...]
    """Score in each column of the first view, as text and from 0 to 1."""
    spread: float
    """Highest less lowest score of the rivals."""
    prompt: str = ""
    """Clipped; empty where no answers were kept."""
    excerpt: str = ""
    """The prompt from where it differs from those of the benchmark's other questions."""
    reference: str = ""
    """The right answer, where there is one to compare with."""
    answers: tuple[ShownAnswer, ...] = ()
    """Answers shown; empty where none were kept."""

    @property
    def spread_text(self) -> str:
        """The spread in two digits."""
        return fixed(self.spread, 2)

    @property
    def anchor(self) -> str:
        """Id of its answers on the page."""
        return "answers-" + "".join(letter if letter.isalnum() else "-" for letter in self.question)


@dataclass(frozen=True)
class Sheet:
    """One benchmark, question by question."""

    task: str
    """Name of the task."""
    title: str
    """Title of the benchmark."""
    repeats: int
    """Times each question was asked."""
    questions: tuple[str, ...]
    """Ids."""
    columns: tuple[Column, ...]
    """All checkpoints."""
    views: tuple[View, ...]
    """The first is what is shown from the start."""
    rivals: tuple[int, ...]
    """Columns whose differences decide which questions come first."""
    scores: np.ndarray = field(repr=False)
    """Mean over repeats, from 0 to 1: (questions, columns)."""
    texts: Mapping[str, Sequence[tuple[Column, Question]]] = field(default_factory=dict, repr=False)
    """Checkpoints that kept their answers, with them, by the questions whose answers are shown."""

    @property
    def anchor(self) -> str:
        """Id on the page."""
        return "sheet-" + "".join(letter if letter.isalnum() else "-" for letter in self.task)

    @cached_property
    def spread(self) -> np.ndarray:
        """Highest less lowest score of the rivals, by question."""
        seen = self.scores[:, self.rivals]
        return seen.max(axis=1) - seen.min(axis=1)

    @cached_property
    def order(self) -> np.ndarray:
        """Questions, those with the widest spread first; among equals those on which more of the rivals part."""
        return np.lexsort((-self.scores[:, self.rivals].std(axis=1).round(9), -self.spread.round(9)))

    @property
    def differing(self) -> int:
        """Questions on which the rivals do not all score alike."""
        return int((self.spread > 1e-9).sum())

    @property
    def shown(self) -> np.ndarray:
        """The questions that are on the page from the start."""
        return self.order if len(self.questions) <= FEW else self.order[:SHOWN]

    @cached_property
    def rows(self) -> tuple[ShownQuestion, ...]:
        """What is on the page from the start."""
        rows = [self._row(index) for index in self.shown]
        start = _after_template([row.prompt for row in rows if row.prompt])
        return tuple(dataclasses.replace(row, excerpt=row.prompt[start:].strip() or row.prompt) for row in rows)

    @property
    def first(self) -> list[Column]:
        """Columns of the first view."""
        return [self.columns[place] for place in self.views[0].columns]

    def _row(self, index: int) -> ShownQuestion:
        name = self.questions[index]
        values = self.scores[index, self.views[0].columns]
        kept = self.texts.get(name, ())
        return ShownQuestion(
            question=name,
            cells=tuple((fraction_text(value, self.repeats), float(value)) for value in values),
            spread=float(self.spread[index]),
            prompt=_clipped(kept[0][1].prompt, SHOWN_PROMPT) if kept else "",
            reference=_clipped(kept[0][1].reference, SHOWN_ANSWER) if kept else "",
            answers=tuple(_answers(kept)),
        )

    def packed(self) -> str:
        """All scores as base64 of deflated JSON: what `report.js` makes its table from."""
        levels, places = self._levels()
        letters = (places + _FIRST_LETTER).astype(np.uint8)
        content = {
            "repeats": self.repeats,
            "questions": self.questions,
            "levels": levels.tolist(),
            "columns": [{"name": one.name, "at": one.at, "number": one.number} for one in self.columns],
            "rivals": self.rivals,
            "views": [{"label": view.label, "columns": view.columns} for view in self.views],
            "scores": [letters[:, place].tobytes().decode("latin-1") for place in range(len(self.columns))],
        }
        squeezer = zlib.compressobj(6, zlib.DEFLATED, -15)  # raw: what browsers call deflate-raw
        squeezed = squeezer.compress(json.dumps(content, separators=(",", ":")).encode()) + squeezer.flush()
        return base64.b64encode(squeezed).decode()

    def lines(self, titles: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Lines of the CSV: benchmark, question, repeats, then the score, from 0 to 1, of each column of these titles;
        empty where it is not in the sheet."""
        levels, places = self._levels()
        texts = np.array([f"{level:.6g}" for level in levels])
        found = {column.title: texts[places[:, place]].tolist() for place, column in enumerate(self.columns)}
        columns = [found.get(title, [""] * len(self.questions)) for title in titles]
        repeats = str(self.repeats)
        return ((self.title, question, repeats, *cells) for question, *cells in zip(self.questions, *columns))

    def _levels(self) -> tuple[np.ndarray, np.ndarray]:
        """The different scores that occur, and of each score its place among them."""
        levels, places = np.unique(self.scores.round(6), return_inverse=True)
        if len(levels) > _MOST_LEVELS:
            levels, places = np.unique(np.floor(100 * self.scores + 0.5 + TIE) / 100, return_inverse=True)  # as `fixed`
        return levels, places.reshape(self.scores.shape)


def sheets(
    columns: Sequence[Column], views: Sequence[View], rivals: Sequence[int], titles: Sequence[tuple[str, str]]
) -> tuple[Sheet, ...]:
    """One sheet per benchmark of `titles`, (task, title) in the suite's order; all rows answered the same questions.

    A benchmark of which some row kept no answers has none. Columns that were not asked it are not in its sheet.
    """
    made = []
    for place, (task, title) in enumerate(titles):
        asked = [number for number, column in enumerate(columns) if column.row.result.tasks[place].asked]
        results = [columns[number].row.result.tasks[place] for number in asked]
        if not all(result.has_answers for result in results):
            continue
        now = {number: index for index, number in enumerate(asked)}
        made.append(
            Sheet(
                task=task,
                title=title,
                repeats=results[0].table.shape[1],
                questions=results[0].questions,
                columns=tuple(columns[number] for number in asked),
                views=tuple(View(view.label, tuple(now[n] for n in view.columns if n in now)) for view in views),
                rivals=tuple(now[number] for number in rivals if number in now),
                scores=np.stack([result.table.mean(axis=1) for result in results], axis=1),
            )
        )
    return tuple(made)


def with_answers(made: Sequence[Sheet]) -> tuple[Sheet, ...]:
    """The sheets with the answers to the questions that differ most, as far as evaluations kept theirs."""
    wanted = {sheet.task: {sheet.questions[index] for index in sheet.shown[:WITH_ANSWERS]} for sheet in made}
    texts: dict[str, dict[str, list[tuple[Column, Question]]]] = {task: {} for task in wanted}
    for column in {column.title: column for sheet in made for column in sheet.first}.values():
        if column.row.answers:
            for question in load_answers(column.row.answers, wanted):
                texts[question.task].setdefault(question.question, []).append((column, question))
    return tuple(dataclasses.replace(sheet, texts=texts[sheet.task]) for sheet in made)


def write_questions(made: Sequence[Sheet], folder: Path) -> None:
    """Write questions.csv into `folder`: a line per question, a column per checkpoint."""
    with open(folder / QUESTIONS, "w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file, lineterminator="\n")
        titles = list(dict.fromkeys(column.title for sheet in made for column in sheet.columns))
        if made:
            writer.writerow(cells(("benchmark", "question", "repeats", *titles)))
        for sheet in made:
            writer.writerows(map(cells, sheet.lines(titles)))


def fraction_text(score: float, repeats: int) -> str:
    """Right answers of so many, `3/4`, or the mean where answers can be partly right, `0.58`."""
    right = score * repeats
    return f"{round(right)}/{repeats}" if abs(right - round(right)) < 1e-6 else fixed(score, 2)


def _answers(kept: Iterable[tuple[Column, Question]]) -> Iterator[ShownAnswer]:
    """First answer of each checkpoint and, where one scored otherwise, the first of those."""
    for column, question in kept:
        first = question.answers[0]
        otherwise = next((one for one in question.answers if one.score != first.score), None)
        for one in (first, otherwise):
            if one:
                yield ShownAnswer(column, _clipped(one.text, SHOWN_ANSWER), one.score, one.finish_reason)


def _after_template(prompts: Sequence[str]) -> int:
    """Where prompts begin to differ: after the sentences that all share, not amid those of the question."""
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)  # in alphabetical order: what these two share, all do
    differ = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    shared = first[: next(differ, len(first))]
    return max(shared.rfind("\n"), shared.rfind(". ")) + 1


def _clipped(text: str, most: int) -> str:
    """The text, or its beginning and its end, where the answer stands."""
    text = text.strip()
    if len(text) <= most:
        return text
    head = most // 3
    return f"{text[:head].rstrip()} […{len(text) - most:,} letters…] {text[-(most - head) :].lstrip()}"
