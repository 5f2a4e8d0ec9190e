"""The preview's tables and remarks on what a run costs, and its table of what its scores can show.

console.print(cost_table(estimate))
console.print(detectable_table(estimate.loads))
"""

import dataclasses
import math
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from nemo_distill.config.schedule import format_tokens
from nemo_distill.config.settings import FP8
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.outcome.suites import Asked, Load
from nemo_distill.plan import calibration, layouts
from nemo_distill.plan.cost import Job, with_rates
from nemo_distill.plan.estimate import GRADIENT_BYTES, Estimate
from nemo_distill.plan.evaluations import LIMIT
from nemo_distill.plan.figures import STUDY
from nemo_distill.plan.flops import BF16
from nemo_distill.plan.gpus import H100
from nemo_distill.plan.layouts import RESERVED_GIB, fits, needed_gib
from nemo_distill.plan.quantisation import TITLES

STUDY_GPU_HOURS, STUDY_TOKENS = 9_000, 12_800 * 768 * 8192
"""What the study spent: about 9,000 H100-hours for the tokens of 12,800 iterations, "80B"."""
WORTH_SAYING = 0.97
"""Part of the time that another layout may take and still be mentioned."""
MEASURED_HERE = (
    "Over several GPUs two layouts have run with this code, on two H200: data parallel 2 at 10,975 tokens/s/GPU, where "
    "the model says 11,324, and tensor parallel 2 at 6,671, to which it is fitted."
)
"""What there is to judge the prediction of a layout by (`figures.TWO_COPIES`, `figures.TWO_GPUS`)."""
FULL = 128
"""Answers in flight on each GPU at which fewer are worth a word: what `study_here` has."""
GAP = 0.02
"""The difference, from 0 to 1, for which the questions needed are counted."""


def new_table(title: str, *columns: str, gap: int = 2) -> Table:
    """A plain table; columns that begin with `>` are aligned to the right."""
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=None, pad_edge=False,
                  padding=(0, gap, 0, 0))  # fmt: skip
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left", no_wrap=True)
    return table


def cost_table(estimate: Estimate) -> Table:
    """GPU-hours by what they are spent on: the whole, and what is left."""
    job = estimate.job
    layout = f"{job.nodes} x {job.gpus_per_node} {job.gpu.name}"
    shared = "" if job.context_parallel == 1 else f", context parallel {job.context_parallel}"
    again = "" if job.recompute == "none" else f", recompute: {job.recompute}"
    table = new_table(
        f"Cost on {layout}, tensor parallel {job.tensor_parallel}{shared}, micro batch {job.micro_batch_size}"
        + again,
        "", ">GPU-hours", ">left", ">wall-clock left", "rests on",
    )  # fmt: skip
    whole = left = 0.0
    for what, steps in estimate.parts:
        spent, open_ = sum(steps.values()), sum(hours for step, hours in steps.items() if step not in estimate.done)
        whole, left = whole + spent, left + open_
        clock = duration_in_words(open_ / job.gpus) if what == "distil" else ""
        mark = max((estimate.evidence(step) for step in steps), key=list(calibration.Evidence).index)
        table.add_row(what, gpu_time(spent), gpu_time(open_), clock, mark.value)
    table.add_row("total", gpu_time(whole), gpu_time(left), "", "", style="bold")
    return table


def cost_remarks(estimate: Estimate) -> list[tuple[str, str]]:
    """(sentence, style): memory, the study's figure beside ours, and how far all of it may be off."""
    job, mark = estimate.job, calibration.evidence(estimate.job)
    listed = ", ".join(f"{part} {size:.1f}" for part, size in job.memory().items())
    iterations = sum(estimate.segments.values())
    return [
        (calibration.LEGEND, "dim"),
        (
            f"Memory per GPU: {needed_gib(job):.0f} of {job.gpu.memory_gib:.0f} GiB {mark.value} ({listed}, "
            f"reserved {RESERVED_GIB:.1f}).",
            "" if fits(job) else "bold red",
        ),
        (
            f"Student: {billions(job.student)}, {estimate.student_from}; teacher: {billions(job.teacher)} parameters.",
            "",
        ),
        *_beside_the_study(job, iterations * job.global_batch_size * job.seq_length),
        *((sentence, "") for sentence in _cheaper(job, iterations)),
        *((sentence, "yellow") for sentence in _of_gpu(job)),
        _accuracy(job, iterations),
    ]


