"""Starts the checks of what a run will need, as one short job at its layout, and says GO or NO-GO.

    preflight(ctx, run, about, console)         # `nemo-run preflight RECIPE`; RunFailed on NO-GO

What is checked lies in `nemo_distill.preflight`. The job is a step of a run by itself, RUNS/.preflight/NAME, so
executors launch it as any other; RUNS/.preflight/NAME/preflight.json is what it found. Each call makes it anew.
"""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nemo_distill.config.plain import PACKAGE
from nemo_distill.config.recipe import Recipe
from nemo_distill.errors import RunFailed, UserError
from nemo_distill.launch import executors
from nemo_distill.launch.context import Context
from nemo_distill.launch.launch import check, check_hidden
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.plan.disk import STATE
from nemo_distill.plan.estimate import Estimate
from nemo_distill.plan.layouts import student_shape
from nemo_distill.preflight.machines import Surroundings
from nemo_distill.preflight.results import CHECKS, FILE, GO, Check, Outcome, Record, verdict_of
from nemo_distill.run.job import NO_JOBS, Job
from nemo_distill.run.manifest import Run, State, failure_of, state_of
from nemo_distill.run.progress import write_atomically
from nemo_distill.run.provenance import LOCK, locked_versions, redact
from nemo_distill.run.secrets import remember
from nemo_distill.run.sharing import share
from nemo_distill.run.step import Spec, Step, place

FOLDER = ".preflight"
"""Among the runs."""
NAME = "preflight"
WIDTH = 16
"""The student's width is rounded down to a multiple of this, which every kernel takes, until the search has chosen."""
STYLE: Mapping[Outcome, str] = {Outcome.OK: "green", Outcome.FAILED: "bold red", Outcome.UNCHECKED: "dim"}
NOT_COVERED = (
    "Not covered: the weights of checkpoints, what the sources hold, training checkpoints in the framework's own form, "
    "pruning, and evaluations."
)


@runtime_checkable
class Surrounding(Protocol):
    """An executor that puts jobs into something that can be checked."""

    @property
    def surroundings(self) -> Surroundings:
        """Image and mounts of the job."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of the run to come, beside its steps."""

    recipe: Recipe
    """What decides it."""
    teacher: Shape | None
    """Sizes of the teacher; None where they cannot be had now."""
    estimate: Estimate | None
    """What it will cost; None where the layout asks for no GPU."""
    unready: str
    """The sentence on what the site has not said of evaluations; empty where it has said all."""
    iterations: int
    """Number of iterations that are tried; 0: none."""


def preflight(ctx: Context, run: Run, about: About, console: Console) -> None:
    """Check what `run` will need, and say what was found.

    Raises:
        UserError: Before anything is written, when the run cannot be made as asked.
        RunFailed: On NO-GO, which has been said.
    """
    executor = ctx.executor
    remember(executors.hidden_values(executor))
    surroundings = executor.surroundings if isinstance(executor, Surrounding) else Surroundings()
    folder = run.runs / FOLDER / run.name
    specs = place([_step(run, about, surroundings)], runs=folder)
    facts = run.facts.launched_by(executor.name, command=redact(list(ctx.command)))
    own = Run(name=run.name, runs=folder, specs=specs, facts=dataclasses.replace(facts.tracked_as(None), launched={}))
    check(own)
    check_hidden(executor)
    executor.check(own, dryrun=ctx.dryrun, detach=False)
    layout = own.facts.beside.layout
    ranks = f"{layout.ranks} {'rank' if layout.ranks == 1 else 'ranks'} on {layout.nodes} "
    console.print(f"Preflight of {run.name}: {ranks}{'node' if layout.nodes == 1 else 'nodes'}.", highlight=False)
    for line in executor.describe(own):
        console.print(line, highlight=False)
    if ctx.dryrun:
        for name, what in CHECKS.items():
            console.print(Text.assemble(f"  {name:<11} ", (what, "dim")), soft_wrap=True)
        console.print(NOT_COVERED, highlight=False, soft_wrap=not console.is_terminal)
        return
    if unfilled := executors.missing(executor):
        raise UserError(unfilled)
    share(run.runs)
    _forget(specs[NAME])
    failure = ""
    try:
        executor.launch(own, console, detach=False)
    except RunFailed:
        failure = _why(own)
    found = Record.read(specs[NAME].folder / FILE).ended(failure)
    verdict = _say(found, console)
    said = {"schema": 1, "run": run.name, "verdict": verdict, "checks": [one.record() for one in found.values()]}
    path = folder / FILE
    write_atomically(path, json.dumps(said, indent=1))
    console.print(f"Kept in {path}", highlight=False, soft_wrap=True)
    if verdict != GO:
        raise RunFailed(run.name)


