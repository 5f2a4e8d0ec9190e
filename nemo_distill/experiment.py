"""What a recipe calls, `run_experiment`: from settings to a run, previewed and, unless it is a dry one, made.

settings -> Recipe      every value, at the scale of the executor       nemo_distill.config
         -> steps       what each is told, and what it waits for        nemo_distill.pipeline
         -> Run         a folder for each, and what was asked for       nemo_distill.run
         -> preview     what will run and what it costs                 nemo_distill.plan
         -> launch      on this machine or on a cluster                 nemo_distill.launch
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import get_scale
from nemo_distill.config.settings import BOILERPLATE, NGRAM, Settings
from nemo_distill.config.teacher import STAND_IN
from nemo_distill.contamination.questions import questions_for
from nemo_distill.errors import UserError, nearest
from nemo_distill.kd.losses import find_loss
from nemo_distill.launch.context import Context
from nemo_distill.launch.executors import missing
from nemo_distill.launch.launch import check, launch
from nemo_distill.outcome.suites import Asked, ask
from nemo_distill.pipeline import build_steps
from nemo_distill.plan import limits
from nemo_distill.plan.estimate import estimate_of
from nemo_distill.plan.layouts import misfit
from nemo_distill.plan.preview import hashing, print_preview
from nemo_distill.plan.teacher import look
from nemo_distill.prune.scores import find_score
from nemo_distill.run.facts import RunFacts
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import Spec, Step, place
from nemo_distill.track.kinds import chosen
from nemo_distill.track.run import tracked


def run_experiment(ctx: Context, settings: Settings) -> None:
    """Preview the run that `settings` describe and, unless it is a dry one, make it."""
    scale = get_scale(settings.scale or ctx.executor.scale)
    name = ctx.name if ctx.name.endswith(scale.name) else f"{ctx.name}-{scale.name}"
    site, trackers = ctx.executor.evaluations(), chosen(settings.track)
    recipe, console = Recipe.of(name, settings, scale, at_once=True), Console()
    steps, asked = steps_of(recipe, site)
    folder = Path(settings.runs).resolve()
    specs = place(steps, runs=folder)
    teacher = look(recipe.teacher, imported=specs["import-teacher"].folder)
    if teacher.shape:
        limits.check(recipe, teacher.shape, asked.loads, context=asked.context)
    if recipe.teacher.unhashed and not ctx.dryrun:
        console.print(hashing(recipe.teacher), highlight=False, soft_wrap=True)
        recipe = dataclasses.replace(recipe, teacher=recipe.teacher.hashed())
        steps, asked = steps_of(recipe, site)
        specs = place(steps, runs=folder)
    facts = RunFacts.of(recipe, executor=ctx.executor.name, evaluation=asked.site)
    run = Run(name=recipe.name, runs=folder, specs=specs, facts=facts)
    run = dataclasses.replace(run, facts=run.facts.tracked_as(tracked(run, trackers)))
    check(run)
    ctx.executor.check(run, dryrun=ctx.dryrun, detach=ctx.detach)
    wanted = _needed_for(ctx.until, specs) if ctx.until else specs
    estimate = estimate_of(recipe, run, asked.loads, teacher.shape)
    print_preview(
        run,
        console,
        recipe=recipe,
        teacher=teacher,
        asked=asked,
        estimate=estimate,
        steps=wanted,
        unsettled=unsettled(steps, specs) if recipe.teacher.unhashed else (),
    )
    if estimate and (problem := misfit(estimate.job)):
        raise UserError(problem)
    if asked.unready and any(_asks(spec) and not spec.done for spec in wanted.values()):
        if not (ctx.dryrun or missing(ctx.executor)):  # which is the first thing to fill in, and said by `launch`
            raise UserError(asked.unready)
        console.print(f"Before it can run: {asked.unready}", style="yellow", highlight=False)
    launch(ctx, dataclasses.replace(run, specs=wanted), console=console)


def steps_of(recipe: Recipe, site: Mapping[str, Any] | None = None) -> tuple[list[Step], Asked]:
    """The steps of a run of `recipe`, and what every checkpoint is asked in it, at the `site` of the executor.

    Raises `UserError` for a name in it that stands for nothing.
    """
    find_score(recipe.prune.score)
    find_loss(recipe.distill.loss)
    asked = ask(recipe.evaluate, site)
    questions = questions_for(asked.own, recipe.prepare.questions)
    if not questions and (recipe.prepare.ngram, recipe.prepare.boilerplate) != (NGRAM, BOILERPLATE):
        raise UserError(
            f"prepare.ngram={recipe.prepare.ngram} and prepare.boilerplate={recipe.prepare.boilerplate:g} say how "
            f"questions are looked for, and evaluate.suite={recipe.evaluate.suite} brings none: say prepare.questions="
            "FOLDER."
        )
    return build_steps(recipe, asked=asked, questions=questions), asked


def _asks(spec: Spec) -> bool:
    return spec.module.endswith(".evaluate")


def unsettled(steps: list[Step], specs: dict[str, Spec]) -> frozenset[str]:
    """Names of the steps whose folders are not known before the teacher is hashed, on whose digest they depend."""
    others = [
        dataclasses.replace(step, config={k: "" if v == STAND_IN else v for k, v in step.config.items()})
        for step in steps
    ]
    placed = place(others, runs=Path())
    return frozenset(name for name, spec in specs.items() if placed[name].fingerprint != spec.fingerprint)


def _needed_for(step: str, specs: dict[str, Spec]) -> dict[str, Spec]:
    """The step and all it waits for, directly or not. Raises `UserError` for a step that is not there."""
    if step not in specs:
        raise UserError(f"the run has no step '{step}' to stop after. {nearest(step, specs)}")
    needed, waiting = set(), [step]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += specs[name].upstream
    return {name: spec for name, spec in specs.items() if name in needed}
