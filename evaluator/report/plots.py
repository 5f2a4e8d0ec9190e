"""Draws the figures of a report on one sheet, as a picture: learning curves with error bands, the distillation loss.

    panel = Panel("IFEval", curves=..., lines=...)          # `evaluator.report.panels`
    write_png([panel], path, title="30pre_70post_v1v3")

The page draws its own: `evaluator.report.charts`.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from evaluator.report.colours import PAPER, REFERENCES, look_of
from evaluator.report.panels import Panel, ticks
from evaluator.text import fixed, tokens_text

COLUMNS = 3
"""Panels in a row of the sheet."""
PANEL_INCHES = 2.4
"""Height of a panel with its title and axes."""
HEAD_INCHES = 0.45
"""Height of the sheet's title, and of a legend that does not fit beside it."""
MARGIN_INCHES = {"left": 0.46, "right": 0.12, "top": 0.3, "bottom": 0.48}
"""Between a panel's box and its axes."""
LEGEND_INCHES = 1.8
"""Room for the names of sources beside their curves."""
FOOT_INCHES = 0.15
"""More of it where a panel has a foot."""
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "nemo-distill",
    "axes.edgecolor": PAPER["rule"],
    "axes.labelcolor": PAPER["muted"],
    "axes.titlecolor": PAPER["ink"],
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": PAPER["rule"],
    "grid.linewidth": 0.8,
    "xtick.color": PAPER["muted"],
    "ytick.color": PAPER["muted"],
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
}


