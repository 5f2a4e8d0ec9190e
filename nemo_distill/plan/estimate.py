"""The preview's tables of what a run costs and of what its scores can show.

    estimate = Estimate(job=job, student_from="as pruned", segments={"2.5B": 400}, loads=loads, done=frozenset())
    console.print(estimate.cost_table())

GPU-hours and memory of the distillation are `nemo_distill.plan.cost`'s. An evaluation's GPU-hours are answers times
their mean length over vLLM's output rate.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from rich.table import Table

from nemo_distill.config.recipe import Recipe
from nemo_distill.config.schedule import format_tokens
from nemo_distill.config.settings import FP8
from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2, Shape
from nemo_distill.outcome.suites import Load, loads
from nemo_distill.plan import calibration, layouts
from nemo_distill.plan.cost import Job, with_rates
from nemo_distill.plan.flops import BF16, FP32
from nemo_distill.plan.gpus import get_gpu
from nemo_distill.plan.layouts import RESERVED_GIB, fits, needed_gib
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import resolve_package_paths

PRUNE_GPU_HOURS = 8.0
"""The study's search: about an hour on 8 H100."""
STUDY_GPU_HOURS, STUDY_TOKENS = 9_000, 12_800 * 768 * 8192
"""What the study spent: about 9,000 H100-hours for the tokens of 12,800 iterations, "80B"."""
VLLM_TOKENS_PER_SECOND = ((NANO_9B_V2.parameters(), 794), (NANO_7B_PRUNED.parameters(), 963))
"""(parameters, output tokens/s of one H100), the study's, where each 1,024 tokens written had 32,768 to be read first.
The suite's prompts are far shorter, so that these are low for it."""
ANSWER_TOKENS = 4_096
"""Mean length of an answer with its reasoning: an assumption, an eighth of the suite's limit. Three fifths of the
answers are MMLU Pro's, which need little thought; competition mathematics takes several times as long. Nothing is
published; evaluation's GPU-hours are proportional to it."""
SHORT_ANSWER_TOKENS = 16
"""Of benchmarks whose answer is a letter, without reasoning."""
GRADIENT_BYTES = {"float32": FP32, "bfloat16": BF16}
"""Per parameter, by the name in `settings.GRADIENTS`."""
WORTH_SAYING = 0.97
"""Part of the time that another layout may take and still be mentioned."""
MEASURED_HERE = (
    "Over several GPUs one layout has run with this code: two H200, tensor parallel 2, at 6,785 tokens/s/GPU where the "
    "model says 8,281."
)
"""What there is to judge the prediction of a layout by (`calibration.TWO_GPUS`)."""
GAP = 0.02
"""The difference, from 0 to 1, for which the questions needed are counted."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What is left to spend on a run, and the whole."""

    job: Job
    """The distillation."""
    student_from: str
    """Where the student's shape comes from, in words."""
    segments: dict[str, int]
    """Iterations of each milestone's own segment, by its label."""
    loads: Sequence[Load]
    """The suite of benchmarks."""
    done: frozenset[str] = field(default_factory=frozenset)
    """Names of the steps that need not be run any more."""

    def segment_hours(self, label: str) -> float:
        """Wall-clock of a milestone's job, waiting in queues aside."""
        return self.segments[label] * self.job.iteration_seconds / 3600

    def segment_gpu_hours(self, label: str) -> float:
        """GPU-hours of a milestone's job."""
        return self.job.gpu_hours(self.segments[label])

    def evaluation_gpu_hours(self, parameters: int) -> float:
        """GPU-hours of one checkpoint's whole suite, as far as `ANSWER_TOKENS` is right."""
        tokens = sum(load.answers * answer_tokens(load) for load in self.loads)
        return tokens / vllm_tokens_per_second(parameters) / 3600

    @cached_property
    def parts(self) -> list[tuple[str, dict[str, float]]]:
        """(what, GPU-hours by step) of everything that takes GPUs."""
        student = self.evaluation_gpu_hours(self.job.student.parameters())
        evaluations = {"evaluate-teacher": self.evaluation_gpu_hours(self.job.teacher.parameters())}
        evaluations |= {f"evaluate-{label}": student for label in ("pruned", *self.segments)}
        return [
            ("prune", {"prune": PRUNE_GPU_HOURS}),
            ("distil", {f"distill-{label}": self.segment_gpu_hours(label) for label in self.segments}),
            (f"evaluate {len(evaluations)} checkpoints, roughly", evaluations),
        ]

    def cost_table(self) -> Table:
        """GPU-hours by what they are spent on: the whole, and what is left."""
        layout = f"{self.job.nodes} x {self.job.gpus_per_node} {self.job.gpu.name}"
        again = "" if self.job.recompute == "none" else f", recompute: {self.job.recompute}"
        table = new_table(
            f"Cost on {layout}, tensor parallel {self.job.tensor_parallel}, micro batch {self.job.micro_batch_size}"
            + again,
            "", ">GPU-hours", ">left", ">wall-clock left",
        )  # fmt: skip
        whole = left = 0.0
        for what, steps in self.parts:
            spent, open_ = sum(steps.values()), sum(hours for step, hours in steps.items() if step not in self.done)
            whole, left = whole + spent, left + open_
            clock = duration_in_words(open_ / self.job.gpus) if what == "distil" else ""
            table.add_row(what, f"{spent:,.0f}", f"{open_:,.0f}", clock)
        table.add_row("total", f"{whole:,.0f}", f"{left:,.0f}", "", style="bold")
        return table

    def remarks(self) -> list[tuple[str, str]]:
        """(sentence, style): memory, the study's figure beside ours, and how far all of it may be off."""
        job, (gpu_hours, gib) = self.job, calibration.held_out_errors()
        listed = ", ".join(f"{part} {size:.1f}" for part, size in job.memory().items())
        iterations = sum(self.segments.values())
        remarks = [
            (
                f"Memory per GPU: {needed_gib(job):.0f} of {job.gpu.memory_gib:.0f} GiB ({listed}, "
                f"reserved {RESERVED_GIB:.1f}).",
                "" if fits(job) else "bold red",
            ),
            (
                f"Student: {billions(job.student)}, {self.student_from}; teacher: {billions(job.teacher)} parameters.",
                "",
            ),
            (self._beside_the_study(iterations * job.global_batch_size * job.seq_length), "dim"),
            *((sentence, "") for sentence in self._cheaper(iterations)),
        ]
        if calibration.was_measured(job):
            ran = "on one GPU" if job.gpus == 1 else f"in the study, not with this code. {MEASURED_HERE}"
            sentence = (
                f"Largest errors on figures that nothing was fitted to: {gpu_hours:.0%} (time), {gib:.0%} (memory, on "
                f"one GPU). Such a layout has run {ran}"
            )
            remarks.append((f"{sentence.rstrip('.')}.", "dim"))
        else:
            free = with_rates(job, dataclasses.replace(job.rates, links=1.0)).gpu_hours(iterations)
            remarks.append(
                (
                    f"Such a layout has not run: distilling takes {free:,.0f} GPU-hours where its links run at what is "
                    f"stated of them, and what the table says where they run as the study's did. {MEASURED_HERE}",
                    "yellow",
                )
            )
        return remarks

    def _cheaper(self, iterations: int) -> list[str]:
        """What the same GPUs do the distillation in at best: as it is, in FP8, and with smaller gradients."""
        precisions = [dataclasses.replace(self.job, fp8=fp8) for fp8 in FP8[FP8.index(self.job.fp8) :]]
        smaller = [dataclasses.replace(job, gradient_bytes=BF16) for job in precisions]
        found, seconds = [], WORTH_SAYING * self.job.iteration_seconds
        for jobs in (*([job] for job in precisions), smaller):
            fitting = [best for best in map(layouts.fastest, jobs) if best]
            best = min(fitting, key=lambda job: round(job.iteration_seconds, 3), default=None)  # of equals, most bits
            if best and best.iteration_seconds < seconds:
                seconds = WORTH_SAYING * best.iteration_seconds
                hours, changes = best.gpu_hours(iterations), self._changes(best)
                found.append(f"{hours:,.0f} with {changes} ({needed_gib(best):.0f} GiB)")
        whole = f"Distilling takes {self.job.gpu_hours(iterations):,.0f} GPU-hours as asked"
        return [f"{whole}; predicted for the same GPUs, and not run: {', '.join(found)}."] if found else []

    def _changes(self, other: Job) -> str:
        """The settings that make `other` of the job."""
        named = {size: name for name, size in GRADIENT_BYTES.items()}
        settings = (
            ("layout.tensor_parallel", self.job.tensor_parallel, other.tensor_parallel),
            ("layout.recompute", self.job.recompute, other.recompute),
            ("distill.micro_batch_size", self.job.micro_batch_size, other.micro_batch_size),
            ("distill.fp8", self.job.fp8, other.fp8),
            ("distill.gradients", named[self.job.gradient_bytes], named[other.gradient_bytes]),
        )
        return " ".join(f"{key}={new}" for key, old, new in settings if old != new)

    def _beside_the_study(self, tokens: int) -> str:
        words = f"The study reports about {STUDY_GPU_HOURS:,.0f} H100-hours for 80B tokens"
        if tokens == STUDY_TOKENS:
            return f"{words}."
        return f"{words}, at which {format_tokens(tokens)} would be {STUDY_GPU_HOURS * tokens / STUDY_TOKENS:,.0f}."


