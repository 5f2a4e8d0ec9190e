"""A recipe with a value for every setting: all that decides a run.

Recipe.of("distill_v1v3-debug", settings, get_scale("debug")).milestones
"""

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from nemo_distill.config.blend import Blend
from nemo_distill.config.division import check_context, check_layout
from nemo_distill.config.held_out import Measuring, measuring
from nemo_distill.config.resolved import (
    Distillation,
    Evaluation,
    Parallelism,
    Preparation,
    Pruning,
    Quantization,
    ServingBench,
)
from nemo_distill.config.scale import SCALES, Scale
from nemo_distill.config.schedule import Milestone, MilestoneError, Schedule, parse_tokens
from nemo_distill.config.settings import FORWARD_KL, Health, Settings
from nemo_distill.config.sources import SOURCES, Source
from nemo_distill.config.teacher import Teacher
from nemo_distill.errors import UserError, nearest

T = TypeVar("T")
LEAST_LOSS, LEAST_TEACHER_LOSS = 0.1, 0.05
"""Parts of the loss at the start, and of a guess among all tokens, that no loss of a language model is below so soon,
or ever: the health limits beneath them end every run."""
LEAST_STALL = 1.0
"""Seconds that a step may stand still, at least."""
MAX_SEQUENCES = 10**9
"""Sequences whose order Megatron draws up at once, at some 20 bytes each: 80 times the study's."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A blend with a value for every setting: all that decides the steps."""

    name: str
    """Name of its runs."""
    blend: Blend
    """The data."""
    prepare: Preparation
    """How sources become tokens."""
    prune: Pruning
    """How the teacher becomes the student."""
    distill: Distillation
    """How the student learns from the teacher."""
    evaluate: Evaluation
    """How every milestone is judged."""
    quantize: Quantization
    """What students are exported in besides their own precision."""
    serve_bench: ServingBench
    """What is measured of checkpoints that are served."""
    layout: Parallelism
    """What the distillation is spread over."""
    health: Health
    """When a distillation is stopped early."""
    scale: Scale
    """The sizes of everything that no recipe sets."""
    teacher: Teacher
    """The checkpoint that is pruned and learnt from."""
    sources: tuple[Source, ...]
    """The blend's sources, by name."""
    calibration: tuple[Source, ...]
    """The sources whose text ranks activations for pruning, as much of each."""
    seed: int
    """Seed of the sample order and of the answers."""

    @classmethod
    def of(
        cls, name: str, settings: Settings, scale: Scale, *, at_once: bool = False, written: Settings | None = None
    ) -> "Recipe":
        """The recipe that `settings` are at `scale`, which fills in what they leave open.

        Where the teacher would take long to hash, `at_once` leaves that for later (`Teacher.hashed`). A milestone may
        be called by its label among those of `written`, the settings before a command changed them, or of the scale.
        Raises `UserError` for settings that the scale's models cannot have.
        """
        prune, prepare = settings.prune, settings.prepare
        said = dataclasses.replace(settings.distill, milestones=_milestones_at(settings, scale))
        distill = _filled(scale.distill, said)
        tables = [_milestones_at(written or settings, scale), scale.distill.milestones]
        try:
            distill = dataclasses.replace(distill, milestones=_labelled(distill, tables))
            Schedule.of(dataclasses.asdict(distill)).milestones(distill.milestones)
        except MilestoneError as error:
            raise UserError(f"distill.milestones: {error}") from None
        another = settings.teacher not in ("", scale.teacher)
        how = {name: getattr(prune, name) for name in ("parameters", "export_config")}
        # These, and memory_mb, are ways to say the same thing: one that is given displaces the scale's.
        if how == dict.fromkeys(how) and prune.memory_mb is None:
            how = {name: getattr(scale.prune, name) for name in how}
            if another and how["parameters"] and how["parameters"] > 1:
                how["parameters"] = scale.student_share  # a number of parameters is the scale's own teacher's
        how["divisors"] = scale.divisors | {f"{name}_divisor": step for name, step in (prune.divisors or {}).items()}
        if another:
            teacher = Teacher.chosen(settings.teacher, at_once=at_once)
        else:
            teacher = Teacher.at(scale.teacher, at_once=at_once)
        recipe = cls(
            name=name,
            blend=settings.blend,
            prepare=dataclasses.replace(
                _filled(scale.prepare, prepare), tokens=None if prepare.tokens is None else parse_tokens(prepare.tokens)
            ),
            prune=dataclasses.replace(_filled(scale.prune, prune), **how),
            distill=distill,
            evaluate=_filled(scale.evaluate, settings.evaluate),
            quantize=_filled(scale.quantize, settings.quantize),
            serve_bench=_filled(scale.serve_bench, settings.serve_bench),
            layout=_filled(scale.layout, settings.layout),
            health=settings.health,
            scale=scale,
            teacher=teacher,
            sources=tuple(settings.blend.source(name) for name in sorted(settings.blend.shares)),
            calibration=_calibration(settings.blend, prune.calibration, scale),
            seed=settings.seed,
        )
        _check(recipe)
        return recipe

    @cached_property
    def schedule(self) -> Schedule:
        """Tokens, iterations and learning rate of the whole distillation."""
        return Schedule.of(dataclasses.asdict(self.distill))

    @cached_property
    def milestones(self) -> tuple[Milestone, ...]:
        """Where the distillation is cut, in order."""
        return self.schedule.milestones(self.distill.milestones)

    @cached_property
    def measuring(self) -> Measuring | None:
        """When held-out documents are measured, and how many; None: there are none.

        Raises `UserError` where there is no time for it.
        """
        if not self.prepare.held_out:
            return None
        return measuring(**self.measured, time=self.distill.held_out_time, every=self.distill.held_out_every)

    @property
    def measured(self) -> dict[str, int]:
        """What the time for measuring depends on, as `held_out.measuring` takes it."""
        return {
            "iterations": self.milestones[-1].iteration,
            "milestones": len(self.milestones),
            "tokens_per_iteration": self.distill.global_batch_size * self.distill.seq_length,
            "sources": len(self.sources),
        }


