"""Draws a panel as SVG for the page: whole without a script, which draws the same (`draw.js`) when it is asked more.

    svg = panel_svg(panel)
    svg = panel_svg(panel, logarithmic=False, large=True)

Colours are the page's variables, so that the drawing follows light and dark. Every point says its values when it is
pointed at; reference models that lie far off the curves are named at the margin that they lie beyond.
"""

import html
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import astuple

from evaluator.report.colours import PAPER, REFERENCES, look_of
from evaluator.report.panels import (
    MOST_POINTS,
    NATS,
    NEAR,
    ROOM,
    Charts,
    Curve,
    Panel,
    log_ticks,
    ticks,
)
from evaluator.text import fixed, points_text, significant

WIDTH, HEIGHT, LARGE = 400, 240, 290
"""Size of a drawing, and the height of a large one."""
LEFT, RIGHT, TOP, BOTTOM = 38, 14, 26, 36
"""Between its edges and its axes."""
MARGIN = 16
"""Room within the axes where a reference model beyond them is named, and below them for a remark."""
APART = 34
"""Least room of a mark on the axis of tokens."""
NAMED = 110
"""Room of a reference model's name."""
LETTER = 8.8
"""Room of a title's letter."""
DIGITS = 6
"""What the script is given is rounded to so many: it rounds again, as this module does."""
SHAPES = {
    "■": "M-3.6-3.6h7.2v7.2h-7.2z",
    "▲": "M0-4.6L4.5 3.4h-9z",
    "◆": "M0-5L5 0 0 5-5 0z",
    "▼": "M0 4.6L4.5-3.4h-9z",
    "●": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "✚": "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "✖": "M-4.4-2.2L-2.2-4.4 0-2.2 2.2-4.4 4.4-2.2 2.2 0 4.4 2.2 2.2 4.4 0 2.2-2.2 4.4-4.4 2.2-2.2 0z",
    "★": "M0-5.4L1.5-1.8 5.2-1.6 2.3.8 3.3 4.5 0 2.4-3.3 4.5-2.3.8-5.2-1.6-1.5-1.8z",
}
"""Outline of every symbol, around 0."""
HOLLOW = ' transform="scale(1.6)" fill="none" stroke="currentColor" stroke-width="1.1"'
"""Attributes of a symbol that is drawn hollow, around a whole one in the same place."""

SIZES = {
    "WIDTH": WIDTH, "LEFT": LEFT, "RIGHT": RIGHT, "TOP": TOP, "BOTTOM": BOTTOM, "MARGIN": MARGIN, "APART": APART,
    "LETTER": LETTER, "NAMED": NAMED,
    "NEAR": NEAR, "ROOM": ROOM, "MOST_POINTS": MOST_POINTS,
}  # fmt: skip
"""What the script draws by."""

Scale = Callable[[float], float]


