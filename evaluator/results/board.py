"""Holds what models score beside what they cost to serve: which may share an axis, and which are on the Pareto front.

    board = Board(models=(teacher, student, fp8), setting=(32_768, 1_024))
    for group in board.groups:                  # models whose scores are of one protocol
        group.places(group.conditions[0])       # score against tokens/s, measured on one kind of GPU by one engine
        group.places(None)                      # score against GiB of weights

A score is compared within a protocol only, a rate within a kind of GPU, an engine and its version. Published models are
shown beside the group that was asked the same benchmarks, and are a front of their own.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from evaluator.results.pairs import difference, same_questions
from evaluator.results.run import AVERAGE, anchor_of, recount_of
from evaluator.results.scores import TaskResult
from evaluator.stats.front import front
from evaluator.stats.scores import Estimate, average

NOTHING = Estimate(math.nan, math.nan)
Setting = tuple[int, int]
"""Tokens of a prompt and of its answer."""


@dataclass(frozen=True, kw_only=True, order=True)
class Conditions:
    """What rates of one axis have in common, beside their setting."""

    gpu: str
    """Kind of the GPU."""
    engine: str
    """What served, and its version; empty where that is not known."""
    load: str = ""
    """How many requests were under way, in words; empty where that is not known."""

    @property
    def text(self) -> str:
        """In words, as the foot of a figure has them."""
        return ", ".join(filter(None, (self.gpu, self.engine, self.load)))

    def may_join(self, other: "Conditions") -> bool:
        """Whether a published rate, of which the kind of GPU alone is known, may stand beside one of these."""
        words = other.gpu.replace("-", " ").split()
        return self.gpu in words and not {"PCIe", "NVL"} & set(words)  # the study's are SXM


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast a model was served."""

    setting: Setting
    """Tokens of a prompt and of its answer, all of one length."""
    conditions: Conditions
    """On what, and by what."""
    values: tuple[float, ...]
    """Generated tokens per second and GPU of every measurement."""
    controls: tuple[float, ...] = ()
    """The same of what was measured once more to see what drifts, which no mean is of."""
    of: str = ""
    """Title of the model that was measured, of the same shape and format; empty: this one."""
    folder: str = ""
    """The measurement's, under the folder of all runs; empty where it is not known."""

    @property
    def mean(self) -> float:
        """Generated tokens per second and GPU."""
        return sum(self.values) / len(self.values)

    @property
    def ends(self) -> tuple[float, float]:
        """Lowest and highest that was measured."""
        return min(*self.values, *self.controls, self.mean), max(*self.values, *self.controls, self.mean)

    @property
    def times(self) -> int:
        """How often it was measured."""
        return len(self.values) + len(self.controls)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A checkpoint: what it scores, what it weighs, how fast it is served."""

    title: str
    """What tables call it: Teacher, 80B, 80B-fp8."""
    role: str
    """`teacher`, `pruned`, `milestone`, `quantised`, or of published models also `larger`."""
    blend: str = ""
    """What it was trained on; empty where the page is of one blend, and of what blends share."""
    format: str = "bf16"
    """Of its weights: float32, bf16, FP8, NVFP4."""
    protocol: str = ""
    """Of its scores, a hash; empty where the run does not say it."""
    scores: Mapping[str, Estimate] = field(default_factory=dict)
    """From 0 to 1, by the benchmark's title, of nan where it was not asked; nothing where it was not evaluated."""
    tasks: tuple[TaskResult, ...] = ()
    """Its answers, in the order of `scores`; none of a published model."""
    gib: float | None = None
    """Weights in GiB; None where that is not known."""
    gib_from: str = ""
    """What that is taken from: its files, or its parameters."""
    rates: tuple[Rate, ...] = ()
    """How fast it was served."""
    tokens: int | None = None
    """Tokens of distillation it has seen; None for the teacher."""
    checkpoint: str = ""
    """A folder under that of all runs, or the teacher's own name."""
    files: Path | None = None
    """Its Hugging Face folder, where it is at hand."""
    folder: str = ""
    """The evaluation's, under the folder of all runs; empty where there is none."""
    published: bool = False
    """A figure of the study's, measured by others."""
    remark: str = ""
    """What to know of it, NVFP4 say."""

    @property
    def name(self) -> str:
        """Its title, with its blend where there are several."""
        return f"{self.blend} {self.title}".strip()

    @property
    def recount(self) -> str:
        """The command, for the folder of all runs, that computes its scores from the answers once more."""
        return recount_of(self.folder)

    @property
    def anchor(self) -> str:
        """Id, on a page, of the line that says where its numbers are from; empty where there is none."""
        return "again" if self.published else anchor_of(self.folder)

    def score(self, benchmark: str) -> Estimate:
        """Its score from 0 to 1, or the average of all; of nan where it was not asked."""
        if benchmark == AVERAGE:
            return average(list(self.scores.values())) if self.scores else NOTHING
        return self.scores.get(benchmark, NOTHING)

    def is_scored(self, benchmark: str) -> bool:
        """Whether it has that score."""
        return not math.isnan(self.score(benchmark).mean)

    def rate(self, setting: Setting, conditions: Conditions) -> Rate | None:
        """The rate measured so: all measurements together, its own where there are any."""
        found = [one for one in self.rates if (one.setting, one.conditions) == (setting, conditions)]
        own = [one for one in found if not one.of] or found
        if not own:
            return None
        values, controls = (tuple(value for one in own for value in getattr(one, n)) for n in ("values", "controls"))
        return replace(own[0], values=values, controls=controls)

    def above(self, other: "Model", benchmark: str) -> Estimate:
        """How much it scores above `other`, from -1 to 1: question by question where both kept their answers."""
        mine, theirs = (dict(zip(one.scores, one.tasks)) for one in (self, other))
        titles = [*self.scores] if benchmark == AVERAGE else [benchmark]
        if all(t in mine and t in theirs and same_questions(mine[t], theirs[t]) for t in titles):
            return average([difference(mine[title], theirs[title]) for title in titles])
        one, two = self.score(benchmark), other.score(benchmark)
        return Estimate(one.mean - two.mean, math.hypot(one.stderr, two.stderr))