def _calibration(blend: Blend, name: str | None, scale: Scale) -> tuple[Source, ...]:
    """What ranks activations. Shares have no say in it, so that blends of the same sources have the same student."""
    if name is None and blend.sources:
        return tuple(blend.source(name) for name in sorted(blend.shares))
    name = scale.calibration_source if name is None else name
    if name in blend.sources:
        return (blend.sources[name],)
    if name not in SOURCES:
        raise UserError(f"prune.calibration={name} is no source. {nearest(name, [*blend.sources, *SOURCES])}")
    return (SOURCES[name],)


def _milestones_at(settings: Settings, scale: Scale) -> tuple[int | str, ...] | None:
    """The milestones that `settings` have at that scale; None: they leave them open."""
    said = settings.distill.milestones
    for of in said if isinstance(said, dict) else ():
        if of not in SCALES:
            raise UserError(f"distill.milestones are given for a scale '{of}'. {nearest(of, SCALES)}")
    return said.get(scale.name) if isinstance(said, dict) else said


def _labelled(distill: Distillation, tables: list[tuple[int | str, ...] | None]) -> tuple[int | str, ...]:
    """The milestones, those that are a label in one of the `tables`, the first that has it, as its iteration."""
    schedule = Schedule.of(dataclasses.asdict(distill))
    labels: dict[str, int] = {}
    for table in tables:
        there = [one for one in table or () if isinstance(one, int) and 0 < one <= schedule.max_iterations]
        if there and there == sorted(set(there)):
            labels = {milestone.label: milestone.iteration for milestone in schedule.milestones(there)} | labels
    return tuple(
        labels[one] if isinstance(one, str) and one in labels and not schedule.ends_at(one) else one
        for one in distill.milestones
    )


def _filled(default: T, given: object) -> T:
    """`default` with every field that `given`, the settings of the same part, does not leave open."""
    part: Any = default  # a dataclass
    names = [field.name for field in dataclasses.fields(part)]
    return dataclasses.replace(part, **{name: v for name in names if (v := getattr(given, name)) is not None})


def _check_health(health: Health) -> None:
    """Not where limits are made: a run that was ended by such limits is still to be read."""
    if health.spike <= 1:
        raise UserError(
            f"health.spike={health.spike:g} calls a gradient norm a spike that is the median or less, and ends every "
            "run: say health.spike=10."
        )
    for name in ("window", "spikes", "grace_iterations"):
        if getattr(health, name) > MAX_SEQUENCES:
            raise UserError(
                f"health.{name}={getattr(health, name)} is more than can be kept: at most health.{name}="
                f"{MAX_SEQUENCES}."
            )
    if health.stall_seconds < LEAST_STALL:
        raise UserError(
            f"health.stall_seconds={health.stall_seconds:g} is less than any pause, and ends every run: the nearest is "
            f"health.stall_seconds={LEAST_STALL:g}."
        )
    for name, least in (("loss_above_start", LEAST_LOSS), ("teacher_loss", LEAST_TEACHER_LOSS)):
        if getattr(health, name) < least:
            raise UserError(
                f"health.{name}={getattr(health, name):g} is below any loss of a healthy run, and ends every run: the "
                f"nearest is health.{name}={least:g}."
            )


