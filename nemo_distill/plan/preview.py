"""The preview of a run, before anything is spent: blend, milestones, cost, what scores can show, what each step does.

    print_preview(run, console, recipe=recipe, asked=asked, teacher=known, estimate=estimate)

It reads the runs folder and writes nothing. What a run costs is in `nemo_distill.plan.estimate`.
"""

import os
from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nemo_distill.config.blend import Blend
from nemo_distill.config.held_out import time_taken
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.schedule import Milestone, Schedule, format_tokens
from nemo_distill.config.sources import SOURCES
from nemo_distill.config.teacher import Teacher
from nemo_distill.data.prepared import tokens_counted
from nemo_distill.outcome.measured import SERVE_BENCH
from nemo_distill.outcome.suites import Asked
from nemo_distill.plan.benched import serving_in_words
from nemo_distill.plan.calibration import evidence
from nemo_distill.plan.disk import disk_remark
from nemo_distill.plan.estimate import Estimate, left_of
from nemo_distill.plan.layouts import student_shape
from nemo_distill.plan.quantisation import quantising_in_words
from nemo_distill.plan.tables import (
    cost_remarks,
    cost_table,
    detectable_table,
    duration_in_words,
    evaluation_cost_remarks,
    evaluation_remarks,
    evaluation_table,
    gpu_time,
    gpu_time_in_words,
    new_table,
)
from nemo_distill.plan.targets import pruning_in_words
from nemo_distill.plan.teacher import Known
from nemo_distill.plan.timeline import Box, timeline
from nemo_distill.run.manifest import Run, State, state_of

MOST_EPOCHS = 4
"""Epochs of a source that are worth nearly as much as new data (Muennighoff et al. 2023, arXiv:2305.16264)."""
_STYLE = {"skip": "dim", "run": "bold cyan", "resume": "bold yellow", "wait": "", "busy": "yellow"}
_FROM = {"published": "publ.", "reconstructed": "recon."}


def print_preview(
    run: Run,
    console: Console,
    *,
    recipe: Recipe,
    teacher: Known,
    asked: Asked,
    estimate: Estimate | None,
    steps: Iterable[str] | None = None,
    unsettled: Collection[str] = (),
    blockers: Sequence[str] = (),
    box: Box | None = None,
) -> None:
    """A summary, what keeps the run from starting first; then the rest. Of the steps those named, all if None.

    `blockers` are sentences on what has to be mended before it can run. `asked` is what every checkpoint is asked.
    `estimate` is None where no GPU is asked for or shapes are not known. `unsettled` steps have no folder yet, for want
    of the teacher's digest. `box` are the GPUs of this machine where it is to run all steps.
    """
    shown = list(run.specs if steps is None else steps)
    blend, milestones, available = recipe.blend, recipe.milestones, tokens_available(run, recipe.blend)
    executor = run.facts.executor
    about = f"{recipe.scale.name} scale, executor {executor}, seed {recipe.seed}"
    console.print(Text.assemble((run.name, "bold"), f": {about}"), soft_wrap=True)
    for blocker in blockers:
        say(console, f"Before it can run: {blocker}", style="bold yellow")
    say(console, summary(run, shown, estimate, unsettled))
    console.print(f"in {run.runs}", style="dim", highlight=False, markup=False, soft_wrap=True)
    console.print(teacher.in_words, style="" if teacher.shape else "yellow", highlight=False, soft_wrap=True)
    for line in pruning_in_words(recipe, teacher.shape):
        console.print(line, style="dim", highlight=False)
    student = student_shape(teacher.shape, recipe.prune, pruned=run.specs["prune"].folder)[0] if teacher.shape else None
    for line in quantising_in_words(recipe, student):
        console.print(line, style="dim", highlight=False, soft_wrap=True)
    if SERVE_BENCH in run.specs:
        served = serving_in_words(run.specs[SERVE_BENCH].config, estimate.benched_gpu_hours if estimate else None)
        console.print(served, style="dim", highlight=False, soft_wrap=True)
    console.print()
    console.print(blend_table(blend, milestones, available=available))
    _print_remarks(console, blend_remarks(blend, milestones, available=available) + source_remarks(run))
    console.print()
    console.print(milestone_table(recipe.schedule, milestones, estimate))
    _print_remarks(console, distillation_remarks(recipe) + segment_remarks(recipe) + held_out_remarks(recipe))
    if estimate:
        console.print()
        console.print(cost_table(estimate))
        _print_remarks(console, cost_remarks(estimate))
        if available:
            _print_remarks(console, [disk_remark(estimate, tokens=sum(available.values()), runs=run.runs)])
        if estimate.of_student.parts:
            console.print()
            console.print(evaluation_table(estimate))
            _print_remarks(console, evaluation_cost_remarks(estimate))
        planned = timeline(run, estimate, steps=shown, box=box) if box and not unsettled else []
        _print_remarks(console, [("", ""), *planned] if planned else [])
    elif recipe.layout.gpu:
        console.print("Cost: not known before import-teacher is done, which reads the teacher's shape.", style="yellow")
    console.print()
    console.print(detectable_table(asked.loads))
    _print_remarks(console, evaluation_remarks(asked))
    console.print()
    console.print(step_table(run, shown, unsettled))
    if recipe.teacher.unhashed:
        console.print(hashing(recipe.teacher), style="yellow", highlight=False, soft_wrap=True)
        command = f"python -m nemo_distill.config.digests {recipe.teacher.path}"
        sentence = f"What is open is known after that, or after `{command}`."
        console.print(sentence, style="yellow", highlight=False, soft_wrap=True)
    console.print()


