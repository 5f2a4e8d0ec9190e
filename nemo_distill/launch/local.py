"""NeMo-Run experiments whose tasks start the moment what they depend on has succeeded, here or on a cluster.

NeMo-Run's own way with dependencies on the local executor is level by level: it waits for every task of a level,
polls every two seconds, and starts the next level whatever became of the last. Here a task starts when its own
dependencies have succeeded, a few run at once, in the order in which they were added, and after a failure nothing
more is started. On Slurm all jobs are queued at once, each waiting in the queue for its own dependencies, and nothing
here waits for them: `nemo_distill.launch.slurm.queueing` does. Everything else (packaging, processes, logs, `nemo-run
experiment status`) is NeMo-Run's.
"""

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import nemo_run as run
from nemo_run.run.job import Job
from torchx.specs.api import AppState, is_terminal

from nemo_distill.run import forkserver
from nemo_distill.run.secrets import STARS
from nemo_distill.run.step import Spec

POLL_SECONDS = 0.1
FORK_SERVERS = "forkservers"
"""Folder among NeMo-Run's records with what each process that steps were forked from has said."""
QUIET = {
    "clean_mode": True,
    "enable_goodbye_message": False,
    "skip_status_at_exit": True,
    "serialize_metadata_for_scripts": False,
}
"""Arguments of an experiment that leaves it to us to say how it goes."""


class Experiment(run.Experiment):
    """`run.Experiment` whose records hold no value of the steps' environment and no copy of the recipe."""

    def _save_config(self) -> None:
        with _values_hidden([self.executor]):
            super()._save_config()

    def _save_jobs(self) -> None:
        with _values_hidden([job.executor for job in self._jobs]):
            super()._save_jobs()
        # Its copy of `__main__`, which is the recipe where that was started by itself; our tasks are modules.
        Path(self._exp_dir, "__main__.py").unlink(missing_ok=True)


@contextlib.contextmanager
def _values_hidden(executors: Iterable[run.Executor]) -> Iterator[None]:
    """Within the block the executors' environment has names only, and they have no lines for the shell."""
    kept = [(executor, executor.env_vars, getattr(executor, "setup_lines", None)) for executor in executors]
    try:
        for executor, values, lines in kept:
            executor.env_vars = dict.fromkeys(values, STARS)
            if lines is not None:
                executor.setup_lines = None
        yield
    finally:
        for executor, values, lines in kept:
            executor.env_vars = values
            if lines is not None:
                executor.setup_lines = lines


class LocalExperiment(Experiment):
    """`run.Experiment` for tasks on this machine; its executor is a `nemo_distill.launch.executors.LocalExecutor`."""

    failed: tuple[Job, ...] = ()
    """After the run: the tasks that ended otherwise than well, in the order in which they did."""

    def _run_dag(self, detach: bool, tail_logs: bool, executors: set) -> None:
        assert not detach, "a local experiment ends with the process that started it"
        waiting: dict[str, Job] = {job.id: job for job in self._jobs}
        running: dict[str, Job] = {}
        states: dict[str, AppState] = {}
        self._launched = self._waited = True
        try:
            with interrupts_kept() as interrupted:
                while running or waiting:
                    if interrupted():
                        raise KeyboardInterrupt
                    for name, job in list(running.items()):
                        job.state = job.status(runner=self._runner)
                        if is_terminal(job.state):
                            states[name] = running.pop(name).state
                            job.cleanup()
                            if job.state != AppState.SUCCEEDED:
                                self.failed += (job,)
                    if self.failed:
                        waiting.clear()
                    for name, job in list(waiting.items()):
                        if len(running) >= self.executor.parallel_steps:
                            break
                        if all(states.get(upstream) == AppState.SUCCEEDED for upstream in job.dependencies):
                            running[name] = waiting.pop(name)
                            job.launch(wait=False, runner=self._runner)
                    assert running or not waiting, f"no task can start among {sorted(waiting)}"
                    if running:
                        time.sleep(POLL_SECONDS)
        finally:
            # After Ctrl-C, or an error here: the tasks get SIGTERM and, ten seconds later, SIGKILL.
            for job in running.values():
                with contextlib.suppress(ProcessLookupError):
                    job.cancel(runner=self._runner)
                job.state = AppState.CANCELLED
            self._save_jobs()


@contextlib.contextmanager
def forks_of(specs: Iterable[Spec], experiment: LocalExperiment) -> Iterator[dict[str, str]]:
    """Within the block, steps that import the same for seconds are forked from one process that has imported it.

    Gives the variables that the tasks need for it: none where fewer than two steps do.
    """
    wanted = [imports for spec in specs if (imports := forkserver.imports_of(spec.module))]
    names = dict.fromkeys(itertools.chain(*wanted)) if len(wanted) > 1 else ()
    # As torchx starts a task: in this process's environment, but for the executor's variables.
    environment = {"PYTHONUNBUFFERED": "x", **os.environ, **experiment.executor.env_vars}
    log = Path(run.config.get_nemorun_home(), FORK_SERVERS, f"{experiment._id}.log")
    with forkserver.serving(tuple(names), environment, log=log) as variables:
        yield variables


class SlurmExperiment(Experiment):
    """`run.Experiment` that queues its jobs and leaves; its executors are
    `nemo_distill.launch.executors.SlurmExecutor`."""

    waits_for: Mapping[str, list[str]] = MappingProxyType({})
    """For each task the jobs, by task or by Slurm's number, that have to succeed first."""
    on_queued: Callable[[str, str], None] = staticmethod(lambda task, number: None)
    """Called with a task's name and its job's number as soon as it has one."""

    def _prepare(self, exist_ok: bool = False) -> None:
        # Scripts hold the values of the environment, some of them secret.
        os.makedirs(self._exp_dir, mode=0o700, exist_ok=exist_ok)
        super()._prepare(exist_ok=True)

    def _run_dag(self, detach: bool, tail_logs: bool, executors: set) -> None:
        self._launched = self._waited = True
        numbers: dict[str, str] = {}
        try:
            with interrupts_kept() as interrupted:
                for job in self._jobs:
                    if interrupted():
                        raise KeyboardInterrupt
                    waits_for = [numbers.get(name, name) for name in self.waits_for.get(job.id, ())]
                    job.executor.dependencies = [f"slurm_tunnel://nemo_run/{number}" for number in waits_for]
                    job.launch(wait=False, runner=self._runner)
                    numbers[job.id] = job.handle.rpartition("/")[2]
                    self.on_queued(job.id, numbers[job.id])
        finally:
            self._save_jobs()


@contextlib.contextmanager
def interrupts_kept() -> Iterator[Callable[[], bool]]:
    """Within the block Ctrl-C and SIGTERM raise nothing; the callable that it gives says whether one has come.

    An exception raised wherever the signal happens to meet us can be lost: NeMo-Run asks for a job's state in a
    `finally` that returns, which drops a KeyboardInterrupt as well.
    """
    come: list[int] = []
    before = {
        number: signal.signal(number, lambda n, frame: come.append(n)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(come)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
