"""Writes the files that the report of a run becomes.

write_report(report, Path("out"))            # report.md report.html, a PNG, CSVs and what the terminal says
rich.print(terminal_table(Path("out")))
"""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from evaluator.report.addresses import Origin, together
from evaluator.report.advice import Summary, margin_text, run_summary
from evaluator.report.board import view
from evaluator.report.bought import bought
from evaluator.report.colours import SYMBOLS, numbers_of
from evaluator.report.files import NO_SCORES, SCORES, Table, scores_table, stopping_table
from evaluator.report.held_out import curves_of, held_out_table
from evaluator.report.lookups import HELD_OUT, LOSSES, OTHERS, QUANTISED, WITHIN, differences_table, lookups
from evaluator.report.matrix import Line as MatrixLine
from evaluator.report.matrix import Matrix, entries_of, make_matrix
from evaluator.report.pages import PNG, cell_text, plain_table, write_pages
from evaluator.report.panels import NATS, Charts, Curve, Line, Panel, thinned
from evaluator.report.questions import Column, View, sheets, with_answers, write_questions
from evaluator.results.pairs import difference
from evaluator.results.run import AVERAGE, ROLE_TITLES, Report, Row, recovered
from evaluator.stats.scores import Estimate, average
from evaluator.stats.variance import Part, half_width
from evaluator.verdicts.contrasts import LEVEL, Contrast, seen_from
from evaluator.verdicts.judge import changes_within, judge_alone
from evaluator.verdicts.quantised import judge_quantised
from evaluator.verdicts.seeds import SEED_SD

SUMMARY = "summary.txt"
"""What the page begins with, a line each, for a terminal."""


def write_report(report: Report, folder: Path) -> None:
    """Write report.md, report.html, learning_curves.png, summary.txt and the CSVs of the page into `folder`.

    Raises ValueError when the rows cannot be compared.
    """
    from evaluator.report import plots

    stop, flags = judge_alone(report.title, report)  # checks the rows
    scores, said = scores_table(report), run_summary(report, stop)
    quantised = judge_quantised(report)
    differences, looked_up = differences_table(report, changes_within(report), quantised), lookups(report)
    stopping = stopping_table([stop])
    board = view(report.board, number=_number_of(report)) if report.board else None
    drawn_on_it = (board.table,) if board and board.figures else ()
    files = (scores, differences, stopping, *drawn_on_it, *looked_up.values())
    for table in files:
        table.write(folder)
    (folder / SUMMARY).write_text(_summary_text(said), encoding="utf-8")
    asked = with_answers(question_sheets(report))
    write_questions(asked, folder)
    drawn = panels(report, scores)
    titles: dict[float, str] = {row.seen: row.title for row in report.milestones}
    held_out = curves_of(report)
    plots.write_png(
        drawn, folder / PNG, title=report.title, losses=report.losses, held_out=held_out, milestones=list(titles)
    )
    write_pages(
        folder,
        "report",
        report=report,
        stop=stop,
        summary=said,
        matrix=matrix(report, scores, differences),
        flags=flags,
        quantised=quantised,
        curves=Charts(
            "curves", tuple(drawn), baseline=report.row("teacher").title.lower(), at=report.milestones[-1].seen
        ),
        loss=_loss_charts(report, titles, looked_up.get(LOSSES)),
        held_out_curves=_held_out_charts(held_out, titles, looked_up.get(HELD_OUT), report.made_by("held-out")),
        held_out=held_out_table(report),
        sheets=asked,
        symbols=SYMBOLS,
        files=files,
        scores=scores,
        differences=differences,
        stopping=stopping,
        looked_up=looked_up,
        families=(QUANTISED, OTHERS),
        board=board,
        bought=bought(board) if board else None,
        margin_text=margin_text,
        seed_sd=SEED_SD,
    )


def matrix(report: Report, scores: Table, differences: Table) -> Matrix:
    """Every milestone: its scores, and its differences to the last one."""
    last, titles = report.milestones[-1], [AVERAGE, *(title for _, title in report.columns)]
    changes = changes_within(report)

    def half(contrast: Contrast) -> float:
        # Of the first step of Holm's procedure over all of them.
        return half_width([Part(contrast.difference.stderr**2)], LEVEL / len(changes))

    lines = []
    for row in (*reversed(report.milestones), report.row("teacher"), report.row("pruned")):
        pair = [one for one in changes if row.role == "milestone" and (one.one, one.other) == (last.title, row.title)]
        found = {one.column: seen_from(row.title, one) for one in pair}
        title = f"{row.title} tokens" if row.role == "milestone" else row.title
        anchor = row.anchor if row.folder else ""
        entries = entries_of(row, titles, found, half)
        own = scores.rows(row.title)
        address = differences.rows(WITHIN, last.title, row.title) or own
        lines.append(MatrixLine(title, entries, row.role, rows=address, scores=own, anchor=anchor))
    return make_matrix(titles, lines)


def _summary_text(said: Summary) -> str:
    return "".join(f"{line}\n" for line in (said.sentence, *(f"{name}: {text}" for name, text in said.points)))


def question_sheets(report: Report) -> tuple:
    """The run's `evaluator.report.questions.Sheet`s: first the questions on which the student's end is furthest from
    the teacher."""
    columns = [Column(row.title, "", row) for row in report.rows]
    places = tuple(range(len(columns)))
    teacher = next(place for place in places if report.rows[place].role == "teacher")
    last = report.rows.index(report.milestones[-1])
    return sheets(columns, [View("All checkpoints", places)], (teacher, last), report.columns)


