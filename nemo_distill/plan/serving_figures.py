"""The measured figures behind `nemo_distill.plan.serving`: four that it is fitted to, and the others that judge it.

    python -m nemo_distill.plan.serving_figures        # the table in docs/guides/preview.md

Sources: the study's own table of vLLM on one H100, and NVIDIA's page on evaluating the 9B with NeMo-Skills, one GPU a
run. Of neither it is known how many were in flight, and of the latter not which GPU it was.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2
from nemo_distill.plan.gpus import H100, H200
from nemo_distill.plan.serving import REACHED, Answers, Reached, Served

TEACHER, STUDENT = (Served(shape=shape, gpu=H100) for shape in (NANO_9B_V2, NANO_7B_PRUNED))
TEACHER_IN_FP8, STUDENT_IN_FP8 = (dataclasses.replace(served, format="fp8") for served in (TEACHER, STUDENT))
IN_FLIGHT = 256
"""Sequences in flight where it is not published: vLLM's own limit at the time. As many as memory has room for are."""
ROUNDS = 100
"""Rounds of the fit at most: each rate follows from the others."""
SETTLED = 5e-4
"""Relative change of every rate in a round, below which it is the last."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A rate that was measured and that the model says too, in tokens written per second of one GPU."""

    what: str
    source: str
    """Where it stands: `study`, `NeMo-Skills`, or `here`, measured with this code."""
    measured: float
    served: Served
    """What was served."""
    value: Callable[[Served], float]
    """What the model says of it."""
    fits: str | None = None
    """The field of `Reached` that was fitted to it; None: it was held out."""

    def predict(self, reached: Reached) -> float:
        """What the model says where so much is reached."""
        return self.value(dataclasses.replace(self.served, reached=reached))

    def error(self, reached: Reached = REACHED) -> float:
        """Relative: 0.1 where the model says a tenth too much."""
        return self.predict(reached) / self.measured - 1


def _study(what: str, served: Served, measured: float, fits: str | None = None) -> Figure:
    """The study's table, "32,768 in, 1,024 out"."""
    return Figure(
        what=f"{what}, 32,768 tokens in, 1,024 out",
        source="study",
        measured=measured,
        served=served,
        value=lambda one: one.tokens_per_second(prompt=32_768, answer=1_024, in_flight=IN_FLIGHT),
        fits=fits,
    )


def _page(what: str, questions: int, tokens: int, seconds: int, fits: str | None = None) -> Figure:
    """NVIDIA's page: questions, mean tokens of an answer, seconds of a run that asks each once."""
    asked = Answers(number=questions, prompt=200, tokens=tokens, limit=32_768)
    return Figure(
        what=f"9B, {what}: {questions:,} questions, {tokens:,} tokens an answer",
        source="NeMo-Skills",
        measured=questions * tokens / seconds,
        served=TEACHER,
        value=lambda one: questions * tokens / one.seconds((asked,), IN_FLIGHT),
        fits=fits,
    )


def decoding(what: str, served: Served, *, context: int, in_flight: int, measured: float, fits: str | None = None):
    """A rate of decoding alone at a context, as the time between tokens gives it: `in_flight` over that time."""
    return Figure(
        what=f"{what}, decoding at {context:,} tokens of context, {in_flight} in flight",
        source="here",
        measured=measured,
        served=served,
        value=lambda one: in_flight / one.step_seconds(in_flight, context),
        fits=fits,
    )


def throughput(
    what: str, served: Served, *, prompt: int, answer: int, in_flight: int, requests: int, measured: float,
    fits: str | None = None,
) -> Figure:  # fmt: skip
    """A rate over so many requests of one length, as vLLM's own benchmark client gives it."""
    return Figure(
        what=f"{what}, {prompt:,} tokens in, {answer:,} out, {in_flight} in flight",
        source="here",
        measured=measured,
        served=served,
        value=lambda one: one.tokens_per_second(prompt=prompt, answer=answer, in_flight=in_flight, requests=requests),
        fits=fits,
    )


