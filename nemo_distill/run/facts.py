"""What is known of a run and told to its steps beside their configs; nothing here decides an output.

    facts = RunFacts.of(recipe, executor="slurm")
    facts.beside.layout.tensor_parallel            # 8
    RunFacts.read(facts.record()) == facts         # plain JSON data, as a run's file holds it

Files of version 0.1 are read as well: what they lack has a default, what they leave at null, too.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_distill.config.benchmarks import files_of
from nemo_distill.config.held_out import Measuring
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.resolved import Parallelism
from nemo_distill.config.settings import Health
from nemo_distill.config.teacher import FOLDER

PARTS = ("blend", "prepare", "prune", "distill", "evaluate", "quantize")
"""Parts of a recipe that a run's file keeps for its reader; code goes by the fields of `RunFacts`."""

BESIDE = ("executor", "run", "layout", "health", "scale", "runs", "serve_bench", "track")
"""First parts of the keys of settings that no score depends on, or that a run's name has anyway."""
_HEAD = ("executor", "scale", "seed", "recipe_name", "changed", "time")
"""Fields of `RunFacts` that a run's file says as they are."""


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """Where the run is shown while it goes on (`nemo_distill.track`)."""

    id: str
    """Twelve hex digits: the tracked run that its steps append to."""
    kinds: tuple[str, ...]
    """Names of the trackers."""

    def __post_init__(self):
        object.__setattr__(self, "kinds", tuple(self.kinds))  # a list in a file


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What a launch tells a step beside its config; it stands in `spec.json`, and in no fingerprint."""

    command: tuple[str, ...] = ()
    """The command of the launch, word by word, without secrets."""
    health: Health = Health()
    """When a distillation is stopped early."""
    layout: Parallelism = Parallelism()
    """What a step that takes many ranks is spread over."""
    second_search: bool = True
    """Whether pruning looks for the best FP8-aligned shape beside the student."""
    tracked: Tracked | None = None
    """The tracked run, None where there is none."""
    teacher: str = ""
    """Folder that stands in a config as `config.teacher.FOLDER`; empty where none does."""
    max_unasked: float = 0.05
    """Most of a benchmark's answers, as a share from 0 to 1, that could not be asked for, in an evaluation."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """Site's settings of the cluster that evaluations are sent to (`evaluator.harness.cluster`)."""
    questions: Mapping[str, str] = field(default_factory=dict)
    """Files of the recipe's own questions, by task."""
    vllm: str = ""
    """Executable or environment of vLLM; empty: it is looked for."""
    measuring: Measuring | None = None
    """When held-out documents are measured, and how many; None: there are none."""

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "Beside":
        """What `record` says, which may hold more."""
        layout = {key: value for key, value in (record.get("layout") or {}).items() if value is not None}
        if "recompute" in record:  # of version 0.1, whose specs say no more of the layout
            layout = {"recompute": record["recompute"], **layout}
        return cls(
            command=tuple(record.get("command") or ()),
            health=Health(**record.get("health") or {}),
            layout=Parallelism(**layout),
            second_search=record.get("second_search", True),
            tracked=Tracked(**record["tracked"]) if record.get("tracked") else None,
            teacher=record.get("teacher", ""),
            max_unasked=record.get("max_unasked", 0.05),
            evaluation=record.get("evaluation") or {},
            questions=record.get("questions") or {},
            vllm=record.get("vllm", ""),
            measuring=Measuring(**record["measuring"]) if record.get("measuring") else None,
        )

    def record(self) -> dict[str, Any]:
        """As plain JSON data."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What was asked for, and how it was launched."""

    executor: str = ""
    """Name of the executor."""
    scale: str = ""
    """Name of the scale."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """`PARTS` of the recipe as plain JSON data, for who reads the run's file."""
    seed: int | None = None
    """Seed of the sample order and of the answers."""
    recipe_name: str = ""
    """Name of the recipe's file without its ending; empty where none is known."""
    changed: Mapping[str, Any] = field(default_factory=dict)
    """Settings that the run's name stands for, by dotted key: those that are not its recipe's."""
    time: str = ""
    """Time of the launch, ISO 8601."""
    beside: Beside = Beside()
    """What its steps are told."""
    launched: Mapping[str, Any] = field(default_factory=dict)
    """What the executor keeps of the launch, plain JSON data by names of its own."""

    @property
    def blend(self) -> str:
        """Name of the blend; empty where none is known."""
        return (self.recipe.get("blend") or {}).get("name", "")

    def launched_by(self, executor: str, *, command: Sequence[str]) -> "RunFacts":
        """These facts with the executor's name and the command, which holds no secret."""
        return dataclasses.replace(
            self, executor=executor, beside=dataclasses.replace(self.beside, command=tuple(command))
        )

    def tracked_as(self, tracked: Tracked | None) -> "RunFacts":
        """These facts with the tracked run that steps append to."""
        return dataclasses.replace(self, beside=dataclasses.replace(self.beside, tracked=tracked))

    @classmethod
    def of(cls, recipe: Recipe, *, executor: str, evaluation: Mapping[str, Any] | None = None) -> "RunFacts":
        """The facts of a run of `recipe` that begins now; `evaluation` are the site's settings of evaluations."""
        return cls(
            executor=executor,
            scale=recipe.scale.name,
            recipe={part: dataclasses.asdict(getattr(recipe, part)) for part in PARTS},
            seed=recipe.seed,
            time=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            beside=Beside(
                health=recipe.health,
                layout=recipe.layout,
                second_search=recipe.prune.chip_friendly != "ignore",
                teacher=recipe.teacher.path if recipe.teacher.checkpoint == FOLDER else "",
                max_unasked=recipe.evaluate.max_unasked,
                evaluation=evaluation or {},
                questions=files_of(recipe.evaluate.benchmarks),
                vllm=str(Path(recipe.evaluate.vllm).expanduser().absolute()) if recipe.evaluate.vllm else "",
                measuring=recipe.measuring,
            ),
        )

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "RunFacts":
        """What a run's file says. Raises TypeError or ValueError where it says what cannot be."""
        beside = Beside.read(record)
        own = {*_HEAD, *PARTS, *(one.name for one in dataclasses.fields(Beside))}
        return cls(
            executor=record.get("executor", ""),
            scale=record.get("scale", ""),
            recipe={part: record[part] for part in PARTS if part in record},
            seed=record.get("seed"),
            recipe_name=record.get("recipe_name") or _recipe_in(beside.command),
            changed=record["changed"] if "changed" in record else _settings_in(beside.command),
            time=record.get("time", ""),
            beside=beside,
            launched={key: value for key, value in record.items() if key not in own},
        )

    def record(self) -> dict[str, Any]:
        """As plain JSON data, the way a run's file holds it."""
        head = {name: getattr(self, name) for name in _HEAD}
        return {**head, **self.recipe, **self.beside.record(), **self.launched}


def _recipe_in(command: Sequence[str]) -> str:
    """The recipe that a command names, without its ending, for files that do not say it."""
    return next((Path(word).stem for word in command if word.endswith(".py") and "=" not in word), "")


def _settings_in(command: Sequence[str]) -> dict[str, str]:
    """The settings that a command gave, as they were typed, for files that do not say which were changed."""
    words = [word.partition("=") for word in command if "=" in word and not word.startswith("-")]
    return {key: text for key, _, text in words if key.partition(".")[0] not in BESIDE}
