"""What distilling a Nemotron-H model costs, from the FLOPs and bytes of its layers: seconds, and memory per GPU.

>>> from nemo_distill.plan.cost import Job
>>> from nemo_distill.plan.gpus import H100
>>> from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2
>>> study = Job(teacher=NANO_9B_V2, student=NANO_7B_PRUNED, gpu=H100, nodes=96, gpus_per_node=8, tensor_parallel=8,
...             micro_batch_size=4, global_batch_size=768, seq_length=8192)
>>> round(study.gpu_hours(1_000)), round(sum(study.memory().values()))
(600, 42)

A microbatch is a forward pass of the teacher and a forward and backward pass of the student. What its kernels compute
and move is counted in `work`. They run one after another, so their times add up: each is FLOPs or bytes over a peak of
`hardware` times one of the fractions of `Rates`, which come from measured figures (`figures`). Memory has
nothing fitted to it.

Tensor parallelism is taken to be Megatron's with sequence parallelism, data parallelism its distributed optimizer with
gradients in fp32, reduced while the last microbatch's backward pass runs. Context parallelism deals a sequence's tokens
out as well: Mamba layers exchange them for heads and back, attention passes keys and values round, and nothing of
either is taken to be hidden behind what is computed.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property

from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.plan.flops import (
    BF16,
    FP8,
    FP32,
    Mode,
    Work,
    backward,
    forward,
    layer_weights,
    saved_bytes,
    saved_weights,
    scan_flops,
)
from nemo_distill.plan.gpus import Gpu

GIB = 2**30
LOSS_TRAFFIC = 146
"""Bytes that NeMo's LogitsKLLoss moves per logit. Both logits to fp32 and over the temperature: 28; log-softmax and
softmax, three reads and a write each: 32; x log x, the product, their difference, the sum: 36; backward through the
product, the softmax, the temperature, back to bf16: 50."""
LOSS_TEMPORARIES, LOSS_TEMPORARIES_SPLIT = 7 * FP32, 8 * FP32
"""Bytes per logit alive at once in it, beside the logits: fp32 logits of both models, their (log-)softmax and three
terms of the divergence; with the vocabulary split, one exponential more."""
FUSED_LOSS_TRAFFIC = 5 * BF16
"""Bytes per logit of `kd.kernel`: both logits read twice, the gradient written over the student's."""
FUSED_LOSS_CHUNK = 2048
"""Tokens whose logits the fused loss holds at a time (`kd.divergence.CHUNK_TOKENS`)."""


@dataclass(frozen=True)
class Rates:
    """Fractions of the peaks that are reached, each from 0 to 1."""

    matmul: float
    """Fraction of the dense bf16 rate that matrix multiplications and attention reach."""
    unaligned: float
    """Fraction of it that products with a matrix whose rows do not fill 16 bytes reach."""
    fp8: float
    """Fraction of the dense FP8 rate that matrix multiplications in FP8 reach."""
    scan: float
    """Fraction of the dense bf16 rate that mamba-ssm's scan reaches."""
    fused_scan: float
    """Fraction of the dense bf16 rate that our own scan reaches (`nemotron_h.kernels.ssd`)."""
    memory: float
    """Fraction of the memory's bandwidth that all else reaches: norms, convolution, activations, the loss."""
    links: float
    """Fraction of the bandwidth between GPUs that collectives reach, with all the waiting that only a cluster adds."""

    def seconds(self, work: Work, gpu: Gpu) -> float:
        """What `work` takes on one GPU."""
        return (
            work.matmul / (gpu.bf16_flops * self.matmul)
            + work.unaligned / (gpu.bf16_flops * self.unaligned)
            + work.fp8 / (gpu.fp8_flops * self.fp8)
            + work.scan / (gpu.bf16_flops * self.scan)
            + work.memory / (gpu.memory_bandwidth * self.memory)
        )


