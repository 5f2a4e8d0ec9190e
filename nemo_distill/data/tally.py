"""Counts the rows of a source: those read, those dropped and why, those of which something is to be known.

tally.drop("not JSON", "stem.jsonl, line 7")
tally.check(allowed=0.01, where="source 'stem'")
"""

from collections import Counter
from dataclasses import dataclass, field

from nemo_distill.errors import UserError

_REASONS = 30
"""Reasons for which rows are dropped that are told apart; rows dropped for others are counted together."""


@dataclass
class Tally:
    """What was read and what was dropped, and why."""

    rows: int = 0
    """Rows seen, blank lines not counted."""
    dropped: Counter = field(default_factory=Counter)
    """Rows dropped by reason."""
    first: str = ""
    """Where the first row that was dropped stands, and what is wrong with it."""
    noted: Counter = field(default_factory=Counter)
    """Messages and rows of which something is to be known, by what it is (`source_cards.NOTES`)."""

    def drop(self, reason: str, where: str) -> None:
        """Count a row that cannot be used."""
        self._count(reason, 1)
        self.first = self.first or f"{where}: {reason}"

    def add(self, other: "Tally") -> None:
        """Count what `other` counted, later in the source."""
        self.rows += other.rows
        for reason, count in other.dropped.items():
            self._count(reason, count)
        self.first = self.first or other.first
        self.noted += other.noted

    def check(self, *, allowed: float, where: str) -> None:
        """Raise `UserError` when over `allowed` (a share of 1) of the rows were dropped, or nothing was read."""
        malformed = sum(self.dropped.values())
        if self.rows == 0:
            raise UserError(f"{where} has no documents.")
        if malformed > allowed * self.rows:
            raise UserError(
                f"{malformed:,} of {self.rows:,} rows of {where} are malformed, more than the {allowed:.2%} allowed; "
                f"the first is {self.first}."
            )

    def _count(self, reason: str, count: int) -> None:
        many = len(self.dropped) >= _REASONS and reason not in self.dropped
        self.dropped["for another reason" if many else reason] += count
