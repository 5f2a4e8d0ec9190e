"""What was measured of distillations: seven figures that rates of `plan.cost` are fitted to, and those that judge it.

>>> from nemo_distill.plan.figures import FIGURES
>>> sum(figure.fits is not None for figure in FIGURES)
7

Sources: the study's published ablation log and pipeline (96 nodes of 8 H100), and our own measurements on one H200
and one H100 (torch 2.11, Transformer Engine 2.11, mamba-ssm 2.3.1; sequence 8192, micro batch 1, random weights, no
optimizer) and on two H200 (the same, with NeMo's trainer and its distributed optimizer).
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2
from nemo_distill.plan.cost import CALIBRATED, GIB, Job, Rates, with_rates
from nemo_distill.plan.flops import BF16
from nemo_distill.plan.gpus import H100, H200

BENCH = Job(
    teacher=NANO_9B_V2,
    student=NANO_7B_PRUNED,
    gpu=H200,
    nodes=1,
    gpus_per_node=1,
    tensor_parallel=1,
    micro_batch_size=1,
    global_batch_size=1,
    seq_length=8192,
    gradient_bytes=BF16,
    optimizer=False,
)
"""What was measured on one H200."""
FUSED = dataclasses.replace(BENCH, fused_loss=True)
ON_H100 = dataclasses.replace(FUSED, gpu=H100, lean_activation=True, gradient_bytes=0)
"""What was measured on one H100 (`benchmarks/kd_step.py --no-gradient-buffer`, 2026-11-25), when FP8 still read every
tensor once more for its largest magnitude: 3% of a microbatch in FP8 that the model has not."""
TEACHER_IN_FP8, BOTH_IN_FP8 = (dataclasses.replace(ON_H100, fp8=whose) for whose in ("teacher", "both"))
OURS = dataclasses.replace(ON_H100, gpu=H200, fused_kernels=True)
"""What was measured on one H200 (`benchmarks/kd_step.py --no-gradient-buffer`, 2026-11-27)."""
OURS_TEACHER_IN_FP8, OURS_IN_FP8 = (dataclasses.replace(OURS, fp8=whose) for whose in ("teacher", "both"))
TWO_GPUS = dataclasses.replace(
    OURS_TEACHER_IN_FP8,
    gpus_per_node=2,
    tensor_parallel=2,
    global_batch_size=8,
    gradient_bytes=BF16,
    optimizer=True,
)
"""Measured by us over two GPUs, with a whole iteration (2026-11-28, and the day before)."""
TWO_COPIES = dataclasses.replace(TWO_GPUS, tensor_parallel=1, global_batch_size=16)
"""The same, data parallel (`benchmarks/train_step.py --layouts dp2-fp8teacher,tp2-fp8teacher`, 2026-11-28)."""
_QUARTER = dataclasses.replace(NANO_9B_V2, pattern="M-M-M-M*-M-M*-")
QUARTER = dataclasses.replace(
    TWO_COPIES,
    teacher=_QUARTER,
    student=dataclasses.replace(_QUARTER, hidden_size=4096, mamba_num_heads=120),
    global_batch_size=8,
)
"""The same with a quarter of the layers, through the recipe (2026-11-28)."""
MLP_AGAIN = dataclasses.replace(OURS_IN_FP8, recompute="mlp")
STUDY = Job(
    teacher=NANO_9B_V2,
    student=NANO_7B_PRUNED,
    gpu=H100,
    nodes=96,
    gpus_per_node=8,
    tensor_parallel=8,
    micro_batch_size=4,
    global_batch_size=768,
    seq_length=8192,
)
"""The study's distillation."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Something that was measured and that the model says too."""

    what: str
    unit: str
    measured: float
    job: Job
    """What it was measured of."""
    value: Callable[[Job], float]
    """What the model says of a job, in the same unit."""
    fits: str | None = None
    """The rate that was fitted to it; None: it was held out."""

    def predict(self, rates: Rates) -> float:
        """What the model says at given rates."""
        return self.value(with_rates(self.job, rates))

    def error(self, rates: Rates = CALIBRATED) -> float:
        """Relative: 0.1 where the model says a tenth too much."""
        return self.predict(rates) / self.measured - 1


