"""Gathers what a finished run left into the evaluator's `Report`.

    run = find("distill_v1v3-debug", runs=Path("runs"))
    report = gather(finished_report(run))
    report.rows[-1].average

Runs of earlier versions are read as well: what their steps did not record is left out of the report.
"""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from evaluator.results.answers import ANSWERS_FILE, load_answers
from evaluator.results.files import (
    LARGEST,
    form,
    items,
    mapping,
    number,
    read_json,
    read_object,
    read_text,
    text,
    whole,
)
from evaluator.results.held_out import HeldOutPoint
from evaluator.results.run import PRUNED_SIZES, BlendPart, Pruning, Report, Row, StepRecord, check_rows
from evaluator.results.scores import RESULTS_FILE, CheckpointResult, TaskResult
from evaluator.suites.suite import Suite
from nemo_distill.config.schedule import Schedule
from nemo_distill.config.settings import FORWARD_KL
from nemo_distill.config.teacher import path_of
from nemo_distill.contamination.overlap import CONTAMINATION_FILE, Contamination
from nemo_distill.data.prepared import SOURCES_FILE, tokens_counted
from nemo_distill.errors import UserError
from nemo_distill.outcome.board import board_of
from nemo_distill.outcome.results import result_of
from nemo_distill.outcome.suites import suite_of_config
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import SPEC_FILE, Spec, is_done, read_mark, why_damaged
from nemo_distill.train.losses import HELD_OUT_FILE

SHOWN_PACKAGES = (
    "nemo_toolkit", "megatron_core", "nvidia_modelopt", "nemo_run", "nemo_evaluator", "transformers", "torch",
)  # fmt: skip
"""Packages whose versions the report names."""
COMPARED = 64
"""Questions of an evaluation of which answers and results are compared: a file of another checkpoint shows in those."""
AGAIN = "give the run's command again"
"""What mends a finished run."""
LOSSES, LAYERS, CANDIDATES = "losses.jsonl", "layers.json", "candidates.json"
QUANTISED_FILE = "quantised.json"
"""What is in which format (`nemo_distill.steps.quantize`)."""
READ: dict[str, tuple[str, ...]] = {
    "evaluate": (RESULTS_FILE, ANSWERS_FILE),
    "distill": (LOSSES, HELD_OUT_FILE),
    "prune": (LAYERS, CANDIDATES),
    "prepare": (SOURCES_FILE,),
    "contamination": (CONTAMINATION_FILE,),
    "quantize": (QUANTISED_FILE,),
    "serve_bench": (RESULTS_FILE,),
}
"""What a report reads of the steps before it, by their modules."""

SHOWN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "prepare": ((SOURCES_FILE,), ("blend",)),
    "prune": ((LAYERS, CANDIDATES), ("pruning",)),
    "distill": ((LOSSES,), ("loss",)),
    "contamination": ((CONTAMINATION_FILE,), ("contamination",)),
}
"""By a step's module, the files that tables of the page are of, and which tables."""


def finished_report(run: Run) -> Spec:
    """The run's report step.

    Raises `UserError` when it is not done, or when its files, or those of the steps before it that `gather` reads, are
    not as their steps left them: every mark of success says the size of every file.
    """
    if "report" not in run.specs or not run.specs["report"].done:
        raise UserError(f"{run.name} has no report yet: nemo-run status {run.name} shows how far it is.")
    spec = run.specs["report"]
    if damaged := why_damaged(f"the report of {run.name}", spec.folder, again=AGAIN):
        raise UserError(damaged)
    if _spec(spec.folder).config != spec.config:
        raise UserError(f"{run.path} says of the report what {spec.folder / SPEC_FILE} does not. {AGAIN.capitalize()}.")
    for name in [name for name, folder in spec.upstream.items() if not is_done(folder)]:
        where = spec.upstream[name]
        raise UserError(f"{name} of {run.name} is not done: {where} has no mark of success. {AGAIN.capitalize()}.")
    for step in all_upstream(spec).values():
        what, read = f"{step.name} of {run.name}", READ.get(step.module.rpartition(".")[2], ())
        if damaged := why_damaged(what, step.folder, names=read, again=AGAIN):
            raise UserError(damaged)
        mark = read_mark(step.folder)
        if (of := mark.get("fingerprint", step.fingerprint)) != step.fingerprint:
            raise UserError(f"{what} is damaged: the mark of success in {step.folder} is that of {of}.")
        for name in read:
            if (step.folder / name).exists() and name not in mark["files"]:
                raise UserError(f"{what} is damaged: its mark of success knows nothing of {step.folder / name}.")
    return spec


