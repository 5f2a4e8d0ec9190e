"""Where Megatron's layers are told which documents a packed sequence has (`nemo_distill.nemotron_h.documents`)."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from nemo_distill.compat.changes import Change, find, never, source_of, wrap
from nemo_distill.compat.mamba_ssm import causal_conv

_MIXER = "megatron.core.ssm.mamba_mixer"
_SCANS = ("mamba_split_conv1d_scan_combined", "mamba_chunk_scan_combined")
_PACKING = "megatron.core.extensions.transformer_engine:TEDotProductAttention"
_MASKING = "megatron.core.transformer.dot_product_attention:DotProductAttention"
_GIVEN = ["self", "query", "key", "value", "attention_mask", "attn_mask_type", "attention_bias", "packed_seq_params"]


def packs(attention) -> bool:
    """Whether this attention takes bounds of documents; otherwise it takes a mask."""
    return not isinstance(attention, find(_MASKING))


def packed(bounds: Tensor, *, longest: int):
    """Bounds of documents as Megatron's attention takes them.

    Where the longest document ends is not asked, for a CPU would have to wait for it; cuDNN does not use it.
    """
    return find("megatron.core.packed_seq_params:PackedSeqParams")(
        qkv_format="thd", cu_seqlens_q=bounds, cu_seqlens_kv=bounds, max_seqlen_q=longest, max_seqlen_kv=longest
    )


def _attentions() -> list:
    """Megatron's two kinds of attention; without Transformer Engine its own alone."""
    return [one for path in (_PACKING, _MASKING) if isinstance(one := find(path), type)]  # Megatron mocks what it lacks


def _takes_bounds(attention: Any) -> bool:
    return list(inspect.signature(inspect.unwrap(attention.forward)).parameters) == _GIVEN


def _wrap_attention(attend: Callable) -> None:
    for attention in _attentions():
        wrap(attention, "forward", attend)


def _wrap_scan(scan: Callable, convolve: Callable) -> None:
    mixer = find(_MIXER)
    for name in _SCANS:
        if getattr(mixer, name) is not None:
            wrap(mixer, name, scan)
    if mixer.causal_conv1d_fn is None:  # the mixer then convolves by itself, which is the same where none is apart
        mixer.causal_conv1d_fn = causal_conv
    wrap(mixer, "causal_conv1d_fn", convolve)


ATTENTION = Change(
    name="attention-of-documents",
    changes=f"forward of {_PACKING.replace(':', '.')} and of {_MASKING.replace(':', '.')}",
    why="MambaModel has no argument for the documents of a packed sequence, which attention is to keep apart "
    "(distill.reset_at_documents). Without documents upstream's method is called as ever.",
    upstream="none: MambaModel of megatron-core (GPTModel has packed_seq_params)",
    versions="megatron-core 0.15.3, transformer-engine 2.11",
    when="on request",
    applies=lambda: bool(_attentions()) and all(map(_takes_bounds, _attentions())),
    mended=never,
    make=_wrap_attention,
)
SCAN = Change(
    name="scan-of-documents",
    changes=f"{_MIXER}: {', '.join((*_SCANS, 'causal_conv1d_fn'))}",
    why="Megatron's mixer does not hand on seq_idx, by which mamba-ssm and causal-conv1d keep documents apart.",
    upstream="none: MambaMixer of megatron-core",
    versions="megatron-core 0.15.3, mamba-ssm 2.3.1, causal-conv1d 1.6.1",
    when="on request",
    applies=lambda: all(f"{name}(" in source_of(_MIXER) for name in (*_SCANS, "causal_conv1d_fn")),
    mended=never,
    make=_wrap_scan,
)
CHANGES = (ATTENTION, SCAN)
