"""Documents of packed sequences, kept apart: attention, convolution and Mamba's state begin anew at each of them.

    install()                                            # Megatron's layers ask from now on
    documents = Documents.of([torch.tensor([0, 70, 71])], length=128)
    with kept_apart(documents):                          # of the sequences that go in
        module(tokens, positions, None)                  # three documents, as if they were alone

A document cut by the end of a sequence begins anew in the next. Nemotron-H has no positions, so nothing else reaches
from one document to another. How it is done:

- attention in Transformer Engine: its packed format (`thd`), which takes the documents' bounds and no mask; without it
  a mask, made once for all layers;
- convolution and scan of mamba-ssm, causal-conv1d and their stand-ins: they know a number per token (`seq_idx`);
- our own kernels: the same for the convolution, and for the scan a decay at each document's first token that leaves
  nothing of a state (`kernels.ssd.apart`), so that no kernel has more to do.

What the backward pass needs it keeps itself, and MLP layers, which alone can be recomputed in it, take tokens one by
one: so nothing has to be known of documents outside of a forward pass.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nemo_distill.compat import documents as changes

FEWEST = 32
"""Places for documents that Transformer Engine plans for at least; then powers of two. Each number of places is a plan
of its own, and documents that a batch has not are empty ones at its end."""


@dataclass(frozen=True)
class Documents:
    """The documents of a batch of sequences."""

    numbers: Tensor
    """Number of each token's document, from 0 on in each sequence: (batch, length), int32."""
    bounds: Tensor
    """First token of each document, all sequences end to end, and then the number of tokens as often as it takes."""

    @classmethod
    def of(cls, starts: Sequence[Tensor], length: int) -> "Documents":
        """Those that begin at `starts`, in each of some sequences of `length` tokens; at 0 there is always one.

        Only shapes are looked at, so that a CPU does not wait for the GPU that the starts are on.
        """
        begins = torch.cat([row + place * length for place, row in enumerate(starts)]).int()
        tokens = len(starts) * length
        marks = torch.zeros(tokens, dtype=torch.int32, device=begins.device).index_fill_(0, begins.long(), 1)
        numbers = marks.view(-1, length).cumsum(1, dtype=torch.int32) - 1
        places = max(FEWEST, 1 << (len(begins) - 1).bit_length())
        return cls(numbers, F.pad(begins, (0, places + 1 - len(begins)), value=tokens))

    @classmethod
    def in_batch(cls, batch: Mapping[str, Any]) -> "Documents":
        """Those of a batch that tells their bounds as NeMo tells those of packed sequences.

        `cu_seqlens` (batch, places) has them with -1 behind; `cu_seqlens_argmin`, on the CPU, says where that begins.
        """
        counts = batch["cu_seqlens_argmin"].flatten().tolist()
        rows = batch["cu_seqlens"].view(len(counts), -1)
        starts = [row[: count - 1] for row, count in zip(rows, counts, strict=True)]
        return cls.of(starts, length=batch["tokens"].shape[-1])

    @classmethod
    def in_sample(cls, sample: Mapping[str, Tensor], *, length: int, device: torch.device) -> "Documents | None":
        """Those of the first tokens of one sequence; None if it tells of none."""
        if "cu_seqlens" not in sample:
            return None
        starts = sample["cu_seqlens"][: int(sample["cu_seqlens_argmin"]) - 1]
        return cls.of([starts[starts < length].to(device)], length=length)

    @cached_property
    def mask(self) -> Tensor:
        """Whether a token does not see another, (batch, 1, length, length)."""
        length = self.numbers.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=self.numbers.device).triu(1)
        return (self.numbers[:, :, None] != self.numbers[:, None, :]).logical_or_(later).unsqueeze(1)

    @cached_property
    def decay(self) -> Tensor:
        """What `kernels.ssd.apart` makes of the numbers."""
        from nemo_distill.nemotron_h.kernels import ssd

        return ssd.apart(self.numbers)


_now: Documents | None = None


def current() -> Documents | None:
    """The documents of the batch that is computed; None: each sequence is one."""
    return _now


@contextlib.contextmanager
def kept_apart(documents: Documents | None) -> Iterator[None]:
    """Forward passes in here keep `documents` apart."""
    global _now
    before, _now = _now, documents
    try:
        yield
    finally:
        _now = before


def install() -> None:
    """Make Megatron's attention and Mamba layers ask for documents; where there are none nothing is changed."""
    changes.ATTENTION.apply(_attend)
    changes.SCAN.apply(_scan, _convolve)


def _attend(original, attention, query: Tensor, key: Tensor, value: Tensor, attention_mask, *given, **named) -> Tensor:
    """Of Megatron's attention between its linear layers; query, key and value are (length, batch, heads, size)."""
    documents = current()
    if documents is None:
        return original(attention, query, key, value, attention_mask, *given, **named)
    if not changes.packs(attention):
        return original(attention, query, key, value, documents.mask, *given, **named)
    length, batch = query.shape[:2]
    assert documents.numbers.shape == (batch, length), (documents.numbers.shape, query.shape)
    packed = changes.packed(documents.bounds, longest=length)
    rows = (tensor.transpose(0, 1).flatten(0, 1) for tensor in (query, key, value))  # of one sequence a view
    made = original(attention, *rows, None, *given, **{**named, "packed_seq_params": packed})
    return made.view(batch, length, -1).transpose(0, 1).contiguous()


def _scan(original, *given, **named) -> Tensor:
    documents = current()
    return original(*given, **named) if documents is None else original(*given, seq_idx=documents.numbers, **named)


def _convolve(original, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """Of (batch, channels, length)."""
    documents = current()
    if documents is None:
        return original(x=x, weight=weight, bias=bias, activation=activation)
    if x.is_cuda:
        x = x.transpose(1, 2).contiguous().transpose(1, 2)  # the kernel knows documents in this layout only
    return original(x=x, weight=weight, bias=bias, activation=activation, seq_idx=documents.numbers)