def gather(spec: Spec) -> Report:
    """The report of what the steps upstream of a report step left.

    Raises `UserError`, a sentence with the file and, of an evaluation, the checkpoint, when something is damaged.
    """
    try:
        report = _gather(spec)
        with form(f"the run {report.title}"):
            check_rows(report)
        return report
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error


def _gather(spec: Spec) -> Report:
    steps = all_upstream(spec)
    with form(f"the config of {_short(spec.folder)}"):
        config = spec.config
        evaluation = steps[config["checkpoints"][-1]["step"]].config
        suite = suite_of_config({**evaluation, "suite": config["suite"], "repeats": config["repeats"]})
        course = steps[config["distill"][-1]].config.get("course", {})
        evaluated = [steps[checkpoint["step"]] for checkpoint in config["checkpoints"]]
        segments = [steps[name] for name in config["distill"]]
    results = [_evaluated(evaluation, text(config["title"], "title")) for evaluation in evaluated]
    with form(f"the config of {_short(spec.folder)}"):
        rows = tuple(
            Row(
                role=checkpoint["role"],
                result=result,
                tokens=checkpoint["tokens"],
                iteration=checkpoint["iteration"],
                learning_rate=_learning_rate(course, checkpoint["iteration"]),
                **_origin(steps[checkpoint["step"]]),
            )
            for checkpoint, result in zip(config["checkpoints"], results, strict=True)
        )
        seen = whole(rows[-1].tokens, "tokens of the last milestone")
        training = _training(segments[-1].config)
    asked = {task.task: task.summary.questions for task in rows[0].result.tasks}
    suite = suite.with_questions(asked)
    parts = [steps[checkpoint["step"]].config.get("tasks") for checkpoint in config["checkpoints"]]
    return Report(
        title=config["title"],
        suite=suite,
        rows=tuple(_completed(row, suite) if part else row for row, part in zip(rows, parts, strict=True)),
        losses=tuple(loss for segment in segments for loss in _losses(segment)),
        held_out=tuple(point for segment in segments for point in _held_out(segment)),
        blend=_blend(config, steps, tokens=seen),
        pruning=_pruning(steps["prune"].folder),
        contamination=_contamination(steps),
        steps=_records(steps),
        facts=_facts(spec),
        training=training,
        manifest=tuple((name, _as_json(step)) for name, step in steps.items()),
        min_learning_rate=_last_learning_rate(course),
        protocol=evaluation.get("protocol", ""),
        sentences=_quantised(rows, evaluated),
        board=board_of({**steps, spec.name: spec}),
    )


def _completed(row: Row, suite: Suite) -> Row:
    """The row of a checkpoint that was asked a part of the suite, with the other benchmarks as not asked."""
    there = {task.task: task for task in row.result.tasks}
    tasks = tuple(
        there.get(one.task) or TaskResult.not_asked(one.task, questions=one.questions, repeats=one.repeats)
        for one in suite.benchmarks
    )
    return dataclasses.replace(row, result=dataclasses.replace(row.result, tasks=tasks))


def _evaluated(evaluation: Spec, run: str) -> CheckpointResult:
    """A finished evaluation's answers. Raises `UserError` when they are not those that the step was to get."""
    config, path, what = evaluation.config, evaluation.folder / RESULTS_FILE, f"{evaluation.name} of {run}"
    try:
        result = result_of(evaluation.folder)
    except ValueError as error:
        raise UserError(f"{what} is damaged: {error}") from error
    for name in ("label", "suite", "seed"):
        if name in config and getattr(result, name) != config[name]:
            raise UserError(f"{what}: '{path}' is of {name} {getattr(result, name)!r}, not {config[name]!r}.")
    _check_answers(evaluation.folder / ANSWERS_FILE, result, what)
    return result


def _check_answers(path: Path, result: CheckpointResult, what: str) -> None:
    """Raise `UserError` where the first answers have other scores than the results beside them: one is a stranger's."""
    if not path.is_file():
        return
    for question in itertools.islice(load_answers(path), COMPARED):
        task = next((one for one in result.tasks if one.task == question.task), None)
        row = task and dict(zip(task.questions[:COMPARED], task.scores)).get(question.question)
        if row != tuple(answer.score for answer in question.answers):
            raise UserError(
                f"{what} is damaged: '{path}' has other scores of {question.question} than the {RESULTS_FILE} beside "
                "it."
            )


def all_upstream(spec: Spec) -> dict[str, Spec]:
    """Every step that `spec` rests on, directly or not, by name, each after those it rests on itself."""
    found: dict[str, Spec] = {}

    def visit(folder: Path) -> None:
        step = _spec(folder)
        if step.name in found:
            return
        for upstream in step.upstream.values():
            visit(upstream)
        found[step.name] = step

    for folder in spec.upstream.values():
        visit(folder)
    return found


