"""A part of a source that holds a budget of tokens, drawn by seed, evenly over the whole source.

Every row has a number between 0 and 1 of its own: a keyed hash of seed, source, file and row. The documents drawn are
those whose number lies below a threshold, the largest at which their tokens fit the budget. So

- a document is in or out whatever was read before it: the head of a file is no likelier than its end, and neither the
  order of reading nor a cut changes anything;
- with the same seed, a smaller budget draws a part of what a larger one does;
- one pass finds the threshold: it starts at 1 and falls as tokens add up. Documents above it are not tokenised, those
  that it falls below later are left out at the end: a budget of B out of T tokens costs B (1 + ln(T / B)) of work.

The threshold moves in steps of 1/65,536, so that a budget is met to within a document or that share of the source.

    draw = Draw(budget=20_000_000_000, seed=1234, source="stem")
    bins = draw.bins(file=0, rows=[1, 2, 3])
    wanted = bins < draw.threshold                      # which of them to tokenise
    draw.add(bins[wanted], lengths)                     # may lower the threshold
"""

import hashlib
from collections.abc import Sequence

import numpy as np

BINS = 1 << 16


class Draw:
    """The threshold of one source, as its documents come in."""

    def __init__(self, *, budget: int | None, seed: int, source: str):
        self.budget = budget
        """Tokens; None: all documents are drawn."""
        self.threshold = BINS
        """Documents in this bin and above are out."""
        self._key = hashlib.blake2b(f"{seed}\0{source}".encode(), digest_size=16).digest()
        self._tokens = np.zeros(BINS, np.int64)

    @property
    def share(self) -> float:
        """Of the source's documents, expected to be drawn."""
        return self.threshold / BINS

    @property
    def tokens(self) -> int:
        """Below the threshold so far; 0 without a budget."""
        return int(self._tokens[: self.threshold].sum())

    def bins(self, *, file: int, rows: Sequence[int]) -> np.ndarray:
        """The bin of each row, by the file's place in the source and the row's number; zeros without a budget."""
        if self.budget is None:
            return np.zeros(len(rows), np.uint16)
        hashes = b"".join(
            hashlib.blake2b(b"%d:%d" % (file, row), key=self._key, digest_size=2).digest() for row in rows
        )
        return np.frombuffer(hashes, dtype=np.uint16)

    def add(self, bins: np.ndarray, lengths: np.ndarray) -> None:
        """Count documents of `lengths` tokens in `bins`."""
        if self.budget is None:
            return
        np.add.at(self._tokens, bins, lengths)
        below = np.cumsum(self._tokens[: self.threshold])
        self.threshold = int(np.searchsorted(below, self.budget, side="right"))

    def state(self) -> dict | None:
        """What `restore` takes, as plain JSON data."""
        return None if self.budget is None else {"threshold": self.threshold, "tokens": self._tokens.tolist()}

    def restore(self, state: dict | None) -> None:
        """Go on from `state`."""
        if state is not None:
            self.threshold = state["threshold"]
            self._tokens = np.array(state["tokens"], np.int64)