# Measured with this code (`benchmarks/serving.py`): random weights in the shape of the study's student. Each of four
# rates is fitted to one figure: to one of these where one says so, else to a published one. Then `serving.REACHED` is
# what `python -m nemo_distill.plan.serving_figures` prints, and its table is in docs/guides/preview.md.
_ONE, _ONE_IN_FP8 = (dataclasses.replace(served, gpu=H200) for served in (STUDENT, STUDENT_IN_FP8))
HERE: tuple[Figure, ...] = (  # 2026-11-28, vLLM 0.24.0, one H200
    decoding("7B on an H200", _ONE, context=1_014, in_flight=128, measured=8_138, fits="step"),
    decoding("7B on an H200", _ONE, context=8_191, in_flight=128, measured=6_632, fits="memory"),
    throughput(
        "7B on an H200", _ONE, prompt=32_768, answer=1_024, in_flight=16, requests=32, measured=777, fits="flops"
    ),
    throughput(
        "7B in FP8 on an H200", _ONE_IN_FP8, prompt=32_768, answer=1_024, in_flight=16, requests=32, measured=988,
        fits="fp8",
    ),
    throughput("7B on an H200", _ONE, prompt=512, answer=4_096, in_flight=128, requests=128, measured=7_510),
)  # fmt: skip
"""Rates measured with this code."""
# NVIDIA-NeMo/Skills, docs/tutorials/posts/nemotron-nano-v2-evals.md: avg_tokens and gen_seconds of one run each.
_PUBLISHED = (
    _page("MMLU Pro", 12_032, 2_534, 7_824, fits="memory"),
    _page("AIME 2025", 30, 19_107, 698, fits="step"),
    _study("9B", TEACHER, 794, fits="flops"),
    _study("9B in FP8", TEACHER_IN_FP8, 1_012, fits="fp8"),
    _page("AIME 2024", 30, 16_635, 829),
    _page("GPQA Diamond", 198, 12_893, 1_324),
    _page("MATH-500", 500, 5_255, 1_070),
    _page("LiveCodeBench", 315, 14_059, 3_207),
    _study("pruned 7B", STUDENT, 963),
    _study("pruned 7B in FP8", STUDENT_IN_FP8, 1_147),
)


def fitted(here: tuple[Figure, ...]) -> tuple[Figure, ...]:
    """What is measured `here` and what others published; of two that are fitted to alike, the former is."""
    taken = {figure.fits for figure in here if figure.fits}
    return (*here, *(dataclasses.replace(one, fits=None) if one.fits in taken else one for one in _PUBLISHED))


FIGURES = fitted(HERE)
"""All figures."""


def fit(figures: tuple[Figure, ...] = FIGURES) -> Reached:
    """What is reached where the model says what was measured, each rate fitted to one figure."""
    reached = Reached(memory=0.6, flops=0.8, fp8=0.6, step=0.005)
    each = [(figure, figure.fits) for figure in figures if figure.fits]
    for _ in range(ROUNDS):
        before = reached
        for figure, name in each:
            low, high = (0.0, 0.1) if name == "step" else (0.01, 1.0)
            for _ in range(25):
                middle = (low + high) / 2
                slow = figure.predict(dataclasses.replace(reached, **{name: middle})) < figure.measured
                low, high = (low, middle) if slow == (name == "step") else (middle, high)
            reached = dataclasses.replace(reached, **{name: low})
        if all(
            abs(getattr(reached, name) - getattr(before, name)) < SETTLED * getattr(before, name) for _, name in each
        ):
            break
    return reached


def validation() -> str:
    """Every figure, measured and predicted, as a Markdown table."""
    lines = ["| figure | from | measured | the model says | error | |", "|---|---|---:|---:|---:|---|"]
    for figure in FIGURES:
        role = f"fitted: {figure.fits}" if figure.fits else "held out"
        says, error = figure.predict(REACHED), round(figure.error(), 3) + 0.0  # no -0.0
        lines.append(
            f"| {figure.what} | {figure.source} | {figure.measured:,.0f} | {says:,.0f} | {error:+.1%} | {role} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(validation(), fit(), sep="\n\n")