def _spec(folder: Path) -> Spec:
    """The step in `folder`. Raises `UserError` when its spec is gone, damaged, or another step's."""
    path = folder / SPEC_FILE
    try:
        with form(f"'{path}'"):
            read_object(path)
            spec = Spec.load(path)
            mapping(spec.config, "config")
            if (spec.name, spec.fingerprint) != (folder.parent.name, folder.name):
                raise ValueError(f"it is that of {spec.name}/{spec.fingerprint}.")
            return spec
    except ValueError as error:
        raise UserError(str(error)) from error


def _origin(evaluation: Spec) -> dict:
    """Fields of a row that say where it is from: folder, what was evaluated, answers where they were kept."""
    answers = evaluation.folder / ANSWERS_FILE
    name = path_of(evaluation.config.get("checkpoint", ""), evaluation.beside.teacher)
    exported = evaluation.upstream.get(name)
    return {
        "folder": _short(evaluation.folder),
        "checkpoint": f"{_short(exported)}/hf" if exported else name,
        "answers": answers if answers.is_file() else None,
    }


def _short(folder: Path) -> str:
    """A step's folder, under that of all runs."""
    return f"{folder.parent.name}/{folder.name}"


def _as_json(step: Spec) -> str:
    """What decides the step's output, for the page."""
    record = {
        "module": step.module,
        "folder": _short(step.folder),
        "config": step.config,
        "upstream": {name: _short(folder) for name, folder in step.upstream.items()},
    }
    return json.dumps(record, indent=1)


def _training(config: dict) -> dict[str, str]:
    """How a segment was trained, in words, as far as its config says it."""
    course = config.get("course")
    if not course:
        return {}
    schedule = Schedule.of(course)
    last = schedule.learning_rate_after(schedule.max_iterations)
    sequences, length = course["global_batch_size"], course["seq_length"]
    return {
        "Sequence length": f"{length:,} tokens",
        "Batch": f"{sequences:,} sequences, {sequences * length:,} tokens",
        "Schedule": (
            f"{schedule.max_iterations:,} iterations, {schedule.max_iterations * sequences * length:,} tokens: "
            f"{schedule.warmup_iterations:,} to warm up, then {schedule.schedule}"
        ),
        "Learning rate": f"{schedule.learning_rate:g}, at the end {last:g}",
        **_loss(config.get("kd") or {}),
    }


def _loss(kd: dict) -> dict[str, str]:
    """What the student was trained by, in words, where that is not the study's."""
    if not {"loss", "temperature", "cross_entropy", "per_token"} & set(kd):
        return {}
    said, share = kd.get("loss", FORWARD_KL), kd.get("cross_entropy", 0.0)
    if kd.get("temperature", 1.0) != 1:
        said += f" at temperature {kd['temperature']:g}"
    if share:
        said = f"{1 - share:.4g} of it {said}, {share:.4g} next-token cross-entropy"
    return {"Loss": f"{said}, on answers alone in chats" if kd.get("per_token") else said}


def _quantised(rows: Sequence[Row], evaluated: Sequence[Spec]) -> dict[str, tuple[str, ...]]:
    """What quantising made of a checkpoint, by the title of its row."""
    found = {}
    for row, evaluation in zip(rows, evaluated, strict=True):
        if row.role == "quantised":
            found[row.title] = quantised_sentences(evaluation.upstream[evaluation.config["checkpoint"]])
    return found


def quantised_sentences(folder: Path) -> tuple[str, ...]:
    """What the step in `folder` says of what it quantised."""
    path = folder / QUANTISED_FILE
    with form(f"'{path}'"):
        return tuple(text(one, "a sentence") for one in items(read_object(path)["sentences"], "sentences"))


def _learning_rate(course: dict, iteration: int | None) -> float | None:
    """Learning rate of a checkpoint, where its segment says what it was trained with."""
    if not course or iteration is None:
        return None
    return Schedule.of(course).learning_rate_after(iteration)


def _last_learning_rate(course: dict) -> float | None:
    """Learning rate at the end of the schedule."""
    return _learning_rate(course, course.get("max_iterations"))


def _held_out(segment: Spec) -> list[HeldOutPoint]:
    """What a segment measured on held-out documents; nothing where there are none."""
    path = segment.folder / HELD_OUT_FILE
    points = []
    for place, line in enumerate(read_text(path).splitlines() if path.exists() else [], start=1):
        with form(f"'{path}', line {place},"):
            points.append(HeldOutPoint.of(mapping(json.loads(line), "it")))
    return points