def _accuracy(job: Job, iterations: int) -> tuple[str, str]:
    """(sentence, style): the errors on layouts of the kind, where one ran; else a range, and no error."""
    mark = calibration.evidence(job)
    if mark is calibration.Evidence.NEVER_RUN:
        free = with_rates(job, dataclasses.replace(job.rates, links=1.0)).gpu_hours(iterations)
        ran = (
            "has run in the study, with its own code, and never with this"
            if job == STUDY
            else ("has never run with this code")
        )
        sentence = (
            f"{mark.value} Such a layout {ran}, so no error is stated: distilling takes {gpu_time_in_words(free)} "
            "where its links run at what is stated of them, and what the table says where they run as the study's "
            f"did. {MEASURED_HERE}"
        )
        return sentence, "yellow"
    times, memory = calibration.held_out_errors(job)
    errors = [f"{error:.0%} ({what})" for error, what in ((times, "time"), (memory, "memory")) if error is not None]
    most = calibration.most_gpus(job)
    kind = "on one GPU" if most == 1 else f"on {most} GPUs{' and no more' if job.gpus > most else ''}"
    if not errors:
        return f"{mark.value} Layouts of this kind ran {kind} with another teacher; no error is known.", "dim"
    said = f"Largest errors on figures of such layouts, {kind}, that nothing was fitted to: {', '.join(errors)}."
    return f"{mark.value} {said}{'' if job.gpus == 1 else f' {MEASURED_HERE}'}", "dim"


def _of_gpu(job: Job) -> list[str]:
    """What a kind of GPU that has not run can do, by its compute capability, and how fast it is as stated."""
    gpu, known = job.gpu, H100
    if any(ran.gpu == gpu for ran in calibration.OURS_RAN):
        return []
    ability = gpu.ability
    has = (
        "FP8 and our kernels can run"
        if ability.has_fp8 and ability.has_room_for_kernels
        else " and ".join(
            f"{what} {'can' if there else 'cannot'} run"
            for what, there in (("FP8", ability.has_fp8), ("our kernels", ability.has_room_for_kernels))
        )
    )
    slower = (
        "" if ability.has_room_for_kernels else ", in whose place mamba-ssm's take about twice the time in Mamba layers"
    )
    return [
        f"The {gpu.name} has compute capability {ability.version}: {has}{slower}. As stated of it, its products in "
        f"bf16 are {gpu.bf16_flops / known.bf16_flops:.2g} and its memory is "
        f"{gpu.memory_bandwidth / known.memory_bandwidth:.2g} times as fast as an {known.name}'s."
    ]


def _cheaper(asked: Job, iterations: int) -> list[str]:
    """What the same GPUs do the distillation in at best: as it is, in FP8, and with smaller gradients."""
    further = FP8[FP8.index(asked.fp8) :] if asked.gpu.ability.has_fp8 else (asked.fp8,)
    precisions = [dataclasses.replace(asked, fp8=fp8) for fp8 in further]
    smaller = [dataclasses.replace(job, gradient_bytes=BF16) for job in precisions]
    found, seconds = [], WORTH_SAYING * asked.iteration_seconds
    for jobs in (*([job] for job in precisions), smaller):
        fitting = [best for best in map(layouts.fastest, jobs) if best]
        best = min(fitting, key=lambda job: round(job.iteration_seconds, 3), default=None)  # of equals, most bits
        if best and best.iteration_seconds < seconds:
            seconds = WORTH_SAYING * best.iteration_seconds
            hours, changes = best.gpu_hours(iterations), _changes(asked, best)
            mark = calibration.evidence(best).value
            found.append(f"{gpu_time(hours)} {mark} with {changes} ({needed_gib(best):.0f} GiB)")
    mark = calibration.evidence(asked).value
    whole = f"Distilling takes {gpu_time_in_words(asked.gpu_hours(iterations))} {mark} as asked"
    return [f"{whole}; predicted for the same GPUs: {', '.join(found)}."] if found else []


