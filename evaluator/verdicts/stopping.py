"""Finds where a run could have been stopped: the first milestone shown to lose no more than a margin.

    stop = stopping_point("v1v3", report)
    stop.row.title, stop.shown, stop.text          # "60B", True, "The first milestone shown to be within ..."
    [(one.row.title, one.lost.mean, one.at_most) for one in stop.candidates]

Not being told apart from the best is no reason to stop: with few questions nothing is told apart. A milestone counts
as good enough only when the answers show that what follows is less than `MARGIN` better (non-inferiority). What follows
is compared as its mean over the last milestone, the last two, and so on up to all that follow: that the best of several
is partly luck does not enter, and on a plateau each further milestone makes the comparison more exact. All means must
be less than the margin above it.

More tokens as a rule do not lower an average. Where they clearly did, the milestones after the fall are set aside, so
that a fall does not hide what was lost before it.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from evaluator.results.run import Report, Row
from evaluator.stats.paired import covariance_of_means
from evaluator.stats.scores import Estimate
from evaluator.text import change_text, points_text, rate_text

MARGIN = 0.01
"""What may be lost, from 0 to 1, unless the caller says otherwise: a point of the Average."""
STOP_LEVEL = 0.10
"""Share of cases in which a milestone that loses the whole margin is taken for one that does not. With `MARGIN` it was
chosen by simulation (benchmarks/calibration.py): on the study's own table, where each further milestone wins 0.3 to 0.7
points, and on curves that are flat from 20B, 40B or 60B on."""
FALL_LEVEL = 0.05
"""Share of cases in which a milestone that is as good as the best before it is set aside as fallen."""


@dataclass(frozen=True)
class Candidate:
    """One milestone, as a place to stop."""

    row: Row
    """The milestone."""
    lost: Estimate
    """How much of the Average stopping there costs, from -1 to 1: what follows less it, in the comparison that leaves
    the most room; 0 of the last."""
    at_most: float
    """Upper limit of `lost`, at `STOP_LEVEL`."""
    fallen: bool = False
    """Its Average is clearly below an earlier milestone's, so it is no place to stop and compared with none."""


@dataclass(frozen=True)
class StoppingPoint:
    """Where a run could have been stopped."""

    run: str
    """Name of the run."""
    row: Row
    """The first milestone shown to be within the margin; else the last that has not fallen."""
    candidates: tuple[Candidate, ...]
    """Every milestone whose scores are to be believed, fewest tokens first."""
    margin: float
    """What may be lost of the Average, from 0 to 1."""
    last: bool
    """It is the last milestone: the run may be rising still."""
    min_learning_rate: float | None
    """Learning rate at the end of the schedule; None where the run does not say it."""
    alone: bool = False
    """It is the run's only milestone."""

    @property
    def chosen(self) -> Candidate:
        """The milestone, with what is lost there."""
        return next(one for one in self.candidates if one.row == self.row)

    @property
    def best(self) -> Row:
        """The last milestone that has not fallen, which the others are compared with."""
        return [one.row for one in self.candidates if not one.fallen][-1]

    @property
    def shown(self) -> bool:
        """Whether a milestone before the best was shown to be within the margin."""
        return self.row != self.best

    @property
    def saved(self) -> float:
        """Share, from 0 to 1, of the last milestone's tokens that are not spent."""
        return 1 - self.row.seen / self.candidates[-1].row.seen

    @property
    def ends_above(self) -> tuple[float, float] | None:
        """Learning rate there and at the end of the schedule, where the schedule has not ended there."""
        rate, lowest = self.row.learning_rate, self.min_learning_rate
        if rate is None or lowest is None or rate <= lowest * (1 + 1e-6):
            return None
        return rate, lowest

    @property
    def confounded(self) -> bool:
        """Whether what looks like a plateau may be the learning rate's doing."""
        return self.ends_above is not None

    @property
    def text(self) -> str:
        """Why, in a sentence or two."""
        return " ".join(self._reasons())

    def _reasons(self) -> Iterator[str]:
        margin = _points(self.margin)
        if self.alone:
            yield "It is the only milestone, so nothing says whether the run is rising still."
        elif self.shown:
            yield (
                f"The first milestone shown to be within {margin} of what follows, which is above it by "
                f"{change_text(self.chosen.lost)}, at most {points_text(self.chosen.at_most)} ({1 - STOP_LEVEL:.0%})."
            )
        else:
            before = [one for one in self.candidates if one.row.seen < self.row.seen]
            near = min(before, key=lambda one: one.at_most, default=None)
            beyond = f": what follows {near.row.title} may be up to {points_text(near.at_most)} above" if near else ""
            yield f"No earlier milestone is shown to be within {margin} of it{beyond} ({1 - STOP_LEVEL:.0%})."
        if fallen := [one.row.title for one in self.candidates if one.fallen]:
            yield f"After {self.best.title} the Average clearly falls ({', '.join(fallen)})."
        if self.last and not self.alone:
            yield "It is the last one, so the run may be rising still."
        if self.ends_above:
            rate, lowest = self.ends_above
            yield (
                f"Confounded: its learning rate is {rate_text(rate)}, and a schedule that ends there, at "
                f"{rate_text(lowest)}, would give another score."
            )


