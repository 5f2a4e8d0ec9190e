"""A NeMo-Run experiment on this machine, whose tasks start the moment what they depend on has succeeded.

NeMo-Run's own way with dependencies on the local executor is level by level: it waits for every task of a level,
polls every two seconds, and starts the next level whatever became of the last. Here a task starts when its own
dependencies have succeeded, a few run at once, in the order of `nemo_distill.plan.box`, each with GPUs of its own where
there are any, and after a failure nothing more is started. Everything else (packaging, processes, logs, `nemo-run
experiment status`) is NeMo-Run's.
"""

import contextlib
import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import nemo_run as run
from nemo_run.run.job import Job
from torchx.specs.api import AppState, is_terminal

from nemo_distill.compat.nemo_run import UNWRITTEN
from nemo_distill.launch.local.cards import Card, Deck, Waiting
from nemo_distill.launch.records import QUIET, Experiment, keep_records
from nemo_distill.plan.box import Order, box_of
from nemo_distill.run import forkserver
from nemo_distill.run.ending import ending_with_this
from nemo_distill.run.manifest import Run, State, state_of
from nemo_distill.run.ranks import Processes, torchrun
from nemo_distill.run.secrets import named
from nemo_distill.run.signals import interrupts_kept
from nemo_distill.run.step import SPEC_FILE, Spec

POLL_SECONDS = 0.1
FORK_SERVER = "forkserver.log"
"""What the process that steps are forked from has said, in the folder of NeMo-Run's records of the launch."""


def run_experiment(
    asked: Run,
    left: dict[str, Spec],
    *,
    deck: Deck,
    parallel_steps: int,
    env_vars: dict[str, str],
    say: Callable[[str], None],
) -> dict[str, Path | None]:
    """One task per step that is left, through NeMo-Run, with GPUs of the `deck`; returns when all have ended.

    What it returns are the steps whose process ended before it could say anything in the step's folder, with the
    file that holds what it said instead, if there is one.
    """
    needs = box_of(left, asked.facts.beside.layout, gpus=len(deck.cards))
    if deck.cards:
        env_vars = env_vars | deck.variables(())  # of those that are given none: no step sees another's
    keep_records(asked.runs, asked.name)
    UNWRITTEN.apply()
    with (
        ending_with_this() as mark,
        _experiment(asked.name, env_vars | mark | named(env_vars)) as experiment,
        _forks_of(left.values(), experiment) as variables,
    ):
        experiment.order = Order(needs, gpus=len(deck.cards), others=parallel_steps)
        experiment.deck, experiment.waiting = deck, Waiting(say)
        experiment.specs = left
        experiment.following = {
            name: [one.name for one in asked.may_follow(spec, left.values())] for name, spec in left.items()
        }
        for name, spec in left.items():
            command = _command(asked, spec, asked.may_follow(spec, left.values()))
            task = run.Script(path=command[1], m=True, entrypoint="python", args=command[2:], env=dict(variables))
            dependencies = [upstream for upstream in spec.upstream if upstream in left]
            experiment.add(task, name=name, dependencies=dependencies)
        experiment.run()
    silent = {name: job for name, job in experiment.failed.items() if state_of(left[name]) == State.WAITING}
    return {name: next(Path(job.executor.job_dir).rglob("combined.log"), None) for name, job in silent.items()}


def _experiment(name: str, env_vars: dict[str, str]) -> "LocalExperiment":
    return LocalExperiment(name, executor=run.LocalExecutor(env_vars=env_vars), log_level="WARNING", **QUIET)


def _command(asked: Run, spec: Spec, following: Iterable[Spec]) -> list[str]:
    """Arguments of the Python that runs the step and may go on with those `following`: over the layout's ranks if it
    takes many."""
    step = ["-m", "nemo_distill.step", *(str(one.folder / SPEC_FILE) for one in (spec, *following))]
    processes = Processes.of(spec, asked.facts.beside.layout)
    if processes.world == 1:
        return step
    return torchrun(step, nodes=processes.nodes, ranks_per_node=processes.per_node)


