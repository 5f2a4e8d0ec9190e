"""The text over which a teacher's activations are ranked, as tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_distill.data.chats import MalformedError
from nemo_distill.data.documents import Tally, batches, parse
from nemo_distill.data.entry import Entry
from nemo_distill.data.find import find_files
from nemo_distill.data.tokenizer import Tokenizer
from nemo_distill.errors import UserError

if TYPE_CHECKING:
    import torch


def calibration_tokens(
    sources: Sequence[dict],
    tokenizer: Tokenizer,
    upstream: Mapping[str, Path],
    *,
    sequences: int,
    seq_length: int,
    setting: str = "prune.calibration_sequences",
) -> torch.Tensor:
    """Token ids over which activations are ranked, (sequences, tokens): documents of a source, end to end.

    Args:
        sources: Entries of the step's config, as `find_files` takes them. Each gives a sequence in turn, as long as it
            holds one.
        tokenizer: The teacher's.
        upstream: Folder of each upstream step by its name.
        sequences: Number of sequences.
        seq_length: Tokens per sequence.
        setting: Key by which a user says how many.

    Raises `UserError` for sources that hold fewer.
    """
    import torch

    entries = [Entry.of(source) for source in sources]
    turns = [_sequences_of(entry, tokenizer, upstream, seq_length) for entry in entries]
    found: list[list[int]] = []
    while turns and len(found) < sequences:
        for turn in list(turns):
            if (sequence := next(turn, None)) is None:
                turns.remove(turn)
            elif len(found) < sequences:
                found.append(sequence)
    if len(found) == sequences:
        return torch.tensor(found)
    names = " and ".join(repr(entry.name) for entry in entries)
    raise UserError(
        f"calibration wants {sequences:,} sequences of {seq_length:,} tokens, and there are {len(found):,} in {names}. "
        f"Lower {setting} to {len(found)} or fewer."
    )


def _sequences_of(
    entry: Entry, tokenizer: Tokenizer, upstream: Mapping[str, Path], seq_length: int
) -> Iterator[list[int]]:
    """The source's tokens in sequences; of one on the hub no more is fetched than is asked for."""
    ids: list[int] = []
    plain = entry.field == "text"  # chat templates end a document themselves
    how: dict = {"field": entry.field, "column": entry.column, "reading": entry.reading}
    for file in find_files(entry, upstream, streaming=True).files:
        for batch in batches(file, **how):
            texts = []
            for found in parse(batch, tally=Tally(), **how):
                with contextlib.suppress(MalformedError):  # a row that the chat template refuses
                    texts.append(tokenizer.text(found))
            for document in tokenizer.encode(texts, special=plain):
                ids += [*document, tokenizer.end_of_document] if plain else document
            while len(ids) >= seq_length:
                yield ids[:seq_length]
                ids = ids[seq_length:]
