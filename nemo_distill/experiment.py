r"""From a recipe to the steps of its run: what each step is told, and what it waits for.

    world -> prepare -> index -------+
      \                              v
       +-> prune -> distill-2.5B -> distill-5B -> distill-20B         one job per milestone, each resuming the last
           ^   \           \              \              \
    import-teacher         export-2.5B    ...            ...          teacher, pruned student and every milestone
                           evaluate-2.5B                              while the next segment trains
    world -> contamination ---------------------> report

The blend reaches `prepare`, `index`, `contamination` and the `distill-*` only, so changing it re-runs those and what
follows from them, never the pruning. `run_experiment` is what a recipe calls.
"""

import dataclasses
import hashlib
import math
import time
from pathlib import Path

from rich.console import Console

from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import Scale, get_scale
from nemo_distill.config.schedule import parse_tokens
from nemo_distill.config.settings import Settings
from nemo_distill.config.sources import find
from nemo_distill.contamination.questions import check_names, offline_questions, questions_in
from nemo_distill.errors import UserError, nearest
from nemo_distill.launch.context import Context
from nemo_distill.launch.executors import SCALE_OF, name_of
from nemo_distill.launch.launch import check_folder, launch
from nemo_distill.launch.slurm.queueing import check_paths
from nemo_distill.outcome.suites import protocol
from nemo_distill.plan.estimate import estimate_of
from nemo_distill.plan.layouts import misfit
from nemo_distill.plan.preview import print_preview
from nemo_distill.run.manifest import Run
from nemo_distill.run.provenance import redact
from nemo_distill.run.ranks import check_layout
from nemo_distill.run.step import Spec, Step, fingerprint, place, resolve_package_paths
from nemo_distill.train.course import Course

TEACHER, PRUNED = "teacher", "pruned"
"""Labels of the two checkpoints that are evaluated beside the milestones."""
PARTS = ("blend", "prepare", "prune", "distill", "evaluate", "layout")
"""Parts of a recipe that the run's file keeps."""


def run_experiment(ctx: Context, settings: Settings) -> None:
    """Preview the run that `settings` describe and, unless it is a dry one, make it. `ctx` is NeMo-Run's."""
    scale = get_scale(settings.scale or SCALE_OF[name_of(ctx.executor)])
    name = ctx.name if ctx.name.endswith(scale.name) else f"{ctx.name}-{scale.name}"
    recipe = Recipe.of(name, settings, scale)
    if recipe.distill.fp8 != "none" and scale.layer_spec != "transformer_engine":
        raise UserError(
            f"distill.fp8={recipe.distill.fp8} needs Transformer Engine's layers, and those of the {scale.name} scale "
            f"are '{scale.layer_spec}': say distill.fp8=none."
        )
    if recipe.distill.gradients != "float32" and scale.precision == "32":
        raise UserError(
            f"distill.gradients={recipe.distill.gradients} needs parameters in bf16, and those of the {scale.name} "
            "scale are in float32: say distill.gradients=float32."
        )
    folder = Path(settings.runs).resolve()
    check_folder(folder)
    if name_of(ctx.executor) == "slurm":
        check_paths(folder)
    run = Run(
        name=recipe.name,
        runs=folder,
        specs=place(build_steps(recipe), runs=folder),
        facts={
            "executor": name_of(ctx.executor),
            "scale": scale.name,
            **{part: dataclasses.asdict(getattr(recipe, part)) for part in PARTS},
            "health": dataclasses.asdict(settings.health),
            "seed": recipe.seed,
            "command": redact(ctx.command),
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        },
    )
    estimate = estimate_of(recipe, run)  # where there are GPUs to reckon with, it has checked the layout too
    if estimate is None:
        layout, distill = recipe.layout, recipe.distill
        check_layout(
            ranks=(layout.nodes or 1) * (layout.gpus_per_node or 1),
            tensor_parallel=layout.tensor_parallel or 1,
            global_batch_size=distill.global_batch_size,
            micro_batch_size=distill.micro_batch_size,
        )
    wanted = _needed_for(ctx.until, run.specs) if ctx.until else run.specs
    console = Console()
    print_preview(run, console, recipe=recipe, estimate=estimate, steps=wanted)
    if estimate and (problem := misfit(estimate.job)):
        raise UserError(problem)
    launch(ctx, dataclasses.replace(run, specs=wanted), console=console)


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


