"""Megatron's token files, a `.bin` of all tokens and an `.idx` of where each document lies, written with numpy alone.

Beside them may be a `.loss`, a byte for each token of the .bin: 1 where the loss is taken on it (`data.answers`).

    with IndexedWriter(Path("runs/math"), vocab_size=131_072) as writer:
        position = writer.state or {"row": 0}          # what the last checkpoint of an attempt that was cut says
        writer.add(ids, lengths)
        writer.checkpoint({"row": 2})
        writer.finish()
    # runs/math.bin and runs/math.idx are there, whole

Tokens and lengths are only ever appended to scratch files; a checkpoint makes them durable and says how long they are.
A later writer of the same prefix cuts them back to that length and goes on, so its files are, byte for byte, those of
an attempt that was not cut. Memory does not grow with the number of documents.

`megatron.core.datasets.indexed_dataset` reads them; its own builder writes the same bytes, document by document, and
takes seconds to import.
"""

import contextlib
import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from nemo_distill.run.progress import write_atomically

_HEADER = b"MMIDIDX\x00\x00"
_VERSION = 1
_CODES = {np.dtype(np.uint16): 8, np.dtype(np.int32): 4}
_CHUNK = 1 << 16
"""Documents looked at at once when the index is written."""
_LENGTH = np.dtype(np.int32)
MARK = np.dtype([("bin", np.uint16), ("cut", np.bool_)])
"""What is kept beside each document until the end: its bin of the draw, and whether it was cut."""


def token_type(vocab_size: int) -> np.dtype:
    """Type of the tokens of a vocabulary in `PREFIX.bin`, as Megatron chooses it."""
    return np.dtype(np.uint16 if vocab_size < 65_500 else np.int32)


