"""Kernel locks on files, which die with their process, so that `kill -9` leaves none behind.

with held(folder / ".lock", waiting=lambda: print("waiting")):
    ...
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from nemo_distill.errors import UserError
from nemo_distill.run.sharing import unwritable

SHARED_MODE = 0o664
"""Of lock files, as far as the umask allows: another user of the group may go on from here."""


@contextlib.contextmanager
def held(path: Path, *, waiting: Callable[[], None], poll_seconds: float = 0.5) -> Iterator[None]:
    """Hold the lock `path`, its folder made if need be; while another process holds it, call `waiting` and wait."""
    lock = taken(path)
    if lock is None:
        waiting()
        lock = FileLock(path, mode=SHARED_MODE)
        lock.acquire(poll_interval=poll_seconds)
    try:
        yield
    finally:
        lock.release()


def taken(path: Path) -> FileLock | None:
    """The lock `path`, its folder made if need be, held from now on; None while another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, mode=SHARED_MODE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


@contextlib.contextmanager
def held_in(runs: Path, name: str, *, waiting: Callable[[], None], poll_seconds: float = 0.5) -> Iterator[None]:
    """As `held`, of the lock `name` in a runs folder; raises `UserError` when that cannot be written."""
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(held(runs / name, waiting=waiting, poll_seconds=poll_seconds))
        except OSError as error:
            raise UserError(unwritable(error, runs)) from None
        yield
