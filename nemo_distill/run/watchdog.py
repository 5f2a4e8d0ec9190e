"""A process beside the ranks of one machine that ends a step which stands still: `python -m nemo_distill.run.watchdog`.

It reads where its ranks are (`nemo_distill.run.beats`), writes that into the step's folder now and then, one file for
a machine, and reads the other machines' files only once its own ranks have been quiet for long. When all ranks have
been for too long (`nemo_distill.run.standstill`), every watchdog asks its own for their stacks, and describes from
outside those that cannot answer. That of the first machine that is heard of then writes all stacks into the step's log,
with the verdict, and every one kills its ranks. On Slurm the batch script requeues the job without the machines that
the verdict names (`nemo_distill.launch.slurm.jobscript`).

Times are told as ages, so that the machines' clocks need not agree. It ends with the process that has started it.
"""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nemo_distill.run import beats
from nemo_distill.run.beats import Note, Phase
from nemo_distill.run.inside import opened, text_of
from nemo_distill.run.progress import write_atomically
from nemo_distill.run.standstill import (
    NODE_FILE,
    STACKS_FILE,
    STALLED,
    Patience,
    Seen,
    Verdict,
    judge,
    quiet_for,
    record_of,
    seen_in,
)

ASK = signal.SIGUSR2
"""What asks a rank for the stacks of its threads (`faulthandler`)."""
STACKS = ".stacks"
"""Ending of the file that it writes them to."""
LEAST_SECONDS, MOST_SECONDS, PARTS = 0.1, 10.0, 50
"""Between two looks: at least, at most, and the part of the shortest time that a step may stand still."""
SILENT_LOOKS = 6
"""Looks without a word of another machine after which it is silent."""
ANSWER_SECONDS, SETTLED_SECONDS = 5.0, 0.3
"""What a rank has to answer with its stacks, and for how long it has then to have written nothing more."""
_THREAD = re.compile(r"(?<=[Tt]hread )0x[0-9a-f]+")