def panel_svg(panel: Panel, *, logarithmic: bool = True, large: bool = False) -> str:
    """A panel as an SVG element."""
    height = LARGE if large else HEIGHT
    low, high = panel.limits
    above = [line for line in panel.outer if line.mean > high]
    below = [line for line in panel.outer if line.mean < low]
    top, bottom = TOP, height - BOTTOM - MARGIN * bool(panel.foot)
    right = WIDTH - RIGHT - (14 if panel.error is not None else 0)
    across = _scale(_ends(panel.tokens, logarithmic), (LEFT, right), logarithmic)
    ends = (bottom - MARGIN * bool(below), top + MARGIN * bool(above))
    down = _scale(panel.limits, ends, panel.unit == NATS)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{_safe(panel.label)}">',
        f'<text class="title" x="6" y="15">{_safe(_fitted(panel.title, WIDTH))}</text>',
        *_axes(panel, across, down, (LEFT, right, top, bottom), logarithmic),
    ]
    for line in panel.inner:
        parts += [
            f'<g style="color:var(--{line.color})">',
            f"<title>{_safe(_said(line.label, line.mean, line.error, panel))}</title>"
            f'<path d="M{LEFT} {_n(down(line.mean))}H{_n(right)}" fill="none" stroke="currentColor"'
            f' stroke-width="1.4" stroke-dasharray="{" ".join(map(str, REFERENCES[line.color]))}"/></g>',
        ]
    parts += [_curve(curve, panel, across, down) for curve in panel.curves]
    for line in panel.inner:
        text, y = _safe(f"{line.label} {fixed(line.mean)}"), down(line.mean) - 4
        x, anchor = (right - 4, "end") if _is_left_crowded(panel, across, down, y) else (LEFT + 4, "start")
        parts.append(f'<text class="halo" x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}">{text}</text>')
    if panel.error is not None:
        upper, lower = (_n(down(panel.middle + sign * panel.error)) for sign in (1, -1))
        parts.append(
            f'<g style="color:var(--muted)"><title>± one standard error of a value, at most: {fixed(panel.error)}'
            "</title>"
            f'<path d="M{_n(right + 5)} {upper}h8m-4 0V{lower}m-4 0h8" fill="none" stroke="currentColor"/></g>'
        )
    for lines, y, arrow in ((above, top + 10, "↑"), (below, bottom - 5, "↓")):
        if lines:
            words = "   ".join(f"{arrow} {line.label} {fixed(line.mean)}" for line in lines)
            parts.append(f'<text class="margin" x="{_n(right)}" y="{_n(y)}" text-anchor="end">{_safe(words)}</text>')
    return "".join(parts) + "</svg>"


def sample_svg(curve: Curve) -> str:
    """A short piece of a curve for the legend."""
    look = look_of(curve.number)
    if curve.hollow:
        return (
            f'<svg class="sample" viewBox="0 0 36 12" aria-hidden="true" style="color:var(--{look.color})">'
            f'<g transform="translate(18 6)"><path d="{SHAPES[look.symbol]}"{HOLLOW}/></g></svg>'
        )
    dash = f' stroke-dasharray="{" ".join(map(str, look.dash))}"' if look.dash else ""
    return (
        f'<svg class="sample" viewBox="0 0 36 12" aria-hidden="true" style="color:var(--{look.color})">'
        f'<path d="M0 6H36" stroke="currentColor" stroke-width="2"{dash}/>'
        f'<path transform="translate(18 6)" d="{SHAPES[look.symbol]}"/></svg>'
    )


def line_sample_svg(color: str) -> str:
    """A short piece of a reference model's line for the legend."""
    return (
        f'<svg class="sample" viewBox="0 0 36 12" aria-hidden="true" style="color:var(--{color})"><path d="M0 6H36"'
        f' stroke="currentColor" stroke-width="1.6" stroke-dasharray="{" ".join(map(str, REFERENCES[color]))}"/></svg>'
    )


