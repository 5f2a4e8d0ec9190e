"""Whether a distillation can be laid out as asked, and the nearest layout that can.

check(job)              # raises UserError where something does not divide
fastest(job)            # the tensor parallelism, micro batch and recomputation that take least time
misfit(job)             # the sentence on what does not fit into a GPU's memory; None: it fits
student_shape(...)      # the student's sizes, or what they will be
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

from nemo_distill.config.division import check_context, check_layout
from nemo_distill.config.resolved import Pruning
from nemo_distill.config.settings import RECOMPUTE
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2, Shape
from nemo_distill.plan.candidates import Bounds, layers_of
from nemo_distill.plan.cost import GIB, Job
from nemo_distill.plan.flops import BF16
from nemo_distill.plan.gpus import GPUS
from nemo_distill.plan.targets import bounds_of

RESERVED_GIB = 4.0
"""Of every GPU: CUDA's context, NCCL's buffers, and what the allocator loses to fragments."""
_SPLIT = ("num_attention_heads", "num_query_groups", "mamba_num_heads", "mamba_num_groups", "ffn_hidden_size",
          "vocab_size")  # fmt: skip
"""What tensor parallelism deals out in whole parts."""


def check(job: Job) -> None:
    """Raise `UserError`, with the nearest value that would do, where GPUs, heads or batch do not divide."""
    parallel = job.tensor_parallel
    reason = _indivisible(job, parallel)
    if reason:
        near = min(_parallels(job), key=lambda other: (abs(other - parallel), -other))
        raise UserError(f"layout.tensor_parallel={parallel} does not divide {reason}; the nearest that does is {near}.")
    check_layout(
        ranks=job.gpus,
        tensor_parallel=parallel,
        context_parallel=job.context_parallel,
        global_batch_size=job.global_batch_size,
        micro_batch_size=job.micro_batch_size,
    )
    _check_context(job)


def lacking(job: Job, *, bf16: bool = True) -> str:
    """The sentence on what the kind of GPU cannot run of the job, by its compute capability; empty where it can all."""
    said = job.gpu.ability.lacks(fp8=job.fp8, fused_kernels=job.fused_kernels, bf16=bf16)
    return f"layout.gpu={job.gpu.name}: {said}" if said else ""


def whole_gib(teacher: Shape, *, ranked_over: int = 0) -> float:
    """Memory that one GPU has to have to import the teacher, GiB at least: its weights in bf16, whole.

    To prune it, too, the scores of an attention layer over a sequence of `ranked_over` tokens, before and after the
    softmax, which the local spec holds.
    """
    scores = 2 * BF16 * teacher.num_attention_heads * ranked_over**2
    return (BF16 * teacher.parameters() + scores) / GIB + RESERVED_GIB


def check_room(teacher: Shape, gpu: tuple[str, float] | None, *, ranked_over: int = 0) -> None:
    """Raise `UserError` for a teacher that one GPU cannot hold, as import and pruning have to.

    `gpu` is what sentences call it, and its memory in GiB; None: there is none. `ranked_over` are the tokens of a
    calibration sequence; 0: the teacher is only imported.
    """
    needed = whole_gib(teacher, ranked_over=ranked_over)
    if gpu is None or needed <= gpu[1]:
        return
    name, memory_gib = gpu
    larger = sorted((one for one in GPUS.values() if needed <= one.memory_gib), key=lambda one: one.memory_gib)
    remedy = f"of those that are known here {' and '.join(one.name for one in larger)} would do"
    if not larger:
        most = (memory_gib - needed) * GIB / BF16 + teacher.parameters()
        remedy = f"none that is known here has as much, and a teacher of up to {most / 1e9:.0f}B would do"
    raise UserError(
        f"import and pruning hold the teacher's {teacher.parameters() / 1e9:.1f}B parameters whole on one GPU, which "
        f"takes {needed:.0f} GiB at least, and {name} has {memory_gib:.0f}: {remedy}."
    )


def needed_gib(job: Job) -> float:
    """Memory that each GPU has to have, in GiB."""
    return sum(job.memory().values()) + RESERVED_GIB


def fits(job: Job) -> bool:
    """Whether each GPU has the memory."""
    return needed_gib(job) <= job.gpu.memory_gib


def misfit(job: Job) -> str | None:
    """The sentence on a layout that cannot fit, with the nearest that does; None where it fits."""
    if fits(job):
        return None
    shared = f" layout.context_parallel={job.context_parallel}" if job.context_parallel > 1 else ""
    problem = (
        f"layout.tensor_parallel={job.tensor_parallel}{shared} with distill.micro_batch_size={job.micro_batch_size} "
        f"needs {needed_gib(job):.0f} GiB per GPU and an {job.gpu.name} has {job.gpu.memory_gib:.0f}"
    )
    near = nearest_fit(job)
    if near is None:
        return f"{problem}; no layout of GPUs that are known here fits."
    return f"{problem}; the nearest that fits is {_changes(job, near)} ({needed_gib(near):.0f} GiB)."


def fastest(job: Job) -> Job | None:
    """The same GPUs as they fit and take least time, split, batched and recomputing otherwise; None: none fits."""
    found = [other for other in _alternatives(job) if fits(other)]
    # Where only the exchange between machines counts, recomputing takes no time and serves nothing either.
    return min(found, key=lambda other: (round(other.iteration_seconds, 6), other.recompute != "none"), default=None)


def nearest_fit(job: Job) -> Job | None:
    """The layout that fits and changes least; None: there is none.

    Recomputation, tensor parallelism and micro batch are changed before the ranks that share a sequence, these before
    the kind of GPU, that before the number of GPUs, and the sequence is shortened last.
    """
    sequences = itertools.takewhile(lambda length: length >= 1024, (job.seq_length >> halved for halved in range(20)))
    machines = sorted({job.gpus_per_node, *(count for count in (2, 4, 8) if count > job.gpus_per_node)})
    for seq_length, gpus_per_node in itertools.product(sequences, machines):
        for gpu in (job.gpu, *(gpu for gpu in GPUS.values() if gpu != job.gpu)):
            like = dataclasses.replace(job, gpu=gpu, gpus_per_node=gpus_per_node, seq_length=seq_length)
            if lacking(like):
                continue
            for shared in _contexts(job, like.gpus):
                found = [
                    other for other in _alternatives(dataclasses.replace(like, context_parallel=shared)) if fits(other)
                ]
                if found:
                    return min(found, key=lambda other: _distance(job, other))
    return None


def nearest_within(job: Job, gpus: int) -> str:
    """The layout on at most so many GPUs of one machine that fits and changes least, as settings; empty: none fits."""
    contexts = [job.context_parallel >> times for times in range(job.context_parallel.bit_length())]
    for count, shared in itertools.product(range(min(gpus, job.gpus_per_node), 0, -1), contexts):
        like = dataclasses.replace(job, nodes=1, gpus_per_node=count, context_parallel=shared)
        found = [other for other in _alternatives(like) if fits(other)]
        if found:
            near = min(found, key=lambda other: _distance(job, other))
            return f"{_changes(job, near)} ({needed_gib(near):.0f} GiB)"
    return ""


def _changes(job: Job, near: Job) -> str:
    """The settings that make `near` of the job."""
    changes = {
        "layout.gpu": (job.gpu.name, near.gpu.name),
        "layout.gpus_per_node": (job.gpus_per_node, near.gpus_per_node),
        "layout.tensor_parallel": (job.tensor_parallel, near.tensor_parallel),
        "layout.context_parallel": (job.context_parallel, near.context_parallel),
        "layout.recompute": (job.recompute, near.recompute),
        "distill.micro_batch_size": (job.micro_batch_size, near.micro_batch_size),
        "distill.seq_length": (job.seq_length, near.seq_length),
    }
    return " ".join(f"{key}={new}" for key, (old, new) in changes.items() if old != new)


def student_shape(teacher: Shape, prune: Pruning, pruned: Path) -> tuple[Shape, str]:
    """The student's shape, and where it comes from.

    Which sizes a search chooses is known once the step with the folder `pruned` is done. Until then it is the study's
    choice where the target is the study's, and otherwise the teacher made narrower, evenly, to the target.
    """
    if (pruned / "shape.json").is_file():
        return Shape.load(pruned / "shape.json"), "as pruned"
    if prune.export_config:
        return _resized(teacher, prune.export_config), "as prune.export_config says"
    bounds = bounds_of(prune, teacher)
    studys = bounds.parameters is not None and abs(bounds.parameters / NANO_7B_PRUNED.parameters() - 1) < 0.01
    if teacher.is_sized_like(NANO_9B_V2) and studys and bounds.memory_mb is None:
        return NANO_7B_PRUNED, "as the study's search chose"
    return _narrowed(teacher, bounds), "evenly narrowed, until the search has chosen"


def _resized(shape: Shape, sizes: dict[str, int]) -> Shape:
    sizes = dict(sizes)
    layers = sizes.pop("num_layers", shape.num_layers)
    return dataclasses.replace(shape, pattern=_thinned(shape.pattern, layers), **sizes)


def _thinned(pattern: str, layers: int) -> str:
    """`layers` letters of the pattern, evenly drawn: every kind keeps its part."""
    return "".join(pattern[index * len(pattern) // layers] for index in range(min(layers, len(pattern))))


def _narrowed(shape: Shape, bounds: Bounds) -> Shape:
    """The widest of the shapes, a thousandth of the teacher's width apart, that keeps to the bounds."""
    for thousandths in range(1000, 0, -1):
        part = thousandths / 1000
        narrower = dataclasses.replace(
            shape,
            hidden_size=max(1, round(shape.hidden_size * part)),
            ffn_hidden_size=max(8, round(shape.ffn_hidden_size * part / 64) * 64),
            mamba_num_heads=max(1, round(shape.mamba_num_heads * part / shape.mamba_num_groups))
            * shape.mamba_num_groups,
        )
        if bounds.hold(bounds.measured(narrower, layers_of(narrower))):
            return narrower
    said = " ".join(f"prune.{name}={value:g}" for name, value in bounds.most.items())
    raise UserError(f"{said}: no Nemotron-H with this vocabulary is as small.")


