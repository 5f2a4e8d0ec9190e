"""Draws points with a name as SVG: a score against what it costs, the Pareto front as a line of steps.

    svg = scatter_svg(Scatter("Average against tokens/s", "tokens/s per GPU", points))
    svg = scatter_svg(scatter, width=NARROW)            # the same for a phone

The page has both and shows the one that fits, so that it needs no script. Colours and symbols are those of the curves
(`evaluator.report.colours`); a hollow symbol was published by others, one in a ring is of a quantised model.
"""

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

from evaluator.report.addresses import Origin
from evaluator.report.charts import SHAPES
from evaluator.report.panels import NEAR, ROOM, ticks
from evaluator.text import fixed

WIDE, NARROW = 600, 350
"""Widths of the two drawings."""
HEIGHTS = {WIDE: 400, NARROW: 330}
"""Their heights."""
LEFT, RIGHT, TOP, BOTTOM = 40, 16, 30, 40
"""Between the edges of a drawing and its axes."""
MARGIN = 16
"""Room within the axes where a point below them is named, and of a line of text."""
LETTER = 6.4
"""Room of a letter of a name, of a title's a little more."""
REACH = 8
"""Half of a symbol with its ring."""
MARKS = {
    "teacher": "M0-5.2L4.5-2.6V2.6L0 5.2-4.5 2.6V-2.6z",
    "pruned": "M-4.6-3.4H4.6L2.4 4.2H-2.4z",
    "larger": "M-2-5H2L5-2V2L2 5H-2L-5 2V-2z",
}
"""Outlines of models that are no blend's, by role: a hexagon, a bucket, an octagon."""
RINGS = {"FP8": "", "NVFP4": "2 2"}
"""Dashes of the ring around a quantised model, by format."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model."""

    label: str
    """What stands beside it, where there is room."""
    said: str
    """All of its values, shown when it is pointed at."""
    across: float
    """Where it is along the axis."""
    score: float
    """From 0 to 100."""
    error: float
    """Standard error of the score."""
    ends: tuple[float, float] | None = None
    """Lowest and highest of what was measured along the axis; None where that was once."""
    color: str
    """Name of its colour."""
    mark: str
    """Outline of its symbol: a letter of `SHAPES`, or a role of `MARKS`."""
    hollow: bool = False
    """Whether it was published by others."""
    ring: str | None = None
    """Format of a quantised model, by `RINGS`."""
    on_front: bool = False
    """Whether the line of the front goes through it."""
    reference: bool = False
    """Whether it is left out of the axis, and named at the margin, where it is far off the others."""


@dataclass(frozen=True)
class Scatter:
    """One figure."""

    title: str
    """What it shows."""
    axis: str
    """What is along the axis."""
    points: tuple[Point, ...]
    """At least one."""
    fewer: bool = False
    """Whether less of what is along the axis is better."""
    foot: str = ""
    """A remark below the axis: on what was measured."""
    origin: Origin = Origin()
    """Where its figures are from."""

    @property
    def label(self) -> str:
        """What the drawing shows, for those who do not see it."""
        return f"{self.title}; the values are in the table below the figures"

    @property
    def inner(self) -> list[Point]:
        """Points that are drawn."""
        low, high = self._range
        near = NEAR * (high - low)
        return [one for one in self.points if not one.reference or low - near <= one.score <= high + near]

    @property
    def outer(self) -> list[Point]:
        """Reference models far off the others, the highest first."""
        inner = self.inner
        return sorted((one for one in self.points if one not in inner), key=lambda one: -one.score)

    @property
    def _range(self) -> tuple[float, float]:
        ranked = [one for one in self.points if not one.reference] or list(self.points)
        low, high = min(one.score - one.error for one in ranked), max(one.score + one.error for one in ranked)
        middle = (low + high) / 2
        return (low, high) if high - low >= 1 else (middle - 0.5, middle + 0.5)

    @property
    def down(self) -> tuple[float, float]:
        """Ends of the axis of scores."""
        inner = self.inner
        low, high = self._range
        low, high = min([low, *(p.score - p.error for p in inner)]), max([high, *(p.score + p.error for p in inner)])
        return low - ROOM * (high - low), high + ROOM * (high - low)

    @property
    def along(self) -> tuple[float, float]:
        """Ends of the other axis, with room for names."""
        values = [value for one in self.points for value in (one.across, *(one.ends or ()))]
        low, high = min(values), max(values)
        room = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
        return low - room, high + 1.2 * room


