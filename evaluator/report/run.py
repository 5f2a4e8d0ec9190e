"""Writes the files that the report of a run becomes.

write_report(report, Path("out"))            # report.md report.html, a PNG and two CSVs
rich.print(terminal_table(Path("out")))
"""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluator.report.colours import SYMBOLS, numbers_of
from evaluator.report.held_out import curves_of, held_out_table
from evaluator.report.pages import PNG, cell_text, plain_table, write_pages
from evaluator.report.panels import Curve, Line, Panel, is_logarithmic
from evaluator.report.questions import Column, View, sheets, with_answers, write_questions
from evaluator.results.run import AVERAGE, ROLE_TITLES, Report, Row, recovered
from evaluator.stats.scores import Estimate
from evaluator.text import cells
from evaluator.verdicts.judge import judge_alone
from evaluator.verdicts.seeds import SEED_SD

SCORES = "scores.csv"
CSV_COLUMNS = (
    "checkpoint", "role", "tokens", "benchmark", "key", "mean", "stderr", "rerun_sd", "questions", "repeats",
    "cut_share", "empty_share", "unasked_share", "zero_chance",
)  # fmt: skip


def write_report(report: Report, folder: Path) -> None:
    """Write report.md, report.html, learning_curves.png, scores.csv and questions.csv into `folder`.

    Raises ValueError when the rows cannot be compared.
    """
    from evaluator.report import plots

    stop, flags = judge_alone(report.title, report)  # checks the rows
    write_scores(report, folder / SCORES)
    asked = with_answers(question_sheets(report))
    write_questions(asked, folder)
    drawn = panels(report)
    milestones = [row.seen for row in report.milestones]
    held_out = curves_of(report)
    plots.write_png(
        drawn, folder / PNG, title=report.title, losses=report.losses, held_out=held_out, milestones=milestones
    )
    drawings = {
        "panels": [plots.panel_svg(panel) for panel in drawn],
        "loss": plots.loss_svg(report.losses, milestones) if report.losses else "",
        "held_out": plots.held_out_svg(held_out, milestones) if held_out else "",
    }
    write_pages(
        folder,
        "report",
        report=report,
        stop=stop,
        flags=flags,
        drawings=drawings,
        held_out=held_out_table(report),
        sheets=asked,
        symbols=SYMBOLS,
        seed_sd=SEED_SD,
    )


def question_sheets(report: Report) -> tuple:
    """The run's `evaluator.report.questions.Sheet`s: first the questions on which the student's end is furthest from
    the teacher."""
    columns = [Column(row.title, "", row) for row in report.rows]
    places = tuple(range(len(columns)))
    teacher = next(place for place in places if report.rows[place].role == "teacher")
    return sheets(columns, [View("All checkpoints", places)], (teacher, places[-1]), report.columns)


def panels(report: Report) -> list[Panel]:
    """Learning curves, the suite average first."""
    points = list(report.milestones)
    if not is_logarithmic([row.seen for row in points]):
        points.insert(0, report.row("pruned"))  # where the curve starts: no token seen
    number = numbers_of([report.title])[report.title]
    drawn = []
    for task, title in [(None, "Suite average"), *report.columns]:
        lines = tuple(line_of(row, task) for row in map(report.row, ROLE_TITLES) if row.was_asked(task))
        drawn.append(Panel(title, (curve_of(points, task, label="distilled student", number=number),), lines))
    return drawn


def curve_of(points: Sequence[Row], task: str | None, **look) -> Curve:
    """The `Curve` of a task, or of the suite average for None, through `points`; `look` is its own."""
    asked = [row for row in points if row.was_asked(task)]
    scores = [row.score(task) for row in asked]
    return Curve(
        tokens=tuple(row.seen for row in asked),
        means=tuple(100 * score.mean for score in scores),
        errors=tuple(100 * score.stderr for score in scores),
        **look,
    )


def line_of(row: Row, task: str | None) -> Line:
    """The `Line` at which the teacher or the pruned student stands."""
    score = row.score(task)
    return Line(row.title.lower(), 100 * score.mean, 100 * score.stderr, color=row.role)


def write_scores(report: Report, path: Path) -> None:
    """Write the scores as CSV, one line per checkpoint and benchmark, from 0 to 1."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        writer.writerows(map(cells, score_lines(report)))


def score_lines(report: Report) -> Iterator[list]:
    """The scores, a line per checkpoint and benchmark, in the order of `CSV_COLUMNS`."""
    for row in report.rows:
        for benchmark, task in zip(report.suite.benchmarks, row.result.tasks, strict=True):
            s = task.summary
            values = [_digits(s.mean), _digits(s.stderr), _digits(s.rerun_sd), s.questions, s.repeats]
            values += map(_digits, (task.cut_share, task.empty_share, task.unasked_share, task.zero_chance))
            yield [row.title, row.role, row.tokens, benchmark.title, benchmark.key, *values]
        mean = [_digits(row.average.mean), _digits(row.average.stderr)]
        yield [row.title, row.role, row.tokens, AVERAGE, "", *mean, *[""] * 7]


def terminal_table(folder: Path):
    """The table of scores in `folder`, as a `rich.table.Table`."""
    with open(folder / SCORES, newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    columns = list(dict.fromkeys(line["benchmark"] for line in lines))
    averages = [
        (line["role"], line["checkpoint"], _number(line["mean"])) for line in lines if line["benchmark"] == AVERAGE
    ]
    caption = "from 0 to 100, ± standard error over questions"
    share = recovered({role: mean for role, _, mean in averages})
    if share is not None:
        caption += f"\n{averages[-1][1]} tokens recovered {100 * share:.0f}% of the gap"
    table = plain_table("Tokens", columns, bold=AVERAGE, errors=True, caption=caption)
    for index in range(0, len(lines), len(columns)):
        cells = lines[index : index + len(columns)]
        texts = (cell_text(Estimate(_number(cell["mean"]), _number(cell["stderr"])), columns) for cell in cells)
        milestone = cells[0]["role"] == "milestone"
        table.add_row(cells[0]["checkpoint" if milestone else "role"], *texts, style=None if milestone else "dim")
    return table


def _number(text: str) -> float:
    """What `_digits` wrote."""
    return float(text or "nan")


def _digits(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6f}"
