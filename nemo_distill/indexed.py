"""Megatron's token files, a `.bin` of all tokens and an `.idx` of where each document lies, written with numpy alone.

    with IndexedWriter(Path("runs/math"), vocab_size=131_072) as writer:
        writer.add([[5, 17, 2], [9, 2]])
    # runs/math.bin and runs/math.idx are there, whole; had anything been raised, neither would be

`megatron.core.datasets.indexed_dataset` reads them; its own builder writes the same bytes, document by document, and
takes seconds to import.
"""

import itertools
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_HEADER = b"MMIDIDX\x00\x00"
_VERSION = 1
_CODES = {np.dtype(np.uint16): 8, np.dtype(np.int32): 4}


class IndexedWriter:
    """Writes documents, one sequence each, to `PREFIX.bin` and `PREFIX.idx`; both appear at the end of the `with`."""

    def __init__(self, prefix: Path, *, vocab_size: int):
        self.prefix = prefix
        self.dtype = np.dtype(np.uint16 if vocab_size < 65_500 else np.int32)  # as Megatron chooses
        self.documents = 0
        self.tokens = 0
        self._lengths: list[np.ndarray] = []
        self._scratch = {ending: prefix.with_name(f".{prefix.name}{ending}.tmp") for ending in (".bin", ".idx")}

    def __enter__(self) -> "IndexedWriter":
        self._bin = open(self._scratch[".bin"], "wb")
        return self

    def add(self, documents: Sequence[Sequence[int]]) -> None:
        """Append `documents`, each its token ids."""
        lengths = np.fromiter(map(len, documents), dtype=np.int32, count=len(documents))
        total = int(lengths.sum(dtype=np.int64))
        np.fromiter(itertools.chain.from_iterable(documents), dtype=self.dtype, count=total).tofile(self._bin)
        self._lengths.append(lengths)
        self.documents += len(documents)
        self.tokens += total

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self._write_index()
            _sync(self._bin)
        self._bin.close()
        for ending, scratch in self._scratch.items():
            if kind is None:
                os.replace(scratch, f"{self.prefix}{ending}")
            else:
                scratch.unlink(missing_ok=True)

    def _write_index(self) -> None:
        lengths = np.concatenate([np.zeros(0, np.int32), *self._lengths])
        pointers = np.zeros(len(lengths), np.int64)
        np.cumsum(lengths[:-1], dtype=np.int64, out=pointers[1:])
        with open(self._scratch[".idx"], "wb") as index:
            index.write(_HEADER + struct.pack("<QB", _VERSION, _CODES[self.dtype]))
            index.write(struct.pack("<QQ", len(lengths), len(lengths) + 1))
            lengths.tofile(index)
            (pointers * self.dtype.itemsize).tofile(index)
            np.arange(len(lengths) + 1, dtype=np.int64).tofile(index)  # a document is one sequence
            _sync(index)


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())
