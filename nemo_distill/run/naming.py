"""Names a run by its settings, so that none is written over another's.

    own = suffix({"seed": 2, "distill.learning_rate": 3e-4})        # -lr3e-4-seed2
    name_of("distill_v1v3-debug", mine, changed, runs=Path("runs"))

A run whose settings are its recipe's is called as the recipe and the scale. What was set otherwise follows, in the
order of the settings and not of the command; what no result depends on (layout, health limits, executor, tracking) does
not. Where a run of that name has other settings, since the recipe was edited or an earlier version wrote it, what
differs from there follows too.
"""

import dataclasses
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_distill.config.plain import fingerprint
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.resolved import Distillation, Evaluation, Preparation, Pruning, Quantization
from nemo_distill.config.schedule import Schedule, parse_tokens
from nemo_distill.config.teacher import STAND_IN
from nemo_distill.errors import UserError
from nemo_distill.run.facts import BESIDE, RunFacts
from nemo_distill.run.manifest import Run

Deciding = Mapping[str, Any]
"""The settings that decide results, plain data by dotted key, in the order of the settings."""
_PARTS = {
    "prepare": Preparation,
    "prune": Pruning,
    "distill": Distillation,
    "evaluate": Evaluation,
    "quantize": Quantization,
}
_SHARES = "blend.shares."
_HEADS = ("blend", *_PARTS, "seed", "teacher")
"""First parts of the keys of settings that decide results."""
_FREE = ("evaluate.max_unasked", "evaluate.vllm", "evaluate.measured_in")
"""Settings among `_PARTS` that no result depends on."""
_SHORT = {
    "blend.name": "blend",
    "distill.learning_rate": "lr",
    "distill.min_learning_rate": "minlr",
    "distill.max_iterations": "iterations",
    "distill.global_batch_size": "batch",
    "distill.micro_batch_size": "micro",
    "distill.seq_length": "seq",
    "distill.warmup_iterations": "warmup",
    "distill.intermediate_layers": "layers",
    "evaluate.max_new_tokens": "answer",
    "prepare.tokens": "tokens",
    "prune.calibration_sequences": "calibration",
    "prune.export_config": "student",
    "prune.memory_batch_size": "membatch",
    "prune.memory_mb": "memory",
    "prune.memory_precision": "memin",
    "prune.memory_seq_length": "memseq",
    "prune.tensor_parallel": "chips",
    "quantize.calibration_sequences": "quantizeover",
    "quantize.evaluate": "quantizeasked",
    "quantize.format": "quantize",
    "quantize.milestones": "quantizeat",
    "quantize.recipe": "quantizeby",
}
"""What a name calls a setting where that is not the last part of its key."""
LONGEST = 60
"""Most characters of a suffix; a longer one is cut and ends in a digest."""
_PLAIN = re.compile(r"[^A-Za-z0-9.-]+")


@dataclass(frozen=True, kw_only=True)
class Named:
    """A run's name, and what it stands for."""

    name: str
    """Name of the run."""
    changed: Mapping[str, Any]
    """Settings in the name, by dotted key."""
    instead_of: str = ""
    """Name that a run of other settings has already; empty: none was in the way."""


def deciding(facts: RunFacts, teacher: str = "") -> dict[str, Any]:
    """The settings in `facts` that decide results, as far as they are told; `teacher` is `teacher_of` the run."""
    parts = facts.recipe
    found: dict[str, Any] = {}
    if blend := parts.get("blend"):
        found["blend.name"] = blend["name"]
        found |= {f"{_SHARES}{name}": float(share) for name, share in blend["shares"].items()}
    for part, kind in _PARTS.items():
        given = parts.get(part) or {}
        for field in dataclasses.fields(kind):
            key = f"{part}.{field.name}"
            if field.name in given and key not in _FREE:
                found[key] = _settled(key, given[field.name], given)
    if facts.seed is not None:
        found["seed"] = facts.seed
    if teacher:
        found["teacher"] = teacher
    return found


def deciding_of(recipe: Recipe) -> dict[str, Any]:
    """The settings of `recipe` that decide results."""
    teacher = recipe.teacher
    return deciding(RunFacts.of(recipe, executor=""), _teacher_text(teacher.path, teacher.checkpoint, teacher.sha256))


def deciding_in(run: Run) -> dict[str, Any]:
    """The settings that decided the results of a run on disk. Raises `UserError` where its file is damaged."""
    try:
        return deciding(run.facts, teacher_of(run))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.path} says of the settings what cannot be: {error}.") from None


def teacher_of(run: Run) -> str:
    """The teacher's name and, of a folder, the digest of its files; empty where no step says it."""
    if "import-teacher" not in run.specs:
        return ""
    config = run.specs["import-teacher"].config
    checkpoint = config.get("checkpoint", "")
    return _teacher_text(run.facts.beside.teacher or checkpoint, checkpoint, config.get("sha256"))


def _teacher_text(path: str, checkpoint: str, sha256: str | None) -> str:
    if sha256 is None:
        return checkpoint
    return f"{Path(path).name}@{'' if sha256 == STAND_IN else sha256}"


def _settled(key: str, value: Any, part: Mapping[str, Any]) -> Any:
    """One form of what can be said in several: milestones in iterations, a budget in tokens, JSON's lists."""
    if key == "distill.milestones" and value is not None:
        return [milestone.iteration for milestone in Schedule.of(part).milestones(value)]
    if key == "prepare.tokens" and isinstance(value, str):
        return parse_tokens(value)
    if key == "prune.chip_friendly":  # the others choose the same student
        return "require" if value == "require" else "report"
    if key == "evaluate.datasets" and value is not None:
        return str(Path(value).resolve())
    return json.loads(json.dumps(value))  # tuples are lists in a run's file


