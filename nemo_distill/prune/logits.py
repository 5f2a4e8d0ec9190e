"""A module's logits where they are asked for, and nowhere else: all of a batch at once would not fit a GPU.

    for logits, targets in predictions(module, tokens): ...     # of every token, some thousand at a time
    last(module, sequences)                                     # of the last token of sequences of any lengths

Eight sequences of 8,192 tokens have logits of 17 GB over 131,072 words, and twice that in float32; their hidden states
have 0.6. So the output layer is given no more than is wanted of what comes out of the layers before.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

BATCH_SIZE, LONG = 8, 8192
"""Sequences of one length that a model is given at once, and tokens at which one of them is enough for a GPU to be
busy: the local spec's attention holds scores of every token with every other, 10 GB of one sequence of 8,192."""
BATCH_TOKENS = 16_384
"""Tokens, padding included, of short sequences of many lengths that a model is given at once."""
LOGITS_AT_ONCE = 2048
"""Tokens whose logits are there at a time: 1 GiB in float32 over 131,072 words."""


def predictions(module, tokens: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Float32 logits and next tokens of all of `tokens` (sequences, tokens), some at a time."""
    import torch

    device = next(module.parameters()).device
    with torch.no_grad():
        for batch in batches(tokens):
            hidden = hidden_states(module, batch.to(device))[:-1].transpose(0, 1).flatten(0, 1)
            targets = batch[:, 1:].to(device).flatten()
            for some, wanted in zip(hidden.split(LOGITS_AT_ONCE), targets.split(LOGITS_AT_ONCE), strict=True):
                yield module.output_layer(some[:, None])[0][:, 0].float(), wanted


def batches(tokens: torch.Tensor) -> Sequence[torch.Tensor]:
    """`tokens` (sequences, tokens) in parts that a model is given at once."""
    return tokens.split(max(1, min(BATCH_SIZE, LONG // tokens.shape[1])))


def hidden_states(module, batch: torch.Tensor) -> torch.Tensor:
    """What a batch (sequences, tokens) has before the output layer, (tokens, sequences, width)."""
    import torch

    kept: list[torch.Tensor] = []

    def keep(hidden: torch.Tensor) -> torch.Tensor:
        kept.append(hidden)
        return hidden[:1]

    with torch.no_grad(), output_given(module, keep):
        module(batch, positions(batch), None)
    return kept[0]


def last(module, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    """Logits (sequences, words) that follow each sequence of token ids, in their order.

    Sequences of about one length go together, filled up at the end, which what comes before never sees.
    """
    import torch

    device = next(module.parameters()).device
    order = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
    found: list[torch.Tensor] = [torch.empty(0)] * len(sequences)
    with torch.no_grad():
        for places in _batches(order, [len(sequence) for sequence in sequences]):
            lengths = torch.tensor([len(sequences[place]) for place in places])
            batch = torch.zeros(len(places), int(lengths.max()), dtype=torch.long)
            for row, place in zip(batch, places, strict=True):
                row[: len(sequences[place])] = torch.tensor(sequences[place])
            batch, ends, rows = batch.to(device), (lengths - 1).to(device), torch.arange(len(places), device=device)
            with output_given(module, functools.partial(_at, ends, rows)):
                logits = module(batch, positions(batch), None)[:, 0]
            for place, row in zip(places, logits, strict=True):
                found[place] = row
    return torch.stack(found)


def _at(ends: torch.Tensor, rows: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    return hidden[ends, rows][None]


def _batches(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """`order`, by length, in parts of at most `BATCH_TOKENS` tokens once they are filled up."""
    part: list[int] = []
    for place in order:
        if part and (len(part) + 1) * lengths[place] > BATCH_TOKENS:
            yield part
            part = []
        part.append(place)
    if part:
        yield part


@contextlib.contextmanager
def output_given(module, choose: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """While this lasts, the output layer is given what `choose` makes of hidden states (tokens, sequences, width)."""
    hook = module.output_layer.register_forward_pre_hook(lambda layer, given: (choose(given[0]), *given[1:]))
    try:
        yield
    finally:
        hook.remove()


def positions(tokens: torch.Tensor) -> torch.Tensor:
    """Position ids of a batch (sequences, tokens); Nemotron-H has no position embedding, Megatron wants them given."""
    import torch

    return torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