class IndexedWriter:
    """Writes documents, one sequence each, to `PREFIX.bin` and `PREFIX.idx`; all appear at `finish`.

    With `loss` there is a `PREFIX.loss` as well.
    """

    def __init__(self, prefix: Path, *, vocab_size: int, loss: bool = False):
        self.prefix = prefix
        self.dtype = token_type(vocab_size)
        self.documents = 0
        self.tokens = 0
        self.state: dict | None = None
        """What the last checkpoint was given; None: there is none, writing starts at the beginning."""
        parts = ("bin", "lengths", "marks", "idx", *(["loss"] if loss else []))
        scratch = {part: prefix.with_name(f".{prefix.name}.{part}.tmp") for part in parts}
        self._checkpoint = prefix.with_name(f".{prefix.name}.checkpoint.tmp")
        self._index = scratch.pop("idx")
        self._scratch = scratch
        self._finished = False

    def __enter__(self) -> "IndexedWriter":
        documents, tokens, self.state = self._read_checkpoint()
        sizes = self._sizes(documents, tokens)
        self._files = {}
        for part, path in self._scratch.items():
            self._files[part] = file = open(path, "ab")
            file.truncate(sizes[part])
        self.documents, self.tokens = documents, tokens
        self._sure = sizes
        return self

    def add(
        self, ids: np.ndarray, lengths: np.ndarray, marks: np.ndarray | None = None, loss: np.ndarray | None = None
    ) -> None:
        """Append documents.

        Args:
            ids: Their token ids, end to end.
            lengths: Tokens of each.
            marks: A `MARK` of each; None: zeros.
            loss: A byte for each token, where there is a `PREFIX.loss`.
        """
        assert lengths.sum() == len(ids), (lengths.sum(), len(ids))
        marks = np.zeros(len(lengths), MARK) if marks is None else marks
        arrays = {"bin": ids.astype(self.dtype), "lengths": lengths.astype(_LENGTH), "marks": marks}
        if "loss" in self._files:
            assert loss is not None and len(loss) == len(ids)
            arrays["loss"] = loss.astype(np.uint8)
        for part, array in arrays.items():
            self._files[part].write(array.tobytes())
        self.documents += len(lengths)
        self.tokens += len(ids)

    def checkpoint(self, state: dict) -> None:
        """Make what was added durable, with `state` (plain JSON data) to go on from."""
        for file in self._files.values():
            _sync(file)
        record = {"documents": self.documents, "tokens": self.tokens, "state": state}
        write_atomically(self._checkpoint, json.dumps(record))
        self.state, self._sure = state, self._sizes(self.documents, self.tokens)

    def finish(self, keep: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        """Give the files their names; returns the marks of the documents in them, counted: (documents, cut).

        Args:
            keep: From marks of documents to whether each stays; None: all do.
        """
        for file in self._files.values():
            file.flush()
        sources = {part: self._scratch[part] for part in ("loss", "bin") if part in self._scratch}
        if keep is not None:
            sources = {part: self._select(keep, part) for part in sources}
        kept = np.zeros(2, np.int64)
        self._write_index(lambda: self._lengths(keep))
        for _, marks in self._chunks(keep):
            kept += [len(marks), int(marks["cut"].sum())]
        self.documents = int(kept[0])
        for part, source in sources.items():
            os.replace(source, f"{self.prefix}.{part}")
        os.replace(self._index, f"{self.prefix}.idx")
        self._finished = True
        return kept

    def __exit__(self, kind, error, traceback) -> None:
        for part, file in self._files.items():
            # What was not written since the last checkpoint is of no use, and on a full disk its room is.
            with contextlib.suppress(OSError):
                file.close()
            if not self._finished and self._scratch[part].exists():
                os.truncate(self._scratch[part], self._sure[part])
        if self._finished:
            self.discard()

    def discard(self) -> None:
        """Remove what an attempt to write has left; files that carry their names stay."""
        for path in (self._checkpoint, self._index, *self._scratch.values(), *map(self._selected, ("bin", "loss"))):
            path.unlink(missing_ok=True)
        self._finished = True

    def _selected(self, part: str) -> Path:
        return self.prefix.with_name(f".{self.prefix.name}.selected.{part}.tmp")

    def _read_checkpoint(self) -> tuple[int, int, dict | None]:
        try:
            record = json.loads(self._checkpoint.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return 0, 0, None
        for part, size in self._sizes(record["documents"], record["tokens"]).items():
            path = self._scratch[part]
            if not path.exists() or path.stat().st_size < size:
                return 0, 0, None
        return record["documents"], record["tokens"], record["state"]

    def _sizes(self, documents: int, tokens: int) -> dict[str, int]:
        sizes = {
            "bin": tokens * self.dtype.itemsize,
            "lengths": documents * _LENGTH.itemsize,
            "marks": documents * MARK.itemsize,
            "loss": tokens,
        }
        return {part: sizes[part] for part in self._scratch}

    def _chunks(self, keep) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Lengths and marks of the documents that stay, some at a time."""
        for lengths, marks in self._all_chunks():
            stays = slice(None) if keep is None else keep(marks)
            yield lengths[stays], marks[stays]

    def _all_chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with open(self._scratch["lengths"], "rb") as lengths, open(self._scratch["marks"], "rb") as marks:
            while len(chunk := np.fromfile(lengths, _LENGTH, _CHUNK)):
                yield chunk, np.fromfile(marks, MARK, _CHUNK)

    def _lengths(self, keep) -> Iterator[np.ndarray]:
        return (lengths for lengths, _ in self._chunks(keep))

    def _select(self, keep, part: str) -> Path:
        """Copy what `part` has of the tokens of the documents that stay, run by run, inside the kernel."""
        size = self.dtype.itemsize if part == "bin" else 1
        with open(self._scratch[part], "rb") as source, open(self._selected(part), "wb") as target:
            offset, tokens = 0, 0
            for lengths, marks in self._all_chunks():
                stays = keep(marks)
                ends = offset + np.cumsum(lengths, dtype=np.int64) * size
                starts = ends - lengths.astype(np.int64) * size
                edges = np.flatnonzero(np.diff(np.concatenate([[False], stays, [False]]).astype(np.int8)))
                for first, after in edges.reshape(-1, 2).tolist():
                    _copy(source, target, int(starts[first]), int(ends[after - 1]))
                offset = int(ends[-1])
                tokens += int(lengths[stays].sum(dtype=np.int64))
            _sync(target)
        self.tokens = tokens
        return self._selected(part)

    def _write_index(self, lengths: Callable[[], Iterator[np.ndarray]]) -> None:
        documents = sum(map(len, lengths()))
        with open(self._index, "wb") as index:
            index.write(_HEADER + struct.pack("<QB", _VERSION, _CODES[self.dtype]))
            index.write(struct.pack("<QQ", documents, documents + 1))
            for chunk in lengths():
                index.write(chunk.tobytes())
            at = 0
            for chunk in lengths():
                ends = at + np.cumsum(chunk, dtype=np.int64) * self.dtype.itemsize
                index.write((ends - chunk.astype(np.int64) * self.dtype.itemsize).tobytes())
                at = int(ends[-1]) if len(ends) else at
            for first in range(0, documents + 1, _CHUNK):  # a document is one sequence
                index.write(np.arange(first, min(first + _CHUNK, documents + 1), dtype=np.int64).tobytes())
            _sync(index)


def lengths_of(prefix: Path) -> Iterator[np.ndarray]:
    """Tokens of each document in `PREFIX.idx`, some at a time."""
    with open(f"{prefix}.idx", "rb") as index:
        index.seek(len(_HEADER) + struct.calcsize("<QB"))
        documents, _ = struct.unpack("<QQ", index.read(16))
        for first in range(0, documents, _CHUNK):
            yield np.fromfile(index, _LENGTH, min(_CHUNK, documents - first))


def marked_in(prefix: Path) -> int:
    """Tokens that `PREFIX.loss` marks."""
    marks = np.memmap(f"{prefix}.loss", np.uint8, mode="r")
    return sum(int(np.count_nonzero(marks[first : first + (1 << 24)])) for first in range(0, len(marks), 1 << 24))


def _copy(source, target, start: int, end: int) -> None:
    while start < end:
        start += os.sendfile(target.fileno(), source.fileno(), start, end - start)


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())