def scatter_svg(scatter: Scatter, *, width: int = WIDE) -> str:
    """The figure as an SVG element."""
    feet = wrap(scatter.foot, int((width - LEFT) / LETTER))
    height = HEIGHTS[width] + MARGIN * len(feet)
    right, bottom = width - RIGHT, HEIGHTS[width] - BOTTOM
    (left_end, right_end), (low, high) = scatter.along, scatter.down
    below, above = ([one for one in scatter.outer if (one.score < low) == side] for side in (True, False))
    floor, ceiling = bottom - MARGIN * len(below), TOP + MARGIN * len(above)

    def x(value: float) -> float:
        return LEFT + (value - left_end) / (right_end - left_end) * (right - LEFT)

    def y(score: float) -> float:
        return floor - (score - low) / (high - low) * (floor - ceiling)

    drawn = scatter.inner
    placed = [(one, x(one.across), y(one.score)) for one in drawn]
    parts = [
        f'<svg class="{"wide" if width == WIDE else "narrow"}" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{_safe(scatter.label)}">',
        f'<text class="title" x="6" y="15">{_safe(_fitted(scatter.title, width))}</text>',
    ]
    scores, values = ticks(low, high), ticks(left_end, right_end, 4 if width == NARROW else 6)
    grid = "".join(f"M{LEFT} {_n(y(score))}H{_n(right)}" for score in scores)
    notches = "".join(f"M{_n(x(value))} {_n(bottom)}v4" for value in values)
    parts.append(f'<path class="grid" d="{grid}M{LEFT} {_n(bottom)}H{_n(right)}{notches}"/><g class="marks">')
    for score in scores:
        text = _tick_text(score, scores)
        parts.append(f'<text x="{LEFT - 6}" y="{_n(y(score) + 4)}" text-anchor="end">{text}</text>')
    for value in values:
        text = _tick_text(value, values)
        parts.append(f'<text x="{_n(x(value))}" y="{_n(bottom + 16)}" text-anchor="middle">{text}</text>')
    words = f"← {scatter.axis}: fewer is better" if scatter.fewer else f"{scatter.axis}: more is better →"
    parts.append(f'<text x="{_n((LEFT + right) / 2)}" y="{_n(bottom + 32)}" text-anchor="middle">{_safe(words)}</text>')
    for place, foot in enumerate(feet, 1):
        y_foot = bottom + 32 + MARGIN * place
        parts.append(f'<text x="{_n((LEFT + right) / 2)}" y="{y_foot}" text-anchor="middle">{_safe(foot)}</text>')
    parts.append("</g>")
    for hollow in (False, True):
        parts += _front([one for one in placed if one[0].hollow == hollow], hollow, scatter.fewer)
    parts += [_point(one, at, down, x, y) for one, at, down in placed]
    parts += _names(placed, width, (ceiling, floor))
    for lines, first, arrow in ((above, TOP + 11, "↑"), (below, bottom - 5 - MARGIN * (len(below) - 1), "↓")):
        for place, one in enumerate(lines):
            text = _safe(f"{arrow} {one.label}{', published,' if one.hollow else ''} {fixed(one.score)}")
            y_name = first + MARGIN * place
            parts.append(f'<text class="margin" x="{_n(right)}" y="{y_name}" text-anchor="end">{text}</text>')
    return "".join(parts) + "</svg>"


def mark_svg(color: str, mark: str, *, hollow: bool = False, ring: str | None = None) -> str:
    """A symbol for the legend; without a `mark`, its ring alone."""
    inner = _symbol(mark, hollow, ring)
    return (
        f'<svg class="sample point" viewBox="-10 -10 20 20" aria-hidden="true" style="color:var(--{color})">'
        f"{inner}</svg>"
    )


def front_svg(hollow: bool = False) -> str:
    """A piece of the line of the front for the legend."""
    return (
        '<svg class="sample" viewBox="0 0 36 12" aria-hidden="true" style="color:var(--ink)">'
        f'<path d="M0 2H18V10H36" fill="none" stroke="currentColor" stroke-width="1.4"{_dash(hollow)}/></svg>'
    )