@dataclass(frozen=True)
class Place:
    """A model in one figure."""

    model: Model
    """The model."""
    at: float
    """Tokens per second and GPU, or GiB."""
    score: Estimate
    """From 0 to 1."""
    rate: Rate | None
    """What was measured; None where `at` are GiB."""
    on_front: bool
    """Whether no other of its kind, published or not, is better in one and at least as good in the other."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Models whose scores are of one protocol, with those published that were asked the same."""

    models: tuple[Model, ...]
    """All of one protocol that have the score; published ones alone where they have a group of their own."""
    beside: tuple[Model, ...] = ()
    """Published models that are shown with them."""
    benchmark: str
    """What is scored."""
    setting: Setting
    """At which tokens/s are shown."""

    @property
    def published(self) -> bool:
        """Whether it is of published models alone."""
        return all(model.published for model in self.models)

    @property
    def protocol(self) -> str:
        """Of its scores."""
        return self.models[0].protocol

    @property
    def teacher(self) -> Model | None:
        """The model that all are compared with."""
        return next((model for model in self.models if model.role == "teacher"), None)

    @cached_property
    def conditions(self) -> tuple[Conditions, ...]:
        """Those under which rates were measured at the setting, most models first."""
        counted: dict[Conditions, int] = {}
        for model in self.models:
            for conditions in {one.conditions for one in model.rates if one.setting == self.setting}:
                counted[conditions] = counted.get(conditions, 0) + 1
        return tuple(sorted(counted, key=lambda one: (-counted[one], one)))

    def places(self, conditions: Conditions | None) -> list[Place]:
        """The models that have a rate under these `conditions`, or for None those with a size."""
        return [*self._placed(self.models, conditions), *self._placed(self._joined(conditions), conditions, True)]

    def place(self, model: Model, conditions: Conditions | None) -> Place | None:
        """Where one of them is."""
        return next((one for one in self.places(conditions) if one.model is model), None)

    def _joined(self, conditions: Conditions | None) -> Sequence[Model]:
        """Published models that may stand in the figure of these conditions."""
        if conditions is None:
            return self.beside
        return [model for model in self.beside if self._beside_rate(model, conditions)]

    def _beside_rate(self, model: Model, conditions: Conditions) -> Rate | None:
        found = (one for one in model.rates if one.setting == self.setting and one.conditions.may_join(conditions))
        return next(found, None)

    def _placed(self, models: Sequence[Model], conditions: Conditions | None, beside: bool = False) -> Iterator[Place]:
        found: list[tuple[Model, float, Rate | None]] = []
        for model in models:
            if conditions is None:
                if model.gib is not None:
                    found.append((model, model.gib, None))
            else:
                rate = self._beside_rate(model, conditions) if beside else model.rate(self.setting, conditions)
                if rate:
                    found.append((model, rate.mean, rate))
        sign = -1 if conditions is None else 1
        scores = [model.score(self.benchmark) for model, *_ in found]
        on_it = front([(sign * at, score.mean) for (_, at, _), score in zip(found, scores, strict=True)])
        for (model, at, rate), score, is_on in zip(found, scores, on_it, strict=True):
            yield Place(model, at, score, rate, is_on)


