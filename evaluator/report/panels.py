"""Describes what a figure shows: curves over tokens, lines across, and the axis that fits them.

    panel = Panel("IFEval", curves=(Curve("30pre_70post_v3", tokens, means, errors, number=4),), lines=(teacher,))
    panel.limits                                    # (58.2, 68.4), from the curves: teachers far off do not stretch it
    difference(panel, "30pre_70post_v1v3")          # the same panel, each curve less that one
    charts = Charts("curves", (panel,), baseline="teacher")

`evaluator.report.charts` draws them in the page, `evaluator.report.plots` on a sheet. What is shown is the caller's:
nothing here knows a report.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from evaluator.report.addresses import Origin, origin_of
from evaluator.text import significant

NEAR = 0.15
"""A line this share of the curves' range above or below them is drawn; others are named at the margin."""
ROOM = 0.07
"""Share of the range that is left free above and below."""
POINTS, NATS = "points", "nats"
"""Units: scores from 0 to 100, and losses, which are drawn on a logarithmic axis."""
MOST_POINTS = 60
"""A curve of more points is drawn without markers."""
UNITS = (("B", 1e9), ("M", 1e6), ("K", 1e3), ("", 1))
"""Units of tokens."""


@dataclass(frozen=True)
class Curve:
    """A score or a loss over tokens."""

    label: str
    """What the legend calls it."""
    tokens: tuple[float, ...]
    """Rising, from above 0."""
    means: tuple[float, ...]
    """Values: scores from 0 to 100, or nats."""
    errors: tuple[float, ...] = ()
    """Half the height of the band at each point; none is drawn when empty."""
    number: int = 1
    """The blend's, by `evaluator.report.colours.numbers_of`: how the curve looks."""
    origins: tuple[Origin, ...] = ()
    """Where each point is from; nothing where that is known of the panel alone."""
    hollow: bool = False
    """Points by themselves, with hollow markers: what is quantised of the milestones of a curve."""

    @property
    def points(self) -> list[tuple[float, float, float]]:
        """Tokens, value and error of each point; an error of 0 where none is known."""
        return list(zip(self.tokens, self.means, self.errors or [0.0] * len(self.means), strict=True))

    def origin_at(self, tokens: float) -> Origin:
        """Where the point after so many tokens is from."""
        return next((origin for seen, origin in zip(self.tokens, self.origins) if seen == tokens), Origin())

    def at(self, tokens: float) -> tuple[float, float] | None:
        """Value and error after so many tokens, if there is a point."""
        return next(((mean, error) for seen, mean, error in self.points if seen == tokens), None)

    def near(self, tokens: float) -> tuple[float, float] | None:
        """The same; of a long curve, whose points are not all drawn, of the last point up to there."""
        if len(self.tokens) <= MOST_POINTS:
            return self.at(tokens)
        return next(((mean, error) for seen, mean, error in reversed(self.points) if seen <= tokens), None)


@dataclass(frozen=True)
class Line:
    """A score that has no tokens: a dashed line across."""

    label: str
    """What the legend calls it."""
    mean: float
    """Score, from 0 to 100."""
    error: float = 0.0
    """Its standard error; 0 where none is known."""
    color: str = "teacher"
    """One of `evaluator.report.colours.REFERENCES`."""
    origin: Origin = Origin()
    """Where the score is from."""