def stopping_point(name: str, report: Report, failed: Collection[str] = (), *, margin: float = MARGIN) -> StoppingPoint:
    """Where the run that goes by `name` could have been stopped; `failed` are titles of milestones not to believe."""
    rows = [row for row in report.milestones if row.title not in failed] or list(report.milestones)
    means, covariance = averages(rows)
    end, losses = compare(means, covariance)
    found = []
    for place, row in enumerate(rows):
        lost, at_most = losses[place] if place < len(losses) else _fall(means, covariance, place)
        found.append(Candidate(row, lost, at_most, fallen=place > end))
    good = next(one for one in found if one.row == rows[end] or one.at_most < margin)
    return StoppingPoint(
        run=name,
        row=good.row,
        candidates=tuple(found),
        margin=margin,
        last=good.row == report.milestones[-1],
        min_learning_rate=report.min_learning_rate,
        alone=len(report.milestones) == 1,
    )


def compare(means: np.ndarray, covariance: np.ndarray) -> tuple[int, list[tuple[Estimate, float]]]:
    """The place of the last milestone that has not fallen, and what each up to it loses, with the upper limit of that.

    >>> end, losses = compare(np.array([0.60, 0.65, 0.65]), np.diag([0.003**2] * 3))
    >>> end, [round(100 * at_most, 1) for _, at_most in losses]
    (2, [5.5, 0.5, 0.0])
    """
    end = len(means) - 1
    while end and _has_fallen(means, covariance, end):
        end -= 1
    losses = []
    for place in range(end):
        bounds = []
        for first in range(place + 1, end + 1):
            lost = _contrast(means, covariance, range(first, end + 1), place)
            bounds.append((lost, lost.mean - float(ndtri(STOP_LEVEL)) * lost.stderr))
        losses.append(max(bounds, key=lambda bound: bound[1]))
    return end, [*losses, (Estimate(0.0, 0.0), 0.0)]


def averages(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Averages of one model's milestones, and how their errors go together: they answered the same questions."""
    covariance = np.zeros((len(rows), len(rows)))
    tasks = list(zip(*(row.result.tasks for row in rows), strict=True))
    for same in tasks:
        if all(task.has_answers for task in same):
            covariance += covariance_of_means([task.table for task in same], same[0].clusters)
        else:
            covariance += np.diag([task.summary.stderr**2 for task in same])
    return np.array([row.average.mean for row in rows]), covariance / len(tasks) ** 2


def _has_fallen(means: np.ndarray, covariance: np.ndarray, place: int) -> bool:
    fall = _fall(means, covariance, place)[0]
    return fall.mean + float(ndtri(FALL_LEVEL)) * fall.stderr > 0


def _fall(means: np.ndarray, covariance: np.ndarray, place: int) -> tuple[Estimate, float]:
    """How much the best milestone before `place` is above it, with the upper limit."""
    fall = _contrast(means, covariance, [int(np.argmax(means[:place]))], place)
    return fall, fall.mean - float(ndtri(STOP_LEVEL)) * fall.stderr


def _contrast(means: np.ndarray, covariance: np.ndarray, some: Sequence[int], place: int) -> Estimate:
    """The mean of `some` less the one at `place`."""
    weights = np.zeros(len(means))
    weights[list(some)] = 1 / len(some)
    weights[place] -= 1
    return Estimate(float(weights @ means), float(np.sqrt(max(0.0, weights @ covariance @ weights))))


def _points(margin: float) -> str:
    """A margin in points: `1 point`, `0.5 points`."""
    return f"{100 * margin:g} point{'s' * (round(100 * margin, 9) != 1)}"