def _dash(hollow: bool) -> str:
    return ' stroke-dasharray="2 3"' if hollow else ""


def _symbol(mark: str, hollow: bool, ring: str | None) -> str:
    fill = ' fill="var(--card)" stroke="currentColor" stroke-width="1.6"' if hollow else ' fill="currentColor"'
    parts = [f'<path d="{MARKS.get(mark) or SHAPES[mark]}"{fill}/>'] if mark else []
    if ring is not None:
        dash = f' stroke-dasharray="{RINGS[ring]}"' if RINGS.get(ring) else ""
        parts.append(f'<circle r="{REACH}" fill="none" stroke="currentColor" stroke-width="1.4"{dash}/>')
    return "".join(parts)


def _point(one: Point, at: float, down: float, x, y) -> str:
    lines = f"M{_n(at)} {_n(y(one.score + one.error))}V{_n(y(one.score - one.error))}" if one.error else ""
    if one.ends and one.ends[0] < one.ends[1]:
        lines += f"M{_n(x(one.ends[0]))} {_n(down)}H{_n(x(one.ends[1]))}"
    pale = "" if one.on_front else ' stroke-opacity=".5"'
    return (
        f'<g class="model" style="color:var(--{one.color})"><title>{_safe(one.said)}</title>'
        + (f'<path d="{lines}" fill="none" stroke="currentColor" stroke-width="1.3"{pale}/>' if lines else "")
        + f'<g transform="translate({_n(at)} {_n(down)})">{_symbol(one.mark, one.hollow, one.ring)}</g></g>'
    )


def _front(placed: Sequence[tuple[Point, float, float]], hollow: bool, fewer: bool) -> Iterator[str]:
    """The line of steps, from the highest score on: what is beyond it no model of this kind reaches."""
    steps = sorted({(at, down) for one, at, down in placed if one.on_front}, key=lambda one: one[1])
    if len(steps) < 2:
        return
    path = f"M{_n(steps[0][0])} {_n(steps[0][1])}"
    for at, down in steps[1:]:
        path += f"V{_n(down)}H{_n(at)}"  # a better score is not to be had past the place of the step before
    yield f'<path class="front" d="{path}" fill="none" stroke="var(--ink)" stroke-width="1.2"{_dash(hollow)}/>'


def _names(placed: Sequence[tuple[Point, float, float]], width: int, limits: tuple[float, float]) -> Iterator[str]:
    """Names beside their points as far as there is room, those of the front first."""
    taken = [(at - REACH, down - REACH, at + REACH, down + REACH) for _, at, down in placed]
    order = sorted(placed, key=lambda one: (not one[0].on_front, one[0].hollow, not one[0].ring, one[2]))
    for one, at, down in order:
        wide = LETTER * len(one.label)
        for dx, dy, anchor in (
            *((11, 4, "start"), (-11, 4, "end"), (0, -12, "middle"), (0, 20, "middle")),
            *((9, -9, "start"), (-9, -9, "end"), (9, 17, "start"), (-9, 17, "end")),
        ):
            begin = at + dx - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
            box = (begin, down + dy - 10, begin + wide, down + dy + 2)
            inside = box[0] >= LEFT and box[2] <= width - 4 and limits[0] - REACH <= box[1] and box[3] <= limits[1]
            if inside and not any(_meet(box, other) for other in taken):
                taken.append(box)
                strong = ' font-weight="650"' if one.on_front else ""
                yield (
                    f'<text class="halo" x="{_n(at + dx)}" y="{_n(down + dy)}" text-anchor="{anchor}"{strong}>'
                    f"{_safe(one.label)}</text>"
                )
                break


def _meet(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _fitted(text: str, width: float) -> str:
    most = int((width - 12) / (LETTER + 0.7))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _tick_text(value: float, values: Sequence[float]) -> str:
    """A mark on an axis, all of an axis in as many digits."""
    step = values[1] - values[0] if len(values) > 1 else 1
    return f"{value + 0.0:,.{max(0, math.ceil(-math.log10(step) - 1e-9))}f}".replace("-", "−")


def _n(value: float) -> str:
    return f"{math.floor(10 * value + 0.5) / 10:g}"


def _safe(text: str) -> str:
    return html.escape(text)
