r"""From a recipe to the steps of its run: what each step is told, and what it waits for.

    world -> prepare -> index -------+
      \                              v
       +-> prune -> distill-2.5B -> distill-5B -> distill-20B         one job per milestone, each resuming the last
           ^   \           \              \              \
    import-teacher         export-2.5B    ...            ...          teacher, pruned student and every milestone
                           evaluate-2.5B                              while the next segment trains
                                                     export-20B -> quantize-20B -> evaluate-20B-fp8     if asked for
    world -> contamination ---------------------> report

The blend reaches `prepare`, `index`, `contamination` and the `distill-*` only, so changing it re-runs those and what
follows from them, never the pruning.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import Scale
from nemo_distill.config.settings import BOILERPLATE, FORWARD_KL, MAX_DEPTH, MAX_WIDTH, NGRAM, SKIP
from nemo_distill.config.sources import Source
from nemo_distill.data.declared import entry_of
from nemo_distill.errors import UserError, nearest
from nemo_distill.outcome.measured import SERVE_BENCH
from nemo_distill.outcome.serving import TEACHER, Benched
from nemo_distill.outcome.suites import Asked
from nemo_distill.plan.quantisation import range_length
from nemo_distill.run.step import Step
from nemo_distill.train.course import Course

PRUNED = "pruned"
"""Label of the checkpoint that is evaluated beside the teacher and the milestones."""
_MEMORY = ("memory_mb", "memory_seq_length", "memory_batch_size", "memory_precision")
"""What the search is told where it has a bound on memory."""
KINDS = (
    *("world", "import", "prune", "prepare", "index", "distill"),
    *("export", "quantize", "evaluate", SERVE_BENCH, "contamination", "report", "preflight"),
)
"""What the names of steps begin with, up to a dash; the last is no part of a run."""


def build_steps(recipe: Recipe, *, asked: Asked, questions: list[dict], benched: Benched | None = None) -> list[Step]:
    """The steps of the run, each after its upstream; where several can start, the earlier in the list goes first.

    Args:
        recipe: What decides them.
        asked: What every checkpoint is asked, and how.
        questions: Benchmark questions that the sources are searched for (`contamination.questions`).
        benched: What is measured of checkpoints that are served; None: nothing.
    """
    scale, distill = recipe.scale, recipe.distill
    made = any(not recipe.blend.is_own(source.name) for source in (*recipe.sources, *recipe.calibration))
    world = (Step("world", _module("debug_world"), scale.world),) if scale.world and made else ()
    reads = tuple(step.name for step in world)
    import_teacher = Step(
        "import-teacher",
        _module("import_teacher"),
        {
            **_teacher(recipe),
            "seq_length": distill.seq_length,
            "precision": scale.precision,
            "layer_spec": scale.layer_spec,
        },
    )
    prune = Step("prune", _module("prune"), _prune_config(recipe), ("import-teacher", *reads))
    prepare = Step("prepare", _module("prepare"), _prepare_config(recipe), reads)
    contamination = (
        (Step("contamination", _module("contamination"), _contamination_config(recipe, questions), reads),)
        if questions
        else ()
    )
    index = Step("index", _module("index"), _index_config(recipe), ("import-teacher", "prepare"))
    segments = _segments(recipe)
    exports, evaluations = [], [_evaluation(recipe, TEACHER, asked)]
    for label, source in [(PRUNED, "prune"), *((m.label, f"distill-{m.label}") for m in recipe.milestones)]:
        dtype = "bfloat16" if scale.precision == "bf16-mixed" else "float32"
        exports.append(Step(f"export-{label}", _module("export"), {"dtype": dtype}, (source,)))
        evaluations.append(_evaluation(recipe, label, asked))
    judged = [evaluations[0]]
    for export, evaluation in zip(exports, evaluations[1:], strict=True):
        judged += [export, evaluation]
    for label in _quantised(recipe):
        judged.append(_quantisation(recipe, label, reads))
        if recipe.quantize.evaluated:
            evaluations.append(_evaluation(recipe, quantised_label(recipe, label), asked, of=f"quantize-{label}"))
            judged.append(evaluations[-1])
    served = [_serve_bench(recipe, benched)] if benched else []
    report = Step(
        "report",
        _module("report"),
        _report_config(recipe),
        tuple(step.name for step in (*evaluations, *segments, *contamination, *served)),
    )
    return [*world, import_teacher, prune, prepare, index, *segments, *judged, *served, *contamination, report]


def _prune_config(recipe: Recipe) -> dict:
    scale, prune, calibration = recipe.scale, recipe.prune, _entries(recipe, recipe.calibration)
    return {
        "request": {
            "parameters": prune.parameters,
            "export_config": prune.export_config,
            "candidates": prune.candidates,
            "divisors": prune.divisors,
            **({} if prune.max_width == MAX_WIDTH else {"max_width": prune.max_width}),
            **({} if prune.max_depth == MAX_DEPTH else {"max_depth": prune.max_depth}),
            **({} if set(prune.skip) == set(SKIP) else {"skip": sorted(set(prune.skip))}),
            **({} if prune.memory_mb is None else {name: getattr(prune, name) for name in _MEMORY}),
            # Whether FP8-aligned shapes are searched for beside the student changes none: it is told beside the config.
            "chip_friendly": "require" if prune.chip_friendly == "require" else "report",
            "chip_multiple": prune.chip_multiple,
            "tensor_parallel": prune.tensor_parallel,
        },
        "score": prune.score,
        "mmlu_fraction": scale.mmlu_fraction,
        "calibration": {
            **({"source": calibration[0]} if len(calibration) == 1 else {"sources": calibration}),
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
    return {
        "tokenizer": recipe.teacher.checkpoint,
        "tokenizer_sha256": recipe.teacher.sha256,
        "sources": _budgeted(_entries(recipe, recipe.sources), recipe),
        "max_document_tokens": scale.max_document_tokens,
        "reasoning": recipe.prepare.reasoning,
        "max_malformed": recipe.prepare.max_malformed,
        "seed": recipe.seed if recipe.prepare.tokens else None,
        **({} if recipe.prepare.join_newlines else {"join_newlines": False}),
        **({} if recipe.distill.loss_on == "all" else {"loss_on": recipe.distill.loss_on}),
        **({"held_out": recipe.prepare.held_out} if recipe.prepare.held_out else {}),
    }


def _entries(recipe: Recipe, sources: Sequence[Source]) -> list[dict]:
    """The sources, as the steps that read them take them."""
    return [
        entry_of(source) if recipe.blend.is_own(source.name) else _source(source, recipe.scale) for source in sources
    ]


def _budgeted(sources: list[dict], recipe: Recipe) -> list[dict]:
    """`sources`, each with its share of the budget if there is one."""
    if recipe.prepare.tokens is None:
        return sources
    drawn = recipe.blend.tokens_drawn(recipe.prepare.tokens)
    return [source | {"tokens": math.ceil(drawn[source["name"]])} for source in sources]


def _contamination_config(recipe: Recipe, questions: list[dict]) -> dict:
    prepare = recipe.prepare
    return {
        "sources": _entries(recipe, recipe.sources),
        "questions": questions,
        "max_malformed": prepare.max_malformed,
        **({} if prepare.ngram == NGRAM else {"words": prepare.ngram}),
        **({} if prepare.boilerplate == BOILERPLATE else {"boilerplate": prepare.boilerplate}),
    }


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
        schedule=distill.schedule,
    )
    segments: list[Step] = []
    first = 0
    before: tuple[str, ...] = ()
    for milestone in recipe.milestones:
        config = {
            "course": course.config(),
            "kd": _kd_config(recipe),
            "first": first,
            "until": milestone.iteration,
            "shares": recipe.blend.shares,
            "intermediate_layers": [list(pair) for pair in distill.intermediate_layers],
            "save_interval": scale.save_interval,
        }
        upstream = ("import-teacher", "prune", "prepare", "index", *before)
        segments.append(Step(f"distill-{milestone.label}", _module("distill"), config, upstream))
        first, before = milestone.iteration, (segments[-1].name,)
    return segments


def _kd_config(recipe: Recipe) -> dict:
    """The fields of `kd.options.Options`; what is not the study's is named where it is chosen."""
    distill = recipe.distill
    other: dict = {} if distill.loss == FORWARD_KL else {"loss": distill.loss}
    if distill.temperature != 1:
        other["temperature"] = distill.temperature
    if distill.deterministic:
        other["deterministic"] = True
    if distill.reset_at_documents:
        other["reset_at_documents"] = True
    if distill.cross_entropy:
        other["cross_entropy"] = distill.cross_entropy
    if distill.loss_on != "all":
        other["per_token"] = True  # a mean of means would give a token more say where few count beside it
    return {"fused_loss": distill.fused_loss, "fused_kernels": distill.fused_kernels, "fp8": distill.fp8, **other}


