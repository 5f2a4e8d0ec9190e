"""RMS norms on a GPU, with a gate in front or without: both directions in one kernel each, in Triton.

    out, scale, found = forward(y, z, weight, group_size=1200, eps=1e-5)
    dy, dweight = backward(dout, y, z, weight, scale, dz)
    install()        # in Transformer Engine's linear layers, too

Channels are normed in groups: out = weight * x / sqrt(mean(x²) + eps) with x = y silu(z), or x = y where there is no
z. What is in between stays on the chip, so that a pass reads and writes each of y, z, out and their gradients once.
(PyTorch: `compat.mamba_ssm.gated_rms_norm`)

Upstream, the norm behind Mamba's scan takes a token at a time (`mamba_ssm.ops.triton.layernorm_gated`). Those in front
of linear layers are Transformer Engine's, whose kernels are made for some widths; the study's 4,480 is none of them,
and the one for all others takes two to three times as long. (cuDNN's, which it can be told to use, save less, and do
not go with a layer in FP8.)

Shapes: y, z, out (tokens, channels), of which z and dz may lie in rows of something wider; `scale`, one over the root,
(groups, tokens), float32; `found`, out's amax, (1,), float32 (`amax`).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nemo_distill.compat.kernels import NORMS
from nemo_distill.nemotron_h.kernels import amax
from nemo_distill.nemotron_h.kernels.amax import note

TOKENS, STAGES = 32, 4
"""How many tokens a program of the backward pass takes one after the other, and how many ahead it reads. These, and the
channels per warp below, are the fastest of some thirty at the study's shapes on an H200."""
LARGEST = 16384
"""Channels of a group that a program takes."""


