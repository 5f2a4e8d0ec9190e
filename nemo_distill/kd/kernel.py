"""The inner loop of `nemo_distill.kd.divergence` on a GPU, in Triton.

One program works on one row of both models' logits. It goes over the row twice: first for the maxima and the sums of
exponentials, as in online softmax (arXiv:1805.02867), then for the loss and the gradient. So a logit is read twice and
written once, in bf16, which is all the memory traffic there is; with tensor parallelism the two passes are two
launches, and the ranks add up their sums in between. Where labels are given, the same two passes make the
cross-entropy as well; the student then has two sums of exponentials, at the temperature and without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.distributed import ProcessGroup, ReduceOp, all_reduce

if TYPE_CHECKING:
    from nemo_distill.kd.divergence import Mixture

BLOCK = 4096
WARPS = 16


def divergence_(student: Tensor, teacher: Tensor, mask: Tensor, group: ProcessGroup | None) -> Tensor:
    """As `divergence.divergence_`, for logits whose rows are contiguous."""
    return _per_token(student, teacher, mask, None, group)[0] @ mask


def mixture_(student: Tensor, teacher: Tensor, mask: Tensor, mixture: Mixture, group: ProcessGroup | None) -> Tensor:
    """As `divergence.mixture_`, for logits whose rows are contiguous."""
    return _per_token(student, teacher, mask, mixture, group) @ mask


def _per_token(
    student: Tensor, teacher: Tensor, mask: Tensor, mixture: Mixture | None, group: ProcessGroup | None
) -> Tensor:
    """The divergence of each token and, with a `mixture`, its cross-entropy: (1 or 2, tokens)."""
    rows, vocabulary = student.shape
    assert student.shape == teacher.shape and student.stride(1) == teacher.stride(1) == 1
    labels = mask if mixture is None else mixture.labels.contiguous()  # without any, it is read by nobody
    share, temperature, first_id = (mixture.share, mixture.temperature, mixture.first) if mixture else (0.0, 1.0, 0)
    per_token = torch.empty(2 if mixture else 1, rows, dtype=torch.float32, device=student.device)
    # A maximum and a sum of exponentials each: of the student, of the teacher, of the student at the temperature.
    sums = torch.empty(6 if mixture else 4, rows, dtype=torch.float32, device=student.device)

    def launch(*, first: bool, second: bool) -> None:
        _divergence[(rows,)](
            student, teacher, mask, labels, per_token, sums, student.stride(0), teacher.stride(0), rows,
            share, temperature, first_id,
            VOCABULARY=vocabulary, BLOCK=BLOCK, FIRST=first, SECOND=second, LABELS=mixture is not None,
            num_warps=WARPS,
        )  # fmt: skip

    if group is None or group.size() == 1:
        launch(first=True, second=True)
    else:
        launch(first=True, second=False)
        peaks = sums[::2].clone()
        all_reduce(peaks, ReduceOp.MAX, group)
        sums[1::2] *= torch.exp(sums[::2] - peaks)
        totals = sums[1::2].contiguous()
        all_reduce(totals, ReduceOp.SUM, group)
        sums[::2], sums[1::2] = peaks, totals
        launch(first=False, second=True)
    return per_token


def scale_(tensor: Tensor, factor: Tensor) -> None:
    """Multiply by a scalar in float32, whatever the tensor is stored in; PyTorch does that at a third of the speed."""
    assert tensor.is_contiguous() and factor.numel() == 1
    _scale[(triton.cdiv(tensor.numel(), BLOCK),)](tensor, factor, tensor.numel(), BLOCK=BLOCK, num_warps=8)


@triton.jit
def _scale(tensor, factor, size, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    scaled = tl.load(tensor + at, mask=at < size).to(tl.float32) * tl.load(factor).to(tl.float32)
    tl.store(tensor + at, scaled.to(tensor.dtype.element_ty), mask=at < size)


@triton.jit
def _divergence(
    student, teacher, mask, labels, per_token, sums, student_stride, teacher_stride, rows,
    share, temperature, first_id,
    VOCABULARY: tl.constexpr, BLOCK: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr, LABELS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    student += row * student_stride
    teacher += row * teacher_stride
    block = tl.arange(0, BLOCK)
    if LABELS:
        cold = 1.0 / temperature
    if FIRST:
        student_peak = -float("inf")
        teacher_peak = -float("inf")
        student_sum = 0.0
        teacher_sum = 0.0
        soft_sum = 0.0
        for start in range(0, VOCABULARY, BLOCK):
            inside = start + block < VOCABULARY
            s = tl.load(student + start + block, mask=inside, other=-float("inf")).to(tl.float32)
            t = tl.load(teacher + start + block, mask=inside, other=-float("inf")).to(tl.float32)
            if LABELS:
                t *= cold
            student_next = tl.maximum(student_peak, tl.max(s))
            teacher_next = tl.maximum(teacher_peak, tl.max(t))
            student_sum = student_sum * tl.exp(student_peak - student_next) + tl.sum(tl.exp(s - student_next))
            teacher_sum = teacher_sum * tl.exp(teacher_peak - teacher_next) + tl.sum(tl.exp(t - teacher_next))
            if LABELS:
                soft_sum *= tl.exp((student_peak - student_next) * cold)
                soft_sum += tl.sum(tl.exp((s - student_next) * cold))
            student_peak = student_next
            teacher_peak = teacher_next
        if LABELS:
            soft_peak = student_peak * cold
    else:
        student_peak = tl.load(sums + row)
        student_sum = tl.load(sums + rows + row)
        teacher_peak = tl.load(sums + 2 * rows + row)
        teacher_sum = tl.load(sums + 3 * rows + row)
        if LABELS:
            soft_peak = tl.load(sums + 4 * rows + row)
            soft_sum = tl.load(sums + 5 * rows + row)
    if not SECOND:
        tl.store(sums + row, student_peak)
        tl.store(sums + rows + row, student_sum)
        tl.store(sums + 2 * rows + row, teacher_peak)
        tl.store(sums + 3 * rows + row, teacher_sum)
        if LABELS:
            tl.store(sums + 4 * rows + row, soft_peak)
            tl.store(sums + 5 * rows + row, soft_sum)
    else:
        weight = tl.load(mask + row)
        student_norm = student_peak + tl.log(student_sum)
        teacher_norm = teacher_peak + tl.log(teacher_sum)
        total = 0.0
        if LABELS:
            soft_norm = soft_peak + tl.log(soft_sum)
            label = tl.load(labels + row) - first_id
            said = 0.0
        for start in range(0, VOCABULARY, BLOCK):
            inside = start + block < VOCABULARY
            if LABELS:
                logits = tl.load(student + start + block, mask=inside, other=0.0).to(tl.float32)
                s = logits * cold - soft_norm
                t = tl.load(teacher + start + block, mask=inside, other=0.0).to(tl.float32) * cold - teacher_norm
            else:
                s = tl.load(student + start + block, mask=inside, other=0.0).to(tl.float32) - student_norm
                t = tl.load(teacher + start + block, mask=inside, other=0.0).to(tl.float32) - teacher_norm
            expected = tl.exp(t)
            total += tl.sum(tl.where(inside, expected * (t - s), 0.0))
            if LABELS:
                is_label = inside & (start + block == label)  # nowhere on the ranks that have other rows
                logits -= student_norm
                said += tl.sum(tl.where(is_label, logits, 0.0))
                gradient = (1.0 - share) * temperature * (tl.exp(s) - expected)
                gradient += share * (tl.exp(logits) - tl.where(is_label, 1.0, 0.0))
                gradient *= weight
            else:
                gradient = (tl.exp(s) - expected) * weight
            tl.store(student + start + block, gradient.to(student.dtype.element_ty), mask=inside)
        if LABELS:
            total *= temperature * temperature
            tl.store(per_token + rows + row, -said)
        tl.store(per_token + row, total)
