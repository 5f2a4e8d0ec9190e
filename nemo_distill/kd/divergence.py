"""Forward KL divergence of two language models, from hidden states, without their logits in memory.

    loss = masked_divergence(student, student_weight, teacher, teacher_weight, mask)   # a sum over tokens
    loss.backward()                                           # gradients of `student` and `student_weight`

For every token it is sum_v p_teacher(v) (log p_teacher(v) - log p_student(v)) (Hinton et al., arXiv:1503.02531, at
temperature 1; NeMo: `LogitsKLLoss`), whose gradient by the student's logits is p_student - p_teacher. Both need a row
of logits only, so rows are taken in chunks: two matrix products make a chunk's logits, one pass over them gives the
loss and puts the gradient in their place, and two more products carry it to the hidden states and the weight. What
stays until the backward pass are these two gradients, the size of what they are gradients of.

`masked_mixture` has next-token cross-entropy beside it, from the same logits in the same pass: a share of it, and the
divergence at a temperature T, times T squared, with the rest.

Matrix products run in the inputs' precision, as an output layer's would; softmax, logarithm and sums in float32, or in
float64 where the inputs are.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

CHUNK_TOKENS = 2048
"""Tokens whose logits are held at a time: 1 GiB in bf16, of both models, at a vocabulary of 131,072. Half as many take
5 ms more per 8,192 tokens, since every chunk reads and writes the weight's gradient; twice as many save 1 ms."""


