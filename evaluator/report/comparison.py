"""Writes the report of several runs side by side: which blend is better where, and how sure that is.

    comparison = Comparison(judge({"pre_sft_v1": report, "pt_v1v2": other}), commands)
    write_comparison(comparison, Path("out"))      # report.md report.html learning_curves.png and CSVs

The conclusions are `evaluator.verdicts.judge`'s; it is drawn and laid out by what draws and lays out the other reports.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluator.report.addresses import REPRODUCE, Origin, together
from evaluator.report.advice import both_text, margin_text, needed_text, stop_reason, summary
from evaluator.report.colours import SYMBOLS
from evaluator.report.compared import Comparison
from evaluator.report.decision import duels, matrix
from evaluator.report.files import BETWEEN, NO_SCORES, TEACHER, Table, tables
from evaluator.report.lookups import blends_table
from evaluator.report.matrix import look
from evaluator.report.pages import EMPTY, PNG, write_pages
from evaluator.report.panels import Charts, Panel
from evaluator.report.questions import Column, View, sheets, with_answers, write_questions
from evaluator.report.run import curve_of, line_of, quantised_of
from evaluator.results.run import AVERAGE, ROLE_TITLES, Row
from evaluator.verdicts.contrasts import Contrast, by_tokens

__all__ = ["Comparison", "write_comparison"]


def grouped(contrasts: Sequence[Contrast]) -> dict[str, dict[tuple[str, str], list[Contrast]]]:
    """Contrasts by milestone, the last first, and by the pair; the average first, then in the order of the columns."""
    groups: dict[str, dict] = {}
    for contrast in contrasts:
        pair = groups.setdefault(contrast.at, {}).setdefault((contrast.one, contrast.other), [])
        pair.insert(0 if contrast.column == AVERAGE else len(pair), contrast)
    return dict(reversed(groups.items()))


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write report.md, report.html, learning_curves.png and the CSVs of scores, verdicts, stopping points and questions
    into `folder`, which is there."""
    from evaluator.report import plots

    asked = with_answers(question_sheets(comparison))
    write_questions(asked, folder)
    scores, verdicts, stopping = tables(comparison)
    blends = blends_table({name: comparison.reports[name].blend for name in comparison.ordered})
    files = [table for table in (scores, verdicts, stopping, blends) if table.lines]
    for table in files:
        table.write(folder)
    drawn = panels(comparison, scores)
    plots.write_png(drawn, folder / PNG, title=comparison.title)
    shown = matrix(comparison, verdicts, scores)

    decisive = [one for one in comparison.judgement.between if one.at == comparison.at]

    def rows_of(contrast: Contrast) -> str:
        """The row of a difference between two blends, whichever of them comes first there."""
        pair = [one for one in decisive if {one.one, one.other} == {contrast.one, contrast.other}]
        found = (
            verdicts.rows(BETWEEN, one.at, one.one, one.other, nth=nth)
            for nth, one in enumerate(pair)
            if one.column == contrast.column
        )
        return next(found, "")

    def wins_of(name: str) -> str:
        """Rows of a blend's differences from the others, on average."""
        return together(rows_of(one) for one in decisive if name in (one.one, one.other) and one.column == AVERAGE)

    def column_rows(column: str) -> str:
        """Rows of a benchmark's differences."""
        return together(rows_of(one) for one in decisive if one.column == column)

    def source_rows(source: str) -> str:
        """Rows of a source in all blends."""
        return together(blends.rows(name, source) for name in comparison.ordered)

    write_pages(
        folder,
        "comparison",
        comparison=comparison,
        judgement=comparison.judgement,
        summary=summary(comparison.judgement),
        matrix=shown,
        anchors={line.name: line.anchor for line in shown.lines},
        rows_of=rows_of,
        duels=duels(comparison),
        between=grouped(comparison.judgement.between),
        teacher=grouped(comparison.judgement.teacher),
        curves=Charts(
            "curves",
            tuple(drawn),
            baseline=comparison.judgement.first.leader,
            at=comparison.judgement.last_common,
            apart=True,
        ),
        symbols=SYMBOLS,
        files=files,
        scores=scores,
        verdicts=verdicts,
        stopping=stopping,
        wins_of=wins_of,
        column_rows=column_rows,
        source_rows=source_rows,
        again=REPRODUCE if comparison.first.row("teacher").folder else "",
        families=(BETWEEN, TEACHER),
        look=look,
        both_text=both_text,
        stop_reason=stop_reason,
        margin_text=margin_text,
        role_titles=ROLE_TITLES,
        needed_text=needed_text,
        sheets=asked,
        rows=[row for _, row in comparison.rows],
        row_names=[name or next(iter(comparison.runs)) for name, _ in comparison.rows],
        labels=[f"{name} {row.title}".strip() for name, row in comparison.rows],
        widest=max((part.share for report in comparison.reports.values() for part in report.blend), default=1),
        empty=EMPTY,
    )