CALIBRATED = Rates(
    matmul=0.696, unaligned=0.2533, fp8=0.6225, scan=0.0526, fused_scan=0.1272, memory=0.797, links=0.2577
)
"""`calibration.fit()`, rounded."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A distillation on a layout."""

    teacher: Shape
    """Sizes of the teacher."""
    student: Shape
    """Sizes of the student."""
    gpu: Gpu
    """Kind of GPU."""
    nodes: int
    """Number of machines."""
    gpus_per_node: int
    """Number of GPUs of each machine."""
    tensor_parallel: int
    """Number of GPUs that share each layer of a copy of the model."""
    micro_batch_size: int
    """Sequences per microbatch."""
    global_batch_size: int
    """Sequences per iteration."""
    seq_length: int
    """Tokens per sequence."""
    context_parallel: int = 1
    """Number of GPUs, times as many, that share each sequence."""
    gradient_bytes: int = FP32
    """Bytes of a gradient per parameter."""
    optimizer: bool = True
    """Whether there is Adam: master weights and two moments in fp32, split over the data-parallel ranks."""
    fused_loss: bool = False
    """Whether output layer and loss are in chunks (`kd.divergence`), in place of NeMo's LogitsKLLoss."""
    fused_kernels: bool = False
    """Whether the scan is ours, in place of mamba-ssm's."""
    lean_activation: bool = False
    """Whether squared ReLU is ours, in place of PyTorch's own operations."""
    fp8: str = "none"
    """Whose matrix products are in FP8: a name in `settings.FP8`."""
    recompute: str = "none"
    """Activation recomputation in the student: a name in `settings.RECOMPUTE`."""
    rates: Rates = CALIBRATED
    """Fractions of the peaks that are reached."""

    @property
    def gpus(self) -> int:
        """Total number of GPUs."""
        return self.nodes * self.gpus_per_node

    @property
    def data_parallel(self) -> int:
        """Number of copies of the model."""
        return self.gpus // self.per_copy

    @property
    def per_copy(self) -> int:
        """Number of GPUs that share one copy of the model and its sequences."""
        return self.tensor_parallel * self.context_parallel

    @property
    def alike(self) -> int:
        """Number of GPUs with the same weights, which share their gradients and the optimizer."""
        return self.data_parallel * self.context_parallel

    @property
    def tokens(self) -> int:
        """Tokens of a microbatch."""
        return self.micro_batch_size * self.seq_length

    @property
    def teacher_mode(self) -> Mode:
        """How the teacher computes."""
        return Mode(lean_activation=self.lean_activation, fp8=self.fp8 != "none", split=self.tensor_parallel)

    @property
    def student_mode(self) -> Mode:
        """How the student computes."""
        return Mode(
            lean_activation=self.lean_activation,
            fp8=self.fp8 == "both",
            recompute=self.recompute,
            split=self.tensor_parallel,
        )

    # -- time

    @property
    def teacher_forward_seconds(self) -> float:
        """Time of the teacher's forward pass over a microbatch, without communication."""
        return self._seconds(forward(self.teacher, self.seq_length, self.teacher_mode, trained=False))

    @property
    def loss_seconds(self) -> float:
        """Time of the loss of a microbatch, forward and backward."""
        traffic = FUSED_LOSS_TRAFFIC if self.fused_loss else LOSS_TRAFFIC
        return self._seconds(Work(memory=traffic * self.student.vocab_size))

    @property
    def scan_seconds(self) -> float:
        """Time of the Mamba-2 scans in a microbatch."""
        scans = self.teacher.pattern.count("M") * scan_flops(self.teacher)
        return self._seconds(Work(scan=scans + 4 * self.student.pattern.count("M") * scan_flops(self.student)))

    @property
    def product_seconds(self) -> float:
        """Time of the matrix products in a microbatch, attention's included."""
        work = forward(self.teacher, self.seq_length, self.teacher_mode, trained=False)
        work += forward(self.student, self.seq_length, self.student_mode)
        work += backward(self.student, self.seq_length, self.student_mode)
        return self._seconds(Work(matmul=work.matmul, unaligned=work.unaligned, fp8=work.fp8))

    @property
    def collective_seconds(self) -> float:
        """Time of the collectives in a microbatch by which ranks share its layers."""
        return self._collectives(teacher=2, student=2) + self._collectives(student=3)

    @cached_property
    def forward_seconds(self) -> float:
        """Time of a microbatch's forward pass: both models and the loss."""
        student = self._seconds(forward(self.student, self.seq_length, self.student_mode))
        apart = self._collectives(teacher=2, student=2) + self._exchanges(self.teacher) + self._exchanges(self.student)
        return self.teacher_forward_seconds + student + self.loss_seconds + apart

    @cached_property
    def backward_seconds(self) -> float:
        """Time of a microbatch's backward pass: the student's."""
        per_token = self._seconds(backward(self.student, self.seq_length, self.student_mode))
        # A gradient is added to what the microbatches before it gave: read both, write one.
        added = self.student.parameters() / self.tensor_parallel * (BF16 + 2 * self.gradient_bytes)
        # Keys and values are passed round once more, and their gradients.
        apart = self._collectives(student=3) + self._exchanges(self.student, rounds=2)
        return per_token + self.rates.seconds(Work(memory=added), self.gpu) + apart

    @property
    def microbatch_seconds(self) -> float:
        """Time of a microbatch, forward and backward."""
        return self.forward_seconds + self.backward_seconds

    @cached_property
    def iteration_seconds(self) -> float:
        """Time of an iteration: microbatches, what is not hidden of the exchange between copies, and the optimizer."""
        microbatches = self.global_batch_size / (self.data_parallel * self.micro_batch_size)
        link = self.gpu.network if self.nodes > 1 else self.gpu.nvlink
        own = self.student.parameters() / self.tensor_parallel
        travels = own * (self.alike - 1) / self.alike / (link * self.rates.links)
        reduced = max(0.0, travels * self.gradient_bytes - self.backward_seconds)
        gathered = max(0.0, travels * BF16 - self.forward_seconds)
        step = Work(memory=own / self.alike * (self.gradient_bytes + 6 * FP32 + BF16))
        optimizer = self.rates.seconds(step, self.gpu) if self.optimizer else 0.0
        return microbatches * self.microbatch_seconds + reduced + gathered + optimizer

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second of one GPU."""
        return self.global_batch_size * self.seq_length / self.iteration_seconds / self.gpus

    def gpu_hours(self, iterations: float) -> float:
        """GPU-hours of `iterations`."""
        return iterations * self.iteration_seconds * self.gpus / 3600

    # -- memory

    def memory(self) -> dict[str, float]:
        """Peak memory of one GPU, which is in the loss, in GiB by what holds it."""
        split = self.tensor_parallel
        parameters = self.student.parameters()
        parts = {
            "student and gradients": (
                parameters * (BF16 + self.gradient_bytes) + saved_weights(self.student, self.student_mode)
            )
            / split,
            "teacher": self._teacher_bytes / split,
            "optimizer": parameters * 3 * FP32 / split / self.alike if self.optimizer else 0.0,
            "activations": self.tokens * self._saved_bytes / self.per_copy,
            "loss": self._loss_bytes / split,
        }
        return {part: size / GIB for part, size in parts.items()}

    @property
    def _saved_bytes(self) -> int:
        layers = sum(saved_bytes(self.student, kind, self.student_mode) for kind in self.student.pattern)
        return layers + BF16 * 2 * self.student.hidden_size  # before and after the final norm

    @property
    def _teacher_bytes(self) -> float:
        quantised = layer_weights(self.teacher) if self.teacher_mode.fp8 else 0
        return BF16 * self.teacher.parameters() - (BF16 - FP8) * quantised

    @property
    def _loss_bytes(self) -> float:
        vocab = self.student.vocab_size
        if self.fused_loss:  # the logits of a chunk and the output layer's gradient
            return BF16 * vocab * (2 * FUSED_LOSS_CHUNK + self.student.hidden_size)
        temporaries = LOSS_TEMPORARIES if self.tensor_parallel == 1 else LOSS_TEMPORARIES_SPLIT
        return self.tokens / self.context_parallel * vocab * (2 * BF16 + temporaries)

    def _seconds(self, per_token: Work) -> float:
        rates = dataclasses.replace(self.rates, scan=self.rates.fused_scan) if self.fused_kernels else self.rates
        return rates.seconds(per_token * (self.tokens / self.per_copy), self.gpu)

    def _collectives(self, *, teacher: int = 0, student: int = 0) -> float:
        """Seconds of so many all-gathers and reduce-scatters of a microbatch per layer of each model.

        Forward, each layer gathers its input and scatters its output; backward, it gathers the output's gradient and,
        once more, the input, and scatters the input's gradient. Embedding and output layer together count as a layer.
        """
        elements = sum(
            times * (shape.num_layers + 1) * shape.hidden_size
            for times, shape in ((teacher, self.teacher), (student, self.student))
        )
        apart = (self.tensor_parallel - 1) / self.tensor_parallel
        link = self.gpu.nvlink if self.tensor_parallel <= self.gpus_per_node else self.gpu.network
        return BF16 * self.tokens / self.context_parallel * elements * apart / (link * self.rates.links)

    def _exchanges(self, shape: Shape, *, rounds: int = 1) -> float:
        """Seconds in which the GPUs that share a sequence exchange what a pass of one model over a microbatch needs.

        Mamba's inputs and outputs, of which each GPU keeps its own part, and keys and values, which each gets all of,
        as often as there are `rounds`.
        """
        mamba = shape.pattern.count("M") * (shape.mamba_in_proj_size + shape.mamba_inner_size)
        attention = shape.pattern.count("*") * 2 * shape.num_query_groups * shape.kv_channels
        elements = mamba + rounds * self.context_parallel * attention
        apart = (self.context_parallel - 1) / self.context_parallel
        link = self.gpu.nvlink if self.per_copy <= self.gpus_per_node else self.gpu.network
        return BF16 * self.tokens / self.per_copy * elements * apart / (link * self.rates.links)


def with_rates(job: Job, rates: Rates) -> Job:
    """The same job where other fractions of the peaks are reached."""
    return dataclasses.replace(job, rates=rates)
