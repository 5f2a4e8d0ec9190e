"""The table and the curves of losses on held-out documents in the report of a run."""

import math
from collections.abc import Mapping

from evaluator.results.held_out import HeldOutLoss, HeldOutPoint, blended
from evaluator.results.run import Report
from evaluator.stats.scores import Estimate
from evaluator.text import EMPTY

BLEND = "Blend"
"""What the mean over the sources, by their shares, is called."""


def held_out_table(report: Report) -> tuple[list[str], list[list[str]]] | None:
    """Headings, and a row per source and of the blend; None where nothing was held out.

    Each has the divergence of the pruned student and of every milestone, and the last one's loss beside the teacher's.
    """
    rows = [row for row in (report.row("pruned"), *report.milestones) if _point(report, row.iteration)]
    if not rows:
        return None
    points = [point for row in rows if (point := _point(report, row.iteration))]
    headings = ["Source", *(f"KL, {_within(row.title)}" for row in rows)]
    headings += [f"Next token, {_within(rows[-1].title)}", "Teacher", "Documents", "Tokens"]
    lines = []
    for source in points[-1].sources:
        last = points[-1].sources[source]
        lines.append([source, *(_kl_text(point.sources.get(source)) for point in points), nats_text(last.loss)])
        lines[-1] += [f"{last.teacher_loss:.3f}", f"{last.documents:,}", f"{last.tokens:,}"]
    if report.blend and len(points[-1].sources) > 1 and all(map(of_blend, points, [report] * len(points))):
        means = [of_blend(point, report) for point in points]
        lines.append([BLEND, *(nats_text(mean) for mean in means if mean), *[""] * 4])
    return headings, lines


def _within(title: str) -> str:
    """A checkpoint's title within a heading: Pruned student is one, and 0.3M stays."""
    return title[:1].lower() + title[1:]


def curves_of(report: Report) -> Mapping[str, list[tuple[int, float]]]:
    """(tokens, divergence) of each source, and of the blend first where it has several."""
    found: dict[str, list[tuple[int, float]]] = {}
    for point in report.held_out:
        if len(point.sources) > 1 and (mean := of_blend(point, report)):
            found.setdefault(BLEND, []).append((point.tokens, mean.mean))
        for source, loss in point.sources.items():
            found.setdefault(source, []).append((point.tokens, loss.kl.mean))
    return found


def of_blend(point: HeldOutPoint, report: Report) -> Estimate | None:
    """Mean divergence by the shares of the blend; None where a source of it was not measured."""
    parts = [part for part in report.blend if part.share]
    if not parts or not all(part.source in point.sources for part in parts):
        return None
    return blended([point.sources[part.source].kl for part in parts], [part.share for part in parts])


def nats_text(value: Estimate) -> str:
    """A number of nats with its standard error: `0.031 ± 0.001`, the error left out where there is none."""
    return f"{value.mean:.3f}" if math.isnan(value.stderr) else f"{value.mean:.3f} ± {value.stderr:.3f}"


def _kl_text(loss: HeldOutLoss | None) -> str:
    return nats_text(loss.kl) if loss else EMPTY


def _point(report: Report, iteration: int | None) -> HeldOutPoint | None:
    return next((point for point in report.held_out if point.iteration == iteration), None)
