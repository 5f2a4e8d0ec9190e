"""What a tracker is told, whichever it is, and what it has to be able to do.

class Mine:
    def __init__(self, run: TrackedRun, folder: Path): ...
    def log(self, points): ...                  # numbers by name, at an iteration
    def link(self, name, address): ...          # where something lies
    def close(self): ...                        # returns when all is sent
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Point:
    """Numbers of one iteration."""

    iteration: int
    """Iterations of the course that are done; 0 before the first."""
    time: float
    """Time at which they were known, in seconds since 1970."""
    values: Mapping[str, float]
    """Numbers by name, such as `train/loss` in nats or `scores/Average` from 0 to 100."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What a tracker says of a run as a whole."""

    id: str
    """Twelve hex digits; whoever comes later with the same goes on with the same tracked run."""
    name: str
    """Name of the run."""
    config: Mapping[str, Any]
    """What was asked for, as plain JSON data without secrets."""


class Tracker(Protocol):
    """A place that shows curves. Any of its methods may raise or hang: it has a process of its own."""

    def log(self, points: Sequence[Point]) -> None:
        """Take `points`, in order of iterations but for those of evaluations, which may come late."""

    def link(self, name: str, address: str) -> None:
        """Say where something lies."""

    def close(self) -> None:
        """Return when everything is sent."""
