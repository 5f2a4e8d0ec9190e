"""Whether a step stands still, which of its ranks is to blame, and which ranks are slow.

    found = judge(seen, Patience(seconds=600, iterations=20, phase_seconds=3600))
    found.lagging, found.exclude        # None: it goes on

Ranks of a training wait for each other in every iteration, so a step stands still when none of them gets on. It is
given the longer of a number of minutes and a number of its own iterations: a pause that is shorter costs less than to
begin again from the last checkpoint does, and where an iteration takes minutes, so does a hiccup. What is no iteration
(loading, the first iteration with its kernels, a save, a measurement) has an allowance of its own, but for a rank that
has been stopped, which no allowance helps.

This module and what it imports needs no more than Python's own library, so that the process of a watchdog begins at
once.
"""

import dataclasses
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_distill.run.beats import Phase, median
from nemo_distill.run.inside import text_of

STALLED = "_STALLED"
"""File in a step's folder with the verdict, for the batch script of its job and for the step."""
NODE_FILE = "watch-{node}.json"
"""File in a step's folder that says where the ranks of a node are."""
STACKS_FILE = "watch-{node}-stacks.json"
"""File with their stacks, once they stand still."""
FILES = "watch-*.json"
SLOW = 1.2
"""How many times the median of all ranks' own time in an iteration a slow one takes; an assumption."""
FRESH_SECONDS = 120.0
"""Age up to which a node's file is taken for what is so now."""
_WORDS = {
    Phase.STARTING: "before its first iteration was done",
    Phase.ITERATION: "in iteration {iteration}",
    Phase.SAVING: "while it saved iteration {iteration}",
    Phase.MEASURING: "while it measured held-out documents at iteration {iteration}",
    Phase.ENDING: "after its last iteration",
}
_STATES = {
    "": "",
    "stopped": "its process is stopped",
    "gone": "its process is gone",
    "silent": "nothing is heard of its node",
    "missing": "it has never begun",
}


_STUCK = ("stopped", "gone", "silent")
"""States of a process that does not go on by itself."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a step may stand still."""

    seconds: float
    """Seconds without progress of any rank, at least."""
    iterations: float
    """As many median iterations, where that is longer."""
    phase_seconds: float
    """Seconds of what is no iteration."""

    def limit(self, one: "Seen") -> float:
        """What a rank is given where it is, in seconds."""
        if one.phase == Phase.ITERATION:
            return max(self.seconds, self.iterations * one.median)
        return max(self.seconds, self.phase_seconds)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A rank, as it is seen from a watchdog."""

    rank: int
    """Which, of all."""
    node: int
    """Place of its machine among the step's, from 0."""
    host: str
    """Name of that machine; empty: it has never said so."""
    position: int = -1
    """Number of its notes (`beats.Note`)."""
    iteration: int = 0
    """Iteration that it is in, or was in last."""
    phase: int = Phase.STARTING
    """A `beats.Phase`."""
    quiet: float = 0.0
    """Seconds since it last got on."""
    median: float = 0.0
    """Median duration of its iterations in seconds; 0: there was none."""
    own: float = 0.0
    """Median of its own time in an iteration in seconds; 0: not known."""
    state: str = ""
    """What is wrong with its process, a key of `_STATES`; empty: nothing."""

    def later(self, seconds: float, *, silent: bool = False) -> "Seen":
        """As it is taken to be so much later, when nothing has been heard of it since; `silent`: for too long."""
        state = self.state or ("silent" if silent else "")
        return dataclasses.replace(self, quiet=self.quiet + seconds, state=state)

    def __str__(self) -> str:
        why = f" ({_STATES[self.state]})" if self.state else ""
        return f"rank {self.rank} on {self.host or f'machine {self.node}'}{why}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A step stands still."""

    quiet: float
    """Seconds for which no rank got on."""
    limit: float
    """Seconds that it was given."""
    lagging: tuple[Seen, ...]
    """Ranks that the others wait for; empty where that cannot be told."""
    exclude: tuple[str, ...]
    """Machines that the step is better begun again without."""
    first: Seen
    """The rank that is behind all others, or any."""
    size: int
    """Number of ranks."""

    def __str__(self) -> str:
        """The sentence with which the step ends."""
        place = _WORDS[Phase(self.first.phase)].format(iteration=self.first.iteration)
        who = "" if self.size == 1 else f" of any of {self.size} ranks"
        said = (
            f"no progress{who} for {self.quiet:.0f} s {place}, where {self.limit:.0f} s are allowed (health.stall_*): "
        )
        if self.lagging:
            named = ", ".join(map(str, self.lagging[:4]))
            more = len(self.lagging) - 4
            others = f" and {more} more" if more > 0 else ""
            return f"{said}{named}{others} {'lags' if len(self.lagging) == 1 else 'lag'}."
        return f"{said}no rank is behind the others."


