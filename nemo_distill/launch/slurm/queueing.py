"""Queue a run's jobs, see them through, and leave them to the cluster when asked to.

    run_on_cluster(executor, run, console, detach=False)

One command queues every step that is neither done nor in the queue already, whoever put it there; the same command
again attaches to what lives. What ends for no fault of its own is queued again, a bounded number of times.
"""

import contextlib
import dataclasses
import itertools
import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import nemo_run
from invoke.exceptions import UnexpectedExit
from rich.console import Console

from nemo_distill.errors import RunFailed, UserError
from nemo_distill.launch.records import QUIET, keep_records
from nemo_distill.launch.slurm import jobscript
from nemo_distill.launch.slurm.commands import Slurm, SlurmSilent
from nemo_distill.launch.slurm.experiment import SlurmExperiment
from nemo_distill.launch.slurm.facts import ClusterFacts
from nemo_distill.launch.slurm.site import Site
from nemo_distill.launch.slurm.snapshot import Code
from nemo_distill.launch.slurm.undo import undone_if_refused
from nemo_distill.launch.slurm.watch import Watch, cancel, numbers_of, passing
from nemo_distill.run.closing import print_failure
from nemo_distill.run.display import Display
from nemo_distill.run.job import Job
from nemo_distill.run.locks import held_in
from nemo_distill.run.manifest import Run
from nemo_distill.run.progress import write_atomically
from nemo_distill.run.ranks import Processes
from nemo_distill.run.sharing import unwritable
from nemo_distill.run.signals import Terminated, terminated_like_interrupted
from nemo_distill.run.step import FAILED, JOB_FILE, SPEC_FILE, Spec

LOCK_FILE = ".queue.lock"
"""Held while jobs are queued, over all runs of a runs folder: runs share steps."""
_OF_A_STEP = (SPEC_FILE, JOB_FILE, FAILED)
"""What queueing writes, or takes away, in the folder of a step."""
_CANCEL_SECONDS = 60.0
"""How long jobs that were cancelled may take to end."""


def run_on_cluster(executor: Site, run: Run, console: Console, *, detach: bool) -> None:
    """Queue what is missing and, unless detached, see the run to its end.

    Raises:
        UserError: When Slurm refuses a job, or does not answer.
        RunFailed: When a step failed; the failure has been printed.
        KeyboardInterrupt: After Ctrl-C, the jobs left to the cluster or cancelled.
    """
    run = executor.facts.kept_in(run)
    keep_records(run.runs, run.name)
    with terminated_like_interrupted():
        _queue_and_follow(executor, run, console, detach=detach)


def _queue_and_follow(executor: Site, run: Run, console: Console, *, detach: bool) -> None:
    slurm = Slurm(executor.tunnel)
    watch = Watch(run, slurm=slurm, every_seconds=executor.poll_seconds)
    for again in range(executor.requeues + 1):
        try:
            queue(executor, run, console)
            watch.look(anew=True)
            if detach:
                console.print(
                    f"{len(watch.live)} jobs of {run.name} are with the cluster: nemo-run status {run.name} shows "
                    f"them, nemo-run cancel {run.name} ends them.",
                    highlight=False,
                    soft_wrap=True,
                )
                return
            with Display(run, console, lambda: watch.jobs):
                watch.until_ended(console)
        except OSError as error:
            console.print(unwritable(error, run.runs), style="bold red", highlight=False, soft_wrap=True)
            raise RunFailed(run.name) from None
        except KeyboardInterrupt as interrupt:
            _leave_or_cancel(run, slurm, console, ask=not isinstance(interrupt, Terminated))
            raise
        if all(spec.done for spec in run.specs.values()):
            return
        innocent = passing(run, watch.jobs)
        if not innocent or again == executor.requeues:
            break
        words = ", ".join(f"{name} (job {watch.jobs[name].id} {watch.jobs[name].state})" for name in innocent)
        console.print(f"Queued again: {words}.", style="yellow", highlight=False, soft_wrap=True)
    print_failure(run, console, jobs=watch.jobs)
    raise RunFailed(run.name)


def queue(executor: Site, run: Run, console: Console) -> None:
    """Queue a job for every step of `run` that is neither done nor in the queue.

    Raises `UserError` when Slurm refuses one or does not answer; nothing is queued or written then.
    """

    def waiting() -> None:
        console.print("Another nemo-run is queueing jobs here; waiting for it.")

    facts, slurm = ClusterFacts.of(run), Slurm(executor.tunnel)
    left = {name: spec for name, spec in run.specs.items() if not spec.done}
    with (
        undone_if_refused([run.runs / LOCK_FILE]),
        held_in(run.runs, LOCK_FILE, waiting=waiting, poll_seconds=0.2),
        undone_if_refused(_written(run, left.values(), executor.code)),
    ):
        try:
            if executor.tunnel and not slurm.sees(run.runs):
                raise UserError(f"{executor.tunnel.host} does not see {run.runs}: runs has to be a shared folder.")
            attached = _in_queue(run, slurm, left)
            # A step may have ended while Slurm was asked.
            missing = {name: spec for name, spec in left.items() if name not in attached and not spec.done}
        except SlurmSilent as error:
            raise UserError(f"Slurm does not answer: {error}.") from None
        if attached:
            which = ", ".join(f"{name} (job {job.id}{_whose(job, slurm)})" for name, job in attached.items())
            console.print(f"In the queue already: {which}.", highlight=False, soft_wrap=True)
        dataclasses.replace(facts, queued=time.time()).kept_in(run).save()
        if missing:
            code = executor.code.save(run.runs)
            run.make_ready(missing.values())
            _queue_jobs(executor, run, missing, attached, code)


