"""The step that a process is at, with what is held for it, and how the process goes on with the next one.

    with AtWork(spec, ranks, following=paths) as work:      # in `run.process`
        work.lock()
        work.begin()
        with work.watched():
            module.main(work.spec)
        work.done()

Where a step's module says `GOES_ON = True`, the process may be given the steps that come after, as more arguments. In
`main`, once all of its own output is there:

    work = at_work.here()
    if work.may_go_on(lambda after: ...):                   # which takes the next step's lock, where nobody has it
        spec, ranks = work.go_on()                          # marks this step as done, and begins the next

What is loaded stays loaded. All else is as if each had a process of its own: a lock, a `spec.json`, logs, a watchdog
and a mark per step, and the name of whatever fails. A step that is done stays so, whatever becomes of the next.
"""

import contextlib
import dataclasses
import json
import math
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from filelock import FileLock

from nemo_distill.config.plain import resolve_package_paths
from nemo_distill.errors import UserError
from nemo_distill.run.failing import ending_with_the_others
from nemo_distill.run.gpus import given_here
from nemo_distill.run.inside import links_out
from nemo_distill.run.locks import held, taken
from nemo_distill.run.manifest import job_of_step
from nemo_distill.run.progress import write_atomically
from nemo_distill.run.ranks import Ranks
from nemo_distill.run.starred import copied_output, redirected_output
from nemo_distill.run.step import (
    FAILED,
    JOB_FILE,
    LOCK_FILE,
    LOG_FILE,
    RANK_LOG_FILE,
    SPEC_FILE,
    SUCCESS,
    Spec,
    fingerprint_of,
    is_done,
    mark_done,
    why_damaged,
)
from nemo_distill.run.watched import watched

ENDS = "NEMO_DISTILL_ENDS"
"""Environment variable with the time, in seconds since 1970, until which a job's process has its machines; empty or
none: it is not known."""


