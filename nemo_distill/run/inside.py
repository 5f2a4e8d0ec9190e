"""What is read and written of a runs folder stays in it, whoever of its group has put something there.

    folder_of_step(Path("runs/prune/5b1c0d3e9a77"))       # refuses a link, and whatever lies elsewhere
    with opened(folder / "log.txt", "ab") as log: ...      # refuses a link, and a pipe that would be waited for

A name in a run's file is a name and never a path, and a module is one of this package's steps: what a file of the
folder says is never a way out of it.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nemo_distill.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What steps and runs may be called: their names become folders, files and job names."""
STEPS = "nemo_distill.steps."
"""What the name of a step's module begins with."""
OTHER_STEPS = "NEMO_DISTILL_STEPS"
"""Environment variable: names of further modules that steps may be of, with commas between them."""
RECORD_BYTES = 2**26
"""Most bytes of a run's file, a spec, a mark."""
PASSED_BY = ("started_in",)
"""Folders that a harness is started in, which hold links to data sets while it runs (`evaluator.harness`)."""


def check_name(name: object, what: str) -> str:
    """`name`, which a file gives to `what`. Raises `UserError` where it could be more than a name."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"{what} is called {name!r}, and letters, digits, '.', '_' and '-' make a name.")
    return name


def check_module(module: object) -> str:
    """`module`, which a file gives to a step. Raises `UserError` where it is none of this package's steps."""
    ours = isinstance(module, str) and module.startswith(STEPS) and module.removeprefix(STEPS).isidentifier()
    if not ours and module not in os.environ.get(OTHER_STEPS, "").split(","):
        raise UserError(f"{module!r} is no module of {STEPS.rstrip('.')}, and no other is run.")
    assert isinstance(module, str)
    return module


def folder_of_step(folder: Path) -> Path:
    """`folder`, RUNS/NAME/FINGERPRINT, with links on the way to RUNS followed. Raises `UserError` for any further."""
    folder = Path(os.path.abspath(folder))
    for part in (folder.parent, folder):
        check_name(part.name, f"the folder {part}")
        if part.is_symlink():
            raise UserError(f"{part} is a link to {os.readlink(part)}, out of the runs folder perhaps: remove it.")
    return folder.parents[1].resolve() / folder.parent.name / folder.name


def folder_in(runs: Path, said: object) -> Path:
    """The folder in the runs folder `runs` that a file calls `said`, NAME/FINGERPRINT. Raises `UserError`."""
    parts = said.split("/") if isinstance(said, str) else []
    if len(parts) != 2 or not all(map(NAME.fullmatch, parts)):
        raise UserError(f"{said!r} is no NAME/FINGERPRINT in {runs}.")
    return folder_of_step(runs.joinpath(*parts))


def links_out(folder: Path) -> Iterator[Path]:
    """Links below the folder of a step that lead out of its runs folder."""
    runs = folder.parents[1].resolve()
    for where, folders, files in os.walk(folder):
        for path in (Path(where, name) for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(runs):
                yield path
        folders[:] = [name for name in folders if name not in PASSED_BY]


def leaves(path: Path, folder: Path) -> bool:
    """Whether `path`, below the folder of a step, is elsewhere in truth: out of the runs folder, behind a link."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder.parents[1]))


def opened(path: Path, mode: str) -> IO[Any]:
    """`path`, opened as `open` does in binary `mode`; raises OSError where it is a link (ELOOP), or no file: a pipe
    that somebody has put there would be waited for."""
    assert "b" in mode
    return open(path, mode, opener=_open_file)


def text_of(path: Path) -> str:
    """What a record of a runs folder says. Raises OSError as `opened` does, or where it is too large to be one."""
    with opened(path, "rb") as file:
        content = file.read(RECORD_BYTES + 1)
    if len(content) > RECORD_BYTES:
        raise OSError(errno.EFBIG, f"it holds more than {RECORD_BYTES:,} bytes", str(path))
    return content.decode("utf-8")


def _open_file(name: str, flags: int) -> int:
    number = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode):
        os.close(number)
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, "it is no file", name)
    return number
