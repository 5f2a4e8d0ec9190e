"""Tokens, iterations, milestones and the learning rate of a run, before it starts.

Adding a learning-rate schedule is adding a function and its name in `SCHEDULES`; `distill.schedule=NAME` takes it. The
preview, the training and the reports read the rates from there.

>>> from nemo_distill.config.schedule import Schedule
>>> study = Schedule(seq_length=8192, global_batch_size=768, max_iterations=16_000,
...                  warmup_iterations=100, learning_rate=1e-4, min_learning_rate=1e-5)
>>> [milestone.label for milestone in study.milestones([400, 3_200, 12_800])]
['2.5B', '20B', '80B']
>>> f"{study.learning_rate_after(12_800):.3g}"
'1.87e-05'
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from nemo_distill.errors import UserError, nearest

COSINE = "cosine"
"""The study's learning-rate schedule, which the framework has as well."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_WRITTEN = (("B", 10**9, 10**9), ("M", 10**6, 10**5), ("K", 10**3, 10**3))
"""(unit, its size, the tokens from which it is used): the debug runs' 0.4M, but 100B."""


class MilestoneError(UserError):
    """What cannot be a milestone."""


@dataclass(frozen=True)
class Milestone:
    """A point of a run at which the student is kept and judged."""

    iteration: int
    """Iterations done."""
    tokens: int
    """Tokens seen."""
    label: str
    """The tokens as text, e.g. `2.5B`; no other milestone of the run has it."""
    learning_rate: float
    """The learning rate that the next iteration would be trained with."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a run spends its tokens."""

    seq_length: int
    """Tokens per sequence."""
    global_batch_size: int
    """Sequences per iteration."""
    max_iterations: int
    """Iterations of the whole learning-rate schedule; a run may end at a milestone before."""
    warmup_iterations: int
    """Iterations over which the learning rate rises."""
    learning_rate: float
    """At the end of the warm-up."""
    min_learning_rate: float
    """At the end of the schedule."""
    schedule: str = COSINE
    """How the learning rate goes from one to the other: a name in `SCHEDULES`."""

    @classmethod
    def of(cls, settings: Mapping) -> "Schedule":
        """The schedule among `settings`, which may hold more."""
        names = [field.name for field in dataclasses.fields(cls) if field.name in settings]
        return cls(**{name: settings[name] for name in names})

    def __post_init__(self):
        find_schedule(self.schedule)
        for name in ("seq_length", "global_batch_size", "max_iterations"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, and has to be at least 1.")
        if not 0 <= self.warmup_iterations < self.max_iterations:
            raise UserError(
                f"warmup_iterations is {self.warmup_iterations} and the schedule has {self.max_iterations} iterations."
            )
        if not 0 <= self.min_learning_rate <= self.learning_rate:
            raise UserError(
                f"min_learning_rate is {self.min_learning_rate}: not between 0 and learning_rate, {self.learning_rate}."
            )

    @property
    def tokens_per_iteration(self) -> int:
        """Tokens of one global batch."""
        return self.seq_length * self.global_batch_size

    def tokens(self, iteration: int) -> int:
        """Tokens seen when `iteration` iterations are done."""
        return iteration * self.tokens_per_iteration

    def iteration(self, tokens: int | str) -> int:
        """The iteration that ends at `tokens`, a number or text like `2.5M`.

        Raises `UserError`, with the nearest that would do, when no iteration ends there or the schedule does before.
        """
        wanted = parse_tokens(tokens)
        nearest = min(max(round(wanted / self.tokens_per_iteration), 1), self.max_iterations)
        if wanted > self.tokens(self.max_iterations):
            problem = f"lie past the schedule's {self.max_iterations:,} iterations"
        elif wanted != self.tokens(nearest):
            problem = f"are no whole number of iterations of {self.tokens_per_iteration:,} tokens"
        else:
            return nearest
        raise MilestoneError(
            f"{tokens} tokens {problem}; the nearest is {self.tokens(nearest):,}, iteration {nearest:,}."
        )

    def ends_at(self, tokens: int | str) -> bool:
        """Whether an iteration ends at `tokens`."""
        return parse_tokens(tokens) % self.tokens_per_iteration == 0

    def milestones(self, iterations: Iterable[int | str]) -> tuple[Milestone, ...]:
        """The milestones after `iterations`, which rise; raises `UserError` with the one that cannot be.

        Text is tokens, as `iteration` takes them.
        """
        chosen = [self.iteration(one) if isinstance(one, str) else one for one in iterations]
        before = 0
        for iteration in chosen:
            if isinstance(iteration, bool) or not isinstance(iteration, int):
                raise MilestoneError(f"milestone {iteration!r} is no iteration: give whole numbers.")
            if iteration <= before:
                raise MilestoneError(f"milestone {iteration:,} does not come after {before:,}.")
            if iteration > self.max_iterations:
                raise MilestoneError(
                    f"milestone {iteration:,} lies past the schedule; its last iteration is {self.max_iterations:,} "
                    "(max_iterations)."
                )
            before = iteration
        if not chosen:
            raise MilestoneError("a run needs at least one milestone.")
        digits = 2
        while len(labels := {format_tokens(self.tokens(i), digits=digits): i for i in chosen}) < len(chosen):
            digits += 1
        return tuple(Milestone(i, self.tokens(i), label, self.learning_rate_after(i)) for label, i in labels.items())

    def learning_rate_after(self, iteration: int) -> float:
        """The learning rate when `iteration` iterations are done, which is the one that the next is trained with."""
        return find_schedule(self.schedule)(self, iteration)


Rate = Callable[[Schedule, int], float]
"""The learning rate when so many iterations are done, which may be more than the schedule has."""


def cosine(schedule: Schedule, iteration: int) -> float:
    """Linear warm-up from `learning_rate / (warmup_iterations + 1)`, then cosine decay.

    As NeMo 2.7's `CosineAnnealingScheduler` with `constant_steps=0` has it.
    """
    if schedule.warmup_iterations > 0 and iteration <= schedule.warmup_iterations:
        return schedule.learning_rate * ((iteration + 1) / (schedule.warmup_iterations + 1))
    if iteration > schedule.max_iterations:
        return schedule.min_learning_rate
    done, whole = iteration - schedule.warmup_iterations, schedule.max_iterations - schedule.warmup_iterations
    fall = 0.5 * (1 + math.cos(math.pi * done / whole))
    return (schedule.learning_rate - schedule.min_learning_rate) * fall + schedule.min_learning_rate


SCHEDULES: dict[str, Rate] = {
    COSINE: cosine,
}
"""Every learning-rate schedule by the name that `distill.schedule` takes."""


def find_schedule(name: str) -> Rate:
    """The schedule called `name`; raises `UserError` with the nearest name there is."""
    if name not in SCHEDULES:
        raise UserError(f"there is no distill.schedule '{name}'. {nearest(name, SCHEDULES)}")
    return SCHEDULES[name]


def parse_tokens(text: int | float | str) -> int:
    """Tokens of `2.5B`, `0.4M`, `800K`, `1,000` or a number; raises `UserError` for anything else.

    >>> parse_tokens("2.5B")
    2500000000
    """
    match = re.fullmatch(r"\s*([0-9][0-9_,]*(?:\.[0-9]+)?)\s*([KMBT]?)\s*", str(text), re.IGNORECASE)
    if isinstance(text, bool) or not match:
        raise MilestoneError(f"{text!r} is no number of tokens; write it like 2.5B, 0.4M or 400000.")
    number, unit = match.groups()
    exact = float(re.sub("[_,]", "", number)) * _UNITS[unit.upper()]
    tokens = round(exact)
    if tokens < 1 or not math.isclose(tokens, exact, rel_tol=1e-12):
        raise MilestoneError(f"{text!r} is no whole number of tokens above 0.")
    return tokens


def format_tokens(tokens: float, *, digits: int = 2) -> str:
    """Tokens as the study writes them: `digits` digits, cut and not rounded, so that 80.53B tokens are called 80B.

    >>> format_tokens(80_530_636_800), format_tokens(409_600), format_tokens(100_663_296_000)
    ('80B', '0.4M', '100B')
    """
    unit, size = next(((unit, size) for unit, size, least in _WRITTEN if tokens >= least), ("", 1))
    step = 10.0 ** max(math.floor(math.log10(tokens)) - digits + 1, 0)
    cut = math.floor(tokens / step) * step / size
    return f"{cut:.12f}".rstrip("0").rstrip(".") + unit
