"""Where a rank is, noted in a few bytes of memory that another process of its machine reads.

    beats.start(folder / "3", rank=11)                  # of a step that is watched; else nothing below does anything
    with beats.here().within(Phase.SAVING):
        ...
    beats.read(folder / "3").iteration                  # from `nemo_distill.run.watchdog`

A note costs a microsecond and no system call. All ranks of a step note the same things in the same order, so that the
number of notes tells which of them is behind.
"""

import contextlib
import enum
import mmap
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_LAYOUT = struct.Struct("=6q3d")
DURATIONS, OWN = 50, 20
"""Last iterations whose median is taken: of their durations, and of what of it was a rank's own work."""
PARTS = 1 << 20
"""Parts that an iteration has at most."""
READS = 100
"""How often a note is read until it is met twice alike, and so was not being written."""


class Phase(enum.IntEnum):
    """What a step is at; each has an allowance of its own."""

    STARTING = 0
    """Models, data and kernels are made ready, up to the end of the first iteration."""
    ITERATION = 1
    SAVING = 2
    MEASURING = 3
    """Held-out documents, forward only."""
    ENDING = 4
    """The last iteration is over."""


class Note(NamedTuple):
    """What a rank has noted last."""

    pid: int
    """Number of its process."""
    born: int
    """When that process began, in the kernel's ticks: its number may be another's by now."""
    rank: int
    """Which rank it is, of all."""
    position: int
    """Number of notes times `PARTS`, and of parts of an iteration since: whoever has less is behind."""
    iteration: int
    """Iteration of the course that it is in, or was in last."""
    phase: int
    """A `Phase`."""
    since: float
    """When it noted that, by the machine's monotonic clock in seconds."""
    median: float
    """Median duration of its last iterations in seconds; 0: there was none."""
    own: float
    """Median of what of these it took by itself, before it waited for others, in seconds; 0: not known."""


class Beat:
    """Notes of this process; without a file nobody hears of them."""

    reached: Callable[[], int] | None = None
    """On a GPU, how many parts of the iteration it has done: the CPU is far ahead of it."""

    def __init__(self, path: Path | None = None, *, rank: int = 0, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self._durations: deque[float] = deque(maxlen=DURATIONS)
        self._own: deque[float] = deque(maxlen=OWN)
        pid = os.getpid()
        self.note = Note(pid, born(pid) or 0, rank, 0, 0, Phase.STARTING, clock(), 0.0, 0.0)
        self._memory: mmap.mmap | None = None
        if path is not None:
            scratch = path.with_name(f"{path.name}.{pid}")
            with open(scratch, "xb+") as file:
                file.truncate(_LAYOUT.size)
                self._memory = mmap.mmap(file.fileno(), _LAYOUT.size)
            self._write(self.note)
            os.replace(scratch, path)

    def enter(self, phase: Phase) -> None:
        """Go over to `phase`."""
        self._next(phase=phase)

    @contextlib.contextmanager
    def within(self, phase: Phase) -> Iterator[None]:
        """Be in `phase` for the length of the block."""
        before = Phase(self.note.phase)
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def begin(self, iteration: int) -> None:
        """An iteration begins."""
        self.reached = None
        self._next(iteration=iteration)

    def arrive(self, parts: int = 1) -> None:
        """So many parts of the iteration are done, each up to where this rank waits for others or has waited."""
        position = self.note.position // PARTS * PARTS + parts
        self._write(self.note._replace(position=position, since=self.clock()))

    def done(self, seconds: float, own: float | None = None) -> None:
        """An iteration is over: its duration, and what of that was this rank's own work, if known."""
        if self.note.phase == Phase.ITERATION:  # the first has kernels to compile
            self._durations.append(seconds)
            self._own.extend([] if own is None else [own])
        phase = Phase.ITERATION if self.note.phase == Phase.STARTING else self.note.phase
        self._next(phase=phase, median=median(self._durations), own=median(self._own))

    def look(self) -> None:
        """Note what parts of the iteration its GPU has done, which nobody on the CPU has seen; it is no progress."""
        if self.reached is not None:
            position = self.note.position // PARTS * PARTS + self.reached()
            self._write(self.note._replace(position=position))

    def _next(self, **changes) -> None:
        position = (self.note.position // PARTS + 1) * PARTS  # whatever was seen of a GPU
        self._write(self.note._replace(position=position, since=self.clock(), **changes))

    def _write(self, note: Note) -> None:
        self.note = note
        if self._memory is not None:
            _LAYOUT.pack_into(self._memory, 0, *note)


def read(path: Path) -> Note | None:
    """What a rank has noted last; None where it has yet to begin."""
    try:
        with open(path, "rb", buffering=0) as file:
            before = b""
            for _ in range(READS):
                now = os.pread(file.fileno(), _LAYOUT.size, 0)
                if now == before:
                    break
                before = now
    except FileNotFoundError:
        return None
    return Note(*_LAYOUT.unpack(now)) if len(now) == _LAYOUT.size else None


def born(pid: int) -> int | None:
    """When the process began, in the kernel's ticks; None where there is none."""
    found = _stat(pid)
    return int(found[19]) if found else None


def state_of(note: Note) -> str:
    """`stopped` or `gone` of a rank's process that is one of these; else empty."""
    found = _stat(note.pid)
    if not found or int(found[19]) != note.born or found[0] in "ZX":
        return "gone"
    return "stopped" if found[0] in "Tt" else ""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def median(values: Iterable[float]) -> float:
    """The lower median; 0 of nothing. (`statistics` takes as long to import as all the rest of a watchdog.)"""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2] if ordered else 0.0


_here = Beat()


def here() -> Beat:
    """The notes of this process."""
    return _here


def start(path: Path, *, rank: int) -> Beat:
    """Have the notes of this process kept in a file from now on."""
    global _here
    _here = Beat(path, rank=rank)
    return _here
