"""Megatron's Mamba mixer, between its two linear layers, with our kernels on a GPU.

    install()        # every mixer from now on, where the kernels fit

mamba-ssm gates the scan's output, keeps it both gated and not, and norms the one in a kernel of its own behind. Here
convolution, scan (`ssd`) and gated norm (`norm`) are one operation, which keeps for the backward pass its input,
the scan's output and the states between chunks; the convolution is done again.

Of a sequence that ranks share (context parallelism) a rank has all tokens of some heads here, with whole groups of them
(upstream: `MambaContextParallel`): so the norm, too, is taken before tokens are exchanged back, with the part of its
weight that is these heads'. Where ranks share a group, upstream's method is called.
"""

import torch
from causal_conv1d.cpp_functions import causal_conv1d_bwd_function, causal_conv1d_fwd_function
from mamba_ssm.ops.triton.ssd_chunk_state import _chunk_cumsum_bwd, _chunk_cumsum_fwd
from megatron.core.ssm.mamba_mixer import MambaMixer
from torch import Tensor

from nemo_distill.compat.kernels import MIXER
from nemo_distill.nemotron_h import documents
from nemo_distill.nemotron_h.kernels import amax, norm, ssd


def install() -> None:
    """Make Megatron's mixers train this way where the kernels fit, and their own way elsewhere."""
    MIXER.apply(_ssm_training)


def _ssm_training(original, mixer: MambaMixer, zxBCdt: Tensor) -> Tensor:
    return _train(mixer, zxBCdt) if _fits(mixer, zxBCdt) else original(mixer, zxBCdt)


def _fits(mixer: MambaMixer, zxbcdt: Tensor) -> bool:
    return (
        ssd.fits(zxbcdt.shape[0], mixer.headdim, mixer.d_state)
        and mixer.rmsnorm and not mixer.norm_before_gate and not mixer.D_has_hdim
        and mixer.activation in ("silu", "swish") and mixer.ngroups_local_tp % mixer.cp.cp_size == 0
    )  # fmt: skip


def _train(mixer: MambaMixer, zxbcdt: Tensor) -> Tensor:
    """Shapes: `zxbcdt` (length, batch, as `in_proj` gives it), returned (length, batch, heads x head dim).

    Of shared sequences `zxbcdt` has all tokens and this rank's heads, and what is returned its tokens and all heads.
    """
    cp = mixer.cp
    for module in (mixer.conv1d, mixer.norm):  # neither is called, and the hooks may wait for their weights to arrive
        for hook in module._forward_pre_hooks.values():
            hook(module, ())
    zxbcdt, packed = zxbcdt.transpose(0, 1), documents.current()
    y, found = MixerFunction.apply(
        zxbcdt if zxbcdt.shape[0] == 1 else zxbcdt.contiguous(),  # rows may lie apart, as those of an FP8 `in_proj` do
        cp.get_conv1d_weight().squeeze(1),
        cp.get_conv1d_bias(),
        cp.get_dt_bias().float(),
        -torch.exp(cp.get_A_log().float()),
        cp.get_D(),
        own_part(mixer.norm.weight, cp),
        mixer.norm.eps,
        cp.ngroups_local_tpcp,
        mixer.headdim,
        *((packed.numbers, packed.decay) if packed else ()),
    )
    y = y.transpose(0, 1).contiguous()
    # The amax of the heads at hand says nothing of the others', which come with the exchange.
    return amax.attach_amax(y, found) if cp.cp_size == 1 else cp.post_conv_ssm(y)


def own_part(weight: Tensor, cp) -> Tensor:
    """Of the norm's weight the part that is of the heads which a rank has of shared sequences."""
    if cp.cp_size == 1:
        return weight
    return weight.narrow(0, cp.cp_rank * cp.d_inner_local_tpcp, cp.d_inner_local_tpcp)


