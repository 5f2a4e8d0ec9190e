"""Figures of the report: learning curves with error bands, and the distillation loss.

`write_png` draws them on one sheet; `panel_svg` and `loss_svg` draw one panel each as SVG that takes its colours from
the page's CSS variables, so that it follows light and dark and stays readable on a phone.
"""

import functools
import io
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from evaluator.stats import Estimate, Summary

if TYPE_CHECKING:
    from evaluator.report import Report

COLORS = {"curve": "#2f6690", "teacher": "#c07f2a", "pruned": "#7d8590", "ink": "#23272f", "muted": "#6e7681",
          "rule": "#e3e5e9"}  # fmt: skip
"""Name of a CSS variable in the page and its colour on paper."""
AVERAGE = "average"
LOG_SPAN = 20
"""Milestones further apart than this, last over first, are drawn on a logarithmic axis."""
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "nemo-distill",
    "axes.edgecolor": COLORS["rule"],
    "axes.labelcolor": COLORS["muted"],
    "axes.titlecolor": COLORS["ink"],
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": COLORS["rule"],
    "grid.linewidth": 0.8,
    "xtick.color": COLORS["muted"],
    "ytick.color": COLORS["muted"],
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
def write_png(report: "Report", path: Path) -> None:
    """All learning curves, the average first, and the loss below them, on one sheet."""
    panels = [AVERAGE, *(task for task, _ in report.columns)]
    columns = 3
    rows = math.ceil(len(panels) / columns)
    extra = 1 if report.losses else 0
    figure = plt.figure(figsize=(10, 2.5 * (rows + extra) + 0.5), layout="constrained")
    grid = figure.add_gridspec(rows + extra, columns)
    first = None
    for index, task in enumerate(panels):
        axes = figure.add_subplot(grid[index // columns, index % columns], sharey=first)
        first = first or axes
        draw_panel(axes, report, task)
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(report.title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=COLORS["ink"])
    if report.losses:
        draw_loss(figure.add_subplot(grid[rows, :]), report)
    figure.savefig(path, dpi=160, metadata={"Software": None})
    plt.close(figure)


@_styled
def panel_svg(report: "Report", task: str) -> str:
    """The learning curve of one task, or of `AVERAGE`, as an SVG element."""
    figure, axes = plt.subplots(figsize=(3.4, 2.3), layout="constrained")
    draw_panel(axes, report, task)
    return _svg(
        figure, label=f"{axes.get_title(loc='left')}: score over tokens; the numbers are in the table of scores"
    )


@_styled
def loss_svg(report: "Report") -> str:
    """The distillation loss as an SVG element."""
    figure, axes = plt.subplots(figsize=(4.4, 2.3), layout="constrained")
    draw_loss(axes, report)
    ends = (report.losses[0]["loss"], report.losses[-1]["loss"])
    return _svg(figure, label=f"Distillation loss over tokens, from {ends[0]:.4g} to {ends[1]:.4g}")


def draw_panel(axes: Axes, report: "Report", task: str) -> None:
    """Draw one task's curve over tokens, band of one standard error, with the teacher and the pruned student."""
    titles = dict(report.columns) | {AVERAGE: "Suite average"}

    def value(row) -> Summary | Estimate:
        return row.average if task == AVERAGE else row.summaries[task]

    points = list(report.milestones)
    logarithmic = points[-1].tokens > LOG_SPAN * points[0].tokens
    if not logarithmic:
        points.insert(0, report.row("pruned"))  # where the curve starts: no token seen
    tokens = [row.tokens for row in points]
    means = [100 * value(row).mean for row in points]
    errors = [100 * value(row).stderr for row in points]
    for role, dashes in (("teacher", (6, 3)), ("pruned", (1.5, 2.5))):
        reference = value(report.row(role))
        mean, error = 100 * reference.mean, 100 * reference.stderr
        axes.axhspan(mean - error, mean + error, color=COLORS[role], alpha=0.12, linewidth=0)
        label = "teacher" if role == "teacher" else "pruned student"
        axes.axhline(mean, color=COLORS[role], linewidth=1.4, dashes=dashes, label=label)
    low, high = ([m + sign * e for m, e in zip(means, errors, strict=True)] for sign in (-1, 1))
    axes.fill_between(tokens, low, high, color=COLORS["curve"], alpha=0.18, linewidth=0)
    axes.plot(
        tokens, means, color=COLORS["curve"], linewidth=1.8, marker="o", markersize=3.5, label="distilled student"
    )
    axes.set_title(titles[task])
    axes.set_ylim(-3, 103)
    axes.set_yticks([0, 25, 50, 75, 100])
    _token_axis(axes, report, logarithmic=logarithmic)


def draw_loss(axes: Axes, report: "Report") -> None:
    """Draw the loss over tokens, with a rule at every milestone."""
    tokens = [line["tokens"] for line in report.losses]
    axes.plot(tokens, [line["loss"] for line in report.losses], color=COLORS["curve"], linewidth=1.2)
    for row in report.milestones:
        axes.axvline(row.tokens, color=COLORS["rule"], linewidth=0.8, zorder=0)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_title("Distillation loss")
    _token_axis(axes, report, logarithmic=False)


def _token_axis(axes: Axes, report: "Report", *, logarithmic: bool) -> None:
    from evaluator.report import tokens_text

    if logarithmic:
        axes.set_xscale("log")
        axes.set_xticks(_apart([row.tokens for row in report.milestones], ratio=1.4))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: tokens_text(tokens)))
    axes.set_xlabel("tokens")


def _apart(values: list[int], *, ratio: float) -> list[int]:
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
    # The drawing fills the width it is given and has the page's font and colours.
    svg = re.sub(
        r'<svg[^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{label}">', svg, count=1
    )
    svg = re.sub(r"font: (?:(\w+) )?([\d.]+)px [^;\"]*", r"font-weight: \1; font-size: \2px", svg)
    for name, color in COLORS.items():
        svg = svg.replace(color, f"var(--{name})")
    return svg
