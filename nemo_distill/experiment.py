"""What a recipe calls, `run_experiment`: from settings to a run, previewed and, unless it is a dry one, made.

settings -> Recipe      every value, at the scale of the executor       nemo_distill.config
         -> steps       what each is told, and what it waits for        nemo_distill.pipeline
         -> Run         a folder for each, and what was asked for       nemo_distill.run
         -> preview     what will run and what it costs                 nemo_distill.plan
         -> launch      on this machine or on a cluster                 nemo_distill.launch
"""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import get_scale
from nemo_distill.config.settings import BOILERPLATE, NGRAM, Settings
from nemo_distill.config.teacher import STAND_IN
from nemo_distill.contamination.questions import questions_for
from nemo_distill.errors import UserError, nearest
from nemo_distill.kd.losses import find_loss
from nemo_distill.launch.context import Context
from nemo_distill.launch.executors import Dealing, Executor, missing
from nemo_distill.launch.launch import check, launch
from nemo_distill.launch.preflight import About, preflight
from nemo_distill.outcome.serving import benched_of, check_context
from nemo_distill.outcome.suites import Asked, ask
from nemo_distill.outcome.weights import check_weights
from nemo_distill.pipeline import SERVE_BENCH, build_steps
from nemo_distill.plan import limits
from nemo_distill.plan.estimate import Estimate, estimate_of
from nemo_distill.plan.layouts import misfit, nearest_within
from nemo_distill.plan.preview import hashing, print_preview
from nemo_distill.plan.teacher import look
from nemo_distill.plan.timeline import Box
from nemo_distill.prune.fp8_shapes import Alignment, check_alignable
from nemo_distill.prune.scores import find_score
from nemo_distill.run.facts import RunFacts
from nemo_distill.run.gpus import why_short
from nemo_distill.run.manifest import Run
from nemo_distill.run.naming import Named, changes, deciding_in, deciding_of, name_of, set_otherwise
from nemo_distill.run.step import Spec, Step, place
from nemo_distill.run.terminal import Terminal
from nemo_distill.track.kinds import chosen
from nemo_distill.track.run import tracked


def run_experiment(ctx: Context, settings: Settings) -> None:
    """Preview the run that `settings` describe and, unless it is a dry one, make it."""
    scale = get_scale(settings.scale or ctx.executor.scale)
    base = ctx.name if ctx.name.endswith(scale.name) else f"{ctx.name}-{scale.name}"
    if not settings.teacher and scale.teacher_made_by and not Path(scale.teacher).is_dir():
        raise UserError(
            f"scale={scale.name} has its teacher in the folder {scale.teacher}, which is not there: "
            f"{scale.teacher_made_by} makes it, and teacher=FOLDER names another."
        )
    site, trackers = ctx.executor.evaluations(), chosen(settings.track)
    recipe, console = Recipe.of(base, settings, scale, at_once=True, written=ctx.own), Terminal()
    steps, asked = steps_of(recipe, site)
    folder = _runs_folder(settings.runs)
    specs = place(steps, runs=folder)
    teacher = look(recipe.teacher, imported=specs["import-teacher"].folder)
    if teacher.shape:
        limits.check(recipe, teacher.shape, asked.loads, context=asked.context)
        if SERVE_BENCH in specs:
            check_context(specs[SERVE_BENCH].config, teacher.shape.max_position_embeddings)
        if recipe.prune.chip_friendly == "require" and recipe.prune.export_config is None:
            alignment = Alignment(multiple=recipe.prune.chip_multiple, tensor_parallel=recipe.prune.tensor_parallel)
            check_alignable(teacher.shape, recipe.prune, alignment)
    if not (recipe.teacher.on_hub or specs["import-teacher"].done):
        check_weights(recipe.teacher.path)
    if recipe.teacher.unhashed and not ctx.dryrun and ctx.preflight is None:
        console.print(hashing(recipe.teacher), highlight=False, soft_wrap=True)
        recipe = dataclasses.replace(recipe, teacher=recipe.teacher.hashed())
        steps, asked = steps_of(recipe, site)
        specs = place(steps, runs=folder)
    named = _named(ctx, recipe, folder)
    facts = RunFacts.of(recipe, executor=ctx.executor.name, evaluation=asked.site)
    facts = dataclasses.replace(facts, recipe_name=ctx.recipe, changed=named.changed)
    run = Run(name=named.name, runs=folder, specs=specs, facts=facts)
    if ctx.named and ctx.preflight is None and (problem := _taken(run)):
        raise UserError(problem)
    run = dataclasses.replace(run, facts=run.facts.tracked_as(tracked(run, trackers)))
    if named.instead_of:
        console.print(
            f"{named.instead_of} is a run of other settings, so this one is {named.name}.",
            style="yellow", highlight=False, soft_wrap=True,
        )  # fmt: skip
    check(run)
    wanted = _needed_for(ctx.until, specs) if ctx.until else specs
    part = run.until(wanted) if ctx.until else run
    estimate = estimate_of(recipe, run, asked, teacher.shape)
    problem = misfit(estimate.job) if estimate else None
    short = _short_of_gpus(ctx, part, estimate) if ctx.preflight is None else None
    if short and not ctx.dryrun:
        raise UserError(short)
    ctx.executor.check(part, dryrun=ctx.dryrun or ctx.preflight is not None, detach=ctx.detach)
    unfilled = missing(ctx.executor)
    if ctx.preflight is not None:
        if problem:
            raise UserError(problem)
        about = About(
            recipe=recipe,
            teacher=teacher.shape,
            estimate=estimate,
            unready=asked.unready,
            iterations=ctx.preflight,
        )
        preflight(ctx, run, about, console)
        return
    elsewhere = short or _not_here(ctx, part) if ctx.dryrun else None
    unready = asked.unready if any(_asks(spec) and not spec.done for spec in wanted.values()) else None
    print_preview(
        run,
        console,
        recipe=recipe,
        teacher=teacher,
        asked=asked,
        estimate=estimate,
        steps=wanted,
        unsettled=unsettled(steps, specs) if recipe.teacher.unhashed else (),
        blockers=[sentence for sentence in (problem, elsewhere, unfilled, unready) if sentence] if ctx.dryrun else (),
        box=_box(ctx.executor, recipe),
    )
    if problem:
        raise UserError(problem)
    if unready and not (ctx.dryrun or unfilled):  # what to fill in is the first, and said by `launch`
        raise UserError(unready)
    launch(ctx, part, console=console)


