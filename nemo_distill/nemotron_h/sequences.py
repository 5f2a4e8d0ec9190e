"""Sequences that ranks share (context parallelism): whose tokens are which, and attention over all of them.

    install()                                     # Megatron's own attention shares sequences from now on
    tokens, labels = own(tokens, labels)          # of a rank, by which it computes
    total = ...; all_reduce(total, group())       # sums over a sequence are of all its ranks

A sequence is cut into twice as many parts as ranks share it, and a rank has one from its start and one from its end, so
that causal attention is as much work for each (Megatron's `get_batch_on_this_cp_rank`). Mamba layers exchange tokens
for heads and back (`MambaContextParallel`): each rank has all tokens of some heads between. Attention in Transformer
Engine passes keys and values round; Megatron's own, which CPUs use, gathers them here.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn import functional as F

from nemo_distill.compat import context as changes


def group() -> ProcessGroup | None:
    """The ranks that share a sequence with this one; None: there are no others."""
    from megatron.core import parallel_state

    shared = parallel_state.get_context_parallel_world_size() > 1
    return parallel_state.get_context_parallel_group() if shared else None


def own(sequences: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This rank's tokens of `sequences` (batch, length), which are filled up with zeros to a length that divides.

    Causal layers let nothing of what fills up reach what is before it; a mask, filled up so, does not count it.
    """
    from megatron.core.utils import get_batch_on_this_cp_rank

    shared = group()
    parts = 1 if shared is None else 2 * shared.size()
    return get_batch_on_this_cp_rank({name: F.pad(one, (0, -one.shape[1] % parts)) for name, one in sequences.items()})


def places(length: int, *, rank: int, ranks: int) -> Tensor:
    """Places in the whole sequence, of `length` tokens, of those that a rank has, in its order.

    >>> [places(8, rank=rank, ranks=2).tolist() for rank in (0, 1)]
    [[0, 1, 6, 7], [2, 3, 4, 5]]
    """
    parts = torch.arange(length).view(2 * ranks, -1)
    return torch.cat([parts[rank], parts[2 * ranks - 1 - rank]])


def install() -> None:
    """Make Megatron's own attention compute for sequences that ranks share; for others nothing is changed."""
    changes.ATTENTION.apply(_attend)


def _attend(original, attention, query: Tensor, key: Tensor, value: Tensor, attention_mask, *given, **named) -> Tensor:
    """Query, key and value are (length, batch, heads, size)."""
    shared = group()
    if shared is None:
        return original(attention, query, key, value, attention_mask, *given, **named)
    from megatron.core.tensor_parallel.mappings import gather_from_sequence_parallel_region

    assert attention_mask is None, "a mask of one's own would have to be dealt out too"
    # From all ranks, in their order; the gradient's parts are added up and each rank gets its own.
    key, value = (gather_from_sequence_parallel_region(one.contiguous(), group=shared) for one in (key, value))
    ranks, length = shared.size(), key.shape[0]
    mine = places(length, rank=shared.rank(), ranks=ranks)
    all_places = torch.cat([places(length, rank=rank, ranks=ranks) for rank in range(ranks)])
    later = (all_places > mine[:, None]).to(query.device)
    return original(attention, query, key, value, later[None, None], *given, **named)
