"""Gathers what a finished run left into the evaluator's `Report`.

    run = find("distill_v1v3-debug", runs=Path("runs"))
    report = gather(finished_report(run))
    report.rows[-1].average

Runs of earlier versions are read as well: what their steps did not record is left out of the report.
"""

import functools
import json
from pathlib import Path

from evaluator.results.answers import ANSWERS_FILE
from evaluator.results.run import BlendPart, Pruning, Report, Row, StepRecord
from evaluator.results.scores import CheckpointResult
from evaluator.suites.catalogue import get_suite
from nemo_distill.config.schedule import Schedule
from nemo_distill.contamination.overlap import CONTAMINATION_FILE, Contamination
from nemo_distill.data.prepared import tokens_counted
from nemo_distill.errors import UserError
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import SPEC_FILE, SUCCESS, Spec, why_damaged

SHOWN_PACKAGES = (
    "nemo_toolkit", "megatron_core", "nvidia_modelopt", "nemo_run", "nemo_evaluator", "transformers", "torch",
)  # fmt: skip
"""Packages whose versions the report names."""


def finished_report(run: Run) -> Spec:
    """The run's report step. Raises `UserError` when it is not done, or its files are not as it left them."""
    if "report" not in run.specs or not run.specs["report"].done:
        raise UserError(f"{run.name} has no report yet: nemo-run status {run.name} shows how far it is.")
    spec, again = run.specs["report"], "give the run's command again"
    if damaged := why_damaged(f"the report of {run.name}", spec.folder, again=again):
        raise UserError(damaged)
    return spec


def gather(spec: Spec) -> Report:
    """The report of what the steps upstream of a report step left."""
    config = spec.config
    suite = get_suite(config["suite"])
    if config["repeats"] is not None:
        suite = suite.with_repeats(config["repeats"])
    steps = all_upstream(spec)
    evaluation = steps[config["checkpoints"][-1]["step"]].config
    if evaluation.get("max_new_tokens") is not None:
        suite = suite.with_max_new_tokens(evaluation["max_new_tokens"])
    course = steps[config["distill"][-1]].config.get("course", {})
    rows = tuple(
        Row(
            role=checkpoint["role"],
            result=_result(spec.upstream[checkpoint["step"]]),
            tokens=checkpoint["tokens"],
            iteration=checkpoint["iteration"],
            learning_rate=_learning_rate(course, checkpoint["iteration"]),
            **_origin(steps[checkpoint["step"]]),
        )
        for checkpoint in config["checkpoints"]
    )
    asked = {task.task: task.summary.questions for task in rows[0].result.tasks}
    return Report(
        title=config["title"],
        suite=suite.with_questions(asked),
        rows=rows,
        losses=tuple(loss for name in config["distill"] for loss in _losses(spec.upstream[name])),
        blend=_blend(config, steps, tokens=rows[-1].seen),
        pruning=_pruning(steps["prune"].folder),
        contamination=_contamination(steps),
        steps=_records(steps),
        facts=_facts(spec),
        training=_training(steps[config["distill"][-1]].config),
        manifest=tuple((name, _as_json(step)) for name, step in steps.items()),
        min_learning_rate=_last_learning_rate(course),
        protocol=evaluation.get("protocol", ""),
    )


@functools.cache
def _result(evaluation: Path) -> CheckpointResult:
    """A finished evaluation's answers, read once for all runs that share it, a teacher's say."""
    return CheckpointResult.load(evaluation)


def all_upstream(spec: Spec) -> dict[str, Spec]:
    """Every step that `spec` rests on, directly or not, by name, each after those it rests on itself."""
    found: dict[str, Spec] = {}

    def visit(folder: Path) -> None:
        step = Spec.load(folder / SPEC_FILE)
        if step.name in found:
            return
        for upstream in step.upstream.values():
            visit(upstream)
        found[step.name] = step

    for folder in spec.upstream.values():
        visit(folder)
    return found


def _origin(evaluation: Spec) -> dict:
    """Fields of a row that say where it is from: folder, what was evaluated, answers where they were kept."""
    answers = evaluation.folder / ANSWERS_FILE
    name = evaluation.config.get("checkpoint", "")
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
    }


def _learning_rate(course: dict, iteration: int | None) -> float | None:
    """Learning rate of a checkpoint, where its segment says what it was trained with."""
    if not course or iteration is None:
        return None
    return Schedule.of(course).learning_rate_after(iteration)


def _last_learning_rate(course: dict) -> float | None:
    """Learning rate at the end of the schedule."""
    return _learning_rate(course, course.get("max_iterations"))


def _losses(segment: Path) -> list[dict]:
    return [json.loads(line) for line in (segment / "losses.jsonl").read_text(encoding="utf-8").splitlines()]


def _blend(config: dict, steps: dict[str, Spec], *, tokens: int) -> tuple[BlendPart, ...]:

    shares = config["blend"]
    provenance = config.get("provenance", {})  # version 1 of this step had none; its runs are compared as well
    counted = tokens_counted(steps["prepare"].folder)
    return tuple(
        BlendPart(
            source=name,
            share=share,
            tokens_available=counted[name],
            tokens_used=tokens * share / sum(shares.values()),
            provenance=provenance.get(name, ""),
        )
        for name, share in shares.items()
    )


def _pruning(folder: Path) -> Pruning:

    layers = json.loads((folder / "layers.json").read_text(encoding="utf-8"))
    return Pruning(
        parameters_before=layers["parameters_before"],
        parameters_after=layers["parameters_after"],
        pattern_before=layers["pattern_before"],
        pattern_after=layers["pattern_after"],
        dropped=tuple(layers["dropped"]),
        remark=layers.get("chip_friendly", ""),
        candidates=tuple(json.loads((folder / "candidates.json").read_text(encoding="utf-8"))),
    )


def _contamination(steps: dict[str, Spec]) -> Contamination | None:
    """None where sources were not searched for questions."""
    return Contamination.load(steps["contamination"].folder / CONTAMINATION_FILE) if "contamination" in steps else None


def _records(steps: dict[str, Spec]) -> tuple[StepRecord, ...]:

    def seconds(step: Spec) -> float | None:
        return json.loads((step.folder / SUCCESS).read_text(encoding="utf-8")).get("seconds")

    return tuple(
        StepRecord(name=name, folder=_short(step.folder), seconds=seconds(step)) for name, step in steps.items()
    )


def _facts(spec: Spec) -> dict[str, str]:
    """Command, commit, packages and machine from this step's own spec.json, as far as it knows them."""
    record = json.loads((spec.folder / SPEC_FILE).read_text(encoding="utf-8"))
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