class AtWork:
    """A step that runs here; `following` are the `spec.json` of those that may be begun after it, in order."""

    def __init__(self, spec: Spec, ranks: Ranks, *, following: Sequence[Path] = ()):
        self.spec, self.ranks, self.following = spec, ranks, tuple(following)
        self.ran: Mapping[str, Any] = {}
        """What `spec.json` says of this process."""
        self._began = time.time()
        self._held, self._watched = contextlib.ExitStack(), contextlib.ExitStack()
        self._next: FileLock | None = None

    def __enter__(self) -> Self:
        global _here
        _here = self
        return self

    def __exit__(self, *error) -> None:
        global _here
        _here = None
        self.close()

    def close(self) -> None:
        """Hold nothing any more."""
        self._watched.close()
        self._held.close()
        self._drop_next()

    @property
    def log(self) -> Path:
        """Where this rank's output goes."""
        return self.spec.folder / (LOG_FILE if self.ranks.first else RANK_LOG_FILE.format(rank=self.ranks.rank))

    def lock(self) -> None:
        """Hold the step's lock, as the first rank does."""
        self._held.enter_context(locked(self.spec.folder))

    def record(self, **ran) -> None:
        """Say in `spec.json` what the step runs with, as the first rank does."""
        (self.spec.folder / FAILED).unlink(missing_ok=True)
        self.ran = ran
        self.spec.save(self.spec.beside, ranks=self.ranks.size, **ran, **given_here())

    def begin(self) -> None:
        """From here on what this process says is in the step's log as well or, of a rank but the first, there alone."""
        self._held.enter_context((copied_output if self.ranks.first else redirected_output)(self.log))
        self._began = time.time()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Within the block the step that the process is at is watched, and ends where another of its ranks fails."""
        self._watch()
        try:
            yield
        finally:
            self._watched.close()

    def _watch(self) -> None:
        self._watched.enter_context(ending_with_the_others(self.spec, self.ranks))
        self._watched.enter_context(watched(self.spec, self.ranks))

    def done(self) -> None:
        """Mark the step as done, as the first rank does."""
        if self.ranks.first:
            seconds = time.time() - self._began
            mark_done(self.spec.folder, fingerprint=self.spec.fingerprint, seconds=seconds)
            print(f"[{self.spec.name}] done in {seconds:.1f} s", flush=True)

    def may_go_on(self, fits: Callable[[Spec], bool]) -> bool:
        """Whether `go_on` can begin the next step, which nobody else can then; the same on every rank.

        There has to be one that `fits`, that is not done, that is not to have a process of its own, for which no more
        than this one is awaited, and that no other process is at.
        """
        return self.ranks.agree("next", lambda: bool(self.following) and self._take_next(self.following[0], fits))

    def _take_next(self, path: Path, fits: Callable[[Spec], bool]) -> bool:
        try:
            after = Spec.load(path)
            awaited = [folder for folder in after.upstream.values() if folder != self.spec.folder]
            if self.spec.folder not in after.upstream.values() or not all(map(is_done, awaited)):
                return False
            if not after.beside.layout.keep_process:
                return False
            self._next = taken(after.folder / LOCK_FILE)
            if self._next is not None and not after.done and fits(ready(after)):
                return True
        except (UserError, OSError) as error:  # which a process of its own will say as well
            print(f"[{self.spec.name}] does not go on with {path.parent.parent.name}: {error}", flush=True)
        self._drop_next()
        return False

    def _drop_next(self) -> None:
        if self._next is not None:
            self._next.release()
            self._next = None

    def go_on(self) -> tuple[Spec, Ranks]:
        """Mark this step as done and begin the next, which `may_go_on` has said can be: it, and its ranks.

        Raises `UserError` where what comes before it is damaged.
        """
        self.ranks.finish()
        before, after = self.spec, ready(Spec.load(self.following[0]))
        self.done()
        self.spec, self.following = after, self.following[1:]  # whatever fails from here on is the next one's
        self.ranks = dataclasses.replace(self.ranks, step=after.name)
        for stack in (self._watched, self._held):
            stack.close()
        if self._next is not None:
            self._held.callback(self._next.release)
            self._next = None
        if refusal := self.ranks.agree("refusal", lambda: why_refused(after)):
            raise UserError(refusal)
        if self.ranks.first:
            note_job(before, after)
            self.record(**{**self.ran, "continues": before.name})
        self.begin()
        print(f"[{after.name}] started in {after.folder}, in the process of {before.name}", flush=True)
        self._watch()
        return after, self.ranks


def seconds_left() -> float:
    """Seconds that this process still has its machines; infinite where that is not known."""
    ends = os.environ.get(ENDS)
    return float(ends) - time.time() if ends else math.inf


def note_job(first: Spec, spec: Spec) -> None:
    """Note that this job is at the step `spec`: its own, or that of the step `first`, for which another is queued."""
    said, number = job_of_step(spec), os.environ.get("SLURM_JOB_ID")
    own = job_of_step(first)
    queued = said.get("queued", said)
    if queued and queued["job"] == number:
        found = queued
    elif own and own["job"] == number:
        found = {**own, "queued": queued}
    else:
        return
    if found != said:
        write_atomically(spec.folder / JOB_FILE, json.dumps(found))


_here: AtWork | None = None


def here() -> AtWork | None:
    """What this process is at; None where `run.process` has not begun it."""
    return _here


def ready(spec: Spec) -> Spec:
    """The step as its module is given it."""
    return dataclasses.replace(spec, config=resolve_package_paths(spec.config))


def why_refused(spec: Spec) -> str | None:
    """The sentence that keeps `spec` from starting, or None when it is what its folder is named by, no link leads out
    of its folder, and every upstream step is done and whole."""
    if (found := fingerprint_of(spec)) != spec.folder.name:
        return (
            f"{spec.folder / SPEC_FILE} is not what the folder is named by, it has the fingerprint {found}: it was "
            "changed after it was written, or by another version. Give the command again."
        )
    for path in (spec.folder / name for name in (SUCCESS, FAILED, LOG_FILE)):
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            return f"{path} is no file, and would be written: remove it."
    for link in links_out(spec.folder):
        return f"{link} is a link to {os.readlink(link)}, out of the runs folder: remove it."
    for name, folder in spec.upstream.items():
        if not is_done(folder):
            return f"its upstream step {name} is not done ({folder} has no mark of success)."
        damaged = why_damaged(f"the output of {name}", folder)
        if damaged:
            return damaged
    return None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, made if need be; while another process holds it, say so and wait."""

    def waiting() -> None:
        print(f"waiting: another process works on {folder}", file=sys.stderr, flush=True)

    with held(folder / LOCK_FILE, waiting=waiting):
        yield