def _indivisible(job: Job, parallel: int) -> str | None:
    """What `parallel` GPUs cannot share evenly, in words; None: nothing."""
    if job.gpus_per_node % parallel:
        return f"the {job.gpus_per_node} GPUs of a machine (layout.gpus_per_node)"
    for whose, shape in (("teacher", job.teacher), ("student", job.student)):
        for name in _SPLIT:
            if getattr(shape, name) % parallel:
                return f"the {whose}'s {name}, {getattr(shape, name)}"
    return None


def _parallels(job: Job) -> list[int]:
    return [parallel for parallel in _divisors(job.gpus_per_node) if _indivisible(job, parallel) is None]


def _alternatives(job: Job) -> Iterator[Job]:
    """The same GPUs with every tensor parallelism and micro batch that divide, recomputing or not."""
    for parallel in _parallels(job):
        if not _shares_sequences(dataclasses.replace(job, tensor_parallel=parallel)):
            continue
        share, rest = divmod(job.global_batch_size, job.gpus // (parallel * job.context_parallel))
        for micro, recompute in itertools.product(_divisors(share) if not rest else (), RECOMPUTE):
            yield dataclasses.replace(job, tensor_parallel=parallel, micro_batch_size=micro, recompute=recompute)


def _contexts(job: Job, gpus: int) -> list[int]:
    """How many may share a sequence instead: as many as do, or twice, four times, ... as many."""
    doubled = [job.context_parallel << times for times in range(gpus.bit_length())]
    return [shared for shared in doubled if shared <= gpus]


def _check_context(job: Job) -> None:
    mixers = {
        whose: (shape.mamba_num_heads, shape.mamba_num_groups)
        for whose, shape in (("teacher", job.teacher), ("student", job.student))
    }
    check_context(
        ranks=job.gpus,
        tensor_parallel=job.tensor_parallel,
        context_parallel=job.context_parallel,
        seq_length=job.seq_length,
        mixers=mixers,
    )


def _shares_sequences(job: Job) -> bool:
    if job.gpus % job.per_copy:
        return False
    try:
        _check_context(job)
    except UserError:
        return False
    return True


def _distance(job: Job, other: Job) -> float:
    """How much changes. The micro batch weighs most: it is in the fingerprint of the distillation. Recomputing takes
    less time than twice the tensor parallelism."""
    recompute = 0.5 * (other.recompute != job.recompute)
    parallel = abs(math.log2(other.tensor_parallel / job.tensor_parallel))
    return recompute + parallel + 1.5 * abs(math.log2(other.micro_batch_size / job.micro_batch_size))


def _divisors(number: int) -> list[int]:
    return [part for part in range(1, number + 1) if number % part == 0]