def _losses(segment: Spec) -> list[dict]:
    """The lines of a segment's log of losses."""
    path = segment.folder / LOSSES
    lines = []
    for place, line in enumerate(read_text(path).splitlines(), start=1):
        with form(f"'{path}', line {place},"):
            record = mapping(json.loads(line), "it")
            for name in ("iteration", "tokens"):
                whole(record[name], name)
            if isinstance(record["loss"], bool) or not isinstance(record["loss"], (int, float)):
                raise ValueError(f"the loss is {record['loss']!r}, not a number.")
            lines.append(record)
    return lines


def _blend(config: dict, steps: dict[str, Spec], *, tokens: int) -> tuple[BlendPart, ...]:
    shares = config["blend"]
    provenance = config.get("provenance", {})  # version 1 of this step had none; its runs are compared as well
    path = steps["prepare"].folder / SOURCES_FILE
    with form(f"'{path}'"):
        counted = tokens_counted(path.parent)
        return tuple(
            BlendPart(
                source=name,
                share=share,
                tokens_available=whole(counted[name], f"tokens of {name}", least=1),
                tokens_used=tokens * share / sum(shares.values()),
                provenance=provenance.get(name, ""),
            )
            for name, share in shares.items()
        )


def _pruning(folder: Path) -> Pruning:
    layers_file, candidates_file = folder / LAYERS, folder / CANDIDATES
    with form(f"'{candidates_file}'"):
        candidates = [mapping(one, "a candidate") for one in items(read_json(candidates_file), "it")]
        axes = [key for key in PRUNED_SIZES if any(key in one for one in candidates)]
        for one in candidates:
            if not isinstance(one["chosen"], bool):
                raise ValueError(f"whether a candidate was chosen is {one['chosen']!r}.")
            number(one["score"], "the score of a candidate", least=-LARGEST)
            for key in ("parameters", *axes):
                whole(one[key], f"{key} of a candidate", least=1)
    with form(f"'{layers_file}'"):
        layers = read_object(layers_file)
        return Pruning(
            parameters_before=whole(layers["parameters_before"], "parameters_before", least=1),
            parameters_after=whole(layers["parameters_after"], "parameters_after", least=1),
            pattern_before=text(layers["pattern_before"], "pattern_before"),
            pattern_after=text(layers["pattern_after"], "pattern_after"),
            dropped=tuple(whole(layer, "a dropped layer", least=1) for layer in items(layers["dropped"], "dropped")),
            remark=text(layers.get("chip_friendly", ""), "chip_friendly"),
            candidates=tuple(candidates),
        )


def _contamination(steps: dict[str, Spec]) -> Contamination | None:
    """None where sources were not searched for questions."""
    if "contamination" not in steps:
        return None
    path = steps["contamination"].folder / CONTAMINATION_FILE
    with form(f"'{path}'"):
        found = Contamination.load(path)
        found.table(), found.notes()  # both need every overlap
        return found


def _records(steps: dict[str, Spec]) -> tuple[StepRecord, ...]:
    return tuple(
        StepRecord(
            name=name,
            folder=_short(step.folder),
            seconds=read_mark(step.folder).get("seconds"),
            command=f"python -m nemo_distill.step {_short(step.folder)}/{SPEC_FILE}",
            **_shown(step),
        )
        for name, step in steps.items()
    )


def _shown(step: Spec) -> dict:
    """Fields of a step's record: its files that tables of the page are of, and which tables."""
    files, of = SHOWN.get(step.module.rpartition(".")[2], ((), ()))
    if "loss" in of and (step.folder / HELD_OUT_FILE).exists():
        files, of = (*files, HELD_OUT_FILE), (*of, "held-out")
    return {"shows": files, "of": of}


def _facts(spec: Spec) -> dict[str, str]:
    """Command, commit, packages and machine from this step's own spec.json, as far as it knows them."""
    path = spec.folder / SPEC_FILE
    with form(f"'{path}'"):
        return _facts_of(read_object(path))


def _facts_of(record: dict) -> dict[str, str]:
    provenance = record.get("provenance", {})
    facts = {}
    if record.get("command"):
        facts["Command"] = " ".join(record["command"])
    git = provenance.get("git") or {}
    if git.get("commit"):
        changes = ", with changes kept in spec.json" if git.get("dirty") else ""
        facts["Commit"] = git["commit"] + changes
    packages = {name.replace("-", "_").lower(): version for name, version in provenance.get("packages", {}).items()}
    shown = [f"{name} {packages[name]}" for name in SHOWN_PACKAGES if name in packages]
    if shown:
        facts["Packages"] = ", ".join(shown)
    if "python" in provenance:
        facts["Machine"] = f"Python {provenance['python']}, {provenance.get('platform', '')}"
    return facts
