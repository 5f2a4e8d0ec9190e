"""Describes what a figure shows: curves of scores over tokens, lines across, and the axis that fits them.

    panel = Panel("IFEval", curves=(Curve("distilled student", tokens, means, errors),), lines=(teacher, pruned))

`evaluator.report.plots` draws it. What is shown is the caller's: nothing here knows a report.
"""

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_SHARE = 0.5
"""A line far below the curves is drawn only if they keep this share of the panel's height."""
LOG_SPAN = 20
"""Milestones further apart than this, last over first, are drawn on a logarithmic axis."""


@dataclass(frozen=True)
class Curve:
    """A score over tokens."""

    label: str
    """What the legend calls it."""
    tokens: tuple[float, ...]
    """Rising; 0 only when all of the panel lies on a linear axis."""
    means: tuple[float, ...]
    """Scores, from 0 to 100."""
    errors: tuple[float, ...] = ()
    """Half the height of the band at each point; none is drawn when empty."""
    number: int = 1
    """The blend's, by `evaluator.report.colours.numbers_of`: how the curve looks."""


@dataclass(frozen=True)
class Line:
    """A score that has no tokens: a dashed line across."""

    label: str
    """What the legend calls it."""
    mean: float
    """Score, from 0 to 100."""
    error: float = 0.0
    """Half the height of its band."""
    color: str = "teacher"
    """One of `evaluator.report.colours.REFERENCES`."""


@dataclass(frozen=True)
class Panel:
    """One benchmark's curves."""

    title: str
    """The benchmark."""
    curves: tuple[Curve, ...]
    """Curves of the panel, at least one."""
    lines: tuple[Line, ...] = ()
    """Drawn behind the curves."""
    limits: tuple[float, float] = (-3, 103)
    """Ends of the score axis."""
    ticks: tuple[float, ...] | None = (0, 25, 50, 75, 100)
    """Marks on the score axis; None leaves them to the range."""
    foot: str = ""
    """What lies off the axis, said at the panel's foot."""
    error: float | None = None
    """Half the length of a bar at the right that stands for the error of any one point; None draws none."""

    @property
    def label(self) -> str:
        """What the drawing shows, for those who do not see it."""
        return f"{self.title}: score over tokens; the numbers are in the table of scores"


def fit_panel(
    title: str, curves: Sequence[Curve], lines: Sequence[Line], *, error: float | None = None, foot: str = ""
) -> Panel:
    """A panel whose score axis ends where its curves do, and its lines as far as they leave room for the curves.

    A line that is too far below is said at the foot instead, after `foot`. `error` is as in `Panel`.
    """
    bands = [(m, e) for c in curves for m, e in zip(c.means, c.errors or [0.0] * len(c.means), strict=True)]
    low, high = min(m - e for m, e in bands), max(m + e for m, e in bands)
    if error is not None:
        middle = last_middle(curves)
        low, high = min(low, middle - error), max(high, middle + error)
    drawn, feet = [], [foot] if foot else []
    for line in lines:
        if line.mean < low and high - low < LEAST_SHARE * (high - line.mean):
            feet.append(f"{line.label} at {line.mean:.1f}, below the scale")
        else:
            low, high = min(low, line.mean), max(high, line.mean)
            drawn.append(line)
    room = 0.06 * (high - low) or 1.0
    limits = (low - room, high + room)
    return Panel(title, tuple(curves), tuple(drawn), limits, ticks=None, foot=", ".join(feet), error=error)


def is_logarithmic(tokens: Sequence[float]) -> bool:
    """Whether milestones after `tokens`, which rise, are drawn on a logarithmic axis."""
    return tokens[-1] > LOG_SPAN * tokens[0]


def last_middle(curves: Sequence[Curve]) -> float:
    """Mean of where the curves end."""
    return sum(curve.means[-1] for curve in curves) / len(curves)
