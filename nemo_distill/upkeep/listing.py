"""Lists the runs of a folder: what each is, how far, what it scored, and what it takes on disk: `nemo-run list`.

    listed, unreadable = list_runs(Path("runs").resolve())
    listed[0].state, listed[0].size

Nothing heavy is imported, and no checkpoint is opened: a hundred runs are listed within a second or two. Slurm is asked
of the runs that it may have jobs of.
"""

import contextlib
import dataclasses
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nemo_distill.errors import UserError
from nemo_distill.launch.executors import follow
from nemo_distill.outcome.files import SCORES, read_csv
from nemo_distill.run.job import NO_JOBS, Job
from nemo_distill.run.manifest import Run, State, state_of
from nemo_distill.run.overview import Overall, overall
from nemo_distill.run.sources import sources_of

_ASKED_AT_ONCE = 8
"""Runs whose jobs are asked for at the same time."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One run of a folder."""

    name: str
    """Name of the run."""
    file: Path
    """File of the run."""
    recipe: str
    """Name of its recipe; empty where none is known."""
    scale: str
    """Name of its scale."""
    executor: str
    """Name of the executor that it was launched by last."""
    changed: Mapping[str, Any]
    """Settings that are not its recipe's, by dotted key."""
    state: Overall
    """How far it is."""
    done: int
    """Steps that are done."""
    steps: int
    """Steps that there are."""
    failed: tuple[str, ...]
    """Names of the steps that failed or were cut."""
    milestone: str
    """Milestone that `scores` are of, the last; empty where there is no report."""
    scores: Mapping[str, float]
    """Means by benchmark, from 0 to 100, and their `Average`."""
    size: int
    """Bytes in the folders that it refers to, other runs' too."""
    own_size: int
    """Bytes in those that no other run refers to."""
    launched: str
    """Time of its last launch, ISO 8601."""
    age: float
    """Seconds since then."""

    def record(self) -> dict[str, Any]:
        """As plain data."""
        record = dataclasses.asdict(self)
        return record | {"file": str(self.file), "state": self.state.value}


def list_runs(runs: Path) -> tuple[list[Listed], list[Path]]:
    """The runs of a folder by name, and files in it that look like a run's and are none."""
    known: list[Run] = []
    unreadable: list[Path] = []
    for path in sorted(runs.glob("*.json"), key=lambda path: path.stem):
        try:
            known.append(Run.load(path))
        except (UserError, OSError):
            unreadable.append(path)
    folders = {run.path: set(_folders(run)) for run in known}
    sizes = {folder: _size(folder) for folder in set().union(*folders.values())}
    users = Counter(folder for of_one in folders.values() for folder in of_one)
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        jobs = list(pool.map(_jobs, known))
    listed = []
    for run, its_jobs in zip(known, jobs, strict=True):
        own = [folder for folder in folders[run.path] if users[folder] == 1]
        size, own_size = (sum(sizes[folder] for folder in some) for some in (folders[run.path], own))
        try:
            listed.append(_listed(run, its_jobs, size=size, own_size=own_size))
        except (AttributeError, KeyError, TypeError, ValueError):  # a file that was damaged
            unreadable.append(run.path)
    return listed, unreadable


def _listed(run: Run, jobs: Mapping[str, Job], *, size: int, own_size: int) -> Listed:
    states = {name: state_of(spec, jobs.get(name)) for name, spec in run.specs.items()}
    milestone, scores = _scores(run)
    return Listed(
        name=run.name,
        file=run.path,
        recipe=run.facts.recipe_name,
        scale=run.facts.scale,
        executor=run.facts.executor,
        changed=dict(run.facts.changed),
        state=overall(run, jobs),
        done=sum(state == State.DONE for state in states.values()),
        steps=len(states),
        failed=tuple(name for name, state in states.items() if state in (State.FAILED, State.CUT)),
        milestone=milestone,
        scores=scores,
        size=size,
        own_size=own_size,
        launched=run.facts.time,
        age=time.time() - _begun(run),
    )


def _folders(run: Run) -> Iterator[Path]:
    """The folders that the run refers to: its steps' and its tokenised sources'."""
    for spec in run.specs.values():
        yield spec.folder
    yield from sources_of(run.specs.values()) or ()


def _size(folder: Path | str) -> int:
    """Bytes of the files below a folder; 0 where there is none."""
    total = 0
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # removed or renamed since
                if entry.is_dir(follow_symlinks=False):
                    total += _size(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def _jobs(run: Run) -> Mapping[str, Job]:
    """The run's jobs where it may have any; none where its steps are done or nobody answers."""
    if all(spec.done for spec in run.specs.values()):
        return NO_JOBS
    following = follow(run)
    return following.look() if following else NO_JOBS


def _scores(run: Run) -> tuple[str, dict[str, float]]:
    """The last milestone of the run's report, and its scores."""
    report = run.specs.get("report")
    if report is None or not report.done:
        return "", {}
    rows = [row for row in read_csv(report.folder / SCORES) if row.get("role") == "milestone"]
    if not rows:
        return "", {}
    last = rows[-1]["checkpoint"]
    of_it = [row for row in rows if row["checkpoint"] == last and row["mean"] is not None]
    return last, {row["benchmark"]: 100 * row["mean"] for row in of_it}


def _begun(run: Run) -> float:
    """When the run was launched last, in seconds since 1970."""
    with contextlib.suppress(ValueError):
        return datetime.strptime(run.facts.time, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    return run.path.stat().st_mtime
