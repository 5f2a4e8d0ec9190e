"""Estimates how long a run still takes, from what its own steps, and earlier runs of its scale, have taken.

    left = Remaining(run).of(states, records, now=time.time())
    left.seconds, left.unknown        # 740.0, and of how many of the steps that are left it cannot be told

Nothing is assumed: a step that no run here has finished, and that has not said how far it is, is left out, and what is
then given is a least.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.errors import UserError
from nemo_distill.run.inside import text_of
from nemo_distill.run.manifest import Run, State
from nemo_distill.run.step import JOB_FILE, LOG_FILE, SPEC_FILE, SUCCESS, Spec

RUNS_LOOKED_AT = 30
"""Earlier runs, the newest first, whose steps' durations are read."""


@dataclass(frozen=True)
class Left:
    """What is left of a run."""

    seconds: float
    """Time that those steps take of which it can be told, as they wait for each other."""
    steps: int
    """Number of the steps that are left."""
    unknown: int
    """Number of those of which it cannot."""


class Remaining:
    """What the steps of `run` take, as far as it is known; at most `parallel` of them run at once, if given."""

    def __init__(self, run: Run, *, parallel: int | None = None):
        self.run, self.parallel = run, parallel
        self._marks: dict[Path, tuple[int, float | None]] = {}
        self._earlier: dict[str, float] | None = None

    def took(self, spec: Spec) -> float | None:
        """Seconds that the finished step took; None where its mark does not say."""
        path = spec.folder / SUCCESS
        try:
            modified = path.stat().st_mtime_ns
            if path not in self._marks or self._marks[path][0] != modified:
                seconds = json.loads(text_of(path)).get("seconds")
                self._marks[path] = modified, float(seconds) if seconds is not None else None
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return None
        return self._marks[path][1]

    def of(self, states: Mapping[str, State], records: Mapping[str, dict | None], *, now: float) -> Left:
        """What is left, given each step's state and what it says of how far it is."""
        own: dict[str, float | None] = {}
        for name, spec in self.run.specs.items():
            own[name] = 0.0 if states[name] == State.DONE else self._left(spec, states, records, now)
        ends: dict[str, float] = {}
        for name, spec in self.run.specs.items():
            ends[name] = max((ends.get(up, 0.0) for up in spec.upstream), default=0.0) + (own[name] or 0.0)
        work = sum(seconds or 0.0 for seconds in own.values())
        longest = max(ends.values(), default=0.0)
        seconds = max(longest, work / self.parallel if self.parallel else 0.0)
        undone = sum(state != State.DONE for state in states.values())
        return Left(seconds, steps=undone, unknown=list(own.values()).count(None))

    def _left(
        self, spec: Spec, states: Mapping[str, State], records: Mapping[str, dict | None], now: float
    ) -> float | None:
        record = records.get(spec.name)
        running = states[spec.name] == State.RUNNING
        if running and record and record.get("seconds_left") is not None:
            return max(0.0, record["seconds_left"] - (now - record.get("time", now)))
        expected = self._expected(spec, states, records)
        if expected is None or not running:
            return expected
        began = started(spec)
        return max(0.0, expected - (now - began)) if began else expected

    def _expected(self, spec: Spec, states: Mapping[str, State], records: Mapping[str, dict | None]) -> float | None:
        """What the whole step takes: by the pace of the run's other segments, as its like did, or as in another run."""
        if iterations := _iterations(spec):
            pace = self._pace(spec.module, states, records)
            if pace is not None:
                return pace * iterations
        else:
            alike = [
                one for one in self.run.specs.values() if one.module == spec.module and states[one.name] == State.DONE
            ]
            known = [seconds for one in alike if (seconds := self.took(one)) is not None]
            if known:
                return sum(known) / len(known)
        if self._earlier is None:
            self._earlier = self._read_earlier()
        return self._earlier.get(spec.name)

    def _pace(self, module: str, states: Mapping[str, State], records: Mapping[str, dict | None]) -> float | None:
        """Seconds of an iteration: of the segment that runs, else of the last one that is done."""
        pace = None
        for name, spec in self.run.specs.items():
            if spec.module != module:
                continue
            record = records.get(name)
            if states[name] == State.RUNNING and record and record.get("seconds_left") is not None:
                undone = record["total"] - record["done"]
                return record["seconds_left"] / undone if undone > 0 else pace
            if states[name] == State.DONE and (seconds := self.took(spec)) and (iterations := _iterations(spec)):
                pace = seconds / iterations
        return pace

    def _read_earlier(self) -> dict[str, float]:
        """Seconds of each step by name in the newest other run of this scale and layout that has finished it."""
        found: dict[str, float] = {}
        paths = [path for path in self.run.runs.glob("*.json") if path != self.run.path]
        for path in sorted(paths, key=_modified, reverse=True)[:RUNS_LOOKED_AT]:
            try:
                other = Run.load(path)
            except UserError:  # no run's file
                continue
            same = (other.facts.scale, other.facts.beside.layout) == (
                self.run.facts.scale,
                self.run.facts.beside.layout,
            )
            for name, spec in other.specs.items() if same else ():
                if name not in found and (seconds := self.took(spec)) is not None:
                    found[name] = seconds
        return found


def started(spec: Spec) -> float | None:
    """When the attempt began that is at work in the step's folder, in seconds since 1970; None: it has yet to begin.

    A step writes spec.json as it begins, and only then its log.
    """
    written, logged = _modified(spec.folder / SPEC_FILE), _modified(spec.folder / LOG_FILE)
    return written if 0 < written <= logged else None


def queued(spec: Spec) -> float | None:
    """When the step's job was queued, in seconds since 1970; None: it has none."""
    return _modified(spec.folder / JOB_FILE) or None


def launched(run: Run) -> float | None:
    """When the run was launched, in seconds since 1970; None where its file does not say."""
    try:
        return time.mktime(time.strptime(run.facts.time[:19], "%Y-%m-%dT%H:%M:%S")) if run.facts.time else None
    except ValueError:
        return None


def _shape(run: Run) -> tuple[object, ...]:
    """What steps of runs have to have in common for their durations to be compared."""
    return run.facts.scale, run.facts.executor, run.facts.beside.layout


def _iterations(spec: Spec) -> int | None:
    """Iterations of a segment of a distillation; None: the step is none."""
    first, until = spec.config.get("first"), spec.config.get("until")
    return until - first if isinstance(first, int) and isinstance(until, int) else None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