@dataclass(frozen=True, kw_only=True)
class Board:
    """All that is shown."""

    models: tuple[Model, ...]
    """Every model, in the order of the tables: teacher, pruned student, milestones, what is quantised after itself."""
    benchmark: str = AVERAGE
    """What is scored: a benchmark's title, or the average of all."""
    setting: Setting
    """Tokens of a prompt and of its answer at which rates are shown."""
    measure: str = ""
    """What measures a rate that is not there, as a sentence without its end."""

    @property
    def own(self) -> tuple[Model, ...]:
        """Those of runs."""
        return tuple(model for model in self.models if not model.published)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Models with the score, by protocol, in the order of the models; published ones last, where nothing was asked
        the same as they."""
        scored = [model for model in self.models if model.is_scored(self.benchmark)]
        own = _by(lambda model: (model.protocol, self._titles(model)), [one for one in scored if not one.published])
        study = _by(lambda model: (model.protocol, self._titles(model)), [one for one in scored if one.published])
        joined: set[Sequence[str]] = set()
        groups = []
        for (_, titles), models in own.items():
            beside = [model for (_, asked), published in study.items() if asked == titles for model in published]
            joined |= {titles} if beside else set()
            groups.append(
                Group(models=tuple(models), beside=tuple(beside), benchmark=self.benchmark, setting=self.setting)
            )
        groups += [
            Group(models=tuple(models), benchmark=self.benchmark, setting=self.setting)
            for (_, titles), models in study.items()
            if titles not in joined
        ]
        return tuple(groups)

    def _titles(self, model: Model) -> tuple[str, ...]:
        return tuple(sorted(model.scores)) if self.benchmark == AVERAGE else (self.benchmark,)

    @property
    def not_scored(self) -> list[Model]:
        """Own models without the score, which are in no figure."""
        return [model for model in self.own if not model.is_scored(self.benchmark)]

    @property
    def not_measured(self) -> list[Model]:
        """Own models of the figures whose rate at the setting was not measured."""
        return [
            model
            for group in self.groups
            for model in group.models
            if not model.published and not any(one.setting == self.setting for one in model.rates)
        ]


def _by(key: Callable[[Model], tuple], models: Sequence[Model]) -> dict[tuple, list[Model]]:
    found: dict[tuple, list[Model]] = {}
    for model in models:
        found.setdefault(key(model), []).append(model)
    return found