def _named(ctx: Context, recipe: Recipe, runs: Path) -> Named:
    """What the run of `recipe` is called in the folder `runs`."""
    own = None
    if ctx.own:
        with contextlib.suppress(UserError):  # the recipe as it stands cannot be had at this scale, or here
            own = deciding_of(Recipe.of(recipe.name, ctx.own, recipe.scale, at_once=True))
    mine = deciding_of(recipe)
    changed = set_otherwise(mine, own, ctx.words)
    return Named(name=recipe.name, changed=changed) if ctx.named else name_of(recipe.name, mine, changed, runs=runs)


def _not_here(ctx: Context, run: Run) -> str | None:
    """What keeps the executor from starting the run that it previews; None: nothing."""
    try:
        ctx.executor.check(run, dryrun=False, detach=ctx.detach)
    except UserError as error:
        return str(error)
    return None


def _short_of_gpus(ctx: Context, run: Run, estimate: Estimate | None) -> str | None:
    """The sentence on a step that takes more GPUs than the executor has to give; None: there is none."""
    layout = run.facts.beside.layout
    if not isinstance(ctx.executor, Dealing) or layout.nodes > 1:
        return None
    names = ctx.executor.gpu_names
    near = nearest_within(estimate.job, len(names)) if estimate and names else None
    return why_short([spec for spec in run.specs.values() if not spec.done], layout, names, nearest=near)


def _box(executor: Executor, recipe: Recipe) -> Box | None:
    """The machine whose GPUs the steps share; None where they do not."""
    if not isinstance(executor, Dealing) or recipe.layout.nodes > 1:
        return None
    count = len(executor.gpu_names)
    return Box(gpus=count if count >= recipe.layout.gpus_per_node else 0, others=executor.parallel_steps)


def _taken(run: Run) -> str | None:
    """Why the name that a user gave is another run's, whose work would be lost from sight; None: it is not."""
    there = run.there()
    if there is None or run.kept_as() is None:
        return None
    differs = changes(deciding_in(run), deciding_in(there), run.facts.changed)
    if not differs:  # only the code is another
        return None
    before = deciding_in(there)
    said = ", ".join(f"{key}={before.get(key)} there and {value} here" for key, value in differs.items())
    return f"--name {run.name} is a run of other settings ({said}): give another name, or none, which tells them apart."


def steps_of(recipe: Recipe, site: Mapping[str, Any] | None = None) -> tuple[list[Step], Asked]:
    """The steps of a run of `recipe`, and what every checkpoint is asked in it, at the `site` of the executor.

    Raises `UserError` for a name in it that stands for nothing.
    """
    find_score(recipe.prune.score)
    find_loss(recipe.distill.loss)
    benched = benched_of(recipe)
    asked = ask(recipe.evaluate, site, vllm_for="serve_bench" if benched else "")
    questions = questions_for(asked.own, recipe.prepare.questions)
    if not questions and (recipe.prepare.ngram, recipe.prepare.boilerplate) != (NGRAM, BOILERPLATE):
        raise UserError(
            f"prepare.ngram={recipe.prepare.ngram} and prepare.boilerplate={recipe.prepare.boilerplate:g} say how "
            f"questions are looked for, and evaluate.suite={recipe.evaluate.suite} brings none: say prepare.questions="
            "FOLDER."
        )
    return build_steps(recipe, asked=asked, questions=questions, benched=benched), asked


def _runs_folder(said: str) -> Path:
    """The folder of all runs. Raises `UserError` for what is none of a file system."""
    if not said.strip():
        raise UserError("runs= names no folder: runs=runs is the usual one, and runs=. the current one.")
    if "://" in said:
        raise UserError(f"runs={said} is an address, and runs are kept in a folder: say runs=FOLDER.")
    return Path(said).expanduser().resolve()


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
