"""Fits the rates of `nemo_distill.plan.cost` to what was measured (`figures`).

    python -m nemo_distill.plan.calibration        # the table below docs/guides/preview.md

And says what a figure rests on, `Evidence`, and how far predictions of layouts of its kind were off.
"""

import dataclasses
from enum import Enum
from typing import Any

from nemo_distill.plan.cost import CALIBRATED, Job, Rates, with_rates
from nemo_distill.plan.figures import FIGURES, STUDY


def fit() -> Rates:
    """The rates at which the model says what was measured, each fitted to one figure, in the order of `FIGURES`.

    Then once more and again, for the last two are of layouts that have both: collectives and unaligned products.
    """
    rates = Rates(matmul=1.0, unaligned=1.0, fp8=1.0, scan=1.0, fused_scan=1.0, memory=1.0, links=1.0)
    fitted = [(figure, figure.fits) for figure in FIGURES if figure.fits]
    for figure, rate in (*fitted, *(4 * fitted[-2:])):
        low, high = 1e-3, 1.0  # what a figure measures falls as the rate rises
        for _ in range(30):
            middle = (low + high) / 2
            slow = figure.predict(dataclasses.replace(rates, **{rate: middle})) > figure.measured
            low, high = (middle, high) if slow else (low, middle)
        rates = dataclasses.replace(rates, **{rate: low})
    return rates


class Evidence(Enum):
    """What a figure of a layout rests on."""

    MEASURED = "●"
    """It ran with this code, at these sizes and this precision."""
    MODELLED = "◐"
    """Its kind ran with this code, at other sizes or in another precision, from which the model goes on."""
    NEVER_RUN = "○"
    """Nothing of its kind ran with this code."""


LEGEND = (
    f"{Evidence.MEASURED.value} measured with this code; {Evidence.MODELLED.value} modelled, its kind of layout ran "
    f"with it otherwise set; {Evidence.NEVER_RUN.value} never run with it, a prediction."
)
"""What the marks stand for."""
OURS_RAN = tuple({id(figure.job): figure.job for figure in FIGURES if figure.job is not STUDY}.values())
"""What ran with this code."""


def evidence(job: Job) -> Evidence:
    """What a figure of the job rests on."""
    if any(with_rates(job, CALIBRATED) == with_rates(ran, CALIBRATED) for ran in OURS_RAN):
        return Evidence.MEASURED
    return Evidence.MODELLED if any(_kind(job) == _kind(ran) for ran in OURS_RAN) else Evidence.NEVER_RUN


def most_gpus(job: Job) -> int:
    """The most GPUs on which a layout of the job's kind ran with this code."""
    return max(ran.gpus for ran in OURS_RAN if _kind(ran) == _kind(job))


def held_out_errors(job: Job) -> tuple[float | None, float | None]:
    """The largest relative errors, of times and of memory, on figures of the job's kind of layout and its teacher that
    nothing was fitted to; None where there are none."""
    errors: dict[bool, list[float]] = {False: [], True: []}
    for figure in FIGURES:
        like = _kind(figure.job) == _kind(job) and job.teacher.is_sized_like(figure.job.teacher)
        if like and not figure.fits and figure.job is not STUDY:
            errors[figure.unit == "GiB"].append(abs(figure.error()))
    times, memory = (max(some, default=None) for some in errors.values())
    return times, memory


def _kind(job: Job) -> tuple[Any, ...]:
    """What sets kinds of layouts apart: the GPU, how many share layers, and sequences, copies, one machine or many."""
    return job.gpu, job.tensor_parallel, job.context_parallel, job.data_parallel > 1, job.nodes > 1


def validation() -> str:
    """Every figure, measured and predicted, as a Markdown table."""
    lines = ["| figure | unit | measured | the model says | error | |", "|---|---|---:|---:|---:|---|"]
    for figure in FIGURES:
        role = f"fitted: {figure.fits}" if figure.fits else "held out"
        says, error = figure.predict(CALIBRATED), round(figure.error(), 3) + 0.0  # no -0.0
        lines.append(
            f"| {figure.what} | {figure.unit} | {figure.measured:,.4g} | {says:,.4g} | {error:+.1%} | {role} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(validation())
