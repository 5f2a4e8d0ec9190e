"""The GPUs of this machine: which there are, and who has which.

    with contextlib.closing(Deck(found("0,2", os.environ))) as deck:
        cards = deck.take(1)                      # None where fewer are free; `deck.busy` says why
        subprocess.Popen(step, env=os.environ | deck.variables(cards))
        deck.give_back(cards)                     # once the step has ended

Which there are is asked of nvidia-smi: torch takes seconds to import, and would hold memory on each. A variable
CUDA_VISIBLE_DEVICES is kept to: only those it names are dealt out, as it names them, UUIDs and MIG devices too.

A command holds a kernel lock on a file for each GPU that a step of it has. It ends with the command's process, however
that ends, and the GPU is free once nothing is alive either that was started with it. The files lie in a folder of this
user's, the same for all runs folders. Users cannot lock each other's: a GPU of whose memory something else holds a
part is taken for theirs, and left to them.
"""

import contextlib
import fcntl
import glob
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.config.settings import MAX_GPUS
from nemo_distill.errors import UserError, nearest
from nemo_distill.run.ending import started_with
from nemo_distill.run.gpus import LOCKS, VISIBLE

FOLDER = "NEMO_DISTILL_GPU_LOCKS"
"""Environment variable with the folder of the locks: containers that share GPUs need one that all of them see."""
ORDER = "CUDA_DEVICE_ORDER"
TAKEN_MIB, TAKEN_SHARE = 1024, 0.05
"""Memory that a GPU has in use, in MiB and as a share of it, above both of which it is somebody's."""
RETRY_SECONDS = 1.0
"""After which a step asks again for GPUs that it did not get."""
SMI_SECONDS = 30.0
"""What nvidia-smi may take: the driver of an idle machine starts with it."""
_GPU = re.compile(r"^GPU (\d+): .*\(UUID: (GPU-[\w-]+)\)")
_PART = re.compile(r"^\s+MIG .*\(UUID: (MIG-[\w/-]+)\)")


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU, or a MIG device of one."""

    name: str
    """What CUDA_VISIBLE_DEVICES calls it."""
    key: str
    """What its lock is called: the same whatever a command calls the GPU."""
    uuid: str = ""
    """Of a whole GPU that nvidia-smi knows; else empty."""


def found(said: str | None, environment: Mapping[str, str]) -> tuple[Card, ...]:
    """The GPUs that may be dealt out. Raises `UserError` where there are not those that were asked for.

    `said` is what `executor.gpus` says: a number, of the first so many; names with commas between them; None: all. On
    a machine without any, it makes up as many, and steps compute on the CPU as they would otherwise.
    """
    real, visible = _there(), environment.get(VISIBLE)
    names = None if visible is None else [name.strip() for name in visible.split(",") if name.strip()]
    pool: Sequence[Card] | None = None if names is None else list(map(_made_up, names))
    if real:
        pool = real if names is None else _named(names, real)
    elif said is None:
        return ()
    if said is None:
        return tuple(pool or ())
    if said.isdigit():
        count = int(said)
        if count > MAX_GPUS:
            raise UserError(f"executor.gpus={said} is more than one machine has; the most is {MAX_GPUS:,}.")
        pool = [_made_up(str(number)) for number in range(count)] if pool is None else pool
        if count > len(pool):
            raise UserError(f"executor.gpus={said}, and there are {len(pool)} here{_listed(pool)}.")
        return tuple(pool[:count])
    wanted = [name for name in said.split(",") if name]
    if len(set(wanted)) < len(wanted):
        raise UserError(f"executor.gpus={said} names a GPU twice.")
    if pool is None:
        return tuple(map(_made_up, wanted))
    known = {name: card for card in pool for name in (card.key, card.name)}
    for name in wanted:
        if name not in known:
            near = nearest(name, [card.name for card in pool])
            raise UserError(f"executor.gpus={said}: there is no GPU '{name}' here. {near}")
    return tuple(known[name] for name in wanted)


def _listed(cards: Sequence[Card]) -> str:
    return f" ({', '.join(card.name for card in cards)})" if cards else ""


def _made_up(name: str) -> Card:
    return Card(name=name, key=name)


def _named(names: Iterable[str], there: Sequence[Card]) -> list[Card]:
    """Those that CUDA would show: up to the first name that is none, each once."""
    named: list[Card] = []
    for name in names:
        if name.isdigit():
            fitting = [card for card in there if card.name == name]
        else:  # CUDA takes as much of a UUID as tells it from others
            fitting = [card for card in there if card.key.startswith(name)]
        if len(fitting) != 1 or fitting[0].key in [card.key for card in named]:
            break
        named.append(Card(name=name, key=fitting[0].key, uuid=fitting[0].uuid))
    return named


def _there() -> list[Card]:
    """All GPUs of this machine, as nvidia-smi numbers them; of one that is split its MIG devices."""
    devices = glob.glob("/dev/nvidia[0-9]*")
    if not devices and shutil.which("nvidia-smi") is None:
        return []
    cards: list[Card] = []
    whole: Card | None = None
    for line in (_smi("-L") or "").splitlines():
        if gpu := _GPU.match(line):
            whole = Card(name=gpu[1], key=gpu[2], uuid=gpu[2])
            cards.append(whole)
        elif part := _PART.match(line):
            if cards[-1] == whole:
                cards.pop()
            cards.append(Card(name=part[1], key=part[1]))
    numbers = sorted(int(path.removeprefix("/dev/nvidia")) for path in devices)
    return cards or [Card(name=str(place), key=f"nvidia{number}") for place, number in enumerate(numbers)]


def _smi(*arguments: str) -> str | None:
    """What nvidia-smi says; None where it cannot be asked."""
    try:
        done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=SMI_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def folder_of_locks() -> Path:
    """Where the locks of this user's commands lie. Not TMPDIR, nor what a login session has: commands differ in them.

    Raises `UserError` where somebody else has made it.
    """
    said = os.environ.get(FOLDER)
    folder = Path(said) if said else Path("/tmp", f"nemo-distill-gpus-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, parents=bool(said), exist_ok=True)
        there = folder.lstat()
    except OSError as error:
        raise UserError(f"{folder}, for the locks of GPUs, cannot be made: {error.strerror}. Say {FOLDER}.") from None
    others = 0 if said else there.st_mode & 0o077
    if folder.is_symlink() or there.st_uid != os.getuid() or others:
        raise UserError(
            f"{folder}, for the locks of GPUs, is another's, or open to others: remove it, or say {FOLDER}."
        )
    return folder


class Deck:
    """Deals out `cards`, each to one step at a time among all commands of this user."""

    def __init__(self, cards: Sequence[Card], *, numbered: bool = False):
        """`numbered`: their names are nvidia-smi's numbers, and no user's."""
        self.cards, self.numbered = tuple(cards), numbered
        self.busy: dict[str, str] = {}
        """By name of a GPU why it could not be had when one was last asked for."""
        self._folder = folder_of_locks() if cards else Path()
        self._held: dict[str, int] = {}

    @property
    def free(self) -> int:
        """How many this command does not have in use."""
        return len(self.cards) - len(self._held)

    def take(self, count: int, *, most: int = 0) -> tuple[Card, ...] | None:
        """So many of them, all or none: None where fewer can be had now. Up to `most` where more can be."""
        self.busy = {}
        in_use = self._in_use()
        taken: list[Card] = []
        with contextlib.ExitStack() as undone:
            for card in self.cards:
                if card.key in self._held or len(taken) == max(count, most):
                    continue
                if card.uuid in in_use:
                    self.busy[card.name] = in_use[card.uuid]
                elif (lock := self._lock(card)) is not None:
                    undone.callback(self._release, card)
                    self._held[card.key] = lock
                    if _alive_with(self._path(card)):
                        self.busy[card.name] = "processes of a command that was killed are still ending"
                        self._release(card)
                    else:
                        taken.append(card)
            if len(taken) < count:
                return None
            undone.pop_all()
        return tuple(taken)

    def give_back(self, cards: Iterable[Card]) -> None:
        """Have them free again."""
        for card in cards:
            self._release(card)

    def close(self) -> None:
        """Give all back."""
        self.give_back(self.cards)

    def variables(self, cards: Sequence[Card]) -> dict[str, str]:
        """What a step with these, or with none, is started with."""
        return {
            VISIBLE: ",".join(card.name for card in cards),
            LOCKS: os.pathsep.join(str(self._path(card)) for card in cards),
            **({ORDER: "PCI_BUS_ID"} if self.numbered else {}),  # CUDA's own begins with the fastest
        }

    def _in_use(self) -> dict[str, str]:
        """By UUID of a GPU that this command does not have, how much of its memory somebody else has."""
        if not any(card.uuid and card.key not in self._held for card in self.cards):
            return {}
        said = _smi("--query-gpu=uuid,memory.used,memory.total", "--format=csv,noheader,nounits") or ""
        found = {}
        for line in said.splitlines():
            with contextlib.suppress(ValueError):  # "[N/A]" of some
                uuid, used, total = line.split(", ")
                if int(used) > max(TAKEN_MIB, TAKEN_SHARE * int(total)):
                    found[uuid] = f"{int(used) / 1024:.1f} GiB of its memory are in use"
        return found

    def _path(self, card: Card) -> Path:
        return self._folder / card.key.replace("/", "_")

    def _lock(self, card: Card) -> int | None:
        """Number of the open file whose lock this process holds from now on; None where another holds it."""
        lock = os.open(self._path(card), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.busy[card.name] = f"process {os.pread(lock, 20, 0).decode(errors='replace') or '?'} has it"
            os.close(lock)
            return None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return lock

    def _release(self, card: Card) -> None:
        if (lock := self._held.pop(card.key, None)) is not None:
            os.close(lock)


def _alive_with(lock: Path) -> bool:
    """Whether a process is alive that was started with the GPU of this lock."""
    return bool(started_with(LOCKS, lambda value: str(lock) in value.split(os.pathsep)))


class Waiting:
    """Says once, and again when it changes, what steps wait for."""

    def __init__(self, say: Callable[[str], None]):
        self.say = say
        self._said: dict[str, str] = {}
        self._until: dict[str, float] = {}
        self._asked: dict[str, int] = {}

    def due(self, step: str) -> bool:
        """Whether to ask again for the step."""
        return time.monotonic() >= self._until.get(step, 0.0)

    def note(self, step: str, count: int, deck: Deck) -> None:
        """The step got none of the `count` GPUs it takes."""
        self._asked[step] = self._asked.get(step, 0) + 1
        self._until[step] = time.monotonic() + RETRY_SECONDS * random.uniform(1, 1.5)  # no two commands in step
        reasons = "; ".join(f"{name}: {why}" for name, why in deck.busy.items())
        sentence = f"{step} waits for {count} of {len(deck.cards)} GPUs ({reasons})."
        if self._asked[step] > 1 and deck.busy and self._said.get(step) != re.sub(r"[\d.]+ GiB", "", sentence):
            self._said[step] = re.sub(r"[\d.]+ GiB", "", sentence)
            self.say(sentence)