def panels(report: Report, scores: Table = NO_SCORES) -> list[Panel]:
    """Learning curves, the suite average first, with the rows of `scores` that they are of."""
    number = _number_of(report)
    titles: dict[float, str] = {row.seen: row.title for row in report.milestones}
    drawn = []
    for place, (task, title) in enumerate([(None, "Suite average"), *report.columns], -1):

        def origin(row: Row, place: int = place) -> Origin:
            return Origin(scores.rows(row.title, nth=place), row.anchor if row.folder else "")

        lines = tuple(line_of(row, task, origin(row)) for row in map(report.row, ROLE_TITLES) if row.was_asked(task))
        named: dict = {"label": "distilled student", "number": number}
        curve = curve_of(report.milestones, task, origin, **named)
        quantised, paired = quantised_of(report, task, origin, **named)
        drawn.append(Panel(title, (curve, *quantised), lines, paired=paired, titles=titles))
    return drawn


def _loss_charts(report: Report, milestones: Mapping[float, str], table: Table | None) -> Charts | None:
    """The loss over tokens; None where there is none."""
    points = [(line["tokens"], line["loss"]) for line in report.losses]
    origin = Origin(table.rows(LOSSES) if table else "", report.made_by("loss"))
    return _nats("loss", "Distillation loss", {"distillation loss": points}, [_number_of(report)], milestones, origin)


def _held_out_charts(
    held_out: Mapping[str, Sequence[tuple[float, float]]],
    milestones: Mapping[float, str],
    table: Table | None,
    anchor: str,
) -> Charts | None:
    """The divergence of each source over tokens; None where there is none."""
    origin = Origin(together(table.rows(source) for source in held_out) if table else "", anchor)
    numbers = range(1, len(held_out) + 1)
    return _nats("held-out", "Held-out KL divergence", held_out, numbers, milestones, origin)


def _nats(
    name: str,
    title: str,
    points: Mapping[str, Sequence[tuple[float, float]]],
    numbers: Sequence[int],
    milestones: Mapping[float, str],
    origin: Origin,
) -> Charts | None:
    """A figure of what has a place on a logarithmic axis, from the first iteration on."""
    curves = []
    for number, (label, all_points) in zip(numbers, points.items(), strict=True):
        drawn = [(seen, value) for seen, value in all_points if seen > 0 and 0 < value < math.inf]
        if drawn:
            seen, values = zip(*drawn, strict=True)
            curves.append(Curve(label, *thinned(seen, values), number=number))
    panel = Panel(title, tuple(curves), unit=NATS, rules=tuple(milestones), titles=milestones, whole=origin)
    return Charts(name, (panel,), logarithmic=False) if curves else None


def _number_of(report: Report) -> int:
    """The run's number on its own page: its blend's."""
    return numbers_of([report.title])[report.title]


def curve_of(points: Sequence[Row], task: str | None, origin: Callable[[Row], Origin], **look) -> Curve:
    """The `Curve` of a task, or of the suite average for None, through `points`; `look` is its own, and `origin` says
    where a point is from."""
    asked = [row for row in points if row.was_asked(task)]
    scores = [row.score(task) for row in asked]
    return Curve(
        tokens=tuple(row.seen for row in asked),
        means=tuple(100 * score.mean for score in scores),
        errors=tuple(100 * score.stderr for score in scores),
        origins=tuple(map(origin, asked)),
        **look,
    )


def quantised_of(
    report: Report, task: str | None, origin: Callable[[Row], Origin], *, label: str, number: int
) -> tuple[list[Curve], dict[tuple[str, str], dict[float, float]]]:
    """What is quantised of the milestones of the curve `label`: points of its colour at their tokens, by format, and
    the paired errors of their differences from it, as a `Panel` has them."""
    rows: dict[str, list[Row]] = {}
    paired: dict[tuple[str, str], dict[float, float]] = {}
    for one in report.quantised:
        if one.row.was_asked(task) and one.of.was_asked(task):
            name = f"{label}, {one.row.title.removeprefix(f'{one.of.title}-').upper()}"
            rows.setdefault(name, []).append(one.row)
            both = zip(one.row.result.tasks, one.of.result.tasks, strict=True)
            apart = average([difference(mine, other) for mine, other in both if task in (None, mine.task)])
            if not math.isnan(apart.stderr):
                paired.setdefault((name, label), {})[one.row.seen] = 100 * apart.stderr
    curves = [curve_of(found, task, origin, label=name, number=number, hollow=True) for name, found in rows.items()]
    return curves, paired


def line_of(row: Row, task: str | None, origin: Origin) -> Line:
    """The `Line` at which the teacher or the pruned student stands."""
    score = row.score(task)
    return Line(row.title.lower(), 100 * score.mean, 100 * score.stderr, color=row.role, origin=origin)


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
        last = [checkpoint for role, checkpoint, _ in averages if role == "milestone"][-1]
        caption += f"\n{last} tokens recovered {100 * share:.0f}% of the gap"
    table = plain_table("Tokens", columns, bold=AVERAGE, errors=True, caption=caption)
    for index in range(0, len(lines), len(columns)):
        cells = lines[index : index + len(columns)]
        texts = (cell_text(Estimate(_number(cell["mean"]), _number(cell["stderr"])), columns) for cell in cells)
        student = cells[0]["role"] in ("milestone", "quantised")
        table.add_row(cells[0]["checkpoint" if student else "role"], *texts, style=None if student else "dim")
    return table


def _number(text: str) -> float:
    """A number of scores.csv, where nothing stands for none."""
    return float(text or "nan")