class MixerFunction(torch.autograd.Function):
    """Convolution, scan and gated norm of `zxbcdt` (batch, length, z | x | B | C | dt), and the norm's `amax`.

    Differentiable once. (upstream: `MambaSplitConv1dScanCombinedFn`)

    Shapes: `conv_weight` (x | B | C, width), `conv_bias` (x | B | C); `dt_bias`, `A`, `D` (heads); `norm_weight` and
    the last dimension of what is returned (heads x head dim). Documents are kept apart by their `numbers` (batch,
    length) and what `ssd.apart` makes of these.
    """

    @staticmethod
    def forward(
        ctx, zxbcdt, conv_weight, conv_bias, dt_bias, A, D, norm_weight, eps, groups, head_dim, numbers=None, apart=None
    ):
        ctx.sizes = D.shape[0], head_dim, groups
        z, xbc, dt = _split(zxbcdt, *ctx.sizes[:2])
        x, B, C = _heads(_convolved(xbc, conv_weight, conv_bias, numbers), *ctx.sizes)
        cumulative, steps = _chunk_cumsum_fwd(dt, A, ssd.CHUNK, dt_bias=dt_bias, dt_softplus=True)
        if apart is not None:
            cumulative -= apart
        y, entering = ssd.forward(x, steps, cumulative, B, C, D)
        out, scale, found = norm.forward(
            y.flatten(0, 1).flatten(1), z.flatten(0, 1), norm_weight, group_size=z.shape[-1] // groups, eps=eps
        )
        ctx.save_for_backward(
            zxbcdt, conv_weight, conv_bias, dt_bias, A, D, norm_weight, cumulative, steps, y, entering, scale, numbers
        )
        ctx.mark_non_differentiable(found)
        return out.view(z.shape), found

    @staticmethod
    def backward(ctx, gradient, _):
        (zxbcdt, conv_weight, conv_bias, dt_bias, A, D, norm_weight,
         cumulative, steps, y, entering, scale, numbers) = ctx.saved_tensors  # fmt: skip
        made = torch.empty(zxbcdt.shape, dtype=zxbcdt.dtype, device=zxbcdt.device)
        (z, xbc, dt), (dz, dxbc, ddt) = _split(zxbcdt, *ctx.sizes[:2]), _split(made, *ctx.sizes[:2])
        convolved = _convolved(xbc, conv_weight, conv_bias, numbers)
        x, B, C = _heads(convolved, *ctx.sizes)
        grad_convolved = torch.empty_like(convolved)
        dx, dB, dC = _heads(grad_convolved, *ctx.sizes)
        dy, dnorm_weight = norm.backward(
            gradient.contiguous().flatten(0, 1),
            y.flatten(0, 1).flatten(1),
            z.flatten(0, 1),
            norm_weight,
            scale,
            dz.flatten(0, 1),
        )
        grad_steps, grad_decay, dD = ssd.backward(dy.view_as(y), x, steps, cumulative, B, C, D, entering, dx, dB, dC)
        _, dA, ddt_bias = _chunk_cumsum_bwd(grad_decay, grad_steps, dt, A, dt_bias=dt_bias, dt_softplus=True, ddt=ddt)
        found, dconv_weight, dconv_bias, *_ = causal_conv1d_bwd_function(
            _channels_first(xbc), conv_weight, conv_bias, grad_convolved.transpose(1, 2), numbers, None, None,
            _channels_first(dxbc), False, True,
        )  # fmt: skip
        if found.data_ptr() != dxbc.data_ptr():  # rows of a width that the kernel wants copied
            dxbc.copy_(found.transpose(1, 2))
        return made, dconv_weight, dconv_bias, ddt_bias, dA, dD.to(D.dtype), dnorm_weight, *[None] * 5


def _split(zxbcdt: Tensor, heads: int, head_dim: int) -> tuple[Tensor, ...]:
    """z, what is convolved, and dt."""
    inner = heads * head_dim
    return zxbcdt.split([inner, zxbcdt.shape[-1] - inner - heads, heads], dim=-1)


def _heads(convolved: Tensor, heads: int, head_dim: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """x by its heads, B and C by their groups."""
    inner = heads * head_dim
    states = (convolved.shape[-1] - inner) // 2
    x, B, C = convolved.split([inner, states, states], dim=-1)
    return x.unflatten(-1, (heads, head_dim)), B.unflatten(-1, (groups, -1)), C.unflatten(-1, (groups, -1))


def _convolved(xbc: Tensor, weight: Tensor, bias: Tensor | None, numbers: Tensor | None) -> Tensor:
    """(batch, length, channels), with silu behind."""
    return causal_conv1d_fwd_function(_channels_first(xbc), weight, bias, numbers, None, None, True).transpose(1, 2)


def _channels_first(xbc: Tensor) -> Tensor:
    """(batch, channels, length), with strides the convolution takes: in multiples of 8 where they are not 1."""
    if any(stride % 8 for stride in xbc.stride()[:2]):
        xbc = xbc.contiguous()
    return xbc.transpose(1, 2)
