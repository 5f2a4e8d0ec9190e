"""A run as Slurm jobs: queued at once, each waiting for its own upstream, and found again by whoever asks.

    run_on_cluster(ctx, run, console)      # what launch() does for `--executor slurm`
    Watch(run).look()                      # each step's job, from any process that sees the runs folder
    cancel(run, slurm)

A step's folder says which job has it (`job.json`), and a job's comment says which folder it works in. So the command
that queued the jobs may end, be killed or be given again: the next one attaches to what lives and queues what is
missing. Success is the mark in the folder; Slurm is asked only what becomes of what is not marked.
"""

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from nemo_distill.errors import UserError
from nemo_distill.launch.slurm.commands import Slurm, SlurmSilent
from nemo_distill.launch.slurm.facts import ClusterFacts
from nemo_distill.launch.slurm.ways import slurm_of
from nemo_distill.run.job import Job
from nemo_distill.run.manifest import Run, State, failure_of, job_of_step, state_of
from nemo_distill.run.step import FAILED, Spec

LOOK_SECONDS = 0.3
"""How often the steps' folders are looked at; Slurm is asked less often (executor.poll_seconds)."""
SETTLE_SECONDS = 30.0
"""How long a shared folder may take to show what a job that has ended wrote into it."""


class Watch:
    """The jobs of a run's steps, as they were when Slurm was last asked."""

    def __init__(self, run: Run, *, slurm: Slurm | None = None, every_seconds: float = 0.0):
        self.run, self.every_seconds = run, every_seconds
        self.slurm = slurm or slurm_of(run)
        self.jobs: dict[str, Job] = {}
        self.queued: dict[str, Job] = {}
        """By step, of those that the job of an earlier segment has gone on with, the live jobs that were queued for
        them."""
        self.silent: str | None = None
        """Why Slurm did not answer when it was last asked."""
        self._asked = float("-inf")
        self._marks: list = []

    def look(self, *, anew: bool = False) -> Mapping[str, Job]:
        """Ask Slurm, unless it was asked less than `every_seconds` ago and no step has ended since.

        With `anew` it is asked in any case: what it said before steps were queued again is of their earlier jobs.
        """
        specs = self.run.specs
        marks = [(spec.done, (spec.folder / FAILED).exists()) for spec in specs.values()]
        if not anew and time.monotonic() - self._asked < self.every_seconds and marks == self._marks:
            return self.jobs
        numbers = {name: numbers_of(spec) for name, spec in specs.items() if not spec.done}
        # Another user may have queued a step again whose job he does not see, as we do not see his: ours goes on.
        ours = {name: job.id for name, job in self.jobs.items() if name in numbers}
        try:
            known = self.slurm.jobs({*itertools.chain(*numbers.values()), *ours.values()})
        except SlurmSilent as error:
            self.silent = str(error)
        else:
            self.silent = None
            seen = {name: [known[number] for number in own if number in known] for name, own in numbers.items()}
            self.jobs = {name: _at_it(jobs) for name, jobs in seen.items() if jobs}
            self.jobs |= {name: known[ours[name]] for name in ours if name not in self.jobs and ours[name] in known}
            self.queued = {name: jobs[1] for name, jobs in seen.items() if len(jobs) > 1 and jobs[1].live}
        self._asked, self._marks = time.monotonic(), marks
        return self.jobs

    @property
    def live(self) -> dict[str, Job]:
        """Of the steps that are not done, those whose job waits or runs."""
        return {name: job for name, job in self.jobs.items() if job.live and not self.run.specs[name].done}

    def cancel(self) -> list[str]:
        """Cancel the run's jobs that live; returns the sentences on it. Raises `UserError` when Slurm is silent."""
        try:
            return cancel(self.run, self.slurm).sentences(self.run)
        except SlurmSilent as error:
            raise UserError(f"Slurm does not answer: {error}.") from None

    def until_ended(self, console: Console) -> None:
        """Return when every step is done or nothing of the run waits or runs any more."""
        said = None
        while True:
            self.look()
            if self.silent != said:
                text = f"Slurm does not answer ({self.silent}); its jobs go on." if self.silent else "Slurm answers."
                console.print(text, style="yellow", highlight=False, soft_wrap=True)
                said = self.silent
            if all(spec.done for spec in self.run.specs.values()):
                return
            if not self.live and not self.silent:
                break
            time.sleep(LOOK_SECONDS)
        until = time.monotonic() + SETTLE_SECONDS
        while self._completed_without_mark() and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)

    def _completed_without_mark(self) -> bool:
        return any(job.state == "COMPLETED" and not self.run.specs[name].done for name, job in self.jobs.items())