def _styled(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        with plt.rc_context(STYLE):
            return function(*args, **kwargs)

    return wrapper


@_styled
def write_png(
    panels: Sequence[Panel | None],
    path: Path,
    *,
    title: str,
    losses: Sequence[dict] = (),
    held_out: Mapping[str, Sequence[tuple[float, float]]] = MappingProxyType({}),
    milestones: Sequence[float] = (),
) -> None:
    """All panels, row by row, the loss below them, and that on held-out documents below it, on one sheet.

    Args:
        panels: None leaves a place empty.
        path: The file to write.
        title: Stands above.
        losses: Lines of losses.jsonl; none, no loss.
        held_out: (tokens, divergence) by source; none, no held-out loss.
        milestones: Tokens at which the loss has a rule.
    """
    rows = math.ceil(len(panels) / COLUMNS)
    legend: dict[str, Any] = {}
    drawn = [panel for panel in panels if panel]
    labels = {curve.label for panel in drawn for curve in panel.curves}
    wide = len(labels | {line.label for panel in drawn for line in panel.inner}) > 3
    width, height = 10.0, PANEL_INCHES * (rows + bool(losses) + bool(held_out)) + HEAD_INCHES * (2 if wide else 1)
    figure = plt.figure(figsize=(width, height))
    for index, panel in enumerate(panels):
        if panel:
            row, column = divmod(index, COLUMNS)
            left, top = column * width / COLUMNS, HEAD_INCHES + row * PANEL_INCHES
            axes = _axes(figure, left, top, width / COLUMNS, foot=any(map(_foot, drawn)))
            draw_panel(axes, panel)
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                legend.setdefault(str(label), handle)
    figure.legend(
        legend.values(),
        legend.keys(),
        loc="lower left" if wide else "upper right",
        ncols=4 if wide else 3,
        frameon=False,
        fontsize=9,
    )
    figure.suptitle(title, x=0.01, y=1 - 0.1 / height, ha="left", fontsize=12, fontweight="bold", color=PAPER["ink"])
    if losses:
        draw_loss(_axes(figure, 0, HEAD_INCHES + rows * PANEL_INCHES, width), losses, milestones, _number(drawn))
    if held_out:
        top = HEAD_INCHES + (rows + bool(losses)) * PANEL_INCHES
        draw_held_out(_axes(figure, 0, top, width - LEGEND_INCHES), held_out, milestones)
    figure.savefig(path, dpi=160, metadata={"Software": None})
    plt.close(figure)


def _number(panels: Sequence[Panel]) -> int:
    """Of the run, whose loss looks as its curves do."""
    return panels[0].curves[0].number if panels else 1


def _axes(figure: Figure, left: float, top: float, width: float, *, foot: bool = False) -> Axes:
    """Axes with their margins in a box of `width` inches, `left` and `top` inches into the figure.

    Laid out by hand: matplotlib's own layout draws everything twice, and no two panels alike.
    """
    across, down = figure.get_size_inches()
    margins = MARGIN_INCHES | ({"bottom": MARGIN_INCHES["bottom"] + FOOT_INCHES} if foot else {})
    tall = PANEL_INCHES - margins["top"] - margins["bottom"]
    low = down - top - PANEL_INCHES + margins["bottom"]
    wide = width - margins["left"] - margins["right"]
    return figure.add_axes(((left + margins["left"]) / across, low / down, wide / across, tall / down))


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw curves over tokens and lines across, each in its band."""
    for line in panel.inner:
        if line.error:
            axes.axhspan(
                line.mean - line.error, line.mean + line.error, color=PAPER[line.color], alpha=0.12, linewidth=0
            )
        axes.axhline(line.mean, color=PAPER[line.color], linewidth=1.4, dashes=REFERENCES[line.color], label=line.label)
    for curve in panel.curves:
        look = look_of(curve.number)
        color = PAPER[look.color]
        if curve.hollow:
            axes.errorbar(
                curve.tokens,
                curve.means,
                yerr=curve.errors or None,
                color=color,
                linestyle="none",
                marker=look.marker,
                markersize=7,
                markerfacecolor="none",
                label=curve.label,
            )
            continue
        if curve.errors:
            low, high = ([m + sign * e for m, e in zip(curve.means, curve.errors, strict=True)] for sign in (-1, 1))
            axes.fill_between(curve.tokens, low, high, color=color, alpha=0.18, linewidth=0)
        axes.plot(
            curve.tokens,
            curve.means,
            color=color,
            linewidth=1.8,
            marker=look.marker,
            linestyle=(0, look.dash) if look.dash else "-",
            markersize=3.5,
            label=curve.label,
        )
    axes.set_title(panel.title)
    axes.set_ylim(panel.limits)
    axes.set_yticks(ticks(*panel.limits))
    _token_axis(axes, panel)
    if panel.error is not None:
        _error_bar(axes, panel.middle, panel.error)
    if foot := _foot(panel):
        axes.set_xlabel(f"tokens, log scale\n{foot}")


def _foot(panel: Panel) -> str:
    """What stands below a panel: its remark, and the reference models that are far off its curves."""
    high = panel.limits[1]
    beyond = [f"{line.label} at {fixed(line.mean)}, {'above' if line.mean > high else 'below'}" for line in panel.outer]
    return ", ".join([*([panel.foot] if panel.foot else []), *beyond])


def draw_loss(axes: Axes, losses: Sequence[dict], milestones: Sequence[float], number: int = 1) -> None:
    """Draw the loss over tokens, with a rule at every milestone."""
    tokens = [line["tokens"] for line in losses]
    axes.plot(tokens, [line["loss"] for line in losses], color=PAPER[look_of(number).color], linewidth=1.2)
    for milestone in milestones:
        axes.axvline(milestone, color=PAPER["rule"], linewidth=0.8, zorder=0)
    axes.set_title("Distillation loss, nats per token, log scale")
    _loss_axis(axes)
    _token_axis(axes)


def draw_held_out(axes: Axes, curves: Mapping[str, Sequence[tuple[float, float]]], milestones: Sequence[float]) -> None:
    """Draw the divergence of each source over tokens, named beside it, with a rule at every milestone."""
    for number, (name, points) in enumerate(curves.items(), 1):
        look = look_of(number)
        axes.plot(
            *zip(*points, strict=True),
            color=PAPER[look.color],
            linewidth=1.2,
            marker=look.marker,
            markersize=3,
            markevery=max(1, len(points) // 8),
            label=name,
        )
    for milestone in milestones:
        axes.axvline(milestone, color=PAPER["rule"], linewidth=0.8, zorder=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05), frameon=False, fontsize=7, labelspacing=0.25)
    axes.set_title("Held-out KL divergence, nats per token, log scale")
    _loss_axis(axes)
    _token_axis(axes)


def _loss_axis(axes: Axes) -> None:
    """A logarithmic axis of nats."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _token_axis(axes: Axes, panel: Panel | None = None) -> None:
    """A logarithmic axis with the panel's milestones as far as they are apart, or without one a linear axis from 0."""
    if panel:
        axes.set_xscale("log")
        axes.set_xticks(_apart(panel.tokens, ratio=1.4))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: panel.mark(tokens)))
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: tokens_text(tokens)))
    axes.set_xlabel("tokens, log scale" if panel else "tokens")


def _error_bar(axes: Axes, middle: float, error: float) -> None:
    """A bar of one standard error up and down, beyond the last points and as high as their middle."""
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.07 if axes.get_xscale() == "log" else high + 0.07 * (high - low))
    ends = [middle - error, middle + error]
    axes.plot(
        [0.97, 0.97],
        ends,
        transform=axes.get_yaxis_transform(),
        color=PAPER["muted"],
        linewidth=1.0,
        marker="_",
        markersize=6,
        label="± one standard error of a score, at most",
    )


def _apart(values: Sequence[float], *, ratio: float) -> list[float]:
    """The last of `values`, which rise, and those before it that are apart by `ratio` at least."""
    kept = [values[-1]]
    for value in reversed(values):
        if value * ratio <= kept[-1]:
            kept.append(value)
    return kept