def quiet_for(seen: Sequence[Seen]) -> float:
    """Seconds for which none of the ranks got on, of which nothing is known to be wrong; else none of all."""
    return min(one.quiet for one in seen if not one.state or all(other.state for other in seen))


def allowed(seen: Sequence[Seen], patience: Patience) -> float:
    """Seconds that these ranks are given where they are; where one cannot go on by itself, no phase is waited for."""
    if any(one.state in _STUCK for one in seen):
        return max(patience.seconds, patience.iterations * max(one.median for one in seen))
    return max(patience.limit(one) for one in seen)


def judge(seen: Sequence[Seen], patience: Patience) -> Verdict | None:
    """The verdict on a step with these ranks, all that it has; None while it may go on."""
    quiet, limit = quiet_for(seen), allowed(seen, patience)
    if quiet <= limit:
        return None
    lagging = [one for one in seen if one.state]
    if not lagging:
        last = min(one.position for one in seen)
        lagging = [one for one in seen if one.position == last]
    if len(lagging) == len(seen) > 1:  # all wait, for nobody
        lagging = []
    hosts = list(dict.fromkeys(one.host for one in lagging if one.host))
    nodes = len({one.node for one in seen})
    return Verdict(
        quiet=quiet,
        limit=limit,
        lagging=tuple(lagging),
        exclude=tuple(hosts) if len(hosts) <= max(1, nodes // 2) else (),
        first=min(lagging or seen, key=lambda one: one.position),
        size=len(seen),
    )


def slow_ranks(seen: Iterable[Seen]) -> list[tuple[Seen, float]]:
    """Ranks whose own time in an iteration is over `SLOW` times the median's, each with how many times; worst first."""
    known = [one for one in seen if one.own > 0]
    usual = median(one.own for one in known)
    found = [(one, one.own / usual) for one in known if one.own > SLOW * usual]
    return sorted(found, key=lambda pair: pair[1], reverse=True)


def record_of(seen: Iterable[Seen]) -> list[dict[str, Any]]:
    """Plain JSON data."""
    return [dataclasses.asdict(one) for one in seen]


def seen_in(record: Mapping[str, Any]) -> list[Seen]:
    """The ranks that a node's file tells of. Raises KeyError, TypeError or ValueError where it is damaged."""
    kinds = {"host": str, "state": str, "rank": int, "node": int, "position": int, "iteration": int, "phase": int}
    found = []
    for line in record["ranks"]:
        if not all(isinstance(line[field.name], kinds.get(field.name, (int, float))) for field in _FIELDS):
            raise ValueError("a rank is not told of as one is")
        if line["state"] not in _STATES:
            raise ValueError(f"a rank cannot be {line['state']!r}")
        found.append(Seen(**{**line, "phase": Phase(line["phase"])}))
    return found


_FIELDS = dataclasses.fields(Seen)


def ranks_of(folder: Path, *, now: float | None = None) -> list[Seen]:
    """The ranks of a step that runs, as its nodes have told within `FRESH_SECONDS`; empty where none has."""
    now, found = time.time() if now is None else now, []
    for path in folder.glob(FILES):
        try:
            age = max(0.0, now - path.stat().st_mtime)
            if age <= FRESH_SECONDS and not path.match(STACKS_FILE.format(node="*")):
                found += [one.later(age) for one in seen_in(json.loads(text_of(path)))]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # being written, or damaged
            continue
    return sorted(found, key=lambda one: one.rank)
