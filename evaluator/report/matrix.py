"""Lays out checkpoints by columns: each score, and its difference to one of them with the band that decides.

    matrix = comparison_matrix(judgement)
    matrix.lines[1].entries[0].change.mean, matrix.lines[1].entries[0].half     # -0.009, 0.021
    matrix.axes[0].place(-0.9)                                                  # 41.2: percent of the cell's width

The lines stand in order of the Average, which is the first column. A band is as wide as a difference must be to differ
significantly, so that it leaves out zero where the difference does. What a page draws and what it lists is one table.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from evaluator.report.advice import both_text
from evaluator.report.pages import lost_text
from evaluator.results.run import Row
from evaluator.text import Measured
from evaluator.verdicts.contrasts import BETTER, TIE, WORSE, Contrast

MOST_BANDS = 6
"""A column's scale reaches so many times half of its longest band, so that one line far away squeezes no other."""


@dataclass(frozen=True)
class Axis:
    """The scale of a column's bands."""

    low: float
    """Left end, in points."""
    high: float
    """Right end, in points."""

    def place(self, points: float) -> float:
        """Where a difference is, in percent of the width."""
        return 100 * (min(max(points, self.low), self.high) - self.low) / (self.high - self.low)

    def is_below(self, entry: "Entry") -> bool:
        """Whether its difference lies beyond the left end."""
        return entry.change is not None and 100 * entry.change.mean < self.low

    def is_above(self, entry: "Entry") -> bool:
        """Whether its difference lies beyond the right end."""
        return entry.change is not None and 100 * entry.change.mean > self.high


@dataclass(frozen=True)
class Entry:
    """One checkpoint in one column."""

    score: Measured
    """Score, from 0 to 1; of nan where it was not asked."""
    lost: str = ""
    """Shares of its answers that were cut or empty, in words; empty where there are none."""
    highest: bool = False
    """No line that is compared has a higher score."""
    change: Measured | None = None
    """It less the line that the others are compared with, from -1 to 1; None for that line, and where none is known."""
    half: float = 0.0
    """Half the length of the band, from 0 to 1; 0 draws none."""
    look: str = "unsure"
    """`sure` where the difference stands, `half` where it does in these answers only, else `unsure`."""
    words: str = ""
    """The verdict with its p-value."""


@dataclass(frozen=True)
class Line:
    """One checkpoint."""

    name: str
    """What the page calls it."""
    entries: tuple[Entry, ...]
    """In the order of the columns."""
    role: str = "milestone"
    """`milestone`, `teacher` or `pruned`."""
    said: str = ""
    """How it stands to the first, in a word or two."""
    number: int = 0
    """Number of the blend, which decides its colour and symbol; 0 for none."""
    rows: str = ""
    """The file and the rows of it with these numbers, as an address (RFC 7111): `verdicts.csv#row=2-10`."""
    scores: str = ""
    """The same of its scores alone; empty for `rows`."""
    anchor: str = ""
    """Id, on the page, of the line that says where its numbers are from; empty where that is not known."""


@dataclass(frozen=True)
class Matrix:
    """All lines, those that are compared first."""

    titles: tuple[str, ...]
    """Titles of the columns, the average first."""
    lines: tuple[Line, ...]
    """Highest average first; then teacher and pruned student."""
    axes: tuple[Axis, ...]
    """Scale of each column."""

    @property
    def compared(self) -> list[Line]:
        """Lines that stand beside each other, without teacher and pruned student."""
        return [line for line in self.lines if line.role == "milestone"]

    @property
    def references(self) -> list[Line]:
        """Teacher and pruned student."""
        return [line for line in self.lines if line.role != "milestone"]

    @property
    def has_bands(self) -> bool:
        """Whether anything is compared at all."""
        return any(entry.half for line in self.lines for entry in line.entries)


def make_matrix(titles: Sequence[str], lines: Iterable[Line]) -> Matrix:
    """The matrix of these lines, with scales that fit their bands and the highest of each column marked."""
    lines = list(lines)
    marked = [
        replace(line, entries=tuple(_marked(lines, line, place) for place in range(len(titles)))) for line in lines
    ]
    return Matrix(tuple(titles), tuple(marked), tuple(_axis(lines, place) for place in range(len(titles))))


def entries_of(
    row: Row, titles: Sequence[str], changes: Mapping[str, Contrast], half: Callable[[Contrast], float]
) -> tuple[Entry, ...]:
    """A checkpoint's entries: its scores and, by the column's title, its differences with `half` of their bands."""
    made = []
    for title, score, lost in zip(titles, _scores(row), _losses(row), strict=True):
        change = changes.get(title)
        if change is None or math.isnan(score.mean):
            made.append(Entry(score, lost))
        else:
            made.append(
                Entry(
                    score,
                    lost,
                    change=change.difference,
                    half=half(change),
                    look=look(change),
                    words=both_text(change),
                )
            )
    return tuple(made)


def look(contrast: Contrast) -> str:
    """How a difference is drawn: `sure` where it stands, `half` where it does in these answers only, else `unsure`."""
    if contrast.verdict in (BETTER, WORSE):
        return "sure"
    return "half" if contrast.in_answers in (BETTER, WORSE) else "unsure"


def _scores(row: Row) -> list[Measured]:
    return [row.average, *row.summaries.values()]


def _losses(row: Row) -> list[str]:
    return ["", *(lost_text(task) for task in row.result.tasks)]


def _marked(lines: Sequence[Line], line: Line, place: int) -> Entry:
    """The entry, marked where it is the highest: every one of those that are equal."""
    entry = line.entries[place]
    rivals = [one.entries[place].score.mean for one in lines if one.role == "milestone"]
    highest = max((mean for mean in rivals if not math.isnan(mean)), default=math.nan)
    is_it = line.role == "milestone" and len(rivals) > 1 and entry.score.mean >= highest - TIE
    return replace(entry, highest=is_it)


def _axis(lines: Sequence[Line], place: int) -> Axis:
    """Fits all bands of the column; what is further than `MOST_BANDS` of them from zero is beyond its end."""
    bands = [one.entries[place] for one in lines if one.entries[place].change is not None]
    ends = [0.0]
    limit = 100 * MOST_BANDS * max((entry.half for entry in bands), default=0.0) or math.inf
    for entry in bands:
        assert entry.change is not None
        ends += [100 * (entry.change.mean + sign * entry.half) for sign in (-1, 1)]
    low, high = max(min(ends), -limit), min(max(ends), limit)
    room = 0.04 * (high - low) or 1.0
    return Axis(low - room, high + room)