def _step(run: Run, about: About, surroundings: Surroundings) -> Step:
    recipe, specs = about.recipe, run.specs
    imported, prepared = specs["import-teacher"].done, specs["prepare"].done
    lock = PACKAGE.parent / LOCK
    config: dict[str, Any] = {
        "surroundings": surroundings.record(),
        "lock": locked_versions(lock.read_text(encoding="utf-8")) if lock.is_file() else None,
        "sources": specs["prepare"].config["sources"],
        "prepared": prepared,
        "teacher": recipe.teacher.path if recipe.teacher.on_hub and not imported else "",
        "evaluation": specs["evaluate-teacher"].config,
        "unready": about.unready,
        "checkpoint": 0,
        "trial": "--iterations 0 leaves them out.",
    }
    if about.teacher is None:
        config["trial"] = "The teacher's config.json cannot be read now, so its shape is not known."
        return Step(NAME, f"nemo_distill.steps.{NAME}", config)
    student, _ = student_shape(about.teacher, recipe.prune, pruned=specs["prune"].folder)
    config["checkpoint"] = STATE * student.parameters()
    if about.iterations:
        config["trial"] = _trial(run, about, about.teacher, student)
    return Step(NAME, f"nemo_distill.steps.{NAME}", config)


def _trial(run: Run, about: About, teacher: Shape, student: Shape) -> dict[str, Any]:
    """The record of a `preflight.iterations.Trial`, whose module imports torch: written here as plain data."""
    segment = next(spec.config for name, spec in run.specs.items() if name.startswith("distill-"))
    if not run.specs["prune"].done:
        width = max(WIDTH, student.hidden_size // WIDTH * WIDTH)
        student = dataclasses.replace(student, hidden_size=width)
    return {
        "iterations": about.iterations,
        "course": {key: value for key, value in segment["course"].items() if key != "schedule"},
        "kd": segment["kd"],
        "intermediate_layers": segment["intermediate_layers"],
        "teacher": dataclasses.asdict(teacher),
        "student": dataclasses.asdict(student),
        "layer_spec": about.recipe.scale.layer_spec,
        "expected_seconds": about.estimate.job.iteration_seconds if about.estimate else None,
    }


def _forget(spec: Spec) -> None:
    """Remove what the last preflight of the same settings left, unless a process or a job is at it."""
    if state_of(spec) in (State.DONE, State.FAILED):
        shutil.rmtree(spec.folder)


def _why(own: Run) -> str:
    """Why the job did not come to its end."""
    jobs: Mapping[str, Job] = NO_JOBS
    if own.path.exists() and (following := executors.follow(Run.load(own.path))):
        jobs = following.look()
    return failure_of(own.specs[NAME], jobs.get(NAME)).error.splitlines()[0]


def _say(found: Mapping[str, Check], console: Console) -> str:
    """Print what was found and the verdict, with the checks that speak against it; returns the verdict."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in found.values():
        outcome = Text(one.outcome.value, style=STYLE[one.outcome])
        why = f"{one.figure}. {one.why}" if one.figure else one.why
        if console.is_terminal:
            table.add_row(one.name, outcome, Text(why))
        else:
            console.print(Text(f"{one.name}: {outcome}. {why}"), soft_wrap=True)
    if console.is_terminal:
        console.print(table)
    console.print(NOT_COVERED, style="dim", highlight=False, soft_wrap=not console.is_terminal)
    verdict = verdict_of(found)
    failed = ", ".join(one.name for one in found.values() if one.outcome == Outcome.FAILED)
    console.print(Text(f"{verdict}: {failed}" if failed else verdict, style="bold red" if failed else "bold green"))
    return verdict
