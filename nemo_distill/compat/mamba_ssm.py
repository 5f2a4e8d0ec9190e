"""Mamba-2's state-space operations in plain torch, for machines without mamba-ssm's Triton kernels.

`chunk_scan` is the chunked form of the state-space duality (Mamba-2, arXiv:2405.21060, section 6): inside a chunk the
recurrence is a masked matrix product, between chunks only the states are carried. The call signatures are those of
`mamba_ssm.ops.triton`, so Megatron's mixer runs on them unchanged; `STAND_IN` puts them where it imports those from.
"""

import contextlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nemo_distill.compat.changes import Change, find, wrap

_KERNELS = "transformers.integrations.hub_kernels"
_CHOICE = "use_kernel_func_from_hub_with_fallback"
CHUNK = 32
"""Tokens per chunk. Any value gives the same result; on CPU 32 costs least, for the in-chunk product grows with it."""


def chunk_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
    seq_idx: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """y of the recurrence `h_t = exp(A dt_t) h_{t-1} + dt_t B_t x_t`, `y_t = C_t h_t + D x_t`, gated by silu(z).

    Shapes: x (batch, length, heads, head dim); dt (batch, length, heads); A (heads); B and C (batch, length, groups,
    state); D (heads) or (heads, head dim); z as x. Computes in float32 and returns y in x's type; with
    `return_final_states` also the state after the last token, (batch, heads, head dim, state). Where `seq_idx` (batch,
    length) changes from one token to the next, the state begins anew. `chunk_size` bounds the chunk.
    (upstream: `mamba_ssm.ops.triton.ssd_combined.mamba_chunk_scan_combined`)
    """
    batch, length, heads, head_dim = x.shape
    groups, state = B.shape[2:]
    per_group = heads // groups
    q = min(chunk_size, CHUNK, length)
    dt = dt.float()
    if dt_bias is not None:
        dt = dt + dt_bias.float()
    if dt_softplus:
        dt = F.softplus(dt)
    if tuple(dt_limit) != (0.0, float("inf")):
        dt = dt.clamp(*dt_limit)
    x32, pad = x.float(), -length % q
    chunks = (length + pad) // q

    def chunked(t: Tensor, *sizes: int) -> Tensor:
        """(batch, length, n, k) -> (batch, chunks, n, q, k), zero-padded: dt = 0 neither decays nor feeds the state."""
        t = F.pad(t.float(), (0, 0, 0, 0, 0, pad)) if pad else t.float()
        return t.view(batch, chunks, q, *sizes).transpose(2, 3)

    Bc, Cc = chunked(B, groups, state), chunked(C, groups, state)
    xdt = chunked(x32 * dt[..., None], heads, head_dim).unflatten(2, (groups, per_group))
    log_decay = chunked((dt * A.float())[..., None], heads, 1).squeeze(-1).cumsum(-1)  # (batch, chunks, heads, q)
    log_decay = log_decay.unflatten(2, (groups, per_group))

    causal = torch.ones(q, q, dtype=torch.bool, device=x.device).tril()
    span = (log_decay[..., :, None] - log_decay[..., None, :]).masked_fill(~causal, float("-inf"))
    to_end = log_decay[..., -1:] - log_decay  # decay from each token to the end of its chunk
    from_start, whole_chunk = log_decay, log_decay[..., -1]
    if seq_idx is not None:
        numbers = torch.cat([seq_idx, seq_idx[:, -1:].expand(-1, pad)], 1).view(batch, chunks, 1, 1, q)
        last = numbers[..., -1:]
        before = F.pad(last[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0), value=-1)
        span = span.masked_fill(numbers[..., :, None] != numbers[..., None, :], float("-inf"))
        to_end = to_end.masked_fill(numbers != last, float("-inf"))
        from_start = from_start.masked_fill(numbers != before, float("-inf"))
        whole_chunk = whole_chunk.masked_fill((last != before).squeeze(-1), float("-inf"))
    scores = (Cc @ Bc.transpose(-1, -2)).unsqueeze(3) * span.exp()
    y = scores @ xdt

    states = (xdt * to_end.exp()[..., None]).transpose(-1, -2) @ Bc.unsqueeze(3)
    whole_chunk = whole_chunk.exp()[..., None, None]
    carried = torch.zeros_like(states[:, 0])
    entering = []
    for c in range(chunks):
        entering.append(carried)
        carried = carried * whole_chunk[:, c] + states[:, c]
    y = y + (Cc.unsqueeze(3) @ torch.stack(entering, 1).transpose(-1, -2)) * from_start.exp()[..., None]

    y = y.flatten(2, 3).transpose(2, 3).reshape(batch, chunks * q, heads, head_dim)[:, :length]
    if D is not None:
        y = y + x32 * (D.float() if D.dim() == 2 else D.float()[:, None])
    if z is not None:
        y = y * F.silu(z.float())
    y = y.to(x.dtype)
    return (y, carried.flatten(1, 2)) if return_final_states else y


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, seq_idx: Tensor | None = None, activation: str | None = None
) -> Tensor:
    """Each channel of x (batch, channels, length) convolved with its weight (channels, width), up to the token itself.

    With `seq_idx` (batch, length), of the tokens of the same number only. (upstream: `causal_conv1d.causal_conv1d_fn`)
    """
    (channels, width), length = weight.shape, x.shape[2]
    if seq_idx is None:
        y = F.conv1d(x, weight[:, None], bias, padding=width - 1, groups=channels)[..., :length]
    else:
        y = x * weight[:, -1:]
        for back in range(1, min(width, length)):
            same = (seq_idx[:, back:] == seq_idx[:, :-back])[:, None]
            y = y + F.pad(x[..., :-back] * same * weight[:, -1 - back, None], (back, 0))
        if bias is not None:
            y = y + bias[:, None]
    return F.silu(y) if activation in ("silu", "swish") else y