def question_sheets(comparison: Comparison) -> tuple:
    """The runs' `evaluator.report.questions.Sheet`s: first the questions that part the blends where all is summed
    up."""
    columns = [
        Column(name, row.title, row, comparison.number(name)) if name else Column(row.title, "", row)
        for name, row in comparison.rows
    ]
    shared = [place for place, column in enumerate(columns) if not column.number]

    def view(label: str, chosen) -> View:
        return View(label, (*shared, *(place for place, column in enumerate(columns) if chosen(column))))

    shown = by_tokens(comparison.runs)
    finals = shown[comparison.judgement.last_common].values()
    rivals = [place for place, column in enumerate(columns) if column.row in finals]
    views = [view(f"At {comparison.at} tokens", lambda column: column.row in finals)]
    for tokens in reversed(comparison.judgement.shared):
        rows = shown[tokens].values()
        if tokens != comparison.judgement.last_common:
            views.append(view(f"At {comparison.judgement.title(tokens)} tokens", lambda c, rows=rows: c.row in rows))
    views += [view(name, lambda column, name=name: column.name == name) for name in comparison.runs]
    return sheets(columns, views, rivals, comparison.first.columns)


def panels(comparison: Comparison, scores: Table = NO_SCORES) -> list[Panel]:
    """Learning curves of all runs, the suite average first, with the rows of `scores` that they are of."""
    pruned = comparison.pruned
    drawn, paired = [], _paired_errors(comparison)
    titles: dict[float, str] = {
        row.seen: row.title for report in comparison.reports.values() for row in report.milestones
    }
    references = [row for row in (comparison.first.row("teacher"), pruned) if row]
    own = {name: list(blend.runs) for name, blend in comparison.judgement.blends.items()}
    for place, (task, title) in enumerate([(None, "Suite average"), *comparison.first.columns], -1):

        def origin(runs: Sequence[str], row: Row, place: int = place) -> Origin:
            found = together(scores.rows(run, row.title, nth=place) for run in runs)  # of all that a mean is of
            return Origin(found, row.anchor if row.folder else "")

        curves, errors = [], dict(paired[AVERAGE if task is None else title])
        for name in comparison.ordered:
            report, where = comparison.reports[name], functools.partial(origin, own[name])
            named: dict = {"label": name, "number": comparison.number(name)}
            quantised, apart = quantised_of(report, task, where, **named)
            curves += [curve_of(report.milestones, task, where, **named), *quantised]
            errors |= apart
        first = list(comparison.runs)[:1]
        lines = [line_of(row, task, origin(first, row)) for row in references if row.was_asked(task)]
        drawn.append(Panel(title, tuple(curves), tuple(lines), paired=errors, titles=titles))
    return drawn


def _paired_errors(comparison: Comparison) -> Mapping[str, Mapping[tuple[str, str], Mapping[float, float]]]:
    """Standard errors, in points, of the differences of blends from each other and from the teacher: by column, by the
    pair, by tokens."""
    judgement = comparison.judgement
    tokens = {row.title: row.seen for report in comparison.reports.values() for row in report.milestones}
    tokens |= {judgement.title(seen): seen for seen in judgement.shared}
    found: dict[str, dict[tuple[str, str], dict[float, float]]] = {column: {} for column in comparison.columns}
    for contrast in (*judgement.between, *judgement.teacher):
        pair = found[contrast.column].setdefault((contrast.one, contrast.other), {})
        if not math.isnan(contrast.difference.stderr):
            pair[tokens[contrast.at]] = 100 * contrast.difference.stderr
    return found
