"""Squared ReLU, Nemotron-H's activation, with as little memory and memory traffic as it can have.

Its derivative is 2 relu(x), which is twice the square root of its own output; and the output is kept for the backward
pass anyway, as the input of the linear layer behind. So nothing else is kept, where PyTorch's own differentiation keeps
two tensors of the MLP's width more. On a GPU each direction is one kernel.
"""

import torch
from torch import Tensor

from nemo_distill.nemotron_h.kernels import amax

try:
    import triton
    import triton.language as tl

    from nemo_distill.nemotron_h.kernels.amax import note
except ImportError:  # there is none for machines without a GPU, where the kernels below have no use
    triton = None

BLOCK = 4096


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)², of any shape; its gradient is exact but for the rounding of the output it is made from."""
    if not x.is_cuda:
        return _SquaredReLU.apply(x, None)
    found = amax.zero_amax(x)
    return amax.attach_amax(_SquaredReLU.apply(x, found), found)


class _SquaredReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, found: Tensor | None) -> Tensor:
        y = _launch(_square, x, found) if x.is_cuda else torch.relu(x).square()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return _launch(_gradient, y, gradient) if y.is_cuda else gradient * y.sqrt() * 2, None


def _launch(kernel, x: Tensor, other: Tensor | None) -> Tensor:
    x, other = x.contiguous(), None if other is None else other.contiguous()
    out = torch.empty_like(x)
    kernel[(triton.cdiv(out.numel(), BLOCK),)](x, other, out, out.numel(), BLOCK=BLOCK, num_warps=8)
    return out


if triton is not None:

    @triton.jit
    def _square(x, found, y, size, BLOCK: tl.constexpr):
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        value = tl.maximum(tl.load(x + at, mask=at < size, other=0.0).to(tl.float32), 0.0)
        made = (value * value).to(y.dtype.element_ty)
        tl.store(y + at, made, mask=at < size)
        note(found, made)

    @triton.jit
    def _gradient(y, gradient, out, size, BLOCK: tl.constexpr):
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        root = tl.sqrt(tl.load(y + at, mask=at < size).to(tl.float32))
        incoming = tl.load(gradient + at, mask=at < size).to(tl.float32)
        tl.store(out + at, (2.0 * root * incoming).to(out.dtype.element_ty), mask=at < size)