def packed(charts: Charts) -> str:
    """All that the page's script needs to draw them, as JSON that may stand in HTML."""
    content = {
        "panels": [_packed(panel) for panel in charts.panels],
        "tokens": charts.tokens,
        "titles": {f"{tokens:.0f}": title for panel in charts.panels for tokens, title in panel.titles.items()},
        "looks": {label: _look(charts.curves[label]) for label in charts.labels},
        "references": REFERENCES,
        "baseline": charts.baseline,
        "at": charts.at,
        "logarithmic": charts.logarithmic,
        "apart": charts.apart,
        "sizes": SIZES,
        "paper": PAPER,
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _look(curve: Curve) -> dict:
    look = look_of(curve.number)
    hollow = {"hollow": HOLLOW} if curve.hollow else {}
    return {"color": look.color, "dash": look.dash, "shape": SHAPES[look.symbol], **hollow}


def _packed(panel: Panel) -> dict:
    return {
        "title": panel.title,
        "unit": panel.unit,
        "foot": panel.foot,
        "error": panel.error,
        "rules": panel.rules,
        "signed": panel.signed,
        "origin": astuple(panel.origin),
        "curves": [
            {
                "label": c.label,
                "points": [[t, round(m, DIGITS), round(e, DIGITS)] for t, m, e in c.points],
                "origins": [astuple(origin) for origin in c.origins],
            }
            for c in panel.curves
        ],
        "lines": [[one.label, round(one.mean, DIGITS), round(one.error, DIGITS), one.color] for one in panel.lines],
        "paired": [
            [*pair, [[tokens, round(error, DIGITS)] for tokens, error in errors.items()]]
            for pair, errors in panel.paired.items()
        ],
    }


def value_text(value: float, error: float, panel: Panel) -> str:
    """A value of the panel with its error, where that is known: `71.3 ± 0.6`, `+1.2 ± 0.5`, `0.031`."""
    if panel.unit == NATS:
        return nats_text(value, 3) + (f" ± {nats_text(error, 2)}" if error else "")
    text = points_text(value / 100) if panel.signed else fixed(value)
    return f"{text} ± {fixed(error)}" if error else text


def nats_text(value: float, digits: int, least: float = 0.001) -> str:
    """A number of nats in so many digits, below `least` with a power of ten, as the script writes it.

    >>> nats_text(0.0312, 3), nats_text(0.00005, 3), nats_text(0.005, 3, 0.01), nats_text(1200, 2)
    ('0.0312', '5e-5', '5e-3', '1200')
    """
    if not 0 < abs(value) < least:
        return significant(value, digits)
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    return f"{float(mantissa):g}e{int(power)}"


def _axes(panel: Panel, across: Scale, down: Scale, box: Sequence[float], logarithmic: bool) -> list[str]:
    left, right, top, bottom = box
    low, high = panel.limits
    nats = panel.unit == NATS
    values = log_ticks(low, high) if nats else ticks(low, high)
    grid = "".join(f"M{_n(left)} {_n(down(value))}H{_n(right)}" for value in values)
    kept: list[float] = []
    marks = panel.rules or panel.tokens
    for tokens in reversed(marks):
        if not kept or across(kept[-1]) - across(tokens) >= APART:
            kept.append(tokens)
    rules = "".join(f"M{_n(across(tokens))} {_n(top)}V{_n(bottom)}" for tokens in panel.rules)
    notches = "".join(f"M{_n(across(tokens))} {_n(bottom)}v4" for tokens in kept)
    parts = [
        f'<path class="grid" d="{grid}{rules}M{_n(left)} {_n(bottom)}H{_n(right)}{notches}"/>',
        '<g class="marks">',
    ]
    if panel.signed:
        parts.insert(1, f'<path class="zero" d="M{_n(left)} {_n(down(0))}H{_n(right)}"/>')
    for value in values:
        text = _tick_text(value, values, panel)
        parts.append(f'<text x="{_n(left - 6)}" y="{_n(down(value) + 4)}" text-anchor="end">{text}</text>')
    for tokens in kept:
        text = _safe(panel.mark(tokens))
        parts.append(f'<text x="{_n(across(tokens))}" y="{_n(bottom + 16)}" text-anchor="middle">{text}</text>')
    named = "tokens, log scale" if logarithmic else "tokens"
    y = bottom + 30
    parts.append(f'<text x="{_n((left + right) / 2)}" y="{_n(y)}" text-anchor="middle">{named}</text>')
    if nats:
        parts.append(f'<text x="{_n(WIDTH - RIGHT)}" y="15" text-anchor="end">nats per token, log scale</text>')
    if panel.foot:
        parts.append(f'<text x="{_n(right)}" y="{_n(y + MARGIN)}" text-anchor="end">{_safe(panel.foot)}</text>')
    return [*parts, "</g>"]


def _curve(curve: Curve, panel: Panel, across: Scale, down: Scale) -> str:
    look = look_of(curve.number)
    places = [(across(tokens), down(mean)) for tokens, mean, _ in curve.points]
    path = "L".join(f"{_n(x)} {_n(y)}" for x, y in places)
    drawn = len(places) <= MOST_POINTS
    dashed = look.dash and drawn and not curve.hollow
    dash = f' stroke-dasharray="{" ".join(map(str, look.dash))}"' if dashed else ""
    parts = [f'<g class="curve" style="color:var(--{look.color})">']
    if curve.errors and panel.unit != NATS:
        upper = [f"{_n(across(tokens))} {_n(down(mean + error))}" for tokens, mean, error in curve.points]
        lower = [f"{_n(across(tokens))} {_n(down(mean - error))}" for tokens, mean, error in reversed(curve.points)]
        if not curve.hollow:
            parts.append(f'<path class="band" d="M{"L".join(upper + lower)}z"/>')
        if curve.hollow or len(places) == 1:  # a point has no band
            path = "M".join(f"{one}L{other}" for one, other in zip(upper, reversed(lower)))
    parts.append(f'<path class="line" d="M{path}" fill="none" stroke="currentColor" stroke-width="2"{dash}/>')
    for (x, y), (tokens, mean, error) in zip(places, curve.points, strict=True):
        if drawn:
            said = f"{_said(curve.label, mean, error, panel)} at {panel.mark(tokens)}"
            parts.append(
                f'<g transform="translate({_n(x)} {_n(y)})"><title>{_safe(said)}</title>'
                f'<path d="{SHAPES[look.symbol]}"{HOLLOW if curve.hollow else ""}/></g>'
            )
    return "".join(parts) + "</g>"


def _fitted(title: str, width: float) -> str:
    """As much of a title as there is room for."""
    most = int((width - 12) / LETTER)
    return title if len(title) <= most else f"{title[: most - 1]}…"


def _is_left_crowded(panel: Panel, across: Scale, down: Scale, y: float) -> bool:
    """Whether the curves leave more room at the right than at the left, `y` down."""
    ends: list[list[float]] = [[], []]
    for curve in panel.curves:
        for tokens, mean, _ in curve.points:
            x = across(tokens)
            for place, near in enumerate((x < LEFT + NAMED, x > WIDTH - RIGHT - NAMED)):
                if near:
                    ends[place].append(abs(down(mean) - y))
    left, right = (min(found, default=math.inf) for found in ends)
    return left < min(MARGIN, right)


def _said(label: str, value: float, error: float, panel: Panel) -> str:
    return f"{label}: {value_text(value, error, panel)}"


def _tick_text(value: float, values: Sequence[float], panel: Panel) -> str:
    """A mark on the value axis, all of an axis in as many digits."""
    if panel.unit == NATS:
        return nats_text(value, 3, 0.01)
    step = values[1] - values[0] if len(values) > 1 else 1
    digits = max(0, math.ceil(-math.log10(step) - 1e-9))
    return fixed(value, digits, signed=panel.signed and abs(value) > step / 2).replace("-", "−")


def _ends(tokens: Sequence[float], logarithmic: bool) -> tuple[float, float]:
    """Ends of the axis of tokens: a little beyond the points, a linear one from 0."""
    low, high = tokens[0], tokens[-1]
    if logarithmic:
        room = (high / low) ** 0.04 if high > low else 1.2
        return low / room, high * room
    return 0.0, high * 1.04


def _scale(ends: Sequence[float], places: Sequence[float], logarithmic: bool) -> Scale:
    """Turns a value into a place."""
    low, high = map(math.log, ends) if logarithmic else ends
    begin, end = places
    return lambda value: begin + ((math.log(value) if logarithmic else value) - low) / (high - low) * (end - begin)


def _n(value: float) -> str:
    """A coordinate, as short as it can be."""
    return f"{math.floor(10 * value + 0.5) / 10:g}"


def _safe(text: str) -> str:
    return html.escape(text)
