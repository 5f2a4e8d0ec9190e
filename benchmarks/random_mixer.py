"""What a Mamba mixer has between its linear layers, at random, and what it makes of it, for benchmarks and tests."""

import torch
from torch.nn import functional as F


def random_mixer(batch: int, length: int, heads: int, head_dim: int, groups: int, state: int) -> list[torch.Tensor]:
    """z | x | B | C | dt and the weights, as `kernels.mixer.MixerFunction` takes them: all are leaves, on CUDA."""
    draw = torch.Generator("cuda").manual_seed(0)

    def leaf(*size: int, around: float = 0.0, spread: float = 1.0, dtype=torch.bfloat16) -> torch.Tensor:
        return (torch.randn(size, generator=draw, device="cuda") * spread + around).to(dtype).requires_grad_()

    inner, shared = heads * head_dim, 2 * groups * state
    return [
        leaf(batch, length, 2 * inner + shared + heads),
        leaf(inner + shared, 4, spread=0.5),
        leaf(inner + shared, spread=0.1),
        leaf(heads, around=-3.0, dtype=torch.float32),
        leaf(heads, around=-8.0, dtype=torch.float32),
        leaf(heads, around=1.0),
        leaf(inner, around=1.0, spread=0.1),
    ]


def in_pytorch(zxbcdt, conv_weight, conv_bias, dt_bias, A, D, norm_weight, eps, groups, head_dim):
    """`MixerFunction` without its amax, differentiated by PyTorch."""
    from nemo_distill.compat import mamba_ssm as scan

    inner, heads, width = norm_weight.numel(), D.numel(), conv_weight.shape[1]
    z, xbc, dt = zxbcdt.split([inner, zxbcdt.shape[-1] - inner - heads, heads], -1)
    padded = F.pad(xbc.transpose(1, 2), (width - 1, 0))
    xbc = F.silu(F.conv1d(padded, conv_weight[:, None], conv_bias, groups=padded.shape[1])).transpose(1, 2)
    shared = (xbc.shape[-1] - inner) // 2
    x, B, C = xbc.split([inner, shared, shared], -1)
    x, B, C = x.unflatten(-1, (heads, head_dim)), B.unflatten(-1, (groups, -1)), C.unflatten(-1, (groups, -1))
    y = scan.chunk_scan(x, dt, A, B, C, 128, D=D, dt_bias=dt_bias, dt_softplus=True)
    return scan.gated_rms_norm(y.flatten(2), norm_weight, None, z, eps, inner // groups, False)