def build_steps(recipe: Recipe) -> list[Step]:
    """The steps of the run, each after its upstream; where several can start, the earlier in the list goes first."""
    scale, distill = recipe.scale, recipe.distill
    world = (Step("world", _module("debug_world"), scale.world),) if scale.world else ()
    reads = tuple(step.name for step in world)
    import_teacher = Step(
        "import-teacher",
        _module("import_teacher"),
        {
            **_teacher(scale),
            "seq_length": distill.seq_length,
            "precision": scale.precision,
            "layer_spec": scale.layer_spec,
        },
    )
    prune = Step("prune", _module("prune"), _prune_config(recipe), ("import-teacher", *reads))
    prepare = Step("prepare", _module("prepare"), _prepare_config(recipe), reads)
    questions = _questions(recipe)
    contamination = (
        (Step("contamination", _module("contamination"), _contamination_config(recipe, questions), reads),)
        if questions
        else ()
    )
    index = Step("index", _module("index"), _index_config(recipe), ("import-teacher", "prepare"))
    segments = _segments(recipe)
    exports, evaluations = [], [_evaluation(recipe, TEACHER)]
    for label, source in [(PRUNED, "prune"), *((m.label, f"distill-{m.label}") for m in recipe.milestones)]:
        dtype = "bfloat16" if scale.precision == "bf16-mixed" else "float32"
        exports.append(Step(f"export-{label}", _module("export"), {"dtype": dtype}, (source,)))
        evaluations.append(_evaluation(recipe, label))
    judged = [evaluations[0]]
    for export, evaluation in zip(exports, evaluations[1:], strict=True):
        judged += [export, evaluation]
    report = Step(
        "report",
        _module("report"),
        _report_config(recipe),
        tuple(step.name for step in (*evaluations, *segments, *contamination)),
    )
    return [*world, import_teacher, prune, prepare, index, *segments, *judged, *contamination, report]


def _prune_config(recipe: Recipe) -> dict:
    scale, prune = recipe.scale, recipe.prune
    return {
        "request": {
            "parameters": prune.parameters,
            "export_config": prune.export_config,
            "candidates": prune.candidates,
            "divisors": scale.divisors,
            "chip_friendly": prune.chip_friendly,
            "chip_multiple": prune.chip_multiple,
            "tensor_parallel": prune.tensor_parallel,
        },
        "score": prune.score,
        "mmlu_fraction": scale.mmlu_fraction,
        "calibration": {
            "source": _source(scale.calibration_source, scale),
            "sequences": prune.calibration_sequences,
            "seq_length": scale.calibration_seq_length,
        },
        "precision": scale.precision,
        "student_runtime": {
            "precision": scale.precision,
            "layer_spec": scale.layer_spec,
            "seq_length": recipe.distill.seq_length,
        },
    }


def _prepare_config(recipe: Recipe) -> dict:
    scale = recipe.scale
    teacher = _teacher(scale)
    return {
        "tokenizer": teacher["checkpoint"],
        "tokenizer_sha256": teacher["sha256"],
        "sources": _budgeted(_sources(recipe), recipe),
        "max_document_tokens": scale.max_document_tokens,
        "reasoning": recipe.prepare.reasoning,
        "max_malformed": recipe.prepare.max_malformed,
        "seed": recipe.seed if recipe.prepare.tokens else None,
    }


def _sources(recipe: Recipe) -> list[dict]:
    """The blend's sources, as the steps that read them take them."""
    return [_source(name, recipe.scale) for name in sorted(recipe.blend.shares)]


def _budgeted(sources: list[dict], recipe: Recipe) -> list[dict]:
    """`sources`, each with its share of the budget if there is one."""
    if recipe.prepare.tokens is None:
        return sources
    drawn = recipe.blend.tokens_drawn(parse_tokens(recipe.prepare.tokens))
    return [source | {"tokens": math.ceil(drawn[source["name"]])} for source in sources]


def _questions(recipe: Recipe) -> list[dict]:
    """The benchmark questions at hand: those of the offline suite, if it is asked, and the user's."""
    found = offline_questions() if recipe.evaluate.suite == "offline" else []
    if recipe.prepare.questions:
        found += questions_in(Path(recipe.prepare.questions))
        check_names(found)
    return found