def _quantised(recipe: Recipe) -> list[str]:
    """Labels of the milestones that are quantised."""
    labels = [milestone.label for milestone in recipe.milestones]
    return [] if recipe.quantize.format == "none" else labels if recipe.quantize.milestones == "all" else labels[-1:]


def quantised_label(recipe: Recipe, label: str) -> str:
    """What tables call the milestone `label` once it is quantised."""
    return f"{label}-{recipe.quantize.format}"


def _quantisation(recipe: Recipe, label: str, reads: tuple[str, ...]) -> Step:
    config = {
        "format": recipe.quantize.format,
        "recipe": recipe.quantize.recipe,
        "calibration": {
            "sources": _entries(recipe, recipe.calibration),
            "sequences": recipe.quantize.calibration_sequences,
            "seq_length": range_length(recipe.scale),
        },
    }
    return Step(f"quantize-{label}", _module("quantize"), config, (f"export-{label}", *reads))


def _serve_bench(recipe: Recipe, benched: Benched) -> Step:
    """The step that measures served checkpoints. Raises `UserError` for a label that there is not."""
    asked, last = recipe.serve_bench, recipe.milestones[-1].label
    of = {TEACHER: recipe.teacher.checkpoint, PRUNED: f"export-{PRUNED}"}
    of |= {milestone.label: f"export-{milestone.label}" for milestone in recipe.milestones}
    if recipe.quantize.format == "fp8":  # nothing here serves another format
        of |= {quantised_label(recipe, label): f"quantize-{label}" for label in _quantised(recipe)}
    default = [label for label in (TEACHER, last, quantised_label(recipe, last)) if label in of]
    labels = default if asked.checkpoints is None else list(asked.checkpoints)
    for label in labels:
        if label not in of:
            raise UserError(f"serve_bench.checkpoints cannot have '{label}'. {nearest(label, of)}")
        if labels.count(label) > 1:
            raise UserError(f"serve_bench.checkpoints has {label} {labels.count(label)} times: once is enough.")
    if not labels:
        raise UserError(f"serve_bench.checkpoints names none: say serve_bench.checkpoints={','.join(default)}.")
    config: dict[str, Any] = {
        "checkpoints": [[label, of[label]] for label in labels],
        "settings": [str(setting) for setting in benched.plan.settings],
        "engine": dict(benched.engine),
    }
    if benched.plan.contexts:
        config["contexts"] = list(benched.plan.contexts)
    if TEACHER in labels:
        config["sha256"] = recipe.teacher.sha256
    return Step(SERVE_BENCH, _module("serve_bench"), config, tuple(of[one] for one in labels if one != TEACHER))


