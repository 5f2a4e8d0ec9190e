"""Holds the tables of a page that are looked up: compositions, differences, losses, pruning, contamination.

    blends = blends_table({"30pre_70post_v3": report.blend})
    blends.rows("30pre_70post_v3", "stem")                      # "blends.csv#row=2"

What a page shows rounded, and in words, stands there in digits, a line per source, difference or candidate.
"""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence

from evaluator.report.files import Table
from evaluator.report.held_out import BLEND, of_blend
from evaluator.report.panels import thinned
from evaluator.results.held_out import HeldOutPoint
from evaluator.results.run import AVERAGE, BlendPart, Report
from evaluator.stats.scores import Estimate
from evaluator.verdicts.contrasts import Contrast
from evaluator.verdicts.quantised import Cost

BLENDS, DIFFERENCES, HELD_OUT = "blends.csv", "differences.csv", "held_out.csv"
LOSSES, PRUNING, CONTAMINATION = "losses.csv", "pruning.csv", "contamination.csv"
WITHIN, QUANTISED, OTHERS = "milestones", "quantised", "not tested"
"""Families of a run's differences; of the last are the end and what is quantised less other checkpoints."""
BLEND_COLUMNS = ("blend", "source", "share", "tokens_used", "tokens_available", "epochs", "share_from")
DIFFERENCE_COLUMNS = ("family", "one", "other", "benchmark", "difference", "stderr", "p_value", "verdict")
HELD_OUT_COLUMNS = (
    "source", "iteration", "tokens", "kl", "kl_stderr", "loss", "loss_stderr", "teacher_loss", "documents",
    "tokens_predicted",
)  # fmt: skip
LOSS_COLUMNS = ("iteration", "tokens", "loss", "learning_rate")


def blends_table(blends: Mapping[str, Sequence[BlendPart]]) -> Table:
    """What blends are made of, a line per source and blend."""
    sources = dict.fromkeys(part.source for parts in blends.values() for part in parts)
    lines = [
        ((name, source), (name, source, *_figures(part), part.provenance))
        for source in sources
        for name, parts in blends.items()
        for part in parts
        if part.source == source
    ]
    return Table(BLENDS, BLEND_COLUMNS, lines, "share, tokens and epochs of every source")


def _figures(part: BlendPart) -> tuple[str, ...]:
    return f"{part.share:g}", f"{part.tokens_used:.0f}", f"{part.tokens_available}", f"{part.epochs:.6f}"


def differences_table(report: Report, within: Sequence[Contrast], quantised: Sequence[Cost]) -> Table:
    """A run's differences: of its milestones, of what is quantised, and of its end from other checkpoints."""
    tested = [(WITHIN, one) for one in within]
    tested += [(QUANTISED, one) for cost in quantised for one in cost.contrasts]
    lines: list[tuple[Hashable, Sequence]] = [
        ((family, one.one, one.other), (family, *_contrast(one))) for family, one in tested
    ]
    titles = [*(title for _, title in report.columns), AVERAGE]
    for title, found in report.changes():
        lines += [
            ((OTHERS, title), (OTHERS, *title.split(" against "), column, *_estimate(value), "", ""))
            for column, value in zip(titles, found, strict=True)
        ]
    return Table(DIFFERENCES, DIFFERENCE_COLUMNS, lines, "every difference with its error")


def _contrast(one: Contrast) -> tuple[str, ...]:
    return one.one, one.other, one.column, *_estimate(one.difference), f"{one.p_value:.3g}", one.in_answers


def lookups(report: Report) -> dict[str, Table]:
    """The tables of what else a run's page shows, by their names, as far as the run has them: composition, held-out
    losses, distillation loss, pruning, contamination."""
    tables = [
        blends_table({report.title: report.blend}),
        Table(HELD_OUT, HELD_OUT_COLUMNS, list(_held_out(report)), "every loss on held-out documents"),
        Table(LOSSES, LOSS_COLUMNS, _losses(report.losses), "the distillation loss as it is drawn"),
        _pruning(report),
        _contamination(report),
    ]
    return {table.name: table for table in tables if table.lines}


def _held_out(report: Report) -> Iterator[tuple[tuple[str], tuple]]:
    for source in dict.fromkeys(source for point in report.held_out for source in point.sources):
        for point in report.held_out:
            if one := point.sources.get(source):
                figures = (*_estimate(one.kl), *_estimate(one.loss), f"{one.teacher_loss:.6f}")
                yield (source,), (source, point.iteration, point.tokens, *figures, one.documents, one.tokens)
    yield from (
        ((BLEND,), (BLEND, point.iteration, point.tokens, *_estimate(mean), *[""] * 5))
        for point, mean in _means(report)
    )


def _means(report: Report) -> Iterator[tuple[HeldOutPoint, Estimate]]:
    for point in report.held_out:
        mean = of_blend(point, report) if len(point.sources) > 1 else None
        if mean:
            yield point, mean


def _losses(losses: Sequence[Mapping]) -> list:
    """The lines that a curve is drawn of, which of a long one are the lowest and the highest of every stretch."""
    if not losses:
        return []
    places, _ = thinned(range(len(losses)), [line["loss"] for line in losses])
    shown = [losses[int(place)] for place in places]
    return [((LOSSES,), tuple(line.get(column, "") for column in LOSS_COLUMNS)) for line in shown]


def _pruning(report: Report) -> Table:
    pruning = report.pruning
    keys = [key for key, _ in pruning.axes] if pruning else []
    lines = [
        ((place,), (*(one[key] for key in keys), one["parameters"], one["score"], *map(_yes, _marks(one))))
        for place, one in enumerate(pruning.candidates if pruning else ())
    ]
    return Table(PRUNING, (*keys, "parameters", "score", "chosen", "fp8"), lines, "every candidate of the search")


def _marks(candidate: Mapping) -> tuple[bool, bool]:
    return candidate["chosen"], bool(candidate.get("chip_friendly"))


def _yes(mark: bool) -> str:
    return "yes" if mark else "no"


def _contamination(report: Report) -> Table:
    headings, lines = report.contamination.table() if report.contamination else ([], [])  # type: ignore[attr-defined]
    about = "benchmark questions that the sources hold"
    return Table(CONTAMINATION, headings, [((line[0],), line) for line in lines], about)


def _estimate(value: Estimate) -> tuple[str, str]:
    mean, error = ("" if math.isnan(one) else f"{one:.6f}" for one in (value.mean, value.stderr))
    return mean, error