def _changes(asked: Job, other: Job) -> str:
    """The settings that make `other` of the job."""
    named = {size: name for name, size in GRADIENT_BYTES.items()}
    settings = (
        ("layout.tensor_parallel", asked.tensor_parallel, other.tensor_parallel),
        ("layout.recompute", asked.recompute, other.recompute),
        ("distill.micro_batch_size", asked.micro_batch_size, other.micro_batch_size),
        ("distill.fp8", asked.fp8, other.fp8),
        ("distill.gradients", named[asked.gradient_bytes], named[other.gradient_bytes]),
    )
    return " ".join(f"{key}={new}" for key, old, new in settings if old != new)


def _beside_the_study(job: Job, tokens: int) -> list[tuple[str, str]]:
    """What the study reports for its own teacher; of another it says nothing."""
    if not job.teacher.is_sized_like(STUDY.teacher):
        return []
    words = f"The study reports about {STUDY_GPU_HOURS:,.0f} H100-hours for 80B tokens"
    if tokens == STUDY_TOKENS:
        return [(f"{words}.", "dim")]
    spent = STUDY_GPU_HOURS * tokens / STUDY_TOKENS
    return [(f"{words}, at which {format_tokens(tokens)} would be {gpu_time(spent)}.", "dim")]


def evaluation_table(estimate: Estimate) -> Table:
    """Answers per GPU-hour and GPU-hours of each benchmark, of a student in bf16."""
    cost, way, gpu = estimate.of_student, estimate.way, estimate.job.gpu.name
    servers = "all at once" if way.together else "one by one"
    table = new_table(
        f"Evaluating a student, {servers}, on {way.gpus} {gpu}, {way.in_flight} answers in flight each",
        "benchmark", ">answers", ">tokens", "from", ">per GPU-hour", ">GPU-hours", "rests on",
    )  # fmt: skip
    for part in cost.parts:
        table.add_row(
            part.title, f"{part.answers:,}", f"{part.tokens:,.0f}", part.tokens_from, f"{part.per_gpu_hour:,.0f}",
            gpu_time(part.gpu_seconds / 3600), part.evidence.value,
        )  # fmt: skip
    table.add_row("start and end", "", "", "", "", gpu_time(cost.besides / 3600), cost.evidence.value)
    answers = sum(part.answers for part in cost.parts)
    table.add_row("all", f"{answers:,}", "", "", "", gpu_time(cost.gpu_hours), "", style="bold")
    return table


def evaluation_cost_remarks(estimate: Estimate) -> list[tuple[str, str]]:
    """(sentence, style): what the other checkpoints take, and what all of it rests on."""
    steps = [("teacher", "evaluate-teacher"), ("pruned student", "evaluate-pruned")]
    steps += [(f"student in {TITLES[estimate.format]}", step) for step in estimate.asked_quantised[:1]]
    others = [(what, estimate.evaluations[step]) for what, step in steps]
    said = [f"{what} {gpu_time(cost.gpu_hours)} {cost.evidence.value}" for what, cost in others]
    never = any(part.tokens_from == LIMIT for _, cost in others for part in cost.parts)
    ends = "; the pruned student is taken to end no answer" if never else ""
    student = estimate.of_student
    raised = f"executor.evaluation.parallelism={FULL * estimate.way.gpus}"
    more = [
        f"With {FULL} answers in flight on each GPU ({raised}), where harness and deployment bear it, a student takes "
        f"{gpu_time(estimate.of_student_at(FULL).gpu_hours)}."
    ]
    return [
        (f"GPU-hours of the others: {', '.join(said)}{ends}.", ""),
        *((sentence, "") for sentence in more if not estimate.way.together and estimate.way.in_flight < FULL / 2),
        (f"{student.evidence.value} Time of evaluations: by bytes and FLOPs, from {student.rests_on}.", "dim"),
        *((sentence, "yellow") for sentence in estimate.unread),
    ]