def _written(run: Run, specs: Iterable[Spec], code: Code) -> list[Path]:
    """What queueing the steps writes, NeMo-Run's own records of this launch aside."""
    home = Path(nemo_run.config.get_nemorun_home())
    ours = [path for spec in specs for path in (spec.folder, *(spec.folder / name for name in _OF_A_STEP))]
    records = [home / ".slurm_jobs", home / "experiments" / run.name]
    kept = [path] if (path := run.kept_as()) else []
    return [run.path, *kept, run.runs / code.folder, *records, *ours]


def _whose(job: Job, slurm: Slurm) -> str:
    """` of NAME` for another user's job."""
    return f" of {job.user}" if slurm.belongs_to_another(job) else ""


def _in_queue(run: Run, slurm: Slurm, left: dict[str, Spec]) -> dict[str, Job]:
    """The live jobs of the steps that are left, whoever queued them; `job.json` is set right.

    A job that waits for one that will be queued anew waits for what never comes: it is cancelled and left out.
    """
    watch = Watch(run, slurm=slurm)
    recorded = watch.look()
    if watch.silent:
        raise SlurmSilent(watch.silent)
    by_folder = watch.slurm.live_in(spec.folder for spec in left.values())
    attached, stale = {}, []
    for name, spec in left.items():
        # One that waits for that of an earlier segment, whose process is at this one: it takes over if that ends.
        job = watch.queued.get(name)
        job = job or (recorded[name] if name in recorded and recorded[name].live else by_folder.get(spec.folder))
        if job is None:
            continue
        waits_in_vain = any(up in left and up not in attached and not left[up].done for up in spec.upstream)
        if job.state == "PENDING" and not job.restarts and waits_in_vain:
            stale.append(job.id)
            continue
        attached[name] = job
        if job.id not in numbers_of(spec):
            _record(spec, job.id, run, logs="")
    watch.slurm.cancel(stale)
    return attached


def _queue_jobs(executor: Site, run: Run, missing: dict[str, Spec], attached: dict[str, Job], code: Path) -> None:
    queued: dict[str, str] = {}
    experiment = SlurmExperiment(run.name, executor=jobscript.as_nemo_runs(executor), log_level="ERROR", **QUIET)
    with _forgotten_if_refused(experiment), experiment:
        for name, spec in missing.items():
            processes, following = Processes.of(spec, run.facts.beside.layout), _following(executor, run, spec)
            job = jobscript.prepared(
                executor, spec, processes, run_name=run.name, runs=run.runs, code=code, following=following
            )
            task = jobscript.task_of(spec, processes, code=code, digest=executor.code.digest, following=following)
            experiment.add(task, executor=job, name=name)
        waits_for = {
            name: [up if up in missing else attached[up].id for up in spec.upstream if up in missing or up in attached]
            for name, spec in missing.items()
        }
        logs = {job.id: job.executor.job_dir for job in experiment.jobs}

        def on_queued(name: str, number: str) -> None:
            queued[name] = number
            _record(missing[name], number, run, logs=logs[name])

        experiment.waits_for, experiment.on_queued = waits_for, on_queued
        try:
            experiment.run()
        except UnexpectedExit as error:
            _cancel_and_wait(Slurm(executor.tunnel), queued.values())
            refused = next(name for name in missing if name not in queued)
            reason = (error.result.stderr.strip() or "no reason given").splitlines()[-1]
            raise UserError(f"Slurm refused the job of {refused}: {reason}") from None


def _following(executor: Site, run: Run, spec: Spec) -> list[Spec]:
    """The steps that the process of `spec` may go on with, which have jobs of the same options."""
    options = executor.of(spec)
    left = [one for one in run.specs.values() if not one.done]
    return list(itertools.takewhile(lambda one: executor.of(one) == options, run.may_follow(spec, left)))


@contextlib.contextmanager
def _forgotten_if_refused(experiment: SlurmExperiment) -> Iterator[None]:
    """On a `UserError` in the block, remove what NeMo-Run has written of the experiment."""
    try:
        yield
    except UserError:
        shutil.rmtree(experiment._exp_dir, ignore_errors=True)
        raise


def _cancel_and_wait(slurm: Slurm, jobs: Iterable[str]) -> None:
    """Cancel the jobs and wait until none of them writes any more."""
    slurm.cancel(jobs)
    until = time.monotonic() + _CANCEL_SECONDS
    while any(job.live for job in slurm.jobs(jobs).values()) and time.monotonic() < until:
        time.sleep(0.2)


def _record(spec: Spec, number: str, run: Run, *, logs: str) -> None:
    write_atomically(spec.folder / JOB_FILE, json.dumps({"job": number, "run": run.name, "logs": logs}))


def _leave_or_cancel(run: Run, slurm: Slurm, console: Console, *, ask: bool) -> None:
    answer = "l"
    if ask and sys.stdin.isatty():
        with contextlib.suppress(KeyboardInterrupt, EOFError):
            answer = console.input("\nLeave the jobs to the cluster, or cancel them? \\[leave/cancel] ").strip().lower()
    text = f"The jobs are left to the cluster: nemo-run status {run.name}, nemo-run cancel {run.name}."
    if answer.startswith("c"):
        try:
            text = " ".join(cancel(run, slurm).sentences(run))
        except SlurmSilent as error:
            text = f"Slurm does not answer ({error}), so its jobs go on: nemo-run cancel {run.name}."
    console.print(text, highlight=False, soft_wrap=True)
