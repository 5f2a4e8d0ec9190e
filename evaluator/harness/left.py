"""Looks at what an evaluation left without following links: whoever wrote it may have laid them.

    refuse_links(folder)                 # ValueError: '.../1.1.txt' is a link out of the evaluation's folder: ...
    last_lines(folder / "log.txt")       # empty where that is no file of the folder itself

Code that runs in a sandbox can write its evaluation's folder. A link there leads nowhere inside the sandbox, but
outside, where answers are read, it would lead to the user's own files and put them among the prompts.
"""

import contextlib
import os
import stat
from pathlib import Path

READ_BYTES = 2**16
"""Bytes at the end of a file that are read for its last lines."""


def refuse_links(folder: Path) -> None:
    """Raise ValueError naming what in `folder` leads out of it, or is neither a file nor a folder.

    To be called when nothing writes there any more.
    """
    home = folder.resolve()
    for where, folders, names in os.walk(folder, followlinks=False):
        for path in (Path(where, name) for name in (*folders, *names)):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                with contextlib.suppress(OSError, RuntimeError):  # a circle leads nowhere
                    if path.exists() and not path.resolve().is_relative_to(home):
                        raise ValueError(f"'{path}' is a link out of the evaluation's folder: nothing there is read.")
            elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ValueError(f"'{path}' is neither a file nor a folder: nothing there is read.")


def last_lines(path: Path, *, most: int = READ_BYTES) -> str:
    """The end of a file's text; empty where it is none, a link say."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with open(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            return ""
        file.seek(max(0, os.fstat(number).st_size - most))
        return file.read(most).decode("utf-8", errors="replace")
