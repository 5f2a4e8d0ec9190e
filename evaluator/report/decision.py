"""Lays out what the report of several runs begins with: every blend beside the leader, and every two.

matrix(comparison, verdicts, scores).lines[0].name      # "30pre_70post_v3"
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluator.report.advice import end_text, place_text
from evaluator.report.compared import Comparison
from evaluator.report.files import BETWEEN, Table
from evaluator.report.matrix import Line, Matrix, entries_of, make_matrix
from evaluator.results.run import AVERAGE, Row
from evaluator.verdicts.contrasts import BETTER, WORSE, Contrast, seen_from


def matrix(comparison: Comparison, verdicts: Table, scores: Table) -> Matrix:
    """Every blend where all is summed up: its scores, and its differences to the one with the highest Average."""
    judgement, leader, at = comparison.judgement, comparison.judgement.first.leader, comparison.at

    def half(contrast: Contrast) -> float:
        return contrast.another_seed.least if contrast.another_seed else 0.0

    lines = []
    for name, row in comparison.finals.items():
        pair = [one for one in judgement.between if one.at == at and {one.one, one.other} == {name, leader}]
        changes = {one.column: seen_from(name, one) for one in pair}
        (run, *others) = judgement.blends[name].runs
        own = "" if others else scores.rows(run, row.title)  # a mean has no rows
        address = verdicts.rows(BETWEEN, at, pair[0].one, pair[0].other) if pair else own
        entries = entries_of(row, comparison.columns, changes, half)
        said = f"{place_text(judgement, name)}; {end_text(judgement.stop(name))}"
        lines.append(
            Line(
                name,
                entries,
                said=said,
                number=comparison.number(name),
                rows=address,
                scores=own,
                anchor=_anchor(row),
            )
        )
    for row in comparison.references:
        entries = entries_of(row, comparison.columns, {}, half)
        own = scores.rows(next(iter(comparison.runs)), row.title)
        lines.append(Line(row.title, entries, row.role, rows=own, scores=own, anchor=_anchor(row)))
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