def say(console: Console, sentence: str, *, style: str = "") -> None:
    """Print a sentence: whole in a pipe, by words where there is a width to keep to."""
    narrow = console.is_terminal or "COLUMNS" in os.environ
    console.print(Text(sentence, style=style), soft_wrap=not narrow)


def summary(run: Run, steps: Sequence[str], estimate: Estimate | None, unsettled: Collection[str] = ()) -> str:
    """How many of the steps are to run, and what that takes."""
    if unsettled:
        return f"{len(steps)} steps, of which those that are done are known once the teacher is hashed."
    actions = [decide(run, name)[0] for name in steps]
    done = actions.count("skip")
    if done == len(steps):
        return f"{done} steps: all done."
    began = actions.count("resume")
    counts = ((done, "done"), (began, "begun before"), (len(steps) - done - began, "to run"))
    parts = [f"{len(steps)} steps: {', '.join(f'{number} {what}' for number, what in counts if number)}"]
    if estimate:
        parts.append(f"{gpu_time_in_words(left_of(estimate, steps))} to spend")
        labels = [label for label in estimate.segments if {f"distill-{label}"} & set(steps) - estimate.done]
        if labels:
            hours = sum(map(estimate.segment_hours, labels))
            on = f"{estimate.job.gpus} {estimate.job.gpu.name} {evidence(estimate.job).value}"
            parts.append(f"{duration_in_words(hours)} of training on {on}")
    return "; ".join(parts) + "."


def hashing(teacher: Teacher) -> str:
    """The sentence on a teacher that is still to be hashed."""
    return (
        f"The teacher's folder has {teacher.unhashed / 1e9:,.1f} GB that have not been hashed yet, by which it is told "
        "from others: a run does it, once, and keeps the digest in the user's cache folder."
    )


def _print_remarks(console: Console, remarks: Iterable[tuple[str, str]]) -> None:
    for sentence, style in remarks:
        console.print(Text(sentence, style=style))


def blend_table(blend: Blend, milestones: Sequence[Milestone], *, available: dict[str, int] | None) -> Table:
    """Share of each source, where the share comes from, what the source holds, and its epochs at every milestone.

    Args:
        blend: The blend.
        milestones: Those at which epochs are counted.
        available: Tokens that each source holds; None while they have not been counted.
    """
    table = new_table(
        f"Blend {blend.name}: epochs by milestone",
        "source", ">%", "from", ">holds", *(f">{milestone.label}" for milestone in milestones), gap=1,
    )  # fmt: skip
    epochs = {milestone: _epochs_known(blend, milestone, available) for milestone in milestones}
    for source, share in sorted(blend.shares.items(), key=lambda item: -item[1]):
        cells = [_epochs(epochs[milestone].get(source)) for milestone in milestones]
        repeats = epochs[milestones[-1]].get(source, 0) > MOST_EPOCHS
        holds = _held(blend, source, available) if available and source in available else "?"
        origin = blend.provenance_of(source).partition(":")[0]
        table.add_row(f"{source} !" if repeats else source, f"{share:g}", _FROM.get(origin, "own"), holds, *cells)
    return table


