"""Documents that are never trained on: which they are, as a source is tokenised, and reading them again.

    kept = HeldOut(share=0.001)
    is_held_out(number_of("some text"), 0.001)              # whether that document is one
    kept.add(documents)                                     # of a batch, as a worker gives them
    kept.write(prefix, vocab_size=131_072)                  # PREFIX.held-out.bin, .idx, .json, perhaps .loss
    read(prefix_of(prefix), vocab_size=131_072, tokens=65_536, longest=8_192)

A document has a number, a hash of its words alone, and is held out where that lies below the share. So the same ones
are held out of every source that has them, in every blend, under every seed, budget and tokenizer; a smaller share is a
part of a larger one. They are kept in the order of their numbers, which is a random one, up to `KEPT_TOKENS`; those
beyond are counted.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nemo_distill.config.held_out import MOST_SHARE
from nemo_distill.data import chats
from nemo_distill.data.indexed import IndexedWriter, lengths_of, token_type
from nemo_distill.errors import UserError
from nemo_distill.run.progress import write_atomically

KEPT_TOKENS = 1 << 20
"""Tokens of held-out documents that are kept of a source, by the order of their numbers."""
DOCUMENTS = 8
"""Documents at least among the tokens that are measured: longer ones are cut to that."""
_ALL = 1 << 64


@dataclass(frozen=True)
class HeldOutDocument:
    """A document that was held out."""

    number: int
    """Hash of its words, from 0 to 2**64."""
    ids: np.ndarray
    """Its tokens."""
    loss: np.ndarray | None = None
    """1 for each token that the loss is taken on, else 0; None: it is taken on all."""


@dataclass(frozen=True)
class Batch:
    """Held-out documents side by side, padded to one length; the token after each is to be predicted."""

    tokens: np.ndarray
    """Token ids, (documents, length)."""
    labels: np.ndarray
    """Token that follows each."""
    mask: np.ndarray
    """1 where the following token counts, 0 for padding and where the loss is not taken, float32."""


def number_of(value: str | list[dict]) -> int:
    """The number of a document, a text or messages: a hash of its words, however they are spaced or put into turns."""
    parts = [value] if isinstance(value, str) else chats.texts(value)
    words = " ".join(word for part in parts for word in part.split())
    digest = hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def is_held_out(number: int, share: float) -> bool:
    """Whether the document of that number is held out, where a share of all is."""
    return number < share * _ALL


def prefix_of(prefix: Path) -> Path:
    """Prefix of the held-out documents of the source at `prefix`."""
    return prefix.with_name(f"{prefix.name}.held-out")


class HeldOut:
    """The held-out documents of one source, as they come in."""

    def __init__(self, share: float):
        self.share = share
        self.documents = 0
        """Documents that were held out."""
        self.tokens = 0
        """Tokens that they have."""
        self._kept: list[HeldOutDocument] = []
        self._kept_tokens = 0

    def add(self, documents: Iterable[HeldOutDocument]) -> None:
        """Count documents, and keep them as far as they are among the first by number."""
        for document in documents:
            self.documents += 1
            self.tokens += len(document.ids)
            self._kept.append(document)
            self._kept_tokens += len(document.ids)
        if self._kept_tokens > 2 * KEPT_TOKENS:
            self._cut()

    def _cut(self) -> None:
        self._kept.sort(key=lambda document: document.number)
        ends = np.cumsum([len(document.ids) for document in self._kept])
        fit = max(1, int(np.searchsorted(ends, KEPT_TOKENS, side="right"))) if self._kept else 0
        del self._kept[fit:]
        self._kept_tokens = int(ends[fit - 1]) if fit else 0

    def state(self) -> dict:
        """What `restore` takes, as plain JSON data."""
        self._cut()
        return {
            "documents": self.documents,
            "tokens": self.tokens,
            "numbers": [document.number for document in self._kept],
            "lengths": [len(document.ids) for document in self._kept],
            "ids": _packed([document.ids for document in self._kept], np.int32),
            "loss": _packed([document.loss for document in self._kept if document.loss is not None], np.uint8),
        }

    def restore(self, state: dict) -> None:
        """Go on from `state`."""
        self.documents, self.tokens = state["documents"], state["tokens"]
        ends = np.cumsum(state["lengths"], dtype=np.int64)[:-1]
        ids = np.split(np.frombuffer(base64.b64decode(state["ids"]), np.int32), ends)
        loss = np.frombuffer(base64.b64decode(state["loss"]), np.uint8)
        losses: Sequence = np.split(loss, ends) if len(loss) else [None] * len(ids)
        self._kept = [HeldOutDocument(*one) for one in zip(state["numbers"], ids, losses)]
        self._kept_tokens = sum(state["lengths"])

    def check(self, source: str, *, rows: int, trained: int) -> None:
        """Raise `UserError` where nothing is held out of the `rows` of `source`, or none is left to be trained on."""
        said = f"prepare.held_out={self.share:g}"
        if not trained:
            raise UserError(
                f"{said} leaves nothing of source {source!r} to train on: it has {rows:,} documents in all."
            )
        if not self.documents:
            near = float(f"{min(10 / rows, MOST_SHARE):.1g}")
            raise UserError(
                f"{said} holds out none of the {rows:,} documents of source {source!r}, which are too few for it: "
                f"prepare.held_out={near:g} holds out about {near * rows:.0f}."
            )

    def write(self, prefix: Path, *, vocab_size: int) -> dict:
        """Write the documents that are kept beside the source's own at `prefix`, with a manifest of their own; returns
        that without the single documents."""
        self._cut()
        target, loss = prefix_of(prefix), any(document.loss is not None for document in self._kept)
        with IndexedWriter(target, vocab_size=vocab_size, loss=loss) as writer:
            for document in self._kept:
                writer.add(document.ids, np.array([len(document.ids)]), loss=document.loss)
            writer.finish()
        counts = {
            "share": self.share,
            "documents": self.documents,
            "tokens": self.tokens,
            "kept_documents": len(self._kept),
            "kept_tokens": self._kept_tokens,
        }
        numbers = [f"{document.number:016x}" for document in self._kept]
        write_atomically(Path(f"{target}.json"), json.dumps(counts | {"numbers": numbers}, indent=1))
        return counts


def _packed(arrays: list[np.ndarray], kind: type) -> str:
    joined = np.concatenate([np.zeros(0, kind), *arrays]).astype(kind)
    return base64.b64encode(joined.tobytes()).decode()


def read(prefix: Path, *, vocab_size: int, tokens: int, longest: int) -> list[HeldOutDocument]:
    """The first held-out documents with a token to predict, as many as fit into so many tokens with their padding.

    Args:
        prefix: Of their files, as `prefix_of` gives it.
        vocab_size: Of the tokenizer.
        tokens: Tokens in all, padding included.
        longest: Tokens at which a document is cut, or earlier, so that `DOCUMENTS` fit.
    """
    ids = np.memmap(f"{prefix}.bin", token_type(vocab_size), mode="r")
    marks = np.memmap(f"{prefix}.loss", np.uint8, mode="r") if Path(f"{prefix}.loss").exists() else None
    longest = min(longest, tokens // DOCUMENTS)
    found: list[HeldOutDocument] = []
    start, left = 0, tokens
    for length in np.concatenate(list(lengths_of(prefix))).tolist():
        # The last token is predicted, and not read.
        part, start = slice(start, start + min(length, longest + 1)), start + length
        padded = padded_length(part.stop - part.start - 1, longest)
        if padded > left:
            break
        loss = None if marks is None else np.array(marks[part])
        if part.stop - part.start > 1 and (loss is None or loss[1:].any()):
            found.append(HeldOutDocument(len(found), np.array(ids[part], np.int64), loss))
            left -= padded
    return found


def padded_length(length: int, longest: int) -> int:
    """The length to which a document is padded: few different ones, none more than a fourth longer than it need be.

    >>> [padded_length(length, 512) for length in (1, 16, 17, 100, 260, 500, 512)]
    [16, 16, 32, 112, 320, 512, 512]
    """
    step = max(16, 1 << max(0, length.bit_length() - 3))
    return min(-(-length // step) * step, max(longest, length))


def batches(documents: Sequence[HeldOutDocument], *, longest: int, tokens: int) -> list[tuple[list[int], Batch]]:
    """All of `documents` in batches of about so many tokens, each with the places of its documents among them."""
    by_length: dict[int, list[int]] = {}
    for place, document in enumerate(documents):
        by_length.setdefault(padded_length(len(document.ids) - 1, longest), []).append(place)
    made = []
    for length, places in sorted(by_length.items(), reverse=True):
        rows = max(1, tokens // length)
        for first in range(0, len(places), rows):
            some = places[first : first + rows]
            made.append((some, _batch([documents[place] for place in some], length)))
    return made


def _batch(documents: Sequence[HeldOutDocument], length: int) -> Batch:
    shape = (len(documents), length)
    batch = Batch(np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.float32))
    for row, document in enumerate(documents):
        end = len(document.ids) - 1
        batch.tokens[row, :end], batch.labels[row, :end] = document.ids[:-1], document.ids[1:]
        batch.mask[row, :end] = 1 if document.loss is None else document.loss[1:]
    return batch