def numbers_of(spec: Spec) -> list[str]:
    """Numbers of the jobs that have the step: of the one that is at it and, where that is another, of the one that was
    queued for it."""
    record = job_of_step(spec)
    return [one["job"] for one in (record, record.get("queued")) if one]


def _at_it(jobs: list[Job]) -> Job:
    """Of a step's jobs the one that says how it is: one that runs or else lives; of those that have ended the last that
    had nodes."""
    order = (lambda job: job.running, lambda job: job.live, lambda job: bool(job.nodes))
    return next((job for fits in order for job in (jobs if fits is not order[2] else jobs[::-1]) if fits(job)), jobs[0])


def passing(run: Run, jobs: Mapping[str, Job]) -> list[str]:
    """The steps whose jobs ended for no fault of theirs, if those are all that keep the run from going on."""
    ended = {name: job for name, job in jobs.items() if state_of(run.specs[name], job) in (State.CUT, State.FAILED)}
    innocent = [name for name, job in ended.items() if job.passing and not failure_of(run.specs[name], job).memory]
    return innocent if len(innocent) == len(ended) else []


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    """What became of a run's jobs that lived; steps by name."""

    ended: list[str]
    """Cancelled."""
    wanted: list[str]
    """Left alone because another run waits for them."""
    foreign: dict[str, str]
    """Left alone because they are another user's, by his name."""

    def sentences(self, run: Run) -> list[str]:
        """What there is to say of it."""
        said = [f"Cancelled: {', '.join(self.ended)}."] if self.ended else []
        if self.wanted:
            said.append(f"Left alone, for another run waits for them: {', '.join(self.wanted)}.")
        for user in sorted(set(self.foreign.values())):
            names = ", ".join(name for name, whose in self.foreign.items() if whose == user)
            said.append(f"Left alone, for they are {user}'s, who alone may cancel them: {names}.")
        return said or [f"{run.name} has no jobs to cancel."]


def cancel(run: Run, slurm: Slurm) -> Cancelled:
    """Cancel the jobs of `run` that live, which `slurm` has. Raises `SlurmSilent`."""
    watch = Watch(run, slurm=slurm)
    watch.look()
    if watch.silent:
        raise SlurmSilent(watch.silent)
    wanted = _wanted_elsewhere(run, slurm)
    live = dict(watch.live)
    kept = [name for name in live if run.specs[name].folder in wanted]
    jobs = {job.id: None for one in (live, watch.queued) for name, job in one.items() if name not in kept}
    denied = watch.slurm.cancel(jobs)
    foreign = {name: job.user for name, job in live.items() if job.id in denied}
    return Cancelled(
        ended=[name for name in live if name not in kept and name not in foreign], wanted=kept, foreign=foreign
    )


def _wanted_elsewhere(run: Run, slurm: Slurm) -> set[Path]:
    """Folders of the steps of other runs that have live jobs of their own."""
    folders: set[Path] = set()
    own = {spec.folder for spec in run.specs.values()}
    for path in run.runs.glob("*.json"):
        try:
            other = Run.load(path)
        except UserError:  # something else that lies there
            continue
        if other.name == run.name or ClusterFacts.of(other).queued is None:
            continue
        watch = Watch(other, slurm=slurm)
        watch.look()
        if any(other.specs[name].folder not in own for name in watch.live):
            folders |= {spec.folder for spec in other.specs.values()}
    return folders