def _total_memory(job: Job) -> float:
    return sum(job.memory().values())


FIGURES = (
    Figure(
        what="one H200: NeMo's LogitsKLLoss alone, forward and backward",
        unit="ms",
        measured=41,
        job=BENCH,
        value=lambda job: 1e3 * job.loss_seconds,
        fits="memory",
    ),
    Figure(
        what="one H200: Mamba-2 scans of a microbatch",
        unit="ms",
        measured=150,
        job=BENCH,
        value=lambda job: 1e3 * job.scan_seconds,
        fits="scan",
    ),
    Figure(
        what="one H200: the same, our own",
        unit="ms",
        measured=62,
        job=OURS,
        value=lambda job: 1e3 * job.scan_seconds,
        fits="fused_scan",
    ),
    Figure(
        what="one H200: whole microbatch (mean of 8,907, 8,629 and 8,739 tokens/s)",
        unit="ms",
        measured=(920 + 949 + 937) / 3,
        job=BENCH,
        value=lambda job: 1e3 * job.microbatch_seconds,
        fits="matmul",
    ),
    Figure(
        what="one H200: whole microbatch, ours, teacher in FP8",
        unit="ms",
        measured=713,
        job=OURS_TEACHER_IN_FP8,
        value=lambda job: 1e3 * job.microbatch_seconds,
        fits="fp8",
    ),
    Figure(
        what="768 H100, the study: 1,000 iterations",
        unit="GPU-hours",
        measured=600,
        job=STUDY,
        value=lambda job: job.gpu_hours(1_000),
        fits="links",
    ),
    Figure(
        what="two H200, tensor parallel 2: a whole iteration of 8 sequences, ours, teacher in FP8",
        unit="ms",
        measured=4_912,
        job=TWO_GPUS,
        value=lambda job: 1e3 * job.iteration_seconds,
        fits="unaligned",
    ),
    Figure(
        what="one H200: teacher's forward pass",
        unit="ms",
        measured=251,
        job=BENCH,
        value=lambda job: 1e3 * job.teacher_forward_seconds,
    ),
    Figure(
        what="one H200: whole microbatch, output layer and loss fused (two runs)",
        unit="ms",
        measured=(918 + 901) / 2,
        job=FUSED,
        value=lambda job: 1e3 * job.microbatch_seconds,
    ),
    Figure(
        what="one H100, before our own scan: whole microbatch, ours",
        unit="ms",
        measured=910,
        job=ON_H100,
        value=lambda job: 1e3 * job.microbatch_seconds,
    ),
    Figure(
        what="one H100, before our own scan: whole microbatch, ours, teacher in FP8",
        unit="ms",
        measured=836,
        job=TEACHER_IN_FP8,
        value=lambda job: 1e3 * job.microbatch_seconds,
    ),
    Figure(
        what="one H100, before our own scan: whole microbatch, ours, teacher and student in FP8",
        unit="ms",
        measured=702,
        job=BOTH_IN_FP8,
        value=lambda job: 1e3 * job.microbatch_seconds,
    ),
    Figure(
        what="one H200: whole microbatch, ours",
        unit="ms",
        measured=793,
        job=OURS,
        value=lambda job: 1e3 * job.microbatch_seconds,
    ),
    Figure(
        what="one H200: whole microbatch, ours, teacher and student in FP8",
        unit="ms",
        measured=554,
        job=OURS_IN_FP8,
        value=lambda job: 1e3 * job.microbatch_seconds,
    ),
    Figure(
        what="one H200: the same, MLP layers recomputed",
        unit="ms",
        measured=591,
        job=MLP_AGAIN,
        value=lambda job: 1e3 * job.microbatch_seconds,
    ),
    Figure(
        what="two H200, data parallel 2: a whole iteration of 8 sequences a copy, ours, teacher in FP8",
        unit="ms",
        measured=5_971,
        job=TWO_COPIES,
        value=lambda job: 1e3 * job.iteration_seconds,
    ),
    Figure(
        what="two H200, data parallel 2: of it matrix products and attention (mean of the ranks)",
        unit="ms",
        measured=(4_362 + 204 + 4_444 + 208) / 2,
        job=TWO_COPIES,
        value=lambda job: 8e3 * job.product_seconds,
    ),
    Figure(
        what="two H200, data parallel 2: a whole iteration of 4 sequences a copy, a quarter of the layers",
        unit="ms",
        measured=1_012,
        job=QUARTER,
        value=lambda job: 1e3 * job.iteration_seconds,
    ),
    Figure(
        what="two H200, tensor parallel 2: a whole iteration, the day before",
        unit="ms",
        measured=4_830,
        job=TWO_GPUS,
        value=lambda job: 1e3 * job.iteration_seconds,
    ),
    Figure(
        what="two H200, tensor parallel 2: of it matrix products and attention (mean of the ranks)",
        unit="ms",
        measured=(3_198 + 88 + 3_205 + 88) / 2,
        job=TWO_GPUS,
        value=lambda job: 8e3 * job.product_seconds,
    ),
    Figure(
        what="two H200, tensor parallel 2: of it collectives (the rank that waits less in them)",
        unit="ms",
        measured=970,
        job=TWO_GPUS,
        value=lambda job: 8e3 * job.collective_seconds,
    ),
    Figure(
        what="one H200: peak memory",
        unit="GiB",
        measured=109,
        job=BENCH,
        value=_total_memory,
    ),
    Figure(
        what="one H200: peak memory, output layer and loss fused",
        unit="GiB",
        measured=79.6,
        job=FUSED,
        value=_total_memory,
    ),
    Figure(
        what="one H200: memory that NeMo's LogitsKLLoss takes beside the logits",
        unit="GiB",
        measured=28,
        job=BENCH,
        value=lambda job: job.memory()["loss"] - 2 * BF16 * job.tokens * job.student.vocab_size / GIB,
    ),
    Figure(
        what="one H100: peak memory, ours, no buffer of gradients",
        unit="GiB",
        measured=62.1,
        job=ON_H100,
        value=_total_memory,
    ),
    Figure(
        what="one H100: the same, teacher in FP8",
        unit="GiB",
        measured=54.9,
        job=TEACHER_IN_FP8,
        value=_total_memory,
    ),
    Figure(
        what="one H100: the same, teacher and student in FP8",
        unit="GiB",
        measured=68.9,
        job=BOTH_IN_FP8,
        value=_total_memory,
    ),
    Figure(
        what="one H200: peak memory, both in FP8, MLP layers recomputed",
        unit="GiB",
        measured=61.9,
        job=MLP_AGAIN,
        value=_total_memory,
    ),
    Figure(
        what="two H200, data parallel 2: peak memory, ours, teacher in FP8",
        unit="GiB",
        measured=107.3,
        job=TWO_COPIES,
        value=_total_memory,
    ),
    Figure(
        what="two H200, data parallel 2: the same, a quarter of the layers",
        unit="GiB",
        measured=40.2,
        job=QUARTER,
        value=_total_memory,
    ),
    Figure(
        what="two H200, tensor parallel 2: peak memory",
        unit="GiB",
        measured=73.4,
        job=TWO_GPUS,
        value=_total_memory,
    ),
    Figure(
        what="768 H100, the study: 80B tokens (12,800 iterations), \"about 9,000\"",
        unit="GPU-hours",
        measured=9_000,
        job=STUDY,
        value=lambda job: job.gpu_hours(12_800),
    ),
)  # fmt: skip
