"""The inner loop of `nemo_distill.kd.divergence` on a GPU, in Triton.

One program works on one row of both models' logits. It goes over the row twice: first for the maxima and the sums of
exponentials, as in online softmax (arXiv:1805.02867), then for the loss and the gradient. So a logit is read twice and
written once, in bf16, which is all the memory traffic there is; with tensor parallelism the two passes are two
launches, and the ranks add up their sums in between.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.distributed import ProcessGroup, ReduceOp, all_reduce

BLOCK = 4096
WARPS = 16


def divergence_(student: Tensor, teacher: Tensor, mask: Tensor, group: ProcessGroup | None) -> Tensor:
    """As `divergence.divergence_`, for logits whose rows are contiguous."""
    rows, vocabulary = student.shape
    assert student.shape == teacher.shape and student.stride(1) == teacher.stride(1) == 1
    per_token = torch.empty(rows, dtype=torch.float32, device=student.device)
    sums = torch.empty(4, rows, dtype=torch.float32, device=student.device)

    def launch(*, first: bool, second: bool) -> None:
        _divergence[(rows,)](
            student, teacher, mask, per_token, sums, student.stride(0), teacher.stride(0), rows,
            VOCABULARY=vocabulary, BLOCK=BLOCK, FIRST=first, SECOND=second, num_warps=WARPS,
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
    return per_token @ mask


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
    student, teacher, mask, per_token, sums, student_stride, teacher_stride, rows,
    VOCABULARY: tl.constexpr, BLOCK: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    student += row * student_stride
    teacher += row * teacher_stride
    block = tl.arange(0, BLOCK)
    if FIRST:
        student_peak = -float("inf")
        teacher_peak = -float("inf")
        student_sum = 0.0
        teacher_sum = 0.0
        for start in range(0, VOCABULARY, BLOCK):
            inside = start + block < VOCABULARY
            s = tl.load(student + start + block, mask=inside, other=-float("inf")).to(tl.float32)
            t = tl.load(teacher + start + block, mask=inside, other=-float("inf")).to(tl.float32)
            student_next = tl.maximum(student_peak, tl.max(s))
            teacher_next = tl.maximum(teacher_peak, tl.max(t))
            student_sum = student_sum * tl.exp(student_peak - student_next) + tl.sum(tl.exp(s - student_next))
            teacher_sum = teacher_sum * tl.exp(teacher_peak - teacher_next) + tl.sum(tl.exp(t - teacher_next))
            student_peak = student_next
            teacher_peak = teacher_next
    else:
        student_peak = tl.load(sums + row)
        student_sum = tl.load(sums + rows + row)
        teacher_peak = tl.load(sums + 2 * rows + row)
        teacher_sum = tl.load(sums + 3 * rows + row)
    if not SECOND:
        tl.store(sums + row, student_peak)
        tl.store(sums + rows + row, student_sum)
        tl.store(sums + 2 * rows + row, teacher_peak)
        tl.store(sums + 3 * rows + row, teacher_sum)
    else:
        weight = tl.load(mask + row)
        student_norm = student_peak + tl.log(student_sum)
        teacher_norm = teacher_peak + tl.log(teacher_sum)
        total = 0.0
        for start in range(0, VOCABULARY, BLOCK):
            inside = start + block < VOCABULARY
            s = tl.load(student + start + block, mask=inside, other=0.0).to(tl.float32) - student_norm
            t = tl.load(teacher + start + block, mask=inside, other=0.0).to(tl.float32) - teacher_norm
            expected = tl.exp(t)
            total += tl.sum(tl.where(inside, expected * (t - s), 0.0))
            gradient = (tl.exp(s) - expected) * weight
            tl.store(student + start + block, gradient.to(student.dtype.element_ty), mask=inside)
        tl.store(per_token + row, total)
