"""Draws the figures of the reports: learning curves with error bands where errors are known, the distillation loss.

    panel = Panel("IFEval", curves=..., lines=...)          # `evaluator.report.panels`
    write_png([panel], path, title="30pre_70post_v1v3")
    svg = panel_svg(panel)

`write_png` draws panels on one sheet; `panel_svg`, `loss_svg` and `held_out_svg` draw one each as SVG that takes its
colours from the page's CSS variables, so that it follows light and dark and stays readable on a phone.
"""

import functools
import io
import math
import re
import zlib
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
from evaluator.report.panels import Panel, is_logarithmic, last_middle
from evaluator.text import tokens_text

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
    wide = len(labels | {line.label for panel in drawn for line in panel.lines}) > 3
    width, height = 10.0, PANEL_INCHES * (rows + bool(losses) + bool(held_out)) + HEAD_INCHES * (2 if wide else 1)
    figure = plt.figure(figsize=(width, height))
    for index, panel in enumerate(panels):
        if panel:
            row, column = divmod(index, COLUMNS)
            left, top = column * width / COLUMNS, HEAD_INCHES + row * PANEL_INCHES
            axes = _axes(figure, left, top, width / COLUMNS, foot=any(one.foot for one in panels if one))
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
        draw_loss(_axes(figure, 0, HEAD_INCHES + rows * PANEL_INCHES, width), losses, milestones)
    if held_out:
        top = HEAD_INCHES + (rows + bool(losses)) * PANEL_INCHES
        draw_held_out(_axes(figure, 0, top, width - LEGEND_INCHES), held_out, milestones)
    figure.savefig(path, dpi=160, metadata={"Software": None})
    plt.close(figure)


@_styled
def panel_svg(panel: Panel) -> str:
    """A panel as an SVG element."""
    figure = plt.figure(figsize=(3.4, PANEL_INCHES))
    draw_panel(_axes(figure, 0, 0, 3.4, foot=bool(panel.foot)), panel)
    return _svg(figure, label=panel.label)


@_styled
def loss_svg(losses: Sequence[dict], milestones: Sequence[float]) -> str:
    """The distillation loss as an SVG element."""
    figure = plt.figure(figsize=(4.4, PANEL_INCHES))
    draw_loss(_axes(figure, 0, 0, 4.4), losses, milestones)
    ends = (losses[0]["loss"], losses[-1]["loss"])
    return _svg(figure, label=f"Distillation loss over tokens, from {ends[0]:.4g} to {ends[1]:.4g}")


@_styled
def held_out_svg(curves: Mapping[str, Sequence[tuple[float, float]]], milestones: Sequence[float]) -> str:
    """The divergence on held-out documents of each source as an SVG element."""
    figure = plt.figure(figsize=(4.4 + LEGEND_INCHES, PANEL_INCHES))
    draw_held_out(_axes(figure, 0, 0, 4.4), curves, milestones)
    return _svg(figure, label="Divergence on held-out documents over tokens; the numbers are in the table below")


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
    for line in panel.lines:
        if line.error:
            axes.axhspan(
                line.mean - line.error, line.mean + line.error, color=PAPER[line.color], alpha=0.12, linewidth=0
            )
        axes.axhline(line.mean, color=PAPER[line.color], linewidth=1.4, dashes=REFERENCES[line.color], label=line.label)
    for curve in panel.curves:
        look = look_of(curve.number)
        color = PAPER[look.color]
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
    if panel.ticks is None:
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    else:
        axes.set_yticks(panel.ticks)
    tokens = sorted({count for curve in panel.curves for count in curve.tokens})
    logarithmic = tokens[0] > 0 and is_logarithmic(tokens)
    _token_axis(axes, tokens if logarithmic else None)
    if panel.error is not None:
        _error_bar(axes, last_middle(panel.curves), panel.error)
    if panel.foot:
        axes.set_xlabel(f"tokens\n{panel.foot}")


def draw_loss(axes: Axes, losses: Sequence[dict], milestones: Sequence[float], number: int = 1) -> None:
    """Draw the loss over tokens, with a rule at every milestone."""
    tokens = [line["tokens"] for line in losses]
    axes.plot(tokens, [line["loss"] for line in losses], color=PAPER[look_of(number).color], linewidth=1.2)
    for milestone in milestones:
        axes.axvline(milestone, color=PAPER["rule"], linewidth=0.8, zorder=0)
    axes.set_title("Distillation loss")
    _loss_axis(axes)
    _token_axis(axes, None)


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
    axes.set_title("Held-out KL divergence")
    _loss_axis(axes)
    _token_axis(axes, None)


def _loss_axis(axes: Axes) -> None:
    """A logarithmic axis of nats."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _token_axis(axes: Axes, marks: list[float] | None) -> None:
    """A logarithmic axis with `marks` as far as they are apart, or a linear one from 0."""
    if marks:
        axes.set_xscale("log")
        axes.set_xticks(_apart(marks, ratio=1.4))
        axes.xaxis.set_minor_locator(NullLocator())
        # In two digits, as milestones are named: 40.3B beside 60.4B would touch.
        axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: tokens_text(float(f"{tokens:.2g}"))))
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: tokens_text(tokens)))
    axes.set_xlabel("tokens")


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


def _apart(values: list[float], *, ratio: float) -> list[float]:
    """The last of `values`, which rise, and those before it that are apart by `ratio` at least."""
    kept = [values[-1]]
    for value in reversed(values):
        if value * ratio <= kept[-1]:
            kept.append(value)
    return kept


def _svg(figure, *, label: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # An id is the page's, not the drawing's: groups need none, and what is drawn with has its own in each drawing.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    own = f"{zlib.crc32(label.encode()):08x}"
    svg = re.sub(r'(id="|href="#|url\(#)([^")]+)', rf"\1\2-{own}", svg)
    # The drawing fills the width it is given and has the page's font and colours.
    svg = re.sub(
        r'<svg[^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{label}">', svg, count=1
    )
    svg = re.sub(r"font: (?:(\w+) )?([\d.]+)px [^;\"]*", r"font-weight: \1; font-size: \2px", svg)
    for name, color in PAPER.items():
        svg = svg.replace(color, f"var(--{name})")
    return svg
