"""Holds the tables that lie beside a page, and are in it: what each line is of, so that a figure leads to its row.

table = Table(SCORES, CSV_COLUMNS, [(("a", "80B"), line), ...])
table.write(folder)
table.rows("a", "80B")          # "scores.csv#row=11-19", an address within a CSV (RFC 7111)
table.packed                    # what a page offers to save, without a network
"""

import base64
import csv
import io
import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from evaluator.report.compared import Comparison
from evaluator.results.run import AVERAGE, Report, Row
from evaluator.text import cells
from evaluator.verdicts.contrasts import Contrast
from evaluator.verdicts.stopping import Candidate, StoppingPoint

SCORES = "scores.csv"
CSV_COLUMNS = (
    "checkpoint", "role", "tokens", "benchmark", "key", "mean", "stderr", "rerun_sd", "questions", "repeats",
    "cut_share", "empty_share", "unasked_share", "zero_chance", "answer_tokens",
)  # fmt: skip
ABOUT_SCORES = "every score, its error, cut and empty answers"
VERDICTS, STOPPING = "verdicts.csv", "stopping.csv"
VERDICT_COLUMNS = (
    "family", "milestone", "benchmark", "one", "other", "difference",
    "stderr_answers", "p_answers", "verdict_answers", "stderr_seed", "p_seed", "verdict_seed",
    "questions_needed", "questions_least", "questions_most",
    "repeats_needed", "repeats_least", "repeats_most", "paired",
)  # fmt: skip
STOPPING_COLUMNS = (
    "blend", "milestone", "tokens", "average", "stderr",
    "lost", "lost_stderr", "lost_at_most", "margin", "fallen", "stop",
)  # fmt: skip
BETWEEN, TEACHER = "between blends", "against the teacher"
"""Families in verdicts.csv."""


@dataclass(frozen=True)
class Table:
    """One CSV."""

    name: str
    """File name."""
    columns: Sequence[str]
    """Its first line."""
    lines: Sequence[tuple[Hashable, Sequence]]
    """What each line is of, and its cells; lines of one thing stand together."""
    about: str = ""
    """What is in it, in half a sentence."""

    @cached_property
    def text(self) -> str:
        """The whole file."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(cells(line) for _, line in self.lines)
        return out.getvalue()

    @property
    def packed(self) -> str:
        """The file as an address that holds it."""
        data = self.text.encode("utf-8", errors="replace")
        return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(data).decode()}"

    @cached_property
    def _places(self) -> dict[Hashable, tuple[int, int]]:
        found: dict[Hashable, tuple[int, int]] = {}
        for place, (of, _) in enumerate(self.lines, 2):  # the first row is the columns'
            found[of] = (found.get(of, (place, place))[0], place)
        return found

    def rows(self, *of: Hashable, nth: int | None = None) -> str:
        """Address of the rows of that, or of the `nth` of them alone, from 0; empty where there are none."""
        if of not in self._places:
            return ""
        first, last = self._places[of]
        if nth is not None:
            first = last = (first if nth >= 0 else last + 1) + nth
        return f"{self.name}#row={first}" + (f"-{last}" if last > first else "")

    def write(self, folder: Path) -> None:
        """Write it into `folder`."""
        (folder / self.name).write_text(self.text, encoding="utf-8", errors="replace")


NO_SCORES = Table(SCORES, CSV_COLUMNS, ())
"""Where figures are drawn and no file is written."""


def scores_table(report: Report) -> Table:
    """A run's scores, a line per checkpoint and benchmark."""
    lines = [((row.title,), line) for row in report.rows for line in _score_lines(report, row)]
    return Table(SCORES, CSV_COLUMNS, lines, ABOUT_SCORES)


def _score_lines(report: Report, row: Row) -> Iterator[list]:
    """A checkpoint's scores, a line per benchmark, in the order of `CSV_COLUMNS`."""
    for benchmark, task in zip(report.suite.benchmarks, row.result.tasks, strict=True):
        s = task.summary
        values = [_digits(s.mean), _digits(s.stderr), _digits(s.rerun_sd), s.questions, s.repeats]
        shares = (task.cut_share, task.empty_share, task.unasked_share, task.zero_chance)
        values += map(_digits, (*shares, task.mean_tokens))
        yield [row.title, row.role, row.tokens, benchmark.title, benchmark.key, *values]
    mean = [_digits(row.average.mean), _digits(row.average.stderr)]
    yield [row.title, row.role, row.tokens, AVERAGE, "", *mean, *[""] * 8]


def tables(comparison: Comparison) -> tuple[Table, ...]:
    """scores.csv, as every run's own with its name before it, verdicts.csv, a line per contrast, and stopping.csv, a
    line per milestone."""
    scores = [
        ((name, row.title), (name, *line))
        for name, report in comparison.runs.items()
        for row in report.rows
        for line in _score_lines(report, row)
    ]
    judgement = comparison.judgement
    families = {BETWEEN: judgement.between, TEACHER: judgement.teacher} | {
        f"within {name}": contrasts for name, contrasts in judgement.within.items()
    }
    contrasts = [
        ((family, one.at, one.one, one.other), _verdict_line(family, one))
        for family, contrasts in families.items()
        for one in contrasts
    ]
    return (
        Table(SCORES, ("run", *CSV_COLUMNS), scores, ABOUT_SCORES),
        Table(VERDICTS, VERDICT_COLUMNS, contrasts, "every difference with both verdicts"),
        stopping_table(judgement.stopping),
    )


def stopping_table(stopping: Iterable[StoppingPoint]) -> Table:
    """Every milestone as a place to stop."""
    lines = [((stop.run, one.row.title), _stopping_line(stop, one)) for stop in stopping for one in stop.candidates]
    return Table(STOPPING, STOPPING_COLUMNS, lines, "every milestone as a place to stop")


def _verdict_line(family: str, c: Contrast) -> list:
    answers = [f"{c.difference.stderr:.6f}", f"{c.p_value:.3g}", c.in_answers]
    seed = c.another_seed
    seeds = [f"{seed.stderr:.6f}", f"{seed.p_value:.3g}", c.verdict] if seed else ["", "", ""]
    more: list = [""] * 6
    if c.needed:
        more = [c.needed.questions, *c.needed.questions_range, c.needed.repeats, *c.needed.repeats_range]
    difference = f"{c.difference.mean:.6f}"
    return [family, c.at, c.column, c.one, c.other, difference, *answers, *seeds, *more, "yes" if c.paired else "no"]


def _stopping_line(stop: StoppingPoint, one: Candidate) -> list:
    average = [f"{one.row.average.mean:.6f}", f"{one.row.average.stderr:.6f}"]
    lost = [f"{value:.6f}" for value in (one.lost.mean, one.lost.stderr, one.at_most, stop.margin)]
    marks = ["yes" if mark else "no" for mark in (one.fallen, one.row == stop.row)]
    return [stop.run, one.row.title, one.row.seen, *average, *lost, *marks]


def _digits(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6f}"
