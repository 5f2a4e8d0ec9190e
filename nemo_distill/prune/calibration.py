"""The text over which a teacher's activations are ranked, as tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
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
    source: dict, tokenizer: Tokenizer, upstream: Mapping[str, Path], *, sequences: int, seq_length: int
) -> torch.Tensor:
    """Token ids over which activations are ranked, (sequences, tokens): documents of `source`, end to end.

    Args:
        source: An entry of the step's config, as `find_files` takes it.
        tokenizer: The teacher's.
        upstream: Folder of each upstream step by its name.
        sequences: Number of sequences.
        seq_length: Tokens per sequence.

    Raises `UserError` for a source that holds fewer tokens.
    """
    import torch

    entry = Entry.of(source)
    count, ids = sequences * seq_length, list[int]()
    plain = entry.field == "text"  # chat templates end a document themselves
    # A few million tokens of what may be terabytes on the hub: only what is needed is fetched.
    how: dict = {"field": entry.field, "column": entry.column, "reading": entry.reading}
    for file in find_files(entry, upstream, streaming=True).files:
        for batch in batches(file, **how):
            texts = []
            for found in parse(batch, tally=Tally(), **how):
                with contextlib.suppress(MalformedError):  # a row that the chat template refuses
                    texts.append(tokenizer.text(found))
            for document in tokenizer.encode(texts, special=plain):
                ids += [*document, tokenizer.end_of_document] if plain else document
            if len(ids) >= count:
                return torch.tensor(ids[:count]).view(sequences, seq_length)
    raise UserError(
        f"calibration wants {count:,} tokens; source {entry.name!r} holds {len(ids):,}. "
        f"Lower prune.calibration_sequences to {len(ids) // seq_length} or fewer."
    )