@dataclass(frozen=True)
class Panel:
    """One benchmark's curves."""

    title: str
    """The benchmark."""
    curves: tuple[Curve, ...]
    """Curves of the panel, at least one."""
    lines: tuple[Line, ...] = ()
    """Reference models."""
    unit: str = POINTS
    """`points`, or `nats` on a logarithmic axis."""
    foot: str = ""
    """A remark below the axis."""
    error: float | None = None
    """Half the length of a bar at the right that stands for the error of any one point; None draws none."""
    rules: tuple[float, ...] = ()
    """Tokens at which a rule is drawn: the milestones of a curve that has more points."""
    paired: Mapping[tuple[str, str], Mapping[float, float]] = field(default_factory=dict)
    """Standard errors of the difference of two labels, taken question by question, by tokens."""
    signed: bool = False
    """The values are differences."""
    titles: Mapping[float, str] = field(default_factory=dict)
    """What milestones are called everywhere else, by their tokens."""
    whole: Origin = Origin()
    """Where all of it is from, where that is not known point by point."""

    @property
    def origin(self) -> Origin:
        """Where all that is shown is from."""
        parts = [origin for curve in self.curves for origin in curve.origins] + [line.origin for line in self.lines]
        return self.whole if self.whole.rows else origin_of(parts)

    def origin_at(self, tokens: float) -> Origin:
        """Where the curves' points after so many tokens are from."""
        return self.whole if self.whole.rows else origin_of(curve.origin_at(tokens) for curve in self.curves)

    def mark(self, tokens: float) -> str:
        """What is written for so many tokens."""
        return self.titles.get(tokens) or mark(tokens, self.tokens[-1])

    @property
    def label(self) -> str:
        """What the drawing shows, for those who do not see it."""
        what = {POINTS: "difference in points" if self.signed else "score", NATS: "nats per token"}[self.unit]
        return f"{self.title}: {what} over tokens; the values are in the table below the curves"

    @property
    def tokens(self) -> list[float]:
        """Of all points, fewest first."""
        return sorted({count for curve in self.curves for count in curve.tokens})

    @property
    def inner(self) -> tuple[Line, ...]:
        """Lines that lie among the curves, or so near that they do not press these together."""
        low, high = self._range
        near = NEAR * (high - low)
        return tuple(line for line in self.lines if low - near <= line.mean <= high + near)

    @property
    def outer(self) -> tuple[Line, ...]:
        """The other lines, the highest first: each is named at the margin that it lies beyond."""
        return tuple(sorted(set(self.lines) - set(self.inner), key=lambda line: -line.mean))

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the value axis."""
        low, high = self._range
        low, high = min([low, *(line.mean for line in self.inner)]), max([high, *(line.mean for line in self.inner)])
        if self.unit == NATS:
            room = (high / low) ** ROOM
            return low / room, high * room
        room = ROOM * (high - low)
        return low - room, high + room

    @property
    def _range(self) -> tuple[float, float]:
        """Lowest and highest that is drawn of the curves."""
        if self.unit == NATS:
            values = [mean for curve in self.curves for mean in curve.means]
            low, high = min(values), max(values)
            return (low, high) if low < high else (low / 1.1, high * 1.1)
        bands = [(mean - error, mean + error) for curve in self.curves for _, mean, error in curve.points]
        low, high = min(low for low, _ in bands), max(high for _, high in bands)
        if self.signed:
            low, high = min(low, 0.0), max(high, 0.0)
        if self.error is not None:
            low, high = min(low, self.middle - self.error), max(high, self.middle + self.error)
        if high - low < 1:
            low, high = (low + high) / 2 - 0.5, (low + high) / 2 + 0.5
        return low, high

    @property
    def middle(self) -> float:
        """Mean of where the curves end."""
        return sum(curve.means[-1] for curve in self.curves) / len(self.curves)


@dataclass(frozen=True)
class Charts:
    """Panels that are read together: one legend, one set of controls."""

    name: str
    """Begins the ids of what belongs to them."""
    panels: tuple[Panel, ...]
    """The first is the one shown large."""
    baseline: str = ""
    """Label of the curve or line whose differences are shown at first; none are where it is empty."""
    at: float | None = None
    """Tokens at which the curves are compared at first; None compares them nowhere."""
    logarithmic: bool = True
    """Tokens are on a logarithmic axis at first."""
    apart: bool = False
    """The small panels show differences from the baseline at first, in which the rise that all share does not press the
    curves together."""

    @property
    def curves(self) -> dict[str, Curve]:
        """A curve of each label, in the order of the panels."""
        return {curve.label: curve for panel in reversed(self.panels) for curve in reversed(panel.curves)}

    @property
    def labels(self) -> dict[str, int]:
        """Number of every label."""
        return {c.label: c.number for panel in self.panels for c in panel.curves}

    @property
    def lines(self) -> dict[str, str]:
        """Name of the colour of every line, by its label."""
        return {line.label: line.color for panel in self.panels for line in panel.lines}

    @property
    def tokens(self) -> list[float]:
        """Of all points and rules of all panels, fewest first."""
        return sorted({tokens for panel in self.panels for tokens in (*panel.tokens, *panel.rules)})

    @property
    def difference(self) -> Panel | None:
        """The first panel's differences from the baseline, where there are any."""
        return difference(self.panels[0], self.baseline) if self.baseline else None

    @property
    def small(self) -> list[Panel]:
        """All panels but the first, as they are shown at first."""
        return [(difference(panel, self.baseline) if self.apart else None) or panel for panel in self.panels[1:]]

    def compared(self) -> list[tuple[Curve, tuple[float, float] | None, tuple[float, float] | None]]:
        """Curves of the first panel by their value where they are compared, with it and the difference from the
        baseline; those without one last."""
        assert self.at is not None
        apart = {curve.label: curve for curve in self.difference.curves} if self.difference else {}
        found = [
            (curve, curve.at(self.at), apart[curve.label].at(self.at) if curve.label in apart else None)
            for curve in self.panels[0].curves
        ]
        return sorted(found, key=lambda one: -one[1][0] if one[1] else math.inf)


