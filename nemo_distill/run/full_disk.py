"""Tells a disk that is full, or a quota that is used up, from other errors, and from what a log says.

try:
    ...
except OSError as error:
    if is_full(error):
        say_error(why_full(folder))
"""

import errno
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from nemo_distill.run.sharing import nearest_there

SAID = re.compile(r"No space left on device|disk is full|Disk quota exceeded", re.IGNORECASE)
"""What libraries and programs say of it."""
_SMALL = 64 * 1024
"""Bytes of a small file."""


def is_full(error: BaseException) -> bool:
    """Whether there was no room for what was to be written."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_used_up(folder: Path) -> bool:
    """Whether the disk of `folder` has next to nothing free; a quota is not known before something is written."""
    free = _free(folder)
    return free is not None and free < _SMALL


def has_no_room(folder: Path) -> bool:
    """Whether not even a small file can be written in `folder`, or where it would be made, for want of room."""
    if is_used_up(folder):
        return True
    try:
        with tempfile.TemporaryFile(dir=nearest_there(folder)) as file:
            file.write(os.urandom(_SMALL))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return is_full(error)
    return False


def why_full(folder: Path) -> str:
    """The sentence on the disk, or quota, that `folder` is on."""
    if is_used_up(folder):
        return f"no space left on device: the disk that holds {folder} is full."
    return f"no space left on device: the disk that holds {folder} is full, or a quota there is used up."


def _free(folder: Path) -> int | None:
    """Bytes that a user may still write; None where that is not known."""
    try:
        found = os.statvfs(nearest_there(folder))
    except OSError:
        return None
    return found.f_bavail * found.f_frsize if found.f_blocks else None


def said_full(lines: Iterable[str]) -> str | None:
    """The last of `lines` that says so; None: none does."""
    return next((line.strip() for line in reversed([*lines]) if SAID.search(line)), None)