def _contamination_config(recipe: Recipe, questions: list[dict]) -> dict:
    return {"sources": _sources(recipe), "questions": questions, "max_malformed": recipe.prepare.max_malformed}


def _index_config(recipe: Recipe) -> dict:
    distill = recipe.distill
    return {
        "shares": recipe.blend.shares,
        "max_iterations": distill.max_iterations,
        "global_batch_size": distill.global_batch_size,
        "seq_length": distill.seq_length,
        "seed": recipe.seed,
    }


def _segments(recipe: Recipe) -> list[Step]:
    scale, distill = recipe.scale, recipe.distill
    course = Course(
        max_iterations=distill.max_iterations,
        global_batch_size=distill.global_batch_size,
        micro_batch_size=distill.micro_batch_size,
        seq_length=distill.seq_length,
        learning_rate=distill.learning_rate,
        min_learning_rate=distill.min_learning_rate,
        warmup_iterations=distill.warmup_iterations,
        weight_decay=scale.weight_decay,
        clip_grad=scale.clip_grad,
        seed=recipe.seed,
        precision=scale.precision,
        gradients=distill.gradients,
    )
    segments, first, before = [], 0, ()
    for milestone in recipe.milestones:
        config = {
            "course": course.config(),
            "kd": {"fused_loss": distill.fused_loss, "fused_kernels": distill.fused_kernels, "fp8": distill.fp8},
            "first": first,
            "until": milestone.iteration,
            "shares": recipe.blend.shares,
            "intermediate_layers": [],
            "save_interval": scale.save_interval,
        }
        upstream = ("import-teacher", "prune", "prepare", "index", *before)
        segments.append(Step(f"distill-{milestone.label}", _module("distill"), config, upstream))
        first, before = milestone.iteration, (segments[-1].name,)
    return segments


def _evaluation(recipe: Recipe, label: str) -> Step:
    settings = recipe.evaluate
    config = {
        "label": label,
        "suite": settings.suite,
        "repeats": settings.repeats,
        "max_new_tokens": settings.max_new_tokens,
        "datasets": str(Path(settings.datasets).resolve()) if settings.datasets else None,
        "execute_generated_code": settings.execute_generated_code,
        "protocol": protocol(settings),
        "seed": recipe.seed,
        "threads": 1,
    }
    if label == TEACHER:
        return Step(f"evaluate-{label}", _module("evaluate"), config | _teacher(recipe.scale))
    export = f"export-{label}"
    return Step(f"evaluate-{label}", _module("evaluate"), config | {"checkpoint": export}, (export,))


def _report_config(recipe: Recipe) -> dict:
    rows = [(TEACHER, TEACHER, None, None), (PRUNED, PRUNED, 0, 0)]
    rows += [(m.label, "milestone", m.tokens, m.iteration) for m in recipe.milestones]
    return {
        "title": f"{recipe.blend.name} ({recipe.scale.name} scale)",
        "suite": recipe.evaluate.suite,
        "repeats": recipe.evaluate.repeats,
        "blend": recipe.blend.shares,
        "provenance": {source: recipe.blend.provenance_of(source) for source in recipe.blend.shares},
        "checkpoints": [
            {"step": f"evaluate-{label}", "role": role, "tokens": tokens, "iteration": iteration}
            for label, role, tokens, iteration in rows
        ],
        "distill": [f"distill-{milestone.label}" for milestone in recipe.milestones],
    }


def _source(name: str, scale: Scale) -> dict:
    """Where `prepare` reads a source: the debug world's file, or the hub."""
    source = find(name)
    if scale.world:
        return {"name": name, "field": source.field, "files": [f"world:corpora/{name}.jsonl"]}
    return {
        "name": name,
        "field": source.field,
        "dataset": source.dataset,
        "subset": source.subset,
        "split": source.split,
        "files": list(source.files),
        "samples": source.samples,
    }


def _teacher(scale: Scale) -> dict:
    """The teacher's checkpoint and, where it is a folder, a hash of what is in it: another teacher is another run."""
    folder = Path(resolve_package_paths(scale.teacher))
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}
    return {"checkpoint": scale.teacher, "sha256": fingerprint(hashes) if hashes else None}


def _module(name: str) -> str:
    return f"nemo_distill.steps.{name}"