def difference(panel: Panel, baseline: str) -> Panel | None:
    """Each curve of the panel less the curve or line `baseline`; None where the panel lacks it or nothing meets it.

    The error of a difference is the paired one where that is known, else the root of both errors' squares.
    """
    line = next((line for line in panel.lines if line.label == baseline), None)
    base = next((curve for curve in panel.curves if curve.label == baseline), None)
    curves = []
    for curve in panel.curves:
        points = []
        for tokens, mean, error in curve.points if curve.label != baseline else []:
            other = (line.mean, line.error) if line else base.at(tokens) if base else None
            if other:
                known = [panel.paired.get(pair, {}) for pair in ((curve.label, baseline), (baseline, curve.label))]
                paired = known[0].get(tokens, known[1].get(tokens))
                both = math.hypot(error, other[1])
                points.append((tokens, mean - other[0], both if paired is None else paired))
        if points:
            seen, means, errors = zip(*points, strict=True)
            known_errors = errors if any(errors) else ()
            curves.append(Curve(curve.label, seen, means, known_errors, curve.number, hollow=curve.hollow))
    if not curves:
        return None
    of_any = None if panel.error is None else math.sqrt(1 if line else 2) * panel.error
    title = f"{panel.title} less {baseline}"
    return Panel(
        title, tuple(curves), unit=panel.unit, error=of_any, signed=True, titles=panel.titles, whole=panel.origin
    )


def mark(tokens: float, most: float) -> str:
    """`tokens` in two digits, in the unit that suits the `most` there are.

    >>> mark(40.3e9, 1.007e11), mark(2.5e9, 1.007e11), mark(3.1e5, 6.1e5)
    ('40B', '2.5B', '0.31M')
    """
    unit, size = next((unit, size) for unit, size in UNITS if most >= 0.1 * size)
    return significant(tokens / size, 2) + unit


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values between the two, at most so many."""
    for exponent in range(-4, 6):
        for digit in (1, 2, 5):
            step = digit * 10.0**exponent
            first, last = math.ceil(low / step), math.floor(high / step)
            if last - first < most:
                return [one * step for one in range(first, last + 1)]
    return [low, high]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """1, 2 and 5 times powers of ten between the two; the powers alone where these are too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1,)):
        found = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(found) <= most:
            return found
    return found


def thinned(tokens: Sequence[float], values: Sequence[float], most: int = 400) -> tuple[tuple, tuple]:
    """A long curve with the lowest and the highest of every stretch, the rest left out."""
    if len(tokens) <= most:
        return tuple(tokens), tuple(values)
    edges = [len(tokens) * place // (most // 2) for place in range(most // 2 + 1)]
    kept = {0, len(tokens) - 1}
    for begin, end in pairwise(edges):
        kept |= {min(range(begin, end), key=values.__getitem__), max(range(begin, end), key=values.__getitem__)}
    places = sorted(kept)
    return tuple(tokens[place] for place in places), tuple(values[place] for place in places)
