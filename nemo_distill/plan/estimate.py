"""Estimates what a run costs, step by step.

    estimate = Estimate(job=job, student_from="as pruned", segments={"2.5B": 400}, loads=loads, done=frozenset())
    estimate.segment_gpu_hours("2.5B")

GPU-hours and memory of the distillation are `nemo_distill.plan.cost`'s, those of evaluations
`nemo_distill.plan.evaluations`'.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nemo_distill.config.recipe import Recipe
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import NANO_9B_V2, Shape
from nemo_distill.outcome.measured import SERVE_BENCH, Way, measured_in, rates_in
from nemo_distill.outcome.serving import TEACHER
from nemo_distill.outcome.suites import Asked, Load
from nemo_distill.plan import calibration, layouts
from nemo_distill.plan.benched import hours_of
from nemo_distill.plan.calibration import Evidence
from nemo_distill.plan.cost import Job
from nemo_distill.plan.evaluations import Cost, Known, cost_of
from nemo_distill.plan.flops import BF16, FP32
from nemo_distill.plan.gpus import get_gpu
from nemo_distill.plan.serving import Served
from nemo_distill.run.manifest import Run

PRUNE_GPU_HOURS = 8.0
"""The study's search: about an hour on 8 H100. Of another teacher it is taken to grow with the parameters."""
QUANTISE_GPU_HOURS = 0.2
"""The study's: one to two minutes on 8 H100."""
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
    """Names of the evaluations of what is quantised."""
    format: str = "none"
    """Format of what is quantised: a name in `settings.QUANTISED`."""
    quantise: str = "aggressive"
    """What is quantised: a name in `settings.QUANTISE_RECIPES`."""
    way: Way = Way()
    """How a checkpoint is asked."""
    known: Known = Known()
    """What is known of evaluations that are done."""
    unread: tuple[str, ...] = ()
    """Sentences on those whose records are damaged."""
    benched: Mapping[str, Any] | None = None
    """Config of the step that measures served checkpoints; None: there is none."""
    done: frozenset[str] = field(default_factory=frozenset)
    """Names of the steps that need not be run any more."""

    def segment_hours(self, label: str) -> float:
        """Wall-clock of a milestone's job, waiting in queues aside."""
        return self.segments[label] * self.job.iteration_seconds / 3600

    def segment_gpu_hours(self, label: str) -> float:
        """GPU-hours of a milestone's job."""
        return self.job.gpu_hours(self.segments[label])

    @cached_property
    def of_student(self) -> Cost:
        """What a milestone's evaluation takes."""
        return self.of_student_at(self.way.in_flight)

    def of_student_at(self, in_flight: int) -> Cost:
        """What it takes with so many answers in flight on each GPU."""
        student = Served(shape=self.job.student, gpu=self.job.gpu)
        return cost_of(
            student, self.loads, dataclasses.replace(self.way, in_flight=in_flight), self.known, role="student"
        )

    @cached_property
    def evaluations(self) -> dict[str, Cost]:
        """What each evaluation takes, by its step. All milestones are students of one shape."""
        teacher, student, quantised = self._models
        of_pruned = [load for load in self.loads if load.of_pruned]
        found = {
            "evaluate-teacher": cost_of(teacher, self.loads, self.way, self.known, role="teacher"),
            "evaluate-pruned": cost_of(student, of_pruned, self.way, self.known, role="pruned"),
        }
        found |= {f"evaluate-{label}": self.of_student for label in self.segments}
        if self.asked_quantised:
            of_quantised = cost_of(quantised, self.loads, self.way, self.known, role="student")
            found |= dict.fromkeys(self.asked_quantised, of_quantised)
        return found

    @cached_property
    def benched_gpu_hours(self) -> float | None:
        """GPU-hours of measuring served checkpoints; None: they are not measured."""
        if self.benched is None:
            return None
        of = dict(self.benched["checkpoints"])
        teacher, student, quantised = self._models

        def served(label: str) -> Served:
            return teacher if label == TEACHER else quantised if of[label].startswith(_QUANTIZE) else student

        return hours_of(self.benched, served)

    @property
    def _models(self) -> tuple[Served, Served, Served]:
        """Teacher, student, and the student as it is quantised."""
        teacher, student = (Served(shape=shape, gpu=self.job.gpu) for shape in (self.job.teacher, self.job.student))
        return teacher, student, dataclasses.replace(student, format=self.format, recipe=self.quantise)

    @cached_property
    def parts(self) -> list[tuple[str, dict[str, float]]]:
        """(what, GPU-hours by step) of everything that takes GPUs."""
        evaluations = {step: cost.gpu_hours for step, cost in self.evaluations.items()}
        benched = [] if self.benched_gpu_hours is None else [("measure serving", {SERVE_BENCH: self.benched_gpu_hours})]
        quantise = [("quantise", {f"quantize-{label}": QUANTISE_GPU_HOURS for label in self.quantised})]
        return [
            ("prune", {"prune": PRUNE_GPU_HOURS * self.job.teacher.parameters() / NANO_9B_V2.parameters()}),
            ("distil", {f"distill-{label}": self.segment_gpu_hours(label) for label in self.segments}),
            *(quantise if self.quantised else ()),
            (f"evaluate {len(evaluations)} checkpoints", evaluations),
            *benched,
        ]

    def evidence(self, step: str) -> Evidence:
        """What the GPU-hours of a step rest on: those of pruning and quantising on the study, with its own code."""
        if step.startswith("distill-"):
            return calibration.evidence(self.job)
        cost = self.evaluations.get(step)
        return cost.evidence if cost else Evidence.NEVER_RUN


