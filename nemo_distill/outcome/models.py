"""Finds the models of a run, whether it is finished or not: what each scores and what its weights take.

    models_of(run.specs)[0].title               # "Teacher"

A size is that of the checkpoint's files, as the mark of success of its export has them; where a teacher's files are not
at hand it is that of its parameters. What was not evaluated has no score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluator.results.board import NOTHING, Model
from evaluator.results.files import read_object
from evaluator.results.run import ROLE_TITLES
from evaluator.results.scores import CheckpointResult
from evaluator.stats.scores import Estimate
from evaluator.suites.suite import Suite
from nemo_distill.config.plain import resolve_package_paths
from nemo_distill.config.teacher import path_of
from nemo_distill.data.models import CONFIG, split_revision
from nemo_distill.errors import UserError
from nemo_distill.outcome.results import result_of
from nemo_distill.outcome.suites import suite_of_config
from nemo_distill.run.step import SPEC_FILE, Spec, is_done, read_mark
from nemo_distill.study.board import BF16, GIB

FORMATS = {"bfloat16": "bf16", "float32": "float32", "float16": "fp16", "fp8": "FP8", "nvfp4": "NVFP4"}
"""What tables call a type of weights, or a format of `quantize`."""
NOT_EVALUATED, NO_FP4 = "not evaluated", "Hopper has no FP4"


@dataclass(frozen=True)
class Weights:
    """What is known of a checkpoint's weights."""

    format: str = ""
    """What tables call their type."""
    gib: float | None = None
    """Their size in GiB."""
    gib_from: str = ""
    """What that is taken from."""
    folder: Path | None = None
    """Its Hugging Face folder, where it is at hand."""


def models_of(specs: Mapping[str, Spec], *, teacher: str = "", blend: str = "") -> list[Model]:
    """A run's models, without rates: teacher, pruned student, milestones, each with what of it is quantised.

    `teacher` is its folder where a config does not say it; `blend` what they were trained on, where several runs are.
    """
    told = specs["report"].config.get("checkpoints", ()) if "report" in specs else ()
    roles = {one["step"]: (one["role"], one["tokens"]) for one in told}
    evaluations = [spec for spec in specs.values() if _kind(spec) == "evaluate"]
    suite = _suite(evaluations)
    found = []
    for spec in evaluations:
        role, tokens = roles.get(spec.name, (_role(_label(spec)), None))
        name = path_of(spec.config.get("checkpoint", ""), spec.beside.teacher or teacher)
        exported = spec.upstream.get(name)
        weights = _weights(exported) if exported else _teachers(specs, name) if role == "teacher" else Weights()
        found.append(_evaluated(spec, suite, role, tokens, weights, f"{_short(exported)}/hf" if exported else name))
    asked = {spec.config.get("checkpoint") for spec in evaluations}
    seen = {model.title: model.tokens for model in found}
    for spec in specs.values():
        if _kind(spec) == "quantize" and spec.name not in asked and is_done(spec.folder):
            of = spec.name.partition("-")[2]
            found.append(_not_evaluated(spec, of, seen.get(of)))
    order = {"teacher": 0, "pruned": 1}
    shown = (one for one in found if one.scores or one.gib is not None)
    ranked = sorted(shown, key=lambda one: (order.get(one.role, 2), one.tokens or 0, one.role == "quantised"))
    return [one if one.role == "teacher" else replace(one, blend=blend) for one in ranked]


def _evaluated(
    spec: Spec, suite: Suite | None, role: str, tokens: int | None, weights: Weights, checkpoint: str
) -> Model:
    """What a step evaluates, or has yet to."""
    scores, result = {}, _result(spec) if is_done(spec.folder) else None
    if result and suite:
        tasks = {task.task: task for task in result.tasks}
        found = [(one.title, tasks[one.task].summary if one.task in tasks else NOTHING) for one in suite.benchmarks]
        scores = {title: Estimate(summary.mean, summary.stderr) for title, summary in found}
    return Model(
        title=ROLE_TITLES.get(role, _label(spec)),
        role=role,
        format=weights.format,
        protocol=spec.config.get("protocol", ""),
        scores=scores,
        tasks=result.tasks if result and suite and len(result.tasks) == len(suite.benchmarks) else (),
        gib=weights.gib,
        gib_from=weights.gib_from,
        tokens=tokens,
        checkpoint=checkpoint,
        files=weights.folder,
        folder=_short(spec.folder) if result else "",
        remark="" if result else NOT_EVALUATED,
    )


