"""How far a run is as a whole, in a word and as plain data.

overall(run, jobs)              # "running"
record_of(run, jobs)            # what `nemo-run status --json` prints
"""

import enum
import json
from collections.abc import Mapping
from typing import Any

from nemo_distill.errors import UserError
from nemo_distill.run.gpus import given
from nemo_distill.run.job import NO_JOBS, Job
from nemo_distill.run.manifest import Run, State, failure_of, is_locked, job_of_step, state_of
from nemo_distill.run.progress import Progress
from nemo_distill.run.standstill import quiet_for, ranks_of, slow_ranks
from nemo_distill.run.step import Spec, read_mark

SCHEMA = 1
"""Version of what `--json` prints: raised when a key goes or means something else, not when one is added."""


class Overall(enum.Enum):
    """State of a run."""

    DONE = "done"
    RUNNING = "running"
    QUEUED = "queued"
    """On a cluster: nothing runs, and jobs wait for nodes."""
    FAILED = "failed"
    CUT = "cut"
    """A step of it ended without a word."""
    STOPPED = "stopped"
    """Some steps are done, and nothing is at work on the others: `--until`, or Ctrl-C between two steps."""
    WAITING = "waiting"
    """Nothing is done."""


def lock_name(run: str) -> str:
    """Name, in the folder of all runs, of the lock that a command on this machine holds while it makes the run."""
    return f".{run}.lock"


def overall(run: Run, jobs: Mapping[str, Job] = NO_JOBS) -> Overall:
    """The state of the run, by its steps' folders and, on a cluster, `jobs`."""
    states = {state_of(spec, jobs.get(name)) for name, spec in run.specs.items()}
    if states == {State.DONE}:
        return Overall.DONE
    if State.RUNNING in states or is_locked(run.runs / lock_name(run.name)):
        return Overall.RUNNING
    for state in (State.QUEUED, State.FAILED, State.CUT):
        if state in states:
            return Overall(state.value)
    return Overall.STOPPED if State.DONE in states else Overall.WAITING


def record_of(run: Run, jobs: Mapping[str, Job] = NO_JOBS) -> dict[str, Any]:
    """The run and each of its steps as plain data; `docs/reference/commands.md` has every key."""
    report = run.specs.get("report")
    return {
        "schema": SCHEMA,
        "name": run.name,
        "file": str(run.path),
        "recipe": run.facts.recipe_name,
        "scale": run.facts.scale,
        "executor": run.facts.executor,
        "changed": dict(run.facts.changed),
        "launched": run.facts.time,
        "state": overall(run, jobs).value,
        "steps": [_step(spec, jobs.get(name)) for name, spec in run.specs.items()],
        "report": str(report.folder / "report.html") if report and report.done else None,
    }


def _step(spec: Spec, job: Job | None) -> dict[str, Any]:
    state = state_of(spec, job)
    progress = None if state in (State.DONE, State.WAITING) else Progress.read(spec.folder)
    failed = state in (State.FAILED, State.CUT)
    seen = ranks_of(spec.folder) if state == State.RUNNING else []
    return {
        "name": spec.name,
        "state": state.value,
        "folder": str(spec.folder),
        "job": job_of_step(spec).get("job"),
        "gpus": list(given(spec.folder)) if state == State.RUNNING else [],
        "seconds": _seconds(spec) if state == State.DONE else None,
        "progress": progress and {key: progress[key] for key in _PROGRESS},
        "quiet_seconds": quiet_for(seen) if seen else None,
        "slow_ranks": [
            {"rank": one.rank, "host": one.host, "seconds": one.own, "times_median": times}
            for one, times in slow_ranks(seen)
        ],
        "error": failure_of(spec, job).error if failed else None,
    }


_PROGRESS = ("done", "total", "unit", "tokens_per_second", "seconds_left")


def _seconds(spec: Spec) -> float | None:
    try:
        return read_mark(spec.folder).get("seconds")
    except UserError:  # damaged, which the commands that read it say
        return None


def as_json(record: Mapping[str, Any]) -> str:
    """`record` as `--json` prints it: one object, indented."""
    return json.dumps(record, indent=1, ensure_ascii=False)