class Watchdog:
    """Watches the ranks of machine `node` of `nodes`, each with `per_node` ranks."""

    def __init__(
        self,
        *,
        folder: str,
        attempt: str,
        notes: str,
        node: int,
        nodes: int,
        per_node: int,
        host: str,
        job: str,
        log: str,
        failed: str,
        patience: dict[str, float],
    ):
        """`notes` is the folder of the ranks' notes; `job` the number of the Slurm job and how often it was requeued,
        `-` without one; `log` and `failed` are names in the step's `folder`."""
        self.folder, self.notes, self.log, self.failed = Path(folder), Path(notes), log, failed
        self.attempt, self.node, self.nodes, self.per_node = attempt, node, nodes, per_node
        self.host, self.job, self.patience = host, job, Patience(**patience)
        self.every = min(MOST_SECONDS, max(LEAST_SECONDS, self.patience.seconds / PARTS))
        self.asked: list[int] | None = None
        """Where its ranks stood when they were asked for their stacks; None: they have not been."""
        self._began = time.monotonic()
        self._looks, self._asked_at = 0, 0.0
        self._heard: dict[int, tuple[Any, float]] = {}

    def look(self) -> bool:
        """Look once; returns whether the step was ended."""
        now = time.monotonic()
        own = self._own(now)
        if self.asked != [one.position for one in own]:
            self.asked = None  # they got on
        self._looks += 1
        self._say(own)
        if self._ended():
            self._kill()
            return True
        if quiet_for(own) <= self.patience.seconds / 2:
            self._heard.clear()
            return False
        seen, awaited, leads = self._all(own, now)
        found = judge(seen, self.patience)
        if found is None:
            return False
        if self.asked is None:
            self._write(STACKS_FILE, {"attempt": self.attempt, "stacks": self._stacks()})
            self.asked, self._asked_at = [one.position for one in own], time.monotonic()
            self._say(own)
        if not leads or (awaited and now - self._asked_at < SILENT_LOOKS * self.every + ANSWER_SECONDS):
            return False
        self._end(found)
        return True

    def close(self) -> None:
        """Remove the ranks' notes."""
        shutil.rmtree(self.notes, ignore_errors=True)

    def _notes(self) -> list[Note | None]:
        return [beats.read(self.notes / str(local)) for local in range(self.per_node)]

    def _say(self, own: list[Seen]) -> None:
        said = {"attempt": self.attempt, "look": self._looks, "asked": self.asked is not None}
        self._write(NODE_FILE, {**said, "ranks": record_of(own)})

    def _own(self, now: float) -> list[Seen]:
        found = []
        for local, note in enumerate(self._notes()):
            rank = self.node * self.per_node + local
            if note is None:
                quiet = now - self._began
                found.append(Seen(rank=rank, node=self.node, host=self.host, quiet=quiet, state="missing"))
                continue
            told = {name: getattr(note, name) for name in ("position", "iteration", "phase", "median", "own")}
            state, quiet = beats.state_of(note), max(0.0, now - note.since)
            if state == "gone" and note.phase == Phase.ENDING:  # it has done all that it had to
                state = ""
            found.append(Seen(rank=rank, node=self.node, host=self.host, quiet=quiet, state=state, **told))
        return found

    def _all(self, own: list[Seen], now: float) -> tuple[list[Seen], bool, bool]:
        """The ranks of all machines, whether stacks of one are still awaited, and whether this one is to judge."""
        seen, awaited, leads = [*own], False, True
        for node in range(self.nodes):
            if node == self.node:
                continue
            said = self._read(NODE_FILE, node)
            before, when = self._heard.get(node, (None, now))
            if said is not None and before != said["look"]:
                when = now
            self._heard[node] = (said and said["look"], when)
            age = now - when
            silent = said is None or age > SILENT_LOOKS * self.every
            if said is None:
                first = node * self.per_node
                seen += [
                    Seen(rank=rank, node=node, host="", quiet=now - self._began, state="missing")
                    for rank in range(first, first + self.per_node)
                ]
            else:
                seen += [one.later(age, silent=silent) for one in said["ranks"]]
                awaited = awaited or not (silent or said["asked"])
            leads = leads and (silent or node > self.node)
        return seen, awaited, leads

    def _stacks(self) -> dict[str, str]:
        """The stacks of each rank of this machine or, where it does not answer, what is seen of it from outside."""
        asked: dict[int, tuple[Note, int]] = {}
        found: dict[str, str] = {}
        for local, note in enumerate(self._notes()):
            rank = str(self.node * self.per_node + local)
            found[rank] = "It has never begun."
            if note is None:
                continue
            state = beats.state_of(note)
            found[rank] = f"Its process {note.pid} is gone."
            if state != "gone":
                found[rank] = _from_outside(note)
            if not state:
                asked[local] = note, _size(self.notes / f"{local}{STACKS}")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(note.pid, ASK)
        until = time.monotonic() + ANSWER_SECONDS
        sizes: dict[int, tuple[int, float]] = {}
        while len(settled := [local for local in asked if _settled(sizes.get(local))]) < len(asked):
            for local, (_, before) in asked.items():
                size = _size(self.notes / f"{local}{STACKS}")
                if size > before and size != sizes.get(local, (0, 0.0))[0]:
                    sizes[local] = size, time.monotonic()
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        for local in settled:
            note, before = asked[local]
            with open(self.notes / f"{local}{STACKS}", "rb") as file:
                file.seek(before)
                found[str(note.rank)] = file.read().decode(errors="replace")
        return found

    def _end(self, verdict: Verdict) -> None:
        """Write stacks and verdict into the step's log, mark the step as failed, and kill the ranks of this machine."""
        stacks: dict[str, str] = {}
        for node in range(self.nodes):
            stacks |= (self._read(STACKS_FILE, node) or {"stacks": {}})["stacks"]
        record = {"error": str(verdict), "refused": False, "lasting": False, "time": time.time()}
        nodes = ",".join(verdict.exclude) or "-"
        with contextlib.suppress(OSError):  # of a full disk, where it ends all the same
            with opened(self.folder / self.log, "ab") as log:
                log.write("\n".join(["", *in_groups(stacks, verdict.size), f"{verdict}", ""]).encode())
            write_atomically(self.folder / self.failed, json.dumps(record))
            write_atomically(self.folder / STALLED, f"{self.job} {nodes}\n{self.attempt}\n{verdict}\n")
        self._kill()

    def _ended(self) -> bool:
        """Whether another watchdog has ended the step."""
        try:
            return text_of(self.folder / STALLED).splitlines()[1] == self.attempt
        except (OSError, ValueError, IndexError):
            return False

    def _kill(self) -> None:
        for note in filter(None, self._notes()):
            if beats.state_of(note) != "gone":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(note.pid, signal.SIGKILL)

    def _write(self, name: str, record: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # of a full disk: it is the step's to say so
            write_atomically(self.folder / name.format(node=self.node), json.dumps(record), durable=False)

    def _read(self, name: str, node: int) -> dict[str, Any] | None:
        """What the watchdog of a machine has written in this attempt."""
        try:
            record = json.loads(text_of(self.folder / name.format(node=node)))
            if record["attempt"] != self.attempt:
                return None
            if name == NODE_FILE:
                return {"look": record["look"], "asked": bool(record["asked"]), "ranks": seen_in(record)}
            return {"stacks": {str(rank): str(stack) for rank, stack in record["stacks"].items()}}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # none, or damaged
            return None


def _settled(size: tuple[int, float] | None) -> bool:
    return size is not None and time.monotonic() - size[1] >= SETTLED_SECONDS


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _from_outside(note: Note) -> str:
    """What the kernel says of a process that does not answer."""
    lines = [f"It does not answer; what the kernel says of its process {note.pid}:"]
    for name in ("status", "wchan", "syscall", "stack"):
        try:
            text = Path(f"/proc/{note.pid}/{name}").read_text(encoding="utf-8", errors="replace")
        except OSError as error:  # the kernel's own stack is root's alone to see
            text = error.strerror or "unreadable"
        said = [line for line in text.splitlines() if name != "status" or line.startswith(("State", "Threads", "Sig"))]
        lines += [f"  {name}: {line}" for line in said]
    return "\n".join(lines)


def in_groups(stacks: dict[str, str], size: int) -> Iterator[str]:
    """Lines with the stacks by rank, those that are alike once; the smallest groups, which differ, come last."""
    groups: dict[str, list[int]] = {}
    for rank in range(size):
        text = _THREAD.sub("0x", stacks.get(str(rank), "Its node has not said.")).strip()
        groups.setdefault(text, []).append(rank)
    for text, ranks in sorted(groups.items(), key=lambda group: -len(group[1])):
        yield f"Stacks of {'rank' if len(ranks) == 1 else 'ranks'} {_ranges(ranks)} of {size}:"
        yield from (f"  {line}" for line in text.splitlines())


def _ranges(numbers: list[int]) -> str:
    """
    >>> _ranges([0, 1, 2, 5])
    '0-2, 5'
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)


def main(argument: str, *, over: Callable[[float], bool]) -> None:
    """Look again and again, until the step was ended or `over`, which waits for so many seconds, says so."""
    dog = Watchdog(**json.loads(argument))
    try:
        while not over(dog.every) and not dog.look():
            pass
    finally:
        dog.close()


if __name__ == "__main__":
    parent = os.getppid()
    # Standard input ends when the process that has started this one has, unless children of it have it open as well.
    main(sys.argv[1], over=lambda seconds: bool(select.select([0], [], [], seconds)[0]) or os.getppid() != parent)
