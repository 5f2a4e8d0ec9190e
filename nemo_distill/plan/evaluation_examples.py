"""Says what evaluating the study's student takes before anything was measured, as docs/guides/preview.md shows it.

python -m nemo_distill.plan.evaluation_examples
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

from nemo_distill.config.resolved import Evaluation
from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED
from nemo_distill.outcome.measured import Way
from nemo_distill.outcome.suites import Load, ask
from nemo_distill.plan.evaluations import Known, cost_of
from nemo_distill.plan.gpus import H100, H200
from nemo_distill.plan.serving import Answers, Served


def examples() -> str:
    """The study's suite in some ways, of the study's student, as a Markdown table."""
    suite = ask(Evaluation(suite="study"))
    site, box = suite.way, Way()
    aime = next(load for load in suite.loads if load.title == "AIME 2025")
    short = dataclasses.replace(aime, length=dataclasses.replace(aime.length, answer=15_000))
    lines = [
        "| the study's suite, its 7B student, nothing measured | H100 | H200 | H100, FP8 | H200, FP8 |",
        "|---|---:|---:|---:|---:|",
    ]
    kinds = [Served(shape=NANO_7B_PRUNED, gpu=gpu, format=format) for format in ("none", "fp8") for gpu in (H100, H200)]

    def row(what: str, value: Callable[[Served], float], form: str) -> str:
        return f"| {what} | {' | '.join(format(value(one), form) for one in kinds)} |"

    def hours(loads: Sequence[Load], way: Way, role: str) -> Callable[[Served], float]:
        return lambda served: cost_of(served, loads, way, Known(), role=role).gpu_hours

    def of_aime(load: Load) -> Callable[[Served], float]:
        return lambda served: cost_of(served, [load], box, Known(), role="student").parts[0].gpu_seconds / 3600

    alike = Answers(number=960, prompt=150, tokens=15_000, limit=15_000)
    lines += [
        row("on one box (`study_here`), 128 in flight, GPU-hours", hours(suite.loads, box, "student"), ".1f"),
        row("the same of a student that ends no answer", hours(suite.loads, box, "pruned"), ".0f"),
        row("by the launcher as it comes, 64 in flight over 8 GPUs", hours(suite.loads, site, "student"), ".0f"),
        row("AIME, 30 x 32 answers of 19,107 tokens on average, 128 in flight", of_aime(aime), ".2f"),
        row("AIME of 15,000 on average", of_aime(short), ".2f"),
        row("AIME of 15,000 each", lambda served: 960 * served.answer_seconds(alike, 128) / 3600, ".2f"),
        *(
            row(
                f"tokens/s, decoding at {context:,} tokens of context, 128 in flight",
                functools.partial(_decoding, context),
                ",.0f",
            )
            for context in (1_024, 8_192, 15_360)
        ),
        row(
            "tokens/s, 512 in and 4,096 out, 128 in flight",
            lambda served: served.tokens_per_second(prompt=512, answer=4_096, in_flight=128),
            ",.0f",
        ),
    ]
    return "\n".join(lines)


def _decoding(context: int, served: Served) -> float:
    return 128 / served.step_seconds(128, context)


if __name__ == "__main__":
    print(examples())
