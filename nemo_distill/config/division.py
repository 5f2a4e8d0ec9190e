"""Whether ranks share out a batch, and its sequences, evenly, and the nearest settings with which they do.

>>> from nemo_distill.config.division import check_context, check_layout
>>> check_layout(ranks=768, tensor_parallel=8, global_batch_size=768, micro_batch_size=4)
>>> check_context(ranks=8, tensor_parallel=2, context_parallel=4, seq_length=32768, mixers={"teacher": (128, 8)})
"""

import math
from collections.abc import Mapping

from nemo_distill.errors import UserError


def check_layout(
    *, ranks: int, tensor_parallel: int, context_parallel: int = 1, global_batch_size: int, micro_batch_size: int
) -> None:
    """Raise `UserError`, with what would do, when ranks or the batch (in sequences) cannot be shared out evenly."""
    if ranks % tensor_parallel:
        near = min(_divisors(ranks), key=lambda n: abs(n - tensor_parallel))
        raise UserError(
            f"layout.tensor_parallel={tensor_parallel} does not divide {ranks} ranks: {near} is the nearest that does."
        )
    each = ranks // tensor_parallel
    if each % context_parallel:
        near = min(_divisors(each), key=lambda n: abs(n - context_parallel))
        raise UserError(
            f"layout.context_parallel={context_parallel} does not divide the {each} ranks that there are times "
            f"layout.tensor_parallel={tensor_parallel}: {near} is the nearest that does."
        )
    check_batch(copies=each // context_parallel, global_batch_size=global_batch_size, micro_batch_size=micro_batch_size)


def check_batch(*, copies: int, global_batch_size: int, micro_batch_size: int) -> None:
    """Raise `UserError`, with the nearest that would do, when so many copies of the model cannot share the batch."""
    at_once = copies * micro_batch_size
    if global_batch_size % at_once == 0:
        return
    share, rest = divmod(global_batch_size, copies)
    if rest:
        near = f"distill.global_batch_size={max(1, round(global_batch_size / at_once)) * at_once}"
    else:
        near = f"distill.micro_batch_size={min(_divisors(share), key=lambda n: abs(math.log(n / micro_batch_size)))}"
    raise UserError(
        f"distill.global_batch_size={global_batch_size} does not divide among {copies} copies of the model in micro "
        f"batches of {micro_batch_size}; {near} would do. Copies are layout.nodes x layout.gpus_per_node / "
        "layout.tensor_parallel / layout.context_parallel."
    )


def check_context(
    *,
    ranks: int,
    tensor_parallel: int,
    context_parallel: int,
    seq_length: int,
    mixers: Mapping[str, tuple[int, int]],
    reset_at_documents: bool = False,
) -> None:
    """Raise `UserError`, with what would do, when so many ranks cannot share a sequence.

    `mixers` are heads and groups of the Mamba layers, as far as they are known, by whose they are.
    """
    if context_parallel == 1:
        return
    if reset_at_documents:
        raise UserError(
            f"distill.reset_at_documents=true takes whole sequences, and layout.context_parallel={context_parallel} "
            "deals them out: say layout.context_parallel=1 or distill.reset_at_documents=false."
        )
    reason = _unshared(context_parallel, tensor_parallel, seq_length, mixers)
    if reason:
        fits = [n for n in _divisors(ranks // tensor_parallel) if not _unshared(n, tensor_parallel, seq_length, mixers)]
        near = min(fits, key=lambda n: (abs(n - context_parallel), -n))
        raise UserError(
            f"layout.context_parallel={context_parallel} {reason}; the nearest that does is "
            f"layout.context_parallel={near}."
        )


def _unshared(
    context_parallel: int, tensor_parallel: int, seq_length: int, mixers: Mapping[str, tuple[int, int]]
) -> str:
    """What so many ranks cannot share evenly, in words; empty: nothing."""
    if context_parallel > 1 and seq_length % (2 * context_parallel):
        return f"does not cut distill.seq_length={seq_length} into {2 * context_parallel} equal parts, two for a rank"
    for whose, (heads, groups) in mixers.items():
        own_heads, own_groups = heads // tensor_parallel, max(1, groups // tensor_parallel)
        if own_heads % context_parallel:
            return f"does not divide the {own_heads} Mamba heads of the {whose} that a rank has without it"
        if max(own_groups, context_parallel) % min(own_groups, context_parallel):
            return f"does not divide the {own_groups} groups of Mamba heads of the {whose} that a rank has without it"
    return ""


def _divisors(number: int) -> list[int]:
    return [part for part in range(1, number + 1) if number % part == 0]