def evaluation_remarks(asked: Asked) -> list[tuple[str, str]]:
    """(sentence, style): what a checkpoint may spend, what the pruned student is asked, and which engine asks."""
    remarks = []
    bounded = [f"{load.title} {load.hours} h" for load in asked.loads if load.hours]
    if bounded:
        remarks.append((f"A checkpoint is given at most: {', '.join(bounded)}; what takes longer is ended.", ""))
    if asked.pruned is not None:
        titles = ", ".join(load.title for load in asked.loads if load.of_pruned) or "nothing"
        remarks.append((f"The pruned student, which may never end an answer, is asked: {titles}.", ""))
    return remarks + [(sentence, "yellow") for sentence in asked.remarks]


def detectable_table(suite: Sequence[Load]) -> Table:
    """How far apart the scores of two blends have to be, in points, before the suite can tell."""
    table = new_table(
        "Minimum detectable effect in points (5% significance, 80% power)",
        "benchmark", ">questions", ">repeats", ">points", ">floor", f">questions for {100 * GAP:g}",
    )  # fmt: skip
    for load in suite:
        enough = math.ceil(load.independent * (load.detectable / GAP) ** 2)
        points, best = _points(load.detectable), _points(load.detectable_at_best)
        table.add_row(load.title, f"{load.independent:,}", f"{load.repeats}x", points, best, f"{enough:,}")
    # No benchmark shares a question with another.
    averages = [
        _points(math.sqrt(sum(value**2 for value in values)) / len(suite))
        for values in ([load.detectable for load in suite], [load.detectable_at_best for load in suite])
    ]
    table.add_row("average of all", "", "", *averages, "", style="bold")
    return table


def duration_in_words(hours: float) -> str:
    """`36 s`, `10 min`, `2.5 h`, `3.4 days`.

    >>> duration_in_words(0.01), duration_in_words(0.3125), duration_in_words(10), duration_in_words(60)
    ('36 s', '19 min', '10.0 h', '2.5 days')
    """
    if 0 < 60 * hours < 1:
        return f"{max(1, 3600 * hours):.0f} s"
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def gpu_time(hours: float) -> str:
    """GPU-hours as a column headed so has them: whole, with a decimal under ten, and minutes or seconds under one.

    >>> gpu_time(7453.2), gpu_time(3.21), gpu_time(0.2), gpu_time(0.01), gpu_time(0)
    ('7,453', '3.2', '12 min', '36 s', '0')
    """
    if hours >= 9.95 or not hours:
        return f"{hours:,.0f}"
    return f"{hours:.1f}" if hours >= 1 else duration_in_words(hours)


def gpu_time_in_words(hours: float) -> str:
    """`7,453 GPU-hours`, `3.2 GPU-hours`, `12 min of a GPU`.

    >>> gpu_time_in_words(3.21), gpu_time_in_words(0.2)
    ('3.2 GPU-hours', '12 min of a GPU')
    """
    return f"{gpu_time(hours)} {'of a GPU' if 0 < hours < 1 else 'GPU-hours'}"


def billions(shape: Shape) -> str:
    """Its parameters, e.g. `6.998B`."""
    return f"{shape.parameters() / 1e9:.3f}B"


def _points(score: float) -> str:
    return f"{100 * score:.1f}"
