"""Two users of one group, who share a folder; they are Debian's own `games` and `news`, so none has to be made.

    with visible_to_all(sys.base_prefix, sys.prefix, scratch=folder) as within:
        Cluster(folder, within=within)                       # whose jobs may be anybody's
        as_user("games", [sys.executable, "-V"], within=within)

Python and the packages may lie where only root gets (/root). In a mount namespace of its own, in which the cluster and
the users' commands are started, every folder on the way to them lets everybody through; the machine's stay as they are.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

USERS, GROUP = ("games", "news"), "users"
# Where $1 lets nobody through, another folder is put that does, and in it, at their places, $2 and so on.
_OPEN = """
set -e
hidden=$1; shift
mkdir "$KEEP"
mount --bind "$hidden" "$KEEP"
mount -t tmpfs -o mode=755 none "$hidden"
for path in "$@"; do mkdir -p "$path"; mount --bind "$KEEP${path#"$hidden"}" "$path"; done
umount "$KEEP"
rmdir "$KEEP"
"""


@contextlib.contextmanager
def visible_to_all(*paths: str | Path, scratch: Path) -> Iterator[list[str]]:
    """Words that start a command, put before it, where everybody gets to `paths`; there may be none.

    Raises OSError where this machine does not let us.
    """
    behind: dict[Path, list[Path]] = {}
    for path in {Path(path).resolve() for path in paths}:
        for above in reversed(path.parents):
            if not above.stat().st_mode & 0o001:
                behind.setdefault(above, []).append(path)
                break
    if not behind:
        yield []
        return
    script = "".join(
        f"( set -- {' '.join(map(str, [hidden, *found]))}; KEEP={scratch}/keep; {_OPEN} ) || exit 1\n"
        for hidden, found in behind.items()
    )
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{script}echo ready; exec sleep infinity"]
    holder = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said = holder.stdout.readline()
        if said != "ready\n":
            raise OSError(f"no mount namespace here: {said.strip()}")
        yield ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"]
    finally:
        holder.kill()
        holder.wait()


def as_user(name: str, words: list[str], *, within: list[str], cwd: Path, env: dict[str, str]) -> subprocess.Popen:
    """Start `words` in `cwd` as the user `name`, with the umask that users have and `env` beside the environment."""
    identity = ["setpriv", f"--reuid={name}", f"--regid={GROUP}", "--clear-groups", "env", f"--chdir={cwd}"]
    return subprocess.Popen(
        [*within, *identity, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        umask=0o022,
        env=os.environ | {"USER": name, "LOGNAME": name} | env,
    )