def _evaluation(recipe: Recipe, label: str, asked: Asked, *, of: str = "") -> Step:
    """The evaluation of the checkpoint of the step `of`, the export of that label unless it says otherwise."""
    settings = recipe.evaluate
    config: dict[str, Any] = {
        "label": label,
        "suite": settings.suite,
        "repeats": settings.repeats,
        "max_new_tokens": settings.max_new_tokens,
        "datasets": str(Path(settings.datasets).resolve()) if settings.datasets else None,
        "execute_generated_code": settings.execute_generated_code,
        "protocol": asked.protocol,
        "seed": recipe.seed,
        "threads": 1,
    }
    if asked.site is not None:
        config["launcher"] = dict(asked.launcher)
    if asked.engine is not None:
        config["engine"] = dict(asked.engine)
    if asked.declared:
        config["benchmarks"] = [dict(entry) for entry in asked.declared]
    tasks = asked.pruned if label == PRUNED and asked.pruned is not None else asked.tasks
    if tasks is not None:
        config["tasks"] = list(tasks)
    if label == TEACHER:
        return Step(f"evaluate-{label}", _module("evaluate"), config | _teacher(recipe))
    export = of or f"export-{label}"
    return Step(f"evaluate-{label}", _module("evaluate"), config | {"checkpoint": export}, (export,))


def _report_config(recipe: Recipe) -> dict:
    rows = [(TEACHER, TEACHER, None, None), (PRUNED, PRUNED, 0, 0)]
    rows += [(m.label, "milestone", m.tokens, m.iteration) for m in recipe.milestones]
    if recipe.quantize.evaluated:
        quantised = [m for m in recipe.milestones if m.label in _quantised(recipe)]
        rows += [(quantised_label(recipe, m.label), "quantised", m.tokens, m.iteration) for m in quantised]
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


def _source(source: Source, scale: Scale) -> dict:
    """Where `prepare` reads a source of the catalogue: the debug world's file, or the hub."""
    if scale.world:
        return {"name": source.name, "field": source.field, "files": [f"world:corpora/{source.name}.jsonl"]}
    return {
        "name": source.name,
        "field": source.field,
        "dataset": source.dataset,
        "subset": source.subset,
        "split": source.split,
        "files": list(source.files),
        "samples": source.samples,
    }


def _teacher(recipe: Recipe) -> dict:
    return {"checkpoint": recipe.teacher.checkpoint, "sha256": recipe.teacher.sha256}


def _module(name: str) -> str:
    return f"nemo_distill.steps.{name}"
