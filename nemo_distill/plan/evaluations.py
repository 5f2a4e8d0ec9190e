"""What asking a checkpoint takes, benchmark by benchmark: answers per GPU-hour as it is asked, and the whole.

    known = Known(measured=measured, ...)
    cost = cost_of(served, loads, way, known, role="student")
    cost.parts[4].per_gpu_hour, cost.gpu_hours, cost.evidence

Lengths of answers are those that finished evaluations recorded, of a checkpoint of its kind; else the published ones of
the teacher, or assumed (`evaluator.suites.lengths`). The pruned student is taken to end no answer. Time is the model's
(`nemo_distill.plan.serving`), times what finished evaluations took of what it says of them: those of the same sizes,
format and GPU where there are any, others else, or what served checkpoints reached. So what ran at other sizes is
scaled by shape.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nemo_distill.outcome.measured import Measured, Rates, Way
from nemo_distill.outcome.suites import Load
from nemo_distill.plan.benched import START_SECONDS
from nemo_distill.plan.calibration import Evidence
from nemo_distill.plan.gpus import named_by_driver
from nemo_distill.plan.serving import REACHED, Answers, Reached, Served
from nemo_distill.plan.serving_figures import HERE

RECORDED, PUBLISHED, ASSUMED, LIMIT = "recorded", "published", "assumed", "limit"
"""Where a mean length is from; the last of answers that are taken never to end."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One benchmark of one checkpoint."""

    title: str
    """What tables call it."""
    answers: int
    """Questions x repeats."""
    tokens: float
    """Mean tokens of an answer."""
    tokens_from: str
    """Where that is from: `recorded`, `published`, `assumed` or `limit`."""
    gpu_seconds: float
    """What it takes."""
    evidence: Evidence
    """What that rests on."""

    @property
    def per_gpu_hour(self) -> float:
        """Answers per GPU-hour."""
        return self.answers / self.gpu_seconds * 3600


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What asking one checkpoint takes."""

    parts: tuple[Part, ...] = ()
    """Every benchmark that it is asked; none where it is asked on CPUs."""
    besides: float = 0.0
    """Seconds of GPUs until servers answer, and while their last answers end."""
    rests_on: str = ""
    """Whose time it is by, as a part of a sentence."""

    @property
    def gpu_hours(self) -> float:
        """GPU-hours in all."""
        return (sum(part.gpu_seconds for part in self.parts) + self.besides) / 3600

    @property
    def evidence(self) -> Evidence:
        """What the whole rests on: the least that one of its parts does."""
        order = list(Evidence)
        return max((part.evidence for part in self.parts), key=order.index, default=Evidence.NEVER_RUN)


ALIKE, SAME_FORMAT, RATES_OF_FORMAT, ANOTHER, OTHER_RATES = 4, 3, 2, 1, 0
"""How near something measured is: an evaluation of these sizes and this format, asked alike; one of this format; rates
of it; an evaluation of another format; rates of one. GPU and task are the same in all."""
MOST = 20
"""As many are gone by, of those that are equally near."""


class Scale(NamedTuple):
    """What something took of what the model says of it."""

    took: float
    """The quotient."""
    near: int
    """How near it was: a name in `ALIKE` and what follows, the larger the nearer."""
    name: str
    """Name of the evaluation, or of what measured apart."""


@dataclass(frozen=True)
class Known:
    """What is known of other evaluations."""

    measured: Sequence[Measured] = ()
    """Those that are done, the newest first."""
    rates: Sequence[Rates] = ()
    """What served checkpoints reached."""
    reached: Reached = REACHED
    """What of a GPU is reached, where none is of any help."""

    def length(self, load: Load, role: str) -> tuple[float, float, str]:
        """Mean tokens of a prompt and of an answer, and where the latter is from."""
        limit = load.max_new_tokens
        roles = {"teacher": ("teacher", "student"), "student": ("student", "teacher"), "pruned": ("pruned",)}[role]
        for of in roles:
            if found := [one for one in self._asked(load.task, of) if one.limit == limit]:
                prompts, answers = (
                    sum(tokens) / sum(one.questions * one.repeats for one in found)
                    for tokens in ([one.prompt for one in found], [one.generated for one in found])
                )
                return prompts or load.length.prompt, answers, RECORDED
        if role == "pruned" and limit is not None:
            return load.length.prompt, limit, LIMIT
        return load.length.prompt, load.length.answer, PUBLISHED if load.length.published else ASSUMED

    def start_seconds(self) -> float:
        """What a server takes until it answers, by those that did."""
        found = [one.start_seconds for one in self.measured if one.start_seconds and one.way.gpus]
        return sum(found) / len(found) if found else START_SECONDS

    def scales(self, served: Served, way: Way, task: str) -> list[Scale]:
        """The nearest of what was measured, the newest of these: evaluations that asked that task, and rates."""
        near: dict[int, list[Measured | Rates]] = {}
        known: list[Measured | Rates] = [*self.measured, *self.rates]
        for one in known:
            if (level := _near(one, served, way, task)) is not None:
                near.setdefault(level, []).append(one)
        for level in sorted(near, reverse=True):
            found = [(one, self._took(one, served, task)) for one in near[level][:MOST]]
            if scales := [Scale(took, level, one.name) for one, took in found if took]:
                return scales
        return []

    def _asked(self, task: str, role: str):
        return [
            asking
            for one in self.measured
            if one.role == role
            for asking in one.asked
            if asking.task == task and asking.generated
        ]

    def _took(self, one: Measured | Rates, served: Served, task: str) -> float | None:
        """What it took of what the model says of it; None: nothing says how long it took."""
        then = Served(shape=one.shape, gpu=served.gpu, format=one.format, recipe=served.recipe, reached=self.reached)
        if isinstance(one, Measured):
            asked = [asking for asking in one.asked if one.way.together or asking.task == task]
            if not all(asking.generated and asking.once and asking.seconds for asking in asked):
                return None
            answers = tuple(_recorded(asking, one.way.gpus) for asking in asked)
            return (one.seconds if one.way.together else asked[0].seconds) / then.seconds(answers, one.way.in_flight)
        if one.decoding:
            return _mean(
                [
                    at.in_flight / then.step_seconds(at.in_flight, at.context_tokens) / at.tokens_per_second
                    for at in one.decoding
                ]
            )
        if not one.settings:
            return None
        setting, reached = max(one.settings, key=lambda pair: pair[0].output_tokens / pair[0].input_tokens)
        load = {"in_flight": setting.in_flight, "requests": setting.requests}
        return then.tokens_per_second(prompt=setting.input_tokens, answer=setting.output_tokens, **load) / reached


def _near(one: Measured | Rates, served: Served, way: Way, task: str) -> int | None:
    """How near something measured is (`ALIKE` and what follows); None: it is no help."""
    gpu = named_by_driver(one.gpu) if one.gpu else served.gpu  # a launcher's is that of the layout
    if gpu != served.gpu:
        return None
    if isinstance(one, Rates):
        return RATES_OF_FORMAT if one.format == served.format else OTHER_RATES
    if not one.way.gpus or all(asking.task != task for asking in one.asked):
        return None
    if one.format != served.format:
        return ANOTHER
    so = (one.way.in_flight, one.way.together) == (way.in_flight, way.together)
    return ALIKE if so and one.shape.is_sized_like(served.shape) else SAME_FORMAT


def cost_of(served: Served, loads: Sequence[Load], way: Way, known: Known, *, role: str) -> Cost:
    """What asking a model of this kind all `loads` takes."""
    if not way.gpus or not loads:
        return Cost()
    parts, alone, seconds, names = [], [], [], list[str]()
    for load in loads:
        prompt, tokens, origin = known.length(load, role)
        limit = max(load.max_new_tokens or 0, tokens)
        asked = Answers(number=load.answers / way.gpus, prompt=prompt, tokens=tokens, limit=limit)
        scales = known.scales(served, way, load.task)
        took = _mean([scale.took for scale in scales])
        full = asked.number * served.answer_seconds(asked, way.in_flight)
        taken = (full if way.together else served.seconds((asked,), way.in_flight)) * took * way.gpus
        if load.hours and not way.together:  # what takes longer is ended
            taken = min(taken, 3600 * load.hours * way.gpus)
        parts.append(
            Part(
                title=load.title,
                answers=load.answers,
                tokens=tokens,
                tokens_from=origin,
                gpu_seconds=taken,
                evidence=_evidence(served, scales),
            )
        )
        alone.append(asked)
        seconds.append(full * took)
        names += [scale.name for scale in scales]
    besides = known.start_seconds() * way.gpus * (1 if way.together else len(loads))
    if way.together:
        took = sum(seconds) / sum(asked.number * served.answer_seconds(asked, way.in_flight) for asked in alone)
        besides += max(0.0, served.seconds(tuple(alone), way.in_flight) * took - sum(seconds)) * way.gpus
    return Cost(parts=tuple(parts), besides=besides, rests_on=_rests_on(served, names))


def _recorded(asking, gpus: int) -> Answers:
    number = asking.questions * asking.repeats
    tokens = asking.generated / number
    limit = max(asking.limit or 0, tokens)
    return Answers(number=number / gpus, prompt=asking.prompt / number, tokens=tokens, limit=limit)


def _evidence(served: Served, scales: Sequence[Scale]) -> Evidence:
    if any(scale.near == ALIKE for scale in scales):
        return Evidence.MEASURED
    return Evidence.MODELLED if scales or measured_apart(served) else Evidence.NEVER_RUN


def measured_apart(served: Served) -> bool:
    """Whether rates of its GPU and format were measured with this code, apart from any evaluation."""
    return any((one.served.gpu, one.served.format) == (served.gpu, served.format) for one in HERE)


def _mean(values: Sequence[float]) -> float:
    """Their geometric mean; 1 of none."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else 1.0


def _rests_on(served: Served, names: Sequence[str]) -> str:
    listed = list(dict.fromkeys(names))
    if not listed:
        apart = f"rates of vLLM that were measured on one {served.gpu.name}"
        return apart if measured_apart(served) else "rates of vLLM on other GPUs, or that others published"
    more = f" and {len(listed) - 1} more" if len(listed) > 1 else ""
    return f"what {listed[0]}{more} took on {served.gpu.name}"