def left_of(estimate: Estimate, steps: Collection[str]) -> float:
    """GPU-hours that those of the steps take which are not done."""
    return sum(
        hours
        for _, part in estimate.parts
        for step, hours in part.items()
        if step in steps and step not in estimate.done
    )


def estimate_of(recipe: Recipe, run: Run, asked: Asked, teacher: Shape | None) -> Estimate | None:
    """The estimate of a run whose checkpoints are `asked` that; None where the layout asks for no GPU.

    None, too, while the shape of the `teacher` is not known. Raises `UserError` for a GPU that is not known, or that
    cannot run what is asked (`layouts.lacking`), where the layout does not divide (`layouts.check`), and for a folder
    in which nothing was measured.
    """
    layout, distill = recipe.layout, recipe.distill
    folders = (run.runs, *map(_runs_folder, recipe.evaluate.measured_in))
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
    evaluations, rates = [measured_in(one) for one in folders], [rates_in(one) for one in folders]
    return Estimate(
        job=job,
        student_from=student_from,
        segments={m.label: m.iteration - begin for begin, m in zip([0, *ends], recipe.milestones, strict=False)},
        loads=asked.loads,
        way=asked.way,
        known=Known(
            measured=[one for found, _ in evaluations for one in found],
            rates=[one for found, _ in rates for one in found],
        ),
        unread=tuple(sentence for _, unread in (*evaluations, *rates) for sentence in unread),
        format=recipe.quantize.format,
        quantise=recipe.quantize.recipe,
        quantised=tuple(name.removeprefix(_QUANTIZE) for name in run.specs if name.startswith(_QUANTIZE)),
        asked_quantised=tuple(
            name
            for name, spec in run.specs.items()
            if spec.module == _EVALUATE and any(before.startswith(_QUANTIZE) for before in spec.upstream)
        ),
        benched=run.specs[SERVE_BENCH].config if SERVE_BENCH in run.specs else None,
        done=frozenset(name for name, spec in run.specs.items() if spec.done),
    )


def _runs_folder(said: str) -> Path:
    """A runs folder that a recipe names. Raises `UserError` where it is none, or holds no finished evaluation."""
    folder = Path(said).expanduser()
    if not folder.is_dir():
        what = "is a file; name a folder of runs" if folder.exists() else "there is no such folder"
        raise UserError(f"evaluate.measured_in={said}: {what}.")
    if not any(any(found) for found in (measured_in(folder), rates_in(folder))):
        near = next(
            (one for one in (folder / "runs", folder.parent, folder.parent.parent) if any(measured_in(one))), None
        )
        hint = (
            f" Did you mean evaluate.measured_in={near}?"
            if near
            else " Name a folder of runs, RUNS in RUNS/evaluate-*."
        )
        raise UserError(f"evaluate.measured_in={said} holds no evaluation that says what it took.{hint}")
    return folder