def _check(recipe: Recipe) -> None:
    scale, distill = recipe.scale, recipe.distill
    if distill.held_out_every is not None and not recipe.prepare.held_out:
        raise UserError(
            f"distill.held_out_every={distill.held_out_every} measures documents that are held out, and none are: say "
            "prepare.held_out=0.001."
        )
    assert recipe.measuring or not recipe.prepare.held_out  # which raises where there is no time for it
    if recipe.quantize.format == "none" and recipe.quantize != scale.quantize:
        changed = next(
            name
            for name, value in dataclasses.asdict(recipe.quantize).items()
            if value != getattr(scale.quantize, name)
        )
        raise UserError(
            f"quantize.{changed} says how a student is quantised, and none is: say quantize.format=fp8, too."
        )
    _check_health(recipe.health)
    layout = recipe.layout
    tokens, (share, source) = recipe.prepare.tokens, min((share, name) for name, share in recipe.blend.shares.items())
    if tokens is not None and tokens * share / 100 < distill.seq_length:
        raise UserError(
            f"prepare.tokens={tokens} is {tokens * share / 100:g} tokens of {source}, {share:g}% of it, and a sequence "
            f"has {distill.seq_length:,}: the nearest is prepare.tokens={math.ceil(100 * distill.seq_length / share)}."
        )
    sequences = distill.max_iterations * distill.global_batch_size
    if sequences > MAX_SEQUENCES:
        larger, other = "max_iterations", "global_batch_size"
        if getattr(distill, other) > getattr(distill, larger):
            larger, other = other, larger
        raise UserError(
            f"distill.max_iterations={distill.max_iterations} with distill.global_batch_size="
            f"{distill.global_batch_size} is an order of {sequences:,} sequences, which is drawn up as a whole and "
            f"held in memory: at most {MAX_SEQUENCES:,}; the nearest is distill.{larger}="
            f"{MAX_SEQUENCES // getattr(distill, other)}."
        )
    # Where the GPUs of a machine do not divide, plan.layouts names a nearest that divides the models' heads, too.
    if layout.gpu is None or layout.gpus_per_node % layout.tensor_parallel == 0:
        check_layout(
            ranks=layout.ranks,
            tensor_parallel=layout.tensor_parallel,
            context_parallel=layout.context_parallel,
            global_batch_size=distill.global_batch_size,
            micro_batch_size=distill.micro_batch_size,
        )
        check_context(
            ranks=layout.ranks,
            tensor_parallel=layout.tensor_parallel,
            context_parallel=layout.context_parallel,
            # plan.layouts, again, names a nearest that divides the models' heads, too.
            seq_length=distill.seq_length if layout.gpu is None else 0,
            mixers={},
            reset_at_documents=distill.reset_at_documents,
        )
    if distill.fp8 != "none" and scale.layer_spec != "transformer_engine":
        raise UserError(
            f"distill.fp8={distill.fp8} needs Transformer Engine's layers, and those of the {scale.name} scale "
            f"are '{scale.layer_spec}': say distill.fp8=none."
        )
    if distill.loss != FORWARD_KL and not distill.fused_loss:
        raise UserError(f"distill.loss={distill.loss} takes hidden states: say distill.fused_loss=true.")
    if distill.temperature != 1 and not distill.fused_loss:
        raise UserError(
            f"distill.temperature={distill.temperature:g} is for our own loss, and the framework's has 1: "
            "say distill.fused_loss=true."
        )
    if distill.cross_entropy and not distill.fused_loss:
        raise UserError(
            f"distill.cross_entropy={distill.cross_entropy:g} is a part of our own loss, and the framework's has none: "
            "say distill.fused_loss=true."
        )
    if distill.cross_entropy and distill.loss != FORWARD_KL:
        raise UserError(
            f"distill.cross_entropy={distill.cross_entropy:g} is made of the logits of {FORWARD_KL}: say "
            f"distill.loss={FORWARD_KL} or distill.cross_entropy=0."
        )
    if distill.loss_on != "all" and not distill.fused_loss:
        raise UserError(f"distill.loss_on={distill.loss_on} is a mask of hidden states: say distill.fused_loss=true.")
    if distill.loss_on != "all" and distill.intermediate_layers:
        # The framework divides theirs by the tokens of a micro batch that have a loss, of which there may be none.
        raise UserError(
            f"distill.loss_on={distill.loss_on} is of the output alone: say distill.intermediate_layers=() or "
            "distill.loss_on=all."
        )
    if distill.gradients != "float32" and scale.precision == "32":
        raise UserError(
            f"distill.gradients={distill.gradients} needs parameters in bf16, and those of the {scale.name} "
            "scale are in float32: say distill.gradients=float32."
        )