def blend_remarks(
    blend: Blend, milestones: Sequence[Milestone], *, available: dict[str, int] | None
) -> list[tuple[str, str]]:
    """(sentence, style) of what the table cannot say."""
    if not available:
        return [("Epochs are known once the sources are prepared, which counts their tokens.", "dim")]
    remarks = []
    over_limit = {
        source: next(m.label for m in milestones if _epochs_known(blend, m, available)[source] > MOST_EPOCHS)
        for source, epochs in _epochs_known(blend, milestones[-1], available).items()
        if epochs > MOST_EPOCHS
    }
    if over_limit:
        listed = ", ".join(f"{source} (by {label})" for source, label in over_limit.items())
        sentence = (
            f"! Repeated for more than {MOST_EPOCHS} epochs: {listed}. Up to {MOST_EPOCHS} epochs are nearly as good "
            "as new data, more are not (Muennighoff et al. 2023, arXiv:2305.16264)."
        )
        remarks.append((sentence, "yellow"))
    if unknown := [source for source in blend.shares if source not in available]:
        remarks.append((f"Epochs of {', '.join(unknown)} are known once prepare has counted the tokens.", "dim"))
    if any(_is_estimated(blend, source, available) for source in available):
        remarks.append(("~ is an estimate, until prepare has counted the tokens.", "dim"))
    return remarks


def source_remarks(run: Run) -> list[tuple[str, str]]:
    """(sentence, style) of sources that are of one content; of those on the hub it is known once they are read."""
    named: dict[str, list[str]] = {}
    for source in run.specs["prepare"].config["sources"]:
        if "sha256" in source:
            named.setdefault(source["sha256"], []).append(source["name"])
    return [
        (f"! {' and '.join(names)} are sources of the same content, which counts in each.", "yellow")
        for names in named.values()
        if len(names) > 1
    ]


def milestone_table(schedule: Schedule, milestones: Iterable[Milestone], estimate: Estimate | None = None) -> Table:
    """Iteration, tokens and learning rate at each milestone, and what the job that leads to it takes."""
    costs = (f">GPU-hours {evidence(estimate.job).value}", ">wall-clock") if estimate else ()
    title = f"Milestones, of {schedule.max_iterations:,} iterations"
    table = new_table(title, "milestone", ">iteration", ">tokens", ">learning rate", *costs)
    for milestone in milestones:
        row = [milestone.label, f"{milestone.iteration:,}", f"{milestone.tokens:,}", f"{milestone.learning_rate:.3g}"]
        if estimate:
            hours = estimate.segment_hours(milestone.label)
            row += [gpu_time(estimate.segment_gpu_hours(milestone.label)), duration_in_words(hours)]
        table.add_row(*row)
    return table


def distillation_remarks(recipe: Recipe) -> list[tuple[str, str]]:
    """(sentence, style) of how the student learns otherwise than in the study."""
    if not recipe.distill.reset_at_documents:
        return []
    sentence = (
        "Documents of a sequence are kept apart in teacher and student: attention, convolution and Mamba's state begin "
        "anew at each (distill.reset_at_documents=true)."
    )
    return [(sentence, "")]


def segment_remarks(recipe: Recipe) -> list[tuple[str, str]]:
    """(sentence, style) of how one segment follows another; none of a single one."""
    if len(recipe.milestones) == 1:
        return []
    sentence = "Each segment has a process of its own, which loads models and data (layout.keep_process=false)."
    if recipe.layout.keep_process:
        sentence = (
            "A process goes on from one segment to the next with what it has loaded; a milestone is exported and "
            "evaluated as soon as it is there (layout.keep_process=true)."
        )
    return [(sentence, "dim")]


