"""A run, from its placed steps to its outcome, through one NeMo-Run experiment.

    launch(ctx, Run(name="test", runs=folder, specs=place(steps, runs=folder)))

Steps whose mark of success stands are not launched at all, so the same command again finishes what was cut, or says
that there is nothing to do.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import nemo_run
from rich.console import Console

from nemo_distill.compat import nemo_run as compat
from nemo_distill.errors import UserError
from nemo_distill.launch import executors
from nemo_distill.launch.context import Context, RunFailed
from nemo_distill.launch.local import QUIET, LocalExperiment, forks_of
from nemo_distill.launch.slurm.jobscript import shape_of
from nemo_distill.launch.slurm.queueing import Terminated, check_cluster, describe, launch_facts, run_on_cluster
from nemo_distill.launch.slurm.snapshot import Code
from nemo_distill.outcome.show import print_outcome
from nemo_distill.run.display import Display, print_failure
from nemo_distill.run.locks import held_in
from nemo_distill.run.manifest import Run, State, state_of
from nemo_distill.run.provenance import redact
from nemo_distill.run.ranks import TENSOR_PARALLEL_VARIABLE, torchrun
from nemo_distill.run.secrets import secrets_within
from nemo_distill.run.sharing import how_to_share, nearest_there, share
from nemo_distill.run.step import NAME, SPEC_FILE, Spec, why_damaged

NEMORUN_FOLDER = ".nemo-run"
"""NeMo-Run's own records, inside the runs folder unless NEMORUN_HOME says otherwise."""


def launch(ctx: Context, run: Run, *, console: Console | None = None) -> None:
    """Run every step of `run` that is not done and show its outcome.

    Raises:
        UserError: Before anything is written, when the run cannot be made as asked.
        RunFailed: When a step failed; the failure has been printed.
    """
    console = console or Console()
    check(run)
    unfilled = executors.missing(ctx.executor)
    on_cluster = isinstance(ctx.executor, executors.SlurmExecutor)
    if on_cluster:
        code = Code.here()
        check_cluster(ctx.executor, run, code)
        for line in describe(ctx.executor, run, code):
            console.print(line, highlight=False)
        run.facts.update(launch_facts(ctx.executor, code))
    elif ctx.detach:
        raise UserError("--detach is for a cluster: on this machine the steps end with the command that started them.")
    if ctx.dryrun:
        if unfilled:
            console.print(f"Before it can run: {unfilled}", style="yellow", highlight=False, soft_wrap=True)
        return
    if unfilled:
        raise UserError(unfilled)
    nodes = (run.facts.get("layout") or {}).get("nodes") or 1
    if nodes > 1 and executors.name_of(ctx.executor) == "local":
        raise UserError(f"layout.nodes={nodes}, and --executor local has one machine: take layout.nodes=1.")
    share(run.runs)
    if on_cluster and not all(spec.done for spec in run.specs.values()):
        keep_records_in(run)
        with _terminated_like_interrupted():
            run_on_cluster(ctx, run, console, code)
        if not ctx.detach:
            print_outcome(run, console)
        return
    with _only_one(run, console):
        left = {name: spec for name, spec in run.specs.items() if not spec.done}
        if left:
            run.make_ready(left.values(), command=redact(ctx.command))
            run.save()
            with Display(run, console), _terminated_like_interrupted():
                stillborn = _run_experiment(ctx, run, left)
            # A mark of success, not an exit code, is what the next step goes by.
            if not all(spec.done for spec in left.values()):
                print_failure(run, console, stillborn=stillborn)
                raise RunFailed(run.name)
        else:
            if not (on_cluster and run.path.exists()):  # which holds the code that made it
                run.save()
            console.print(f"Nothing to do: all {len(run.specs)} steps of {run.name} are done.", highlight=False)
        print_outcome(run, console)


def check(run: Run) -> None:
    """Raise `UserError` for a name or folder that cannot be used and for finished steps whose output is damaged."""
    if not NAME.fullmatch(run.name):
        raise UserError(f"a run cannot be called '{run.name}': letters, digits, '.', '_' and '-' make a name.")
    check_folder(run.runs)
    told = {"settings": run.facts, **{spec.name: spec.config for spec in run.specs.values()}}
    for key in secrets_within(told):
        raise UserError(f"{key} holds what looks like a token, and would be written to {run.runs}: leave it out.")
    for spec in run.specs.values():
        if spec.done and (damaged := why_damaged(f"the output of {spec.name}", spec.folder)):
            raise UserError(damaged)


def check_folder(runs: Path) -> None:
    """Raise `UserError` when runs cannot be written to `runs`; makes nothing."""
    there = nearest_there(runs)
    if not there.is_dir():
        raise UserError(f"runs='{runs}' cannot be made: {there} is no folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"runs='{runs}' cannot be written: no permission in {there}.{how_to_share(there)}")


@contextlib.contextmanager
def _only_one(run: Run, console: Console) -> Iterator[None]:
    """Hold the run; while another command holds it, say so and wait. The steps' own locks guard what runs share."""

    def waiting() -> None:
        console.print(f"Another nemo-run is at work on {run.name}; waiting for it (nemo-run status {run.name}).")

    with held_in(run.runs, f".{run.name}.lock", waiting=waiting):
        yield


def _run_experiment(ctx: Context, run: Run, left: dict[str, Spec]) -> dict[str, Path]:
    """One task per step that is left, through NeMo-Run; returns when all have ended.

    What it returns are the steps whose process ended before it could say anything in the step's folder, with the
    file that holds what it said instead.
    """
    keep_records_in(run)
    with (
        LocalExperiment(
            run.name,
            executor=ctx.executor,
            log_level="WARNING",
            **QUIET,
        ) as experiment,
        forks_of(left.values(), experiment) as variables,
    ):
        for name, spec in left.items():
            command, environment = _command(run, spec)
            environment |= variables
            task = nemo_run.Script(path=command[1], m=True, entrypoint="python", args=command[2:], env=environment)
            dependencies = [upstream for upstream in spec.upstream if upstream in left]
            experiment.add(task, name=name, dependencies=dependencies)
        experiment.run()
    silent = [job for job in getattr(experiment, "failed", ()) if state_of(left[job.id]) == State.WAITING]
    return {job.id: next(Path(job.executor.job_dir).rglob("combined.log"), None) for job in silent}


def keep_records_in(run: Run) -> None:
    """Have NeMo-Run keep its records in the runs folder, unless NEMORUN_HOME says otherwise, and know our executors."""
    executors.register()
    compat.keep_records_in(run.runs / NEMORUN_FOLDER)


def _command(run: Run, spec: Spec) -> tuple[list[str], dict[str, str]]:
    """Arguments of the Python that runs the step, and its own environment: over the layout's ranks if it takes many."""
    step = ["-m", "nemo_distill.step", str(spec.folder / SPEC_FILE)]
    layout = run.facts.get("layout") or {}
    shape = shape_of(spec.name, layout)
    if shape.world == 1:
        return step, {}
    command = torchrun(step, nodes=shape.nodes, ranks_per_node=shape.processes_per_node)
    return command, {TENSOR_PARALLEL_VARIABLE: str(layout.get("tensor_parallel") or 1)}


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends the steps too, as Ctrl-C does."""

    def interrupt(signal_number: int, frame) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
