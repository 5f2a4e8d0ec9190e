"""Estimates what a run costs, step by step.

    estimate = Estimate(job=job, student_from="as pruned", segments={"2.5B": 400}, loads=loads, done=frozenset())
    estimate.segment_gpu_hours("2.5B")

GPU-hours and memory of the distillation are `nemo_distill.plan.cost`'s. An evaluation's GPU-hours are answers times
their mean length over vLLM's output rate.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from nemo_distill.config.recipe import Recipe
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2, Shape
from nemo_distill.outcome.suites import Load
from nemo_distill.plan import layouts
from nemo_distill.plan.cost import Job
from nemo_distill.plan.flops import BF16, FP32
from nemo_distill.plan.gpus import get_gpu
from nemo_distill.run.manifest import Run

PRUNE_GPU_HOURS = 8.0
"""The study's search: about an hour on 8 H100. Of another teacher it is taken to grow with the parameters."""
QUANTISE_GPU_HOURS = 0.2
"""The study's: one to two minutes on 8 H100."""
VLLM_TOKENS_PER_SECOND = ((NANO_9B_V2.parameters(), 794), (NANO_7B_PRUNED.parameters(), 963))
"""(parameters, output tokens/s of one H100), the study's, where each 1,024 tokens written had 32,768 to be read first.
The suite's prompts are far shorter, so that these are low for it."""
ANSWER_TOKENS = 4_096
"""Mean length of an answer with its reasoning: an assumption, an eighth of the suite's limit. Three fifths of the
answers are MMLU Pro's, which need little thought; competition mathematics takes several times as long. Nothing is
published; evaluation's GPU-hours are proportional to it."""
SHORT_ANSWER_TOKENS = 16
"""Of benchmarks whose answer is a letter, without reasoning."""
_QUANTIZE, _EVALUATE = "quantize-", "nemo_distill.steps.evaluate"
GRADIENT_BYTES = {"float32": FP32, "bfloat16": BF16}
"""Per parameter, by the name in `settings.GRADIENTS`."""


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
    quantised: tuple[str, ...] = ()
    """Labels of the milestones that are quantised."""
    asked_quantised: tuple[str, ...] = ()
    """Names of the evaluations of what is quantised; each is taken to be as slow as bf16's."""
    done: frozenset[str] = field(default_factory=frozenset)
    """Names of the steps that need not be run any more."""

    def segment_hours(self, label: str) -> float:
        """Wall-clock of a milestone's job, waiting in queues aside."""
        return self.segments[label] * self.job.iteration_seconds / 3600

    def segment_gpu_hours(self, label: str) -> float:
        """GPU-hours of a milestone's job."""
        return self.job.gpu_hours(self.segments[label])

    def evaluation_gpu_hours(self, parameters: int, *, pruned: bool = False) -> float:
        """GPU-hours of one checkpoint's suite, as far as `ANSWER_TOKENS` is right; of the pruned student's part of it,
        in which every answer is as long as it may be, if it is `pruned`."""
        loads = [load for load in self.loads if load.of_pruned or not pruned]
        bounded = pruned and len(loads) < len(self.loads)
        tokens = sum(
            load.answers * (load.max_new_tokens or SHORT_ANSWER_TOKENS if bounded else answer_tokens(load))
            for load in loads
        )
        return tokens / vllm_tokens_per_second(parameters) / 3600

    @cached_property
    def parts(self) -> list[tuple[str, dict[str, float]]]:
        """(what, GPU-hours by step) of everything that takes GPUs."""
        student = self.evaluation_gpu_hours(self.job.student.parameters())
        evaluations = {"evaluate-teacher": self.evaluation_gpu_hours(self.job.teacher.parameters())}
        evaluations["evaluate-pruned"] = self.evaluation_gpu_hours(self.job.student.parameters(), pruned=True)
        evaluations |= {f"evaluate-{label}": student for label in self.segments}
        evaluations |= dict.fromkeys(self.asked_quantised, student)
        quantise = [("quantise", {f"quantize-{label}": QUANTISE_GPU_HOURS for label in self.quantised})]
        return [
            ("prune", {"prune": PRUNE_GPU_HOURS * self.job.teacher.parameters() / NANO_9B_V2.parameters()}),
            ("distil", {f"distill-{label}": self.segment_gpu_hours(label) for label in self.segments}),
            *(quantise if self.quantised else ()),
            (f"evaluate {len(evaluations)} checkpoints, roughly", evaluations),
        ]


def left_of(estimate: Estimate, steps: Collection[str]) -> float:
    """GPU-hours that those of the steps take which are not done."""
    return sum(
        hours
        for _, part in estimate.parts
        for step, hours in part.items()
        if step in steps and step not in estimate.done
    )


def estimate_of(recipe: Recipe, run: Run, loads: Sequence[Load], teacher: Shape | None) -> Estimate | None:
    """The estimate of a run whose checkpoints are asked `loads`; None where the layout asks for no GPU.

    None, too, while the shape of the `teacher` is not known. Raises `UserError` for a GPU that is not known, or that
    cannot run what is asked (`layouts.lacking`), and where the layout does not divide (`layouts.check`).
    """
    layout, distill = recipe.layout, recipe.distill
    if layout.gpu is None:
        return None
    gpu = get_gpu(layout.gpu)
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
        context_parallel=layout.context_parallel,
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
    if unable := layouts.lacking(job, bf16=recipe.scale.precision != "32"):
        raise UserError(unable)
    if not run.specs["prune"].done:
        ranked_over = recipe.scale.calibration_seq_length
        layouts.check_room(teacher, (f"layout.gpu={gpu.name}", gpu.memory_gib), ranked_over=ranked_over)
    layouts.check(job)
    ends = [milestone.iteration for milestone in recipe.milestones]
    return Estimate(
        job=job,
        student_from=student_from,
        segments={m.label: m.iteration - begin for begin, m in zip([0, *ends], recipe.milestones, strict=False)},
        loads=loads,
        quantised=tuple(name.removeprefix(_QUANTIZE) for name in run.specs if name.startswith(_QUANTIZE)),
        asked_quantised=tuple(
            name
            for name, spec in run.specs.items()
            if spec.module == _EVALUATE and any(before.startswith(_QUANTIZE) for before in spec.upstream)
        ),
        done=frozenset(name for name, spec in run.specs.items() if spec.done),
    )


def answer_tokens(load: Load) -> int:
    """Mean tokens of an answer, as assumed."""
    return SHORT_ANSWER_TOKENS if load.max_new_tokens is None else min(ANSWER_TOKENS, load.max_new_tokens)


def vllm_tokens_per_second(parameters: int) -> float:
    """Output tokens/s of one GPU: the power of the parameters that goes through the study's two figures."""
    (large, slow), (small, fast) = VLLM_TOKENS_PER_SECOND
    return slow * (large / parameters) ** (math.log(fast / slow) / math.log(large / small))