def held_out_remarks(recipe: Recipe) -> list[tuple[str, str]]:
    """(sentence, style) of what is measured on held-out documents; none where there are none."""
    plan = recipe.measuring
    if plan is None:
        return []
    often = f", at every milestone and each {plan.every:,} iterations" if plan.every else " and at every milestone"
    taken = time_taken(plan, **recipe.measured)
    sentence = (
        f"Held out: {recipe.prepare.held_out:.3g} of each source's documents. Up to {plan.tokens:,} tokens of each are "
        f"measured at the start{often}, in {taken:.2%} of the training's time at most."
    )
    return [(sentence, "")]


def step_table(run: Run, steps: Iterable[str], unsettled: Collection[str] = ()) -> Table:
    """What each of the steps would do, and why; open where it is `unsettled`."""
    table = new_table("Steps", "step", "does", "because", "fingerprint")
    for name in steps:
        if name in unsettled:
            table.add_row(name, Text("skip or run", style="yellow"), "the teacher is not hashed yet", "?")
            continue
        action, reason = decide(run, name)
        fingerprint = Text(run.specs[name].fingerprint, style="dim")
        table.add_row(name, Text(action, style=_STYLE[action]), reason, fingerprint)
    return table


def decide(run: Run, name: str) -> tuple[str, str]:
    """(`skip`, `run`, `resume`, `wait` or `busy`, the reason) of the step `name`."""
    spec = run.specs[name]
    state = state_of(spec)
    missing = [upstream for upstream in spec.upstream if not run.specs[upstream].done]
    if state == State.DONE:
        return "skip", "done"
    if state == State.RUNNING:
        return "busy", "another process is at it"
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return "wait", f"for {missing[0]}{others}"
    if state == State.FAILED:
        return "resume", "failed before"
    if state == State.CUT:
        return "resume", "was cut"
    elsewhere = spec.folder.parent.is_dir() and any(path.is_dir() for path in spec.folder.parent.iterdir())
    return "run", "new settings" if elsewhere else "not done yet"


def tokens_available(run: Run, blend: Blend | None = None) -> dict[str, int] | None:
    """Tokens that each source holds: counted, once they are prepared, or what the catalogue or `blend` says of it.

    Of a source of which only a budget is drawn, it is that budget. One of which nothing is known is left out; None: it
    is known of none.
    """
    prepare = run.specs["prepare"]
    budgets = {source["name"]: source.get("tokens") for source in prepare.config["sources"]}
    names = list(budgets)
    if prepare.done:
        counted = tokens_counted(prepare.folder)
        return {name: counted[name] for name in names}
    known = (blend.sources if blend else {}) | (
        {} if "world" in run.specs else SOURCES
    )  # it makes those in other sizes
    held = {name: tokens for name in names if name in known and (tokens := known[name].available)}
    return {name: min(held[name], budgets[name] or held[name]) for name in names if name in held} or None


def _epochs_known(blend: Blend, milestone: Milestone, available: dict[str, int] | None) -> dict[str, float]:
    """Epochs at `milestone` of the sources of which it is known what they hold."""
    drawn = blend.tokens_drawn(milestone.tokens)
    return {source: drawn[source] / held for source, held in (available or {}).items() if source in drawn}


def _epochs(number: float | None) -> Text:
    if number is None:
        return Text("?", style="dim")
    style = "bold yellow" if number > MOST_EPOCHS else ""
    return Text(f"{number:.2f}" if number < 9.995 else f"{number:.1f}", style=style)


def _held(blend: Blend, source: str, available: dict[str, int]) -> str:
    return ("~" if _is_estimated(blend, source, available) else "") + format_tokens(available[source], digits=3)


def _is_estimated(blend: Blend, source: str, available: dict[str, int]) -> bool:
    """Whether what it holds is a guess, the catalogue's or the recipe's: neither published nor counted."""
    known = blend.source(source)
    return available[source] == known.available and (blend.is_own(source) or known.tokens_from != "published")
