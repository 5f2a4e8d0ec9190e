"""Words of texts, normalised, and a hash of every run of them, by numpy.

    for before, letters in batches(["A document.", [{"role": "user", "content": "Another one, of messages."}]]):
        Hashed(letters).grams(2)            # a hash of 64 bits for "a document", ..., "another one", "one of", ...

As in GPT-3's appendix C and lm-evaluation-harness, letters are in lower case, punctuation is gone, and a word is what
stands between spaces.
"""

import functools
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np

BATCH = 1 << 18
"""Bytes of documents hashed at once; what is computed from them fits a core's cache."""
SPACE, NEXT = b" \n"
"""Between words, and between documents."""
_BASE = 0x9E3779B97F4A7C15
"""Of the polynomial hash, modulo 2^64; odd, so that it has an inverse."""
_FOLD = bytes.maketrans(
    (string.ascii_uppercase + string.whitespace).encode(),
    (string.ascii_lowercase + " " * len(string.whitespace)).encode(),
)
_NO_WORD = bytes(code for code in range(128) if not (chr(code).isalnum() or chr(code) in string.whitespace))
_BEYOND_ASCII = re.compile(r"[\x00-\x7f]?[^\x00-\x7f]+")
"""With the letter before it, for accents that are characters of their own."""


def normalised(text: str) -> bytes:
    """The words of `text`, lower case, without punctuation and symbols, one space between them; UTF-8.

    >>> normalised("Don\\u2019t panic:\\n it's\\u00a0X\\u00b2 .")
    b'dont panic its x2'
    """
    return b" ".join(_spread(text).split())


def _spread(text: str) -> bytes:
    """`normalised` but for the number of spaces between words."""
    if not text.isascii():
        text = _BEYOND_ASCII.sub(lambda run: _words_of(run[0]), text)
    return text.encode().translate(_FOLD, _NO_WORD)


@functools.lru_cache(maxsize=1 << 14)  # a few such runs make up most of them
def _words_of(run: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"[^\w\s]+", "", unicodedata.normalize("NFKC", run))).casefold()


def text_of(document: str | list[dict]) -> str:
    """The words of a document: a text, or the reasoning and content of all its messages."""
    if isinstance(document, str):
        return document
    parts = (message.get(key) for message in document for key in ("reasoning_content", "content"))
    return "\n".join(part for part in parts if isinstance(part, str))


def batches(documents: Iterable[str | list[dict]]) -> Iterator[tuple[int, np.ndarray]]:
    """Normalised documents as bytes, `NEXT` between them, about `BATCH` at once, and how many came before them."""
    before, size, batch = 0, 0, []
    for document in documents:
        batch.append(_spread(text_of(document)))
        size += len(batch[-1])
        if size >= BATCH:
            yield before, _joined(batch)
            before, size, batch = before + len(batch), 0, []
    if batch:
        yield before, _joined(batch)


def _joined(documents: list[bytes]) -> np.ndarray:
    """The bytes of all, each run of spaces folded into one; several times faster than to split each and join."""
    letters = np.frombuffer(b"\n".join(documents), np.uint8)
    spaces = np.flatnonzero(letters == SPACE)
    return np.delete(letters, spaces[1:][np.diff(spaces) == 1])


class Hashed:
    """What the hash of any run of words is read off, for the bytes of a normalised text.

    The hash of bytes b_0 ... b_k is the sum of b_j * _BASE^j modulo 2^64. From the running sum over the text, that of
    any stretch is a difference, divided by the power of _BASE at which it begins.
    """

    def __init__(self, letters: np.ndarray):
        powers, self._inverses = _powers(max(BATCH, 1 << len(letters).bit_length()))
        self._sums = np.zeros(len(letters) + 1, np.uint64)
        np.multiply(letters, powers[: len(letters)], out=self._sums[1:])
        np.cumsum(self._sums, out=self._sums)
        self.starts = np.concatenate([[0], np.flatnonzero(letters <= SPACE) + 1, [len(letters) + 1]])
        """Where each word begins, and one more would."""

    def grams(self, size: int) -> np.ndarray:
        """The hash of every run of `size` words, in order.

        A run that goes on into the next document has `NEXT` where questions have a space, so it equals none of theirs.
        """
        begins, ends = self.starts[:-size], self.starts[size:] - 1
        return (self._sums[ends] - self._sums[begins]) * self._inverses[begins]


@functools.lru_cache(maxsize=4)
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` powers of _BASE modulo 2^64, and their inverses; one more, for the word after a last one."""
    inverse = pow(_BASE, -1, 1 << 64)
    return tuple(
        np.cumprod(np.concatenate([np.ones(1, np.uint64), np.full(count, base, np.uint64)]))
        for base in (_BASE, inverse)
    )