def forward(y: Tensor, z: Tensor | None, weight: Tensor, *, group_size: int, eps: float) -> tuple[Tensor, ...]:
    """The norm, contiguous, `scale`, and the norm's amax."""
    tokens, channels = y.shape
    groups, block = channels // group_size, triton.next_power_of_2(group_size)
    out = torch.empty(y.shape, dtype=y.dtype, device=y.device)
    scale = torch.empty(groups, tokens, dtype=torch.float32, device=y.device)
    found = amax.zero_amax(y)
    _norm[(tokens, groups)](
        y, z, weight, out, scale, found, tokens, eps, Y_TOKEN=y.stride(0), Z_TOKEN=_stride(z), CHANNELS=channels,
        GROUP=group_size, BLOCK=block, num_warps=max(1, block // 2048),
    )  # fmt: skip
    return out, scale, found


def backward(
    dout: Tensor, y: Tensor, z: Tensor | None, weight: Tensor, scale: Tensor, dz: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Fill dz; returns dy, contiguous, and the gradient of the weight, in its precision."""
    tokens, channels = y.shape
    groups = scale.shape[0]
    block = triton.next_power_of_2(channels // groups)
    programs = triton.cdiv(tokens, TOKENS)
    dy = torch.empty(y.shape, dtype=y.dtype, device=y.device)
    parts = torch.empty(programs, channels, dtype=torch.float32, device=y.device)
    _norm_gradient[(programs, groups)](
        dout, y, z, weight, scale, dy, dz, parts, tokens,
        DOUT_TOKEN=dout.stride(0), Y_TOKEN=y.stride(0), Z_TOKEN=_stride(z), DZ_TOKEN=_stride(dz), CHANNELS=channels,
        GROUP=channels // groups, BLOCK=block, TOKENS=TOKENS, STAGES=STAGES,
        num_warps=max(1, block // 1024),
    )  # fmt: skip
    return dy, parts.sum(0).to(weight.dtype)


def _stride(tensor: Tensor | None) -> int:
    """Compiled in, since Triton reads several channels at once only where it knows that rows begin at multiples."""
    return 0 if tensor is None else tensor.stride(0)


def install() -> None:
    """Make the RMS norms in Transformer Engine's linear layers these, where it is installed."""
    NORMS.apply(_forward_in_a_layer, _backward_in_a_layer)


def _forward_in_a_layer(original, x, weight, eps, out, quantizer, dtype, sm_margin, zero_centered_gamma):
    from transformer_engine.pytorch.constants import TE_DType

    if not _fits(x, zero_centered_gamma) or dtype != TE_DType[x.dtype] or out is not None:
        return original(x, weight, eps, out, quantizer, dtype, sm_margin, zero_centered_gamma)
    made, scale, found = forward(x, None, weight, group_size=x.shape[1], eps=eps)
    if quantizer is not None:
        made = quantizer(amax.attach_amax(made, found))
    return made, None, scale.view(-1)


def _backward_in_a_layer(original, dout, x, scale, weight, sm_margin, zero_centered_gamma):
    if not _fits(x, zero_centered_gamma) or dout.stride(1) != 1 or dout.dtype != x.dtype:
        return original(dout, x, scale, weight, sm_margin, zero_centered_gamma)
    return backward(dout, x, None, weight, scale.view(1, -1), None)


def _fits(x: Tensor, zero_centered_gamma: bool) -> bool:
    return x.dim() == 2 and x.stride(1) == 1 and x.shape[1] <= LARGEST and not zero_centered_gamma


@triton.jit
def _norm(
    y, z, weight, out, scale, found_amax, tokens, eps, Y_TOKEN: tl.constexpr, Z_TOKEN: tl.constexpr,
    CHANNELS: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of a token's channels of a group."""
    token, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.arange(0, BLOCK)
    channel, inside = group * GROUP + column, column < GROUP
    x = tl.load(y + token * Y_TOKEN + channel, mask=inside, other=0.0).to(tl.float32)
    if z is not None:
        gate = tl.load(z + token * Z_TOKEN + channel, mask=inside, other=0.0).to(tl.float32)
        x *= gate * tl.sigmoid(gate)
    found = 1.0 / tl.sqrt(tl.sum(x * x) / GROUP + eps)
    tl.store(scale + group * tokens + token, found)
    made = x * found * tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
    made = made.to(out.dtype.element_ty)
    tl.store(out + token * CHANNELS + channel, made, mask=inside)
    note(found_amax, made)


@triton.jit
def _norm_gradient(
    dout, y, z, weight, scale, dy, dz, parts, tokens,
    DOUT_TOKEN: tl.constexpr, Y_TOKEN: tl.constexpr, Z_TOKEN: tl.constexpr, DZ_TOKEN: tl.constexpr,
    CHANNELS: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr, TOKENS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Of some tokens' channels of a group; their part of the weight's gradient is a row of `parts`."""
    group, first = tl.program_id(1), tl.program_id(0).to(tl.int64) * TOKENS
    column = tl.arange(0, BLOCK)
    channel, inside = group * GROUP + column, column < GROUP
    factor = tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
    grad_factor = tl.zeros((BLOCK,), tl.float32)
    for step in tl.range(min(TOKENS, tokens - first), num_stages=STAGES):
        token = first + step
        gradient = tl.load(dout + token * DOUT_TOKEN + channel, mask=inside, other=0.0).to(tl.float32)
        value = tl.load(y + token * Y_TOKEN + channel, mask=inside, other=0.0).to(tl.float32)
        found = tl.load(scale + group * tokens + token)
        x = value
        if z is not None:
            gate = tl.load(z + token * Z_TOKEN + channel, mask=inside, other=0.0).to(tl.float32)
            part = tl.sigmoid(gate)
            x *= gate * part
        normed = x * found
        grad_factor += gradient * normed
        gradient *= factor
        grad_x = (gradient - normed * (tl.sum(normed * gradient) / GROUP)) * found
        if z is not None:
            grad_gate = grad_x * value * part * (1.0 + gate * (1.0 - part))
            tl.store(dz + token * DZ_TOKEN + channel, grad_gate.to(dz.dtype.element_ty), mask=inside)
            grad_x *= gate * part
        tl.store(dy + token * CHANNELS + channel, grad_x.to(dy.dtype.element_ty), mask=inside)
    tl.store(parts + tl.program_id(0) * CHANNELS + channel, grad_factor, mask=inside)