def _not_evaluated(spec: Spec, of: str, tokens: int | None) -> Model:
    """A quantised checkpoint that no step evaluates."""
    weights, format = _weights(spec.folder), spec.config["format"]
    return Model(
        title=f"{of}-{format}",
        role="quantised",
        format=weights.format,
        gib=weights.gib,
        gib_from=weights.gib_from,
        tokens=tokens,
        checkpoint=f"{_short(spec.folder)}/hf",
        files=weights.folder,
        remark=NO_FP4 if format == "nvfp4" else NOT_EVALUATED,
    )


def _suite(evaluations: Sequence[Spec]) -> Suite | None:
    """What the run asks: as its last evaluation that is done, the pruned student's aside, which may be asked less."""
    done = [spec for spec in evaluations if is_done(spec.folder)]
    chosen = [spec for spec in done if _label(spec) != "pruned"] or done
    return suite_of_config({"repeats": None, **chosen[-1].config}) if chosen else None


def _result(spec: Spec) -> CheckpointResult:
    try:
        return result_of(spec.folder)
    except ValueError as error:
        raise UserError(f"{spec.name} is damaged: {error}") from error


def _kind(spec: Spec) -> str:
    return spec.module.rpartition(".")[2]


def _label(spec: Spec) -> str:
    """What tables call the checkpoint that a step evaluates."""
    return spec.config.get("label") or spec.name.partition("-")[2]


def _role(label: str) -> str:
    """Of a checkpoint that the report's step does not list."""
    return label if label in ROLE_TITLES else "milestone"


def _short(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def _weights(step: Path) -> Weights:
    """Those of the checkpoint that a step exported or quantised, from what its mark of success says of its files."""
    if not is_done(step):
        return Weights()
    files = read_mark(step)["files"]
    size = sum(size for name, size in files.items() if name.startswith("hf/") and name.endswith(".safetensors"))
    said = Spec.load(step / SPEC_FILE).config
    format = FORMATS.get(said.get("format") or said.get("dtype", ""), "")
    return Weights(format, size / GIB if size else None, "its files" if size else "", step / "hf")


def _teachers(specs: Mapping[str, Spec], name: str) -> Weights:
    """Those of the teacher `name`: its files where it is a folder here, else what its parameters take in bf16."""
    folder = _folder_of(name)
    if folder and (files := list(folder.glob("*.safetensors"))):
        size = sum(file.stat().st_size for file in files)
        return Weights(_dtype(folder), size / GIB, "its files", folder)
    parameters = _parameters(specs)
    return Weights("bf16", parameters * BF16 / GIB, "its parameters in bf16") if parameters else Weights()


def _folder_of(name: str) -> Path | None:
    """The folder of a teacher that is on this machine: nothing is fetched."""
    path = Path(resolve_package_paths(name))
    if not name or path.is_dir():
        return path if name else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    model, revision = split_revision(name)
    try:
        config = try_to_load_from_cache(model, CONFIG, revision=revision)
    except HFValidationError:  # a folder of another machine
        return None
    return Path(config).parent if isinstance(config, str) else None


def _dtype(folder: Path) -> str:
    """What the config.json of a checkpoint says of its weights."""
    try:
        config = read_object(folder / CONFIG)
        return FORMATS.get(str(config.get("torch_dtype") or config.get("dtype")), "")
    except ValueError:
        return ""


def _parameters(specs: Mapping[str, Spec]) -> int | None:
    """The teacher's, as pruning counted them."""
    try:
        return int(read_object(specs["prune"].folder / "layers.json")["parameters_before"])
    except (ValueError, LookupError, TypeError):
        return None
