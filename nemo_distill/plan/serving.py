"""How fast a served model writes, from the bytes that a step reads and the FLOPs that a prompt takes.

>>> from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED
>>> from nemo_distill.plan.gpus import H100
>>> student = Served(shape=NANO_7B_PRUNED, gpu=H100)
>>> in_fp8 = Served(shape=NANO_7B_PRUNED, gpu=H100, format="fp8")
>>> bf16, fp8 = (128 / one.step_seconds(128, context=8_192) for one in (student, in_fp8))      # tokens a second
>>> 2_500 < bf16 < fp8 < 6_500
True

Decoding is bound by memory: a step reads the weights once and, of every sequence in flight, its keys and values, as
long as its context, and reads and writes its Mamba states, which are float32. Prompts are bound by FLOPs; while one is
computed, the weights are read anyway and decoding goes on beside it. What of bandwidth and FLOPs is reached, and what a
step takes besides, are `Reached`: `nemo_distill.plan.serving_figures` has the figures that they are fitted to.

A server is kept full as long as answers are left to begin, so that a sequence in flight is of any age; then it empties.
How long answers are is taken to be exponential, cut at their limit: of AIME's, with a published mean of 19,107 tokens,
30% would be cut, and 21% had no answer.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.plan.cost import GIB
from nemo_distill.plan.flops import BF16, FP32, layer_forward, matmul_weights
from nemo_distill.plan.gpus import Gpu
from nemo_distill.plan.quantisation import KINDS, bytes_of

GPU_MEMORY = 0.9
"""Share of a GPU's memory that the engine takes (`evaluator.serve.vllm.GPU_MEMORY`)."""
CHUNK = 8_192
"""Tokens of prompts that one step computes beside decoding: vLLM's own on such GPUs."""
POINTS = 200
"""Points of a sum over an answer's length."""
LAST = 0.5
"""Answers in flight, on average, below which none is."""
SLOW = 1e-4
"""Rate at which answers end, per limit, below which none is taken to."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What of a GPU an engine reaches."""

    memory: float
    """Share of the memory's bandwidth, from 0 to 1, in a step of decoding."""
    flops: float
    """Share of the dense bf16 rate, from 0 to 1, over a prompt."""
    fp8: float
    """Share of the dense FP8 rate, from 0 to 1, over a prompt, of matrices in FP8."""
    step: float
    """Time of a step that neither explains, in seconds: what is started, sampled and handed on."""