def changes(mine: Deciding, other: Deciding, keys: Collection[str]) -> dict[str, Any]:
    """The settings of `mine` that `other` has otherwise, of those that both say and of `keys`, which are prefixes."""
    found = {}
    for key in [*mine, *(key for key in other if key not in mine)]:
        told = (key in mine and key in other) or key.startswith(_SHARES)
        if (told or _is_of(key, keys)) and not _equal(key, mine.get(key), other.get(key)):
            found[key] = _differing(mine.get(key, 0.0 if key.startswith(_SHARES) else None), other.get(key))
    return found


def _differing(value: Any, other: Any) -> Any:
    """`value`, or of a mapping the part that is not in `other`."""
    if not (isinstance(value, Mapping) and isinstance(other, Mapping)):
        return value
    return {key: value.get(key) for key in {**value, **other} if value.get(key) != other.get(key)}


def _is_of(key: str, keys: Iterable[str]) -> bool:
    """Whether `key` is one of `keys`, a part of one, or has one as its part."""
    return any(f"{key}.".startswith(f"{one}.") or one.startswith(f"{key}.") for one in keys)


def _equal(key: str, one: Any, other: Any) -> bool:
    if (
        key == "teacher" and one and other and (one.endswith("@") or other.endswith("@"))
    ):  # its files are not hashed yet
        return one.partition("@")[0] == other.partition("@")[0]
    return one == other


def suffix(changed: Mapping[str, Any]) -> str:
    """What follows a run's name for the settings `changed`, which are in the order of the settings.

    >>> suffix({"distill.learning_rate": 3e-4, "seed": 2})
    '-lr3e-4-seed2'
    """
    words = [f"{_short(key)}{_value_text(value)}" for key, value in changed.items()]
    whole = "".join(f"-{word}" for word in words)
    if len(whole) <= LONGEST:
        return whole
    kept, digest = "", fingerprint(dict(changed))[:6]
    for word in words:
        if len(kept) + len(word) + 1 > LONGEST - 7:
            break
        kept += f"-{word}"
    return f"{kept}-{digest}"


def _short(key: str) -> str:
    word = _SHORT.get(key) or _PLAIN.sub("_", key.removeprefix(_SHARES) if _SHARES in key else key.rpartition(".")[2])
    return f"{word}_" if word[-1].isdigit() else word


def _value_text(value: Any) -> str:
    """A value as a part of a name: numbers as they are, text after an underscore.

    >>> [_value_text(value) for value in (2e-3, 0.7, 7e9, 1234, True, [25, 75], "forward_kl", None)]
    ['2e-3', '0.7', '7e9', '1234', '_true', '25_75', '_forward_kl', '_none']
    """
    if isinstance(value, bool) or value is None:
        return f"_{str(value).lower()}"
    if isinstance(value, int | float):
        if value == 0 or 0.01 <= abs(value) < 1e6:
            return f"{value:.12g}"
        mantissa, _, exponent = f"{value:.11e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    if isinstance(value, list):
        return "_".join(_value_text(one).lstrip("_") for one in value)
    if isinstance(value, Mapping):
        return "_" + "_".join(f"{key}{_value_text(one)}" for key, one in value.items())
    return "_" + _PLAIN.sub("_", str(value).partition("@")[0].rstrip("/").rpartition("/")[2]).strip("_")


def set_otherwise(mine: Deciding, own: Deciding | None, words: Mapping[str, str]) -> dict[str, Any]:
    """What a command's `words`, values by key, make of the run that is not as the recipe has it.

    Args:
        mine: The settings of the run.
        own: Those of its recipe; None where the recipe makes them itself.
        words: Values as they were typed, by dotted key; those that are no settings are the recipe's own parameters.
    """
    settings = {key for key in words if key.partition(".")[0] in _HEADS}
    found = changes(mine, own, settings) if own is not None else {key: mine.get(key, words[key]) for key in settings}
    typed = {key: value for key, value in found.items() if _is_of(key, words)}
    return typed | {key: words[key] for key in sorted(words) if key.partition(".")[0] not in (*_HEADS, *BESIDE)}


def name_of(base: str, mine: Deciding, changed: Mapping[str, Any], *, runs: Path) -> Named:
    """The name of the run with the settings `mine`, of which `changed` are not its recipe's.

    That of a run in `runs` which has these settings already goes first, whatever version made it.
    """
    if changed and (there := _there(base, runs)) and not changes(mine, there, changed):
        return Named(name=base, changed=changed)  # earlier versions called all runs of a recipe so
    in_the_way = ""
    told = dict(changed)
    while True:
        name = base + suffix(told)
        there = _there(name, runs)
        differs = changes(mine, there, told) if there else {}
        if not differs:
            return Named(name=name, changed=told, instead_of=in_the_way)
        in_the_way = in_the_way or name
        if differs.keys() <= told.keys():  # two values that are written alike
            return Named(name=f"{name}-{fingerprint(dict(mine))[:6]}", changed=told, instead_of=in_the_way)
        told |= differs
        told = {key: told[key] for key in [*(k for k in mine if k in told), *(k for k in told if k not in mine)]}


def _there(name: str, runs: Path) -> Deciding | None:
    """The settings of the run of that name; None where there is none, or its file is damaged."""
    path = runs / f"{name}.json"
    try:
        return deciding_in(Run.load(path)) if path.exists() else None
    except UserError:
        return None