def masked_divergence(
    student: Tensor,
    student_weight: Tensor,
    teacher: Tensor,
    teacher_weight: Tensor,
    mask: Tensor,
    *,
    group: ProcessGroup | None = None,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Tensor:
    """Sum over tokens of `mask` times the forward KL divergence of the student from the teacher, in nats.

    Shapes: `student` (tokens, student's width), `student_weight` (vocabulary, student's width), and so for the teacher,
    whose width may differ; `mask` (tokens,), weights of any value. Differentiable, once, by `student` and
    `student_weight`.

    With tensor parallelism, `group` are the ranks that share the vocabulary: each gives its rows of both weights and
    gets its part of the sum, the parts adding up to the loss. The gradient of `student` is then a part, too.
    """
    given = (student, student_weight, teacher, teacher_weight, mask, group, chunk_tokens, None)
    return _MaskedDivergence.apply(*given)[0]


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Next-token cross-entropy beside the divergence."""

    labels: Tensor
    """The token that follows each, (tokens,): an id of the whole vocabulary."""
    share: float
    """Weight of the cross-entropy, from 0 to 1; the divergence has the rest."""
    temperature: float = 1.0
    """What both models' logits are divided by for the divergence, which is multiplied by its square."""
    first: int = 0
    """Id of the first row of this rank's part of the vocabulary."""


def masked_mixture(
    student: Tensor,
    student_weight: Tensor,
    teacher: Tensor,
    teacher_weight: Tensor,
    mask: Tensor,
    mixture: Mixture,
    *,
    group: ProcessGroup | None = None,
    chunk_tokens: int = CHUNK_TOKENS,
) -> tuple[Tensor, Tensor]:
    """(loss, parts): the sum over tokens of `mask` times both losses in their shares, and that of each by itself.

    All else is as in `masked_divergence`. `parts` are the divergence, multiplied by the temperature's square, and the
    cross-entropy, (2,), without gradients. With a `group` the cross-entropy of a token is the part of the rank that has
    the row of its label.
    """
    given = (student, student_weight, teacher, teacher_weight, mask, group, chunk_tokens, mixture)
    return _MaskedDivergence.apply(*given)


class _MaskedDivergence(torch.autograd.Function):
    """See `masked_divergence`. The gradients are made in the forward pass and scaled in the backward pass."""

    @staticmethod
    def forward(ctx, student, student_weight, teacher, teacher_weight, mask, group, chunk_tokens, mixture):
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        hidden_gradient = torch.empty_like(student) if needs_hidden else None
        weight_gradient = torch.empty_like(student_weight) if needs_weight else None
        total = torch.zeros((), dtype=_exact(student.dtype), device=student.device)
        parts = total.new_zeros(2)
        mask = mask.to(total.dtype)
        for start in range(0, student.shape[0], chunk_tokens):
            rows = slice(start, start + chunk_tokens)
            logits = student[rows] @ student_weight.t()
            others = teacher[rows] @ teacher_weight.t()
            if mixture is None:
                total += divergence_(logits, others, mask[rows], group)
            else:
                parts += mixture_(logits, others, mask[rows], replace(mixture, labels=mixture.labels[rows]), group)
            if hidden_gradient is not None:
                torch.mm(logits, student_weight, out=hidden_gradient[rows])
            if weight_gradient is not None and start == 0:
                torch.mm(logits.t(), student[rows], out=weight_gradient)
            elif weight_gradient is not None:
                weight_gradient.addmm_(logits.t(), student[rows])
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        if mixture is not None:
            total = parts @ parts.new_tensor([1 - mixture.share, mixture.share])
        ctx.mark_non_differentiable(parts)
        return total, parts

    @staticmethod
    def backward(ctx, gradient, _):
        # In place, since they are ours and large; autograd notices where a second backward pass would need them.
        scaled = [None if made is None else _scale_(made, gradient) for made in ctx.saved_tensors]
        return *scaled, None, None, None, None, None, None


def divergence_(student: Tensor, teacher: Tensor, mask: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """The masked sum for logits (tokens, vocabulary); overwrites those of the student with the sum's gradient.

    Contents of `teacher` are undefined afterwards.
    """
    if student.is_cuda:
        from nemo_distill.kd.kernel import divergence_ as on_gpu

        return on_gpu(student, teacher, mask, group)
    log_student = _log_softmax(student.to(mask.dtype), group)
    log_teacher = _log_softmax(teacher.to(mask.dtype), group)
    expected = log_teacher.exp()
    per_token = (expected * (log_teacher - log_student)).sum(-1)
    student.copy_((log_student.exp() - expected) * mask[:, None])
    return per_token @ mask


def mixture_(
    student: Tensor, teacher: Tensor, mask: Tensor, mixture: Mixture, group: ProcessGroup | None = None
) -> Tensor:
    """As `divergence_`, for both losses: their masked sums, (2,), and the gradient of what they are in their shares."""
    if student.is_cuda:
        from nemo_distill.kd.kernel import mixture_ as on_gpu

        return on_gpu(student, teacher, mask, mixture, group)
    share, temperature = mixture.share, mixture.temperature
    logits = student.to(mask.dtype)
    log_student = _log_softmax(logits, group)
    softened = log_student if temperature == 1 else _log_softmax(logits / temperature, group)
    log_teacher = _log_softmax(teacher.to(mask.dtype) / temperature, group)
    expected = log_teacher.exp()
    divergence = temperature**2 * (expected * (log_teacher - softened)).sum(-1)
    rows = mixture.labels - mixture.first
    mine = ((rows >= 0) & (rows < student.shape[1])).to(mask.dtype)
    rows = rows.clamp(0, student.shape[1] - 1)[:, None]
    cross_entropy = -log_student.gather(-1, rows).squeeze(-1) * mine
    gradient = (1 - share) * temperature * (softened.exp() - expected) + share * log_student.exp()
    gradient.scatter_add_(-1, rows, -share * mine[:, None])
    student.copy_(gradient * mask[:, None])
    return torch.stack([divergence @ mask, cross_entropy @ mask])


def _scale_(tensor: Tensor, factor: Tensor) -> Tensor:
    if tensor.is_cuda:
        from nemo_distill.kd.kernel import scale_ as on_gpu

        on_gpu(tensor.detach(), factor)
        torch.autograd.graph.increment_version(tensor)
        return tensor
    return tensor.mul_(factor)


def _log_softmax(logits: Tensor, group: ProcessGroup | None) -> Tensor:
    """Over a vocabulary of which each rank of `group` has a part."""
    if group is None or group.size() == 1:
        return logits.log_softmax(-1)
    peak = logits.amax(-1, keepdim=True)
    torch.distributed.all_reduce(peak, torch.distributed.ReduceOp.MAX, group)
    logits = logits - peak
    total = logits.exp().sum(-1, keepdim=True)
    torch.distributed.all_reduce(total, torch.distributed.ReduceOp.SUM, group)
    return logits - total.log()


def _exact(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
