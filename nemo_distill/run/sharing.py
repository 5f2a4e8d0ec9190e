"""Runs folders of a group: what one of its users begins, another goes on with.

A folder that gives its group to what is made in it, and that the group may write (`chmod g+ws`), is shared. What this
process, its children and its jobs write then stays writable to the group, whatever the user's umask says.
"""

import hashlib
import os
import stat
from pathlib import Path

GROUP = "umask g=rwx; export SLURM_UMASK=$(umask)"
"""What `share` does, as lines of a job's script: through a tunnel, the umask of a job is the other host's."""


RECORDS = ".nemo-run"
"""Folder of NeMo-Run's own records, in the runs folder or in a user's home."""


def nearest_there(folder: Path) -> Path:
    """`folder` or, while it is not there, the nearest of those it will be made in."""
    return next(above for above in (folder, *folder.parents) if above.exists())


def is_shared(folder: Path) -> bool:
    """Whether users of a group share `folder` or, while it is not there, what it will be made in."""
    there = nearest_there(folder)
    wanted = stat.S_ISGID | stat.S_IWGRP
    return there.stat().st_mode & wanted == wanted


def share(folder: Path) -> None:
    """Have this process and its children leave the group its rights to what they write, if `folder` is shared."""
    if is_shared(folder):
        os.umask(os.umask(0o077) & ~0o070)


def records_of(folder: Path) -> Path:
    """Where NeMo-Run keeps its records of what this user launches in the runs folder, NEMORUN_HOME aside.

    That of a group is no place for them: who may write a folder may rename what lies in it, whosever that is, and put
    a job's script of his own in the place of one that is just being queued. Those are in the user's home.
    """
    if not is_shared(folder):
        return folder / RECORDS
    digest = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:12]
    return Path.home() / RECORDS / f"{folder.name}-{digest}"


def whom_it_trusts(folder: Path) -> str:
    """The sentence on whom a shared folder trusts, for the user who has no run in it yet; empty for any other."""
    if not is_shared(folder) or any(path.stat().st_uid == os.geteuid() for path in folder.glob("*.json")):
        return ""
    return (
        f"{folder} is shared with the group {nearest_there(folder).group()}: whoever is in it can change what your "
        "runs read and write there, and so what comes of them; share it with people whom you trust (docs/security.md)."
    )


def unwritable(error: OSError, runs: Path) -> str:
    """The sentences on what could not be written in the folder `runs`, and on what to do where it is another user's."""
    path = Path(os.fsdecode(error.filename2 or error.filename or runs))
    advice = how_to_share(path) if isinstance(error, PermissionError) else ""
    return f"{path} cannot be written: {error.strerror}.{advice}"


def how_to_share(path: Path) -> str:
    """What the owner of `path`, or of what it was to be made in, would do to share it; empty where we are the owner."""
    there = nearest_there(path)
    if there.stat().st_uid == os.geteuid():
        return ""
    return f" It belongs to {there.owner()}, who may share it with a group: `chgrp -R GROUP`, `chmod -R g+ws`."
