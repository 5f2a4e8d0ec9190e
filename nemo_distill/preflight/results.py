"""What a preflight finds: the outcome of each check, kept as they come, and the verdict.

    record = Record(folder / FILE)
    with record.under_way("all-reduce"):
        record.add(Check.ok("all-reduce", "12 GB/s", "4 ranks agree on every sum."))
    Record.read(path).verdict                   # "GO"

A check that never came back, since the job ended in it, is known by its name: the record says which was under way.
"""

import contextlib
import enum
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_distill.run.progress import write_atomically

FILE = "preflight.json"
SCHEMA = 1
"""Version of that file: raised when a key goes or means something else."""
GO, NO_GO = "GO", "NO-GO"
CHECKS: Mapping[str, str] = {
    "job": "the job starts at the asked layout and comes to its end",
    "image": "every node runs the image that was asked for",
    "mounts": "every node sees the runs folder and what is mounted",
    "versions": "packages are those of the lock, and the same on every node",
    "GPUs": "every node has the GPUs asked for, of their kind, free",
    "sources": "every source, and the teacher, can be had with the token",
    "judge": "the model that judges answers",
    "writing": "room for a checkpoint, and the time that writing it takes",
    "all-reduce": "sums over all ranks, and their rate",
    "iterations": "iterations of the distillation at the asked shape",
}
"""What each check is about, by its name, in the order in which they are made; the last two need all ranks at once."""


class Outcome(enum.Enum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    UNCHECKED = "not checked"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check, made."""

    name: str
    """A key of `CHECKS`."""
    outcome: Outcome
    """How it ended."""
    figure: str = ""
    """What was measured, with its unit; empty where nothing was."""
    why: str
    """The sentence that goes with the outcome."""

    @classmethod
    def ok(cls, name: str, why: str, figure: str = "") -> "Check":
        """One that found nothing wrong."""
        return cls(name=name, outcome=Outcome.OK, figure=figure, why=why)

    @classmethod
    def failed(cls, name: str, why: str, figure: str = "") -> "Check":
        """One that found what would end the run, or spoil it."""
        return cls(name=name, outcome=Outcome.FAILED, figure=figure, why=why)

    @classmethod
    def unchecked(cls, name: str, why: str) -> "Check":
        """One that has nothing to look at, or cannot look."""
        return cls(name=name, outcome=Outcome.UNCHECKED, why=why)

    def record(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {"name": self.name, "outcome": self.outcome.value, "figure": self.figure, "why": self.why}


def verdict_of(checks: Mapping[str, Check]) -> str:
    """NO-GO where a check failed, else GO."""
    return NO_GO if any(check.outcome == Outcome.FAILED for check in checks.values()) else GO


@dataclass
class Record:
    """Checks as they are made; the file says at any time which is under way."""

    path: Path | None
    """The file; None: this rank writes none."""
    checks: dict[str, Check] = field(default_factory=dict)
    """Those that are made, by name."""
    begun: str = ""
    """Name of the check under way; empty: none is."""

    @contextlib.contextmanager
    def under_way(self, name: str) -> Iterator[None]:
        """Within the block, the check `name` is the one that would be to blame."""
        assert name in CHECKS, name
        self.begun = name
        self.save()
        yield
        self.begun = ""
        self.save()

    def add(self, check: Check) -> None:
        """Keep a check that is made."""
        self.checks[check.name] = check
        self.save()

    def save(self) -> None:
        """Write the file."""
        if self.path:
            write_atomically(self.path, json.dumps(self.plain(), indent=1))

    def plain(self) -> dict[str, Any]:
        """As plain JSON data."""
        ordered = [self.checks[name].record() for name in CHECKS if name in self.checks]
        return {"schema": SCHEMA, "verdict": verdict_of(self.checks), "under_way": self.begun, "checks": ordered}

    @classmethod
    def read(cls, path: Path) -> "Record":
        """What the file says; nothing where there is none."""
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(None)
        checks = [Check(**{**check, "outcome": Outcome(check["outcome"])}) for check in said["checks"]]
        return cls(None, {check.name: check for check in checks}, said["under_way"])

    def ended(self, failure: str) -> dict[str, Check]:
        """Every check, in order, once the job is over; `failure` is why it did not come to its end, empty where it did.

        What was under way then is what failed; what it had not come to is not checked.
        """
        made = dict(self.checks)
        made["job"] = Check.ok("job", "It started at the asked layout and came to its end.")
        if failure:
            blamed = self.begun or "job"
            made["job"] = Check.failed("job", failure if blamed == "job" else f"It ended in the check of {blamed}.")
            made[blamed] = Check.failed(blamed, failure)
        for name in CHECKS:
            made.setdefault(name, Check.unchecked(name, "The job ended before."))
        return {name: made[name] for name in CHECKS}
