"""Files of a source, on this machine or on the Hugging Face hub, under one interface: name, size, content, `open`.

    file = LocalFile(Path("corpora/math.jsonl"), "math.jsonl")
    file.bytes, file.content                # 1048576, "sha256:..."
    with file.open() as opened: ...

A file on the hub is fetched, or read by ranges, when it is opened and not before.
"""

import functools
import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nemo_distill.config.digests import digest_of
from nemo_distill.data.hub_errors import endpoint, refusals
from nemo_distill.errors import UserError


def _zstd(file: BinaryIO) -> Iterable[bytes]:
    import pyarrow

    return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd"), 1 << 20)


COMPRESSIONS: dict[str, Callable[[BinaryIO], Iterable[bytes]]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".zst": _zstd,
}
"""What reads the lines of a compressed .jsonl, by the ending behind it."""
DAMAGED: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error)
"""What reading a damaged compressed file raises."""
ENDINGS = (".jsonl", *(f".jsonl{ending}" for ending in COMPRESSIONS), ".parquet")
"""Endings of the files that can be read (`nemo_distill.data.documents`)."""
LINE_BYTES = 1 << 28
"""Bytes of a line at most: 256 MiB, some 50 million words."""
_STREAMED_AT_ONCE = 8 << 20
"""Bytes of a range request."""


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine."""

    path: Path
    """Where it lies."""
    name: str
    """What a card calls it: the path inside the data set, or the file's own name."""

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.path.stat().st_size

    @functools.cached_property
    def content(self) -> str:
        """What stands for its bytes: their SHA-256."""
        return f"sha256:{digest_of(self.path)}"

    def open(self, mode: str = "rb") -> BinaryIO:
        """The file, to read."""
        assert mode == "rb", mode
        return open(self.path, "rb")

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class HubFile:
    """A file of a data set on the hub, at one commit."""

    dataset: str
    """Repository on the hub, ORG/NAME."""
    revision: str
    """Commit of the data set."""
    name: str
    """Path inside the data set."""
    bytes: int
    """Size in bytes, as the hub says."""
    content: str
    """What stands for its bytes: SHA-256 of a large file, git's object id of a small one."""
    streaming: bool
    """Read by ranges rather than fetched whole into the cache."""

    def open(self, mode: str = "rb") -> BinaryIO:
        """The file, to read; fetched now unless it streams. A connection that drops is taken up again; what
        was fetched whole is not fetched twice."""
        assert mode == "rb", mode
        with refusals(self.dataset):
            if self.streaming:
                from huggingface_hub import HfFileSystem

                system = HfFileSystem(endpoint=endpoint())
                path = f"datasets/{self.dataset}@{self.revision}/{self.name}"
                return _Streamed(system.open(path, "rb", block_size=_STREAMED_AT_ONCE), self.dataset)
            from huggingface_hub import hf_hub_download

            return open(
                hf_hub_download(
                    self.dataset, self.name, repo_type="dataset", revision=self.revision, endpoint=endpoint()
                ),
                "rb",
            )

    def __str__(self) -> str:
        return f"{self.dataset}/{self.name}"


class _Streamed(io.BufferedReader):
    """A remote file whose errors are sentences."""

    def __init__(self, raw, dataset: str):
        super().__init__(_Raw(raw, dataset), buffer_size=1 << 16)


class _Raw(io.RawIOBase):
    def __init__(self, file, dataset: str):
        self._file, self._dataset = file, dataset

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer) -> int:
        with refusals(self._dataset):
            return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def decompressed(opened: BinaryIO, name: str) -> Iterator[bytes]:
    """The lines of a .jsonl that is `opened`, compressed as its `name` says; raises `UserError` for one that is longer
    than any document."""
    lines: Any = next((read(opened) for ending, read in COMPRESSIONS.items() if name.endswith(ending)), opened)
    for number, line in enumerate(iter(lambda: lines.readline(LINE_BYTES + 1), b""), start=1):
        if len(line) > LINE_BYTES:
            raise UserError(f"{name}: line {number:,} has more than {LINE_BYTES:,} bytes, and is not read.")
        yield line


def walk(folder: Path) -> tuple[list[str], list[str]]:
    """(files, links that lead nowhere) below `folder`, by their path in it, sorted; hidden ones are left out.

    Linked folders are entered, but for one that is a folder on the way to it.
    """
    files: list[str] = []
    dangling: list[str] = []

    def enter(inside: str, above: frozenset[str]) -> None:
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                name = f"{inside}/{entry.name}" if inside else entry.name
                if entry.name.startswith("."):
                    continue
                if os.path.isdir(entry.path):  # the entry's own raises for a link to itself
                    real = os.path.realpath(entry.path)
                    if real not in above:
                        enter(name, above | {real})
                elif os.path.isfile(entry.path):
                    files.append(name)
                elif entry.is_symlink():
                    dangling.append(name)

    enter("", frozenset({os.path.realpath(folder)}))
    return sorted(files), sorted(dangling)


SourceFile = LocalFile | HubFile
"""A file of a source, wherever it lies."""


@dataclass(frozen=True)
class Located:
    """The files of a source, found and not yet read."""

    files: Sequence[SourceFile]
    """Files in the order in which they are read."""
    revision: str | None = None
    """Commit of the data set; None for files on this machine."""

    @property
    def bytes(self) -> int:
        """Size of all files together, in bytes."""
        return sum(file.bytes for file in self.files)