def estimate_of(recipe: Recipe, run: Run) -> Estimate | None:
    """The estimate of a run; None where the layout asks for no GPU.

    None, too, while the teacher's shape is not known: one on the hub that is neither the study's nor imported yet.
    Raises `UserError` for a GPU that is not known and where the layout does not divide (`layouts.check`).
    """
    layout, distill = recipe.layout, recipe.distill
    if layout.gpu is None:
        return None
    gpu = get_gpu(layout.gpu)
    checkpoint = resolve_package_paths(recipe.scale.teacher)
    teacher = layouts.teacher_shape(checkpoint, imported=run.specs["import-teacher"].folder)
    if teacher is None:
        return None
    student, student_from = layouts.student_shape(teacher, recipe.prune, pruned=run.specs["prune"].folder)
    job = Job(
        teacher=teacher,
        student=student,
        gpu=gpu,
        nodes=layout.nodes,
        gpus_per_node=layout.gpus_per_node,
        tensor_parallel=layout.tensor_parallel,
        recompute=layout.recompute,
        micro_batch_size=distill.micro_batch_size,
        global_batch_size=distill.global_batch_size,
        seq_length=distill.seq_length,
        fused_loss=distill.fused_loss,
        fused_kernels=distill.fused_kernels,
        lean_activation=True,
        fp8=distill.fp8,
        gradient_bytes=GRADIENT_BYTES[distill.gradients],
    )
    layouts.check(job)
    ends = [milestone.iteration for milestone in recipe.milestones]
    return Estimate(
        job=job,
        student_from=student_from,
        segments={m.label: m.iteration - begin for begin, m in zip([0, *ends], recipe.milestones, strict=False)},
        loads=loads(recipe.evaluate),
        done=frozenset(name for name, spec in run.specs.items() if spec.done),
    )


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
    whole, best = (
        math.sqrt(sum(value**2 for value in values)) / len(suite)  # no benchmark shares a question with another
        for values in ([load.detectable for load in suite], [load.detectable_at_best for load in suite])
    )
    table.add_row("average of all", "", "", _points(whole), _points(best), "", style="bold")
    return table


def answer_tokens(load: Load) -> int:
    """Mean tokens of an answer, as assumed."""
    return SHORT_ANSWER_TOKENS if load.max_new_tokens is None else min(ANSWER_TOKENS, load.max_new_tokens)


def vllm_tokens_per_second(parameters: int) -> float:
    """Output tokens/s of one GPU: the power of the parameters that goes through the study's two figures."""
    (large, slow), (small, fast) = VLLM_TOKENS_PER_SECOND
    return slow * (large / parameters) ** (math.log(fast / slow) / math.log(large / small))


def duration_in_words(hours: float) -> str:
    """`10 min`, `2.5 h`, `3.4 days`.

    >>> duration_in_words(0.3125), duration_in_words(10), duration_in_words(60)
    ('19 min', '10.0 h', '2.5 days')
    """
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def billions(shape: Shape) -> str:
    """Its parameters, e.g. `6.998B`."""
    return f"{shape.parameters() / 1e9:.3f}B"


def _points(score: float) -> str:
    return f"{100 * score:.1f}"


def new_table(title: str, *columns: str, gap: int = 2) -> Table:
    """A plain table; columns that begin with `>` are aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False,
                  padding=(0, gap, 0, 0))  # fmt: skip
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left", no_wrap=True)
    return table