def gated_rms_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    z: Tensor | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
) -> Tensor:
    """RMS norm over groups of `group_size` channels, gated by silu(z) before or after. x, z (..., channels).

    (upstream: `mamba_ssm.ops.triton.layernorm_gated.rmsnorm_fn`)
    """
    dtype, x = x.dtype, x.float()
    if z is not None and not norm_before_gate:
        x = x * F.silu(z.float())
    grouped = x.unflatten(-1, (-1, group_size or x.shape[-1]))
    y = F.rms_norm(grouped, grouped.shape[-1:], eps=eps).flatten(-2) * weight.float()
    if bias is not None:
        y = y + bias.float()
    if z is not None and norm_before_gate:
        y = y * F.silu(z.float())
    return y.to(dtype)


class GatedRMSNorm(nn.Module):
    """Module form of `gated_rms_norm`, with the attributes Megatron and ModelOpt read from upstream's `RMSNorm`."""

    bias: None

    def __init__(self, hidden_size, eps=1e-5, group_size=None, norm_before_gate=True, device=None, dtype=None):
        super().__init__()
        self.eps, self.group_size, self.norm_before_gate = eps, group_size, norm_before_gate
        self.weight = nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))
        self.register_parameter("bias", None)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        return gated_rms_norm(x, self.weight, self.bias, z, self.eps, self.group_size, self.norm_before_gate)


def installed() -> bool:
    """Whether mamba-ssm itself is installed here; its stand-in has no loader."""
    spec = importlib.util.find_spec("mamba_ssm")
    return spec is not None and spec.loader is not None


def _provide_modules() -> None:
    def module(name: str, **members) -> None:
        made = types.ModuleType(name)
        made.__spec__ = ModuleSpec(name, None, is_package=True)
        made.__path__ = []
        vars(made).update(members)
        sys.modules[name] = made
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, made)

    module("mamba_ssm", __version__="2.2.5")  # Megatron checks for a version it knows
    module("mamba_ssm.ops")
    module("mamba_ssm.ops.triton")
    module("mamba_ssm.ops.triton.layernorm_gated", RMSNorm=GatedRMSNorm, rmsnorm_fn=gated_rms_norm)
    module(
        "mamba_ssm.ops.triton.ssd_combined",
        mamba_chunk_scan_combined=chunk_scan,
        mamba_split_conv1d_scan_combined=None,
    )
    module("mamba_ssm.ops.triton.selective_state_update", selective_state_update=None)


STAND_IN = Change(
    name="mamba-ssm-stand-in",
    changes="sys.modules: mamba_ssm and the modules of mamba_ssm.ops.triton that Megatron imports",
    why="Megatron's mixer refuses to be built without mamba-ssm, whose kernels are Triton's; these compute the same in "
    "PyTorch.",
    upstream="none: megatron/core/ssm/mamba_mixer.py raises where mamba_ssm cannot be imported",
    versions="megatron-core 0.15.3",
    when="always",
    applies=lambda: importlib.util.find_spec("mamba_ssm") is None,
    mended=installed,
    make=_provide_modules,
)
"""Where mamba-ssm is not installed."""


@contextlib.contextmanager
def _hidden() -> Iterator[None]:
    """Within the block no stand-in is found; mamba-ssm itself is."""
    names = [] if installed() else [name for name in sys.modules if name.partition(".")[0] == "mamba_ssm"]
    modules = {name: sys.modules.pop(name) for name in names}
    try:
        yield
    finally:
        sys.modules.update(modules)


def _choose_without(original, *args, **kwargs) -> Callable:
    """The decorator that chooses between a package's function and the one it decorates."""
    decorator = original(*args, **kwargs)

    def chosen(function: Callable) -> Callable:
        with _hidden():
            return decorator(function)

    return chosen


def _hide_from_transformers() -> None:
    for module in (_KERNELS, "transformers.integrations"):  # which hands on what the other has, once it was asked
        wrap(find(module), _CHOICE, _choose_without)


TRANSFORMERS_OWN = Change(
    name="transformers-own-scan",
    changes=f"{_KERNELS}.{_CHOICE}",
    why="transformers takes mamba-ssm's functions where there is a mamba_ssm, and so the stand-in's in a process that "
    "trains: in bf16 they round otherwise than its own, and ranges to quantise by differed by up to 3%.",
    upstream="none: transformers asks for a package by importing it",
    versions="transformers 5",
    when="always",
    applies=lambda: hasattr(find(_KERNELS), _CHOICE),
    mended=lambda: find(_KERNELS) is None or find(f"{_KERNELS}:{_CHOICE}") is None,
    make=_hide_from_transformers,
)
"""Whatever else the process does, transformers' models compute the same."""