REACHED = Reached(memory=0.878, flops=0.674, fp8=0.529, step=0.0049)
"""`serving_figures.fit()`, rounded."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answers of one benchmark."""

    number: float
    """How many."""
    prompt: float
    """Mean tokens of what is asked."""
    tokens: float
    """Mean tokens of an answer."""
    limit: float
    """Most tokens of an answer."""

    @property
    def alive(self) -> Callable[[float], float]:
        """Share of the answers that are longer than so many tokens."""
        rate = _rate(min(self.tokens / self.limit, 1.0)) / self.limit
        return lambda tokens: math.exp(-rate * tokens) if tokens < self.limit else 0.0

    @property
    def age(self) -> float:
        """Mean tokens that an answer in flight has already, where a server is kept full."""
        rate = _rate(min(self.tokens / self.limit, 1.0))
        if rate < SLOW:  # none ends before its limit
            return self.limit / 2
        return self.limit * (1 / rate - 1 / math.expm1(rate))


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model on one GPU."""

    shape: Shape
    """Sizes of the model."""
    gpu: Gpu
    """Kind of GPU."""
    format: str = "none"
    """Format of the matrices that are quantised: a name in `quantisation.BYTES`."""
    recipe: str = "aggressive"
    """Which matrices those are: a name in `quantisation.KINDS`."""
    reached: Reached = REACHED
    """What of the GPU is reached."""

    @functools.cached_property
    def weights(self) -> float:
        """Bytes of weights that a step reads: all but the embedding, of which it takes a row a token."""
        return bytes_of(self.shape, self.format, self.recipe) - BF16 * self.shape.vocab_size * self.shape.hidden_size

    @functools.cached_property
    def state(self) -> float:
        """Bytes that are kept of a sequence, however long: Mamba states in float32, inputs of convolutions in bf16."""
        shape = self.shape
        inputs = (shape.conv_kernel - 1) * shape.mamba_conv_size
        return shape.pattern.count("M") * (FP32 * (shape.state_size - inputs) + BF16 * inputs)

    @functools.cached_property
    def cached(self) -> float:
        """Bytes that are kept of a token: keys and values."""
        return BF16 * self.shape.pattern.count("*") * self.shape.cached_per_token

    def in_flight(self, most: float, context: float) -> float:
        """Sequences of such a mean length that are computed at a time, of as many as `most`: what there is room for."""
        room = GPU_MEMORY * self.gpu.memory_gib * GIB - bytes_of(self.shape, self.format, self.recipe)
        return max(1.0, min(most, room / (self.state + self.cached * context)))

    def sequence_seconds(self, context: float) -> float:
        """What a sequence of such a length adds to a step."""
        return (2 * self.state + self.cached * context) / self._bandwidth

    def weights_seconds(self, in_flight: float) -> float:
        """What a step takes however long its sequences are: its own time, and the weights or their products."""
        return self.reached.step + max(self.weights / self._bandwidth, in_flight * self._product_seconds(output=True))

    def step_seconds(self, in_flight: float, context: float) -> float:
        """What a step takes, in which each of the sequences in flight gets a token."""
        return self.weights_seconds(in_flight) + in_flight * self.sequence_seconds(context)

    def prompt_seconds(self, tokens: float) -> float:
        """What the prompt of an answer takes."""
        attention = layer_forward(self.shape, "*", round(tokens)).matmul - 2 * matmul_weights(self.shape, "*")
        scans = self.shape.pattern.count("M") * layer_forward(self.shape, "M", 1).scan
        others = self.shape.pattern.count("*") * attention + scans
        return tokens * (self._product_seconds(output=False) + others / (self.gpu.bf16_flops * self.reached.flops))

    def answer_seconds(self, answers: Answers, in_flight: float) -> float:
        """What one of the answers takes of a GPU that is kept full with so many of their kind."""
        return self._answer_seconds(answers.prompt, answers.tokens, answers.prompt + answers.age, in_flight)

    def tokens_per_second(self, *, prompt: float, answer: float, in_flight: int, requests: int | None = None) -> float:
        """Tokens written per second where all prompts, and all answers, are of one length.

        `requests` are those in all; None: without end. Where there is one for each place, all are read before most is
        written.
        """
        if requests is not None and requests <= in_flight:
            decoding = answer * self.step_seconds(requests, prompt + answer / 2)
            return requests * answer / (requests * self.prompt_seconds(prompt) + decoding)
        return answer / self._answer_seconds(prompt, answer, prompt + answer / 2, in_flight)

    @functools.lru_cache(maxsize=4_096)  # noqa: B019 - of values, and the same few are asked for by every checkpoint
    def seconds(self, asked: tuple[Answers, ...], in_flight: float) -> float:
        """What all these answers take if they are asked at once, until the last has ended."""
        number = sum(one.number for one in asked)
        context = _mean(asked, [one.prompt + one.age for one in asked])
        in_flight = self.in_flight(in_flight, context)
        limit = max(one.limit for one in asked)
        if number <= in_flight:
            left = [(one.number, one.alive) for one in asked]
            prompts = sum(one.number * self.prompt_seconds(one.prompt) for one in asked)
            prompt = _mean(asked, [one.prompt for one in asked])
            return prompts + self._emptying(left, limit, lambda tokens: prompt + tokens)
        full = sum(one.number * self.answer_seconds(one, in_flight) for one in asked)
        return full + self.last_seconds(asked, in_flight)

    def last_seconds(self, asked: Sequence[Answers], in_flight: float) -> float:
        """What it takes longer, once no more are left to begin, that steps go on with fewer and fewer in flight."""
        tokens = sum(one.number * one.tokens for one in asked)
        left = [(in_flight * one.number * one.tokens / tokens, _left(one)) for one in asked]
        context, limit = _mean(asked, [one.prompt + one.age for one in asked]), max(one.limit for one in asked)
        beside = in_flight * self.sequence_seconds(context) + self.weights_seconds(in_flight)
        return self._emptying(left, limit, lambda _: context, at_full_rate=beside / in_flight)

    def _emptying(
        self,
        left: Sequence[tuple[float, Callable[[float], float]]],
        limit: float,
        context: Callable[[float], float],
        *,
        at_full_rate: float = 0.0,
    ) -> float:
        """What steps take until the last answer has ended, less what their tokens take `at_full_rate` each."""
        total, width = 0.0, limit / POINTS
        for point in _points(limit):
            there = sum(number * share(point) for number, share in left)
            if there < LAST:
                break
            total += width * (self.step_seconds(there, context(point)) - there * at_full_rate)
        return total

    def _answer_seconds(self, prompt: float, tokens: float, context: float, in_flight: float) -> float:
        in_flight = self.in_flight(in_flight, context)
        steps = max(0.0, tokens / in_flight - prompt / CHUNK)  # the others are taken by prompts
        decoding = tokens * self.sequence_seconds(context) + steps * self.weights_seconds(in_flight)
        return self.prompt_seconds(prompt) + decoding

    def _product_seconds(self, *, output: bool) -> float:
        """What the products of a token take, the output layer's among them or not."""
        flops = {True: 0.0, False: 0.0}
        for kind in self.shape.pattern:
            quantised = self.format != "none" and kind in KINDS[self.recipe]
            flops[quantised] += 2 * matmul_weights(self.shape, kind)
        if output:
            flops[False] += 2 * self.shape.hidden_size * self.shape.vocab_size
        gpu, reached = self.gpu, self.reached
        return flops[False] / (gpu.bf16_flops * reached.flops) + flops[True] / (gpu.fp8_flops * reached.fp8)

    @property
    def _bandwidth(self) -> float:
        return self.gpu.memory_bandwidth * self.reached.memory


def _points(limit: float) -> list[float]:
    return [limit * (place + 0.5) / POINTS for place in range(POINTS)]


def _mean(asked: Sequence[Answers], values: Sequence[float]) -> float:
    """The mean of a value over the tokens that are written."""
    weights = [one.number * one.tokens for one in asked]
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)


def _left(answers: Answers) -> Callable[[float], float]:
    """Share of the answers in flight, of any age, that have more than so many tokens to go."""
    rate = _rate(min(answers.tokens / answers.limit, 1.0)) / answers.limit
    whole, limit = answers.tokens, answers.limit
    if rate * limit < SLOW:
        return lambda tokens: max(0.0, 1 - tokens / limit)
    last = math.exp(-rate * limit)
    return lambda tokens: max(0.0, math.exp(-rate * tokens) - last) / (rate * whole)


@functools.cache
def _rate(share: float) -> float:
    """The rate at which answers end, per limit, where their mean is such a `share` of it, above 0 and at most 1.

    >>> round(_rate(0.5831), 2), _rate(1.0)
    (1.2, 0.0)
    """
    low, high = 0.0, 1 / share
    for _ in range(60):
        middle = (low + high) / 2
        longer = middle < 1e-9 or (1 - math.exp(-middle)) / middle > share
        low, high = (middle, high) if longer and share < 1 else (low, middle)
    return low