class LocalExperiment(Experiment):
    """`run.Experiment` for tasks on this machine."""

    order: Order
    """Which task starts when."""
    deck: Deck
    """The GPUs that they are given."""
    waiting: Waiting
    """Who says what they wait for."""
    specs: Mapping[str, Spec] = MappingProxyType({})
    """The steps by task."""
    following: Mapping[str, list[str]] = MappingProxyType({})
    """For each task those that its process may go on with, in order."""
    failed: Mapping[str, Job] = MappingProxyType({})
    """After the run: the tasks that ended otherwise than well, in the order in which they did."""

    def _run_dag(self, detach: bool, tail_logs: bool, executors: set) -> None:
        assert not detach, "a local experiment ends with the process that started it"
        self._cards: dict[str, tuple[Card, ...]] = {}
        waiting: dict[str, Job] = {job.id: job for job in self._jobs}
        running: dict[str, Job] = {}
        gone_on: dict[str, Job] = {}  # whose step the process of another is at
        succeeded: set[str] = set()
        self._launched = self._waited = True
        try:
            with interrupts_kept() as interrupted:
                while running or waiting:
                    if interrupted():
                        raise KeyboardInterrupt
                    for name, job in list(running.items()):
                        job.state = self._state(job)
                        if is_terminal(job.state):
                            del running[name]
                            job.cleanup()
                            self.deck.give_back(self._cards.pop(name, ()))
                            if job.state != AppState.SUCCEEDED:
                                self.failed = {**self.failed, name: job}
                            elif name in gone_on and not self.specs[name].done:  # it has not, after all
                                waiting[name] = gone_on.pop(name)
                            else:
                                succeeded.add(name)
                        elif self.following[name] and self.specs[name].done:
                            succeeded.add(name)
                            after = self.following[name][0]
                            if after not in waiting:  # something has failed meanwhile
                                continue
                            running[after] = running.pop(name)
                            gone_on[after] = waiting.pop(after)
                            gone_on[after].state = AppState.SUCCEEDED  # as far as it is NeMo-Run's to know
                            if name in self._cards:
                                self._cards[after] = self._cards.pop(name)
                    if self.failed and waiting:
                        waiting.clear()
                        self._begin_no_more(running)
                    counts = {name: len(self._cards.get(name, ())) for name in running}
                    ready = self.order.next(done=succeeded, running=counts, free=self.deck.free) if waiting else {}
                    for name, count in ready.items():
                        if self._has_gpus(waiting[name], count):
                            running[name] = waiting.pop(name)
                            running[name].launch(wait=False, runner=self._runner)
                    assert running or ready or not waiting, f"no task can start among {sorted(waiting)}"
                    if running or waiting:
                        time.sleep(POLL_SECONDS)
        finally:
            # After Ctrl-C, or an error here: the tasks get SIGTERM and, ten seconds later, SIGKILL.
            for job in running.values():
                with contextlib.suppress(ProcessLookupError):
                    job.cancel(runner=self._runner)
                job.state = AppState.CANCELLED
            with contextlib.suppress(OSError):  # of a full disk, say: no step is judged by it
                self._save_jobs()

    def _begin_no_more(self, running: Iterable[str]) -> None:
        """Keep the processes of the tasks that run from going on with the next step, so far as they have not."""
        for name in itertools.chain(*(self.following[name] for name in running)):
            spec = self.specs[name]
            layout = dataclasses.replace(spec.beside.layout, keep_process=False)
            if state_of(spec) not in (State.RUNNING, State.DONE):
                spec.save(dataclasses.replace(spec.beside, layout=layout))

    def _has_gpus(self, job: Job, count: int) -> bool:
        """Whether the task has so many GPUs, or as many as it takes at least, and is told of them; another command may
        have them."""
        if count == 0:
            return True
        if not self.waiting.due(job.id):
            return False
        least = self.order.needs[job.id].gpus
        cards = self.deck.take(least, most=count)
        if cards is None:
            self.waiting.note(job.id, least, self.deck)
            return False
        self._cards[job.id] = cards
        for role in job._executable.roles:
            role.env.update(self.deck.variables(cards))
        job._dryrun_info = None  # NeMo-Run made it before, with the environment as it was
        return True

    def _state(self, job: Job) -> AppState:
        """The state of a task that was launched. Job.status drops every error, and then says what it said before."""
        found = self._runner.status(job.handle)
        return found.state if found else job.state


@contextlib.contextmanager
def _forks_of(specs: Iterable[Spec], experiment: LocalExperiment) -> Iterator[dict[str, str]]:
    """Within the block, steps that import the same for seconds are forked from one process that has imported it.

    Gives the variables that the tasks need for it: none where fewer than two steps do, nor where whoever started this
    command has such a process already, for this command and others.
    """
    if forkserver.VARIABLE in os.environ:
        yield {}
        return
    wanted = [imports for spec in specs if (imports := forkserver.imports_of(spec.module))]
    names = dict.fromkeys(itertools.chain(*wanted)) if len(wanted) > 1 else ()
    # As torchx starts a task: in this process's environment, but for the executor's variables.
    environment = {"PYTHONUNBUFFERED": "x", **os.environ, **experiment.executor.env_vars}
    log = experiment.make_folder() / FORK_SERVER if names else None
    with forkserver.serving(tuple(names), environment, log=log) as variables:
        yield variables
