"""Lays out what the report of several runs begins with: every blend beside the leader, every two, and ten lines.

matrix(comparison, verdicts, scores).lines[0].name      # "30pre_70post_v3"
rich.print(terminal_summary(comparison))
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluator.report.advice import TIED, end_text, open_short, place_text, rests_short, sentence
from evaluator.report.compared import Comparison
from evaluator.report.files import BETWEEN, Table
from evaluator.report.matrix import Line, Matrix, entries_of, make_matrix
from evaluator.results.run import AVERAGE, Row
from evaluator.text import change_text, score_text
from evaluator.verdicts.contrasts import BETTER, OPEN, WORSE, Contrast, seen_from


def matrix(comparison: Comparison, verdicts: Table, scores: Table) -> Matrix:
    """Every blend where all is summed up: its scores, and its differences to the one with the highest Average."""
    judgement, leader, at = comparison.judgement, comparison.judgement.first.leader, comparison.at

    def half(contrast: Contrast) -> float:
        return contrast.another_seed.least if contrast.another_seed else 0.0

    lines = []
    for name, row in comparison.finals.items():
        pair = [one for one in judgement.between if one.at == at and {one.one, one.other} == {name, leader}]
        changes = {one.column: seen_from(name, one) for one in pair}
        address = verdicts.rows(BETWEEN, at, pair[0].one, pair[0].other) if pair else scores.rows(name, row.title)
        entries = entries_of(row, comparison.columns, changes, half)
        said = f"{place_text(judgement, name)}; {end_text(judgement.stop(name))}"
        number = comparison.number(name)
        lines.append(Line(name, entries, said=said, number=number, rows=address, anchor=_anchor(row)))
    for row in comparison.references:
        entries = entries_of(row, comparison.columns, {}, half)
        first = next(iter(comparison.runs))
        lines.append(Line(row.title, entries, row.role, rows=scores.rows(first, row.title), anchor=_anchor(row)))
    return make_matrix(comparison.columns, lines)


def _anchor(row: Row) -> str:
    return row.anchor if row.folder else ""


@dataclass(frozen=True)
class Duel:
    """One blend against another, where all is summed up."""

    average: Contrast
    """The one less the other, on average."""
    better: int
    """Benchmarks in which it is better, another seed included."""
    worse: int
    """Benchmarks in which it is worse."""


def duels(comparison: Comparison) -> dict[str, list[Duel | None]]:
    """Every blend against every other, both in order of the Average; None against itself."""
    found = {}
    contrasts = [one for one in comparison.judgement.between if one.at == comparison.at]
    for name in comparison.finals:
        found[name] = [_duel(name, other, contrasts) for other in comparison.finals]
    return found


def _duel(name: str, other: str, contrasts: Sequence[Contrast]) -> Duel | None:
    seen = [seen_from(name, one) for one in contrasts if {one.one, one.other} == {name, other}]
    if not seen:
        return None
    average = next(one for one in seen if one.column == AVERAGE)
    kinds = [one.verdict for one in seen if one is not average]
    return Duel(average, kinds.count(BETTER), kinds.count(WORSE))


def terminal_summary(comparison: Comparison):
    """What the page begins with, as a rich renderable of ten lines for five blends: what to take, the blends' Averages,
    what the verdict rests on, and what is open."""
    from rich.console import Group
    from rich.table import Table as Grid
    from rich.text import Text

    judgement, first = comparison.judgement, comparison.judgement.first
    # Without its edge and padding a row of the study's names fits 80 columns.
    grid = Grid(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    grid.add_column(f"At {comparison.at}", no_wrap=True)
    for title in ("Average", "to highest"):
        grid.add_column(title, justify="right", no_wrap=True)
    grid.add_column("another seed in", no_wrap=True)
    grid.add_column("stop at", no_wrap=True)
    below = [*first.above, *first.above_in_answers, *first.level, *first.equal]
    changes = {one.other: change_text(seen_from(one.other, one).difference) for one in below}
    for name, row in comparison.finals.items():
        stop = judgement.stop(name)
        said = _SHORT.get(place_text(judgement, name), place_text(judgement, name))
        end = f"{stop.row.title}{'' if stop.shown else '+'}"
        grid.add_row(name, score_text(row.average), changes.get(name, ""), said, end)
    references = ", ".join(f"{row.title.lower()} {score_text(row.average)}" for row in comparison.references)
    twice = f"; to look at twice, on the page: {len(judgement.flags)}" if judgement.flags else ""
    lines: list = [
        Text(sentence(judgement), style="bold"),
        grid,
        Text(f"Beside them: {references}{twice}.", style="dim"),
    ]
    lines += [Text(text) for text in (rests_short(judgement), open_short(judgement)) if text]
    return Group(*lines)


_SHORT = {OPEN: TIED, "lower in these answers only": "lower, answers only"}
"""What has to be short in a terminal."""
