"""Runs Python on a copy of the code that is this job's alone: `python -I -c THIS DIGEST FOLDER ARGUMENTS...`

The copy in the runs folder (`nemo_distill.launch.slurm.snapshot`) may be the group's to write, and a job begins hours
after its launch. So a job's script, which Slurm has kept since, holds this text and the digest of every byte of the
copy. What is read is hashed and, if that is it, written into a folder of the node that nobody else can write, from
which Python is run with ARGUMENTS; afterwards the folder is removed. Standard library only: nothing else is believed
yet.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping

MOST_BYTES = 2**28
"""Bytes of the whole copy; what is above is none."""
EXIT_REFUSED = 66
"""As a step that does not start (`nemo_distill.run.process`)."""


def files_in(folder: str) -> dict[str, bytes]:
    """What every file below `folder` holds, by its path in it. Raises OSError or ValueError where there is anything
    but files and folders; nothing is followed or waited for."""

    def fail(error: OSError) -> None:
        raise error

    found: dict[str, bytes] = {}
    left = MOST_BYTES
    for where, folders, names in os.walk(folder, onerror=fail):
        for path in (os.path.join(where, name) for name in folders):
            if os.path.islink(path):
                raise ValueError(f"{path} is a link")
        for path in (os.path.join(where, name) for name in names):
            number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(number, "rb") as file:
                if not stat.S_ISREG(os.fstat(number).st_mode):
                    raise ValueError(f"{path} is no file")
                content = file.read(left + 1)
            left -= len(content)
            if left < 0:
                raise ValueError(f"{folder} holds more than {MOST_BYTES:,} bytes")
            found[os.path.relpath(path, folder)] = content
    return found


def digest_of(files: Mapping[str, bytes]) -> str:
    """64 hex digits that stand for every byte and name of `files`."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(os.fsencode(name) + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()


def main(expected: str, folder: str, arguments: list[str]) -> int:
    """Run Python with `arguments` on a copy of `folder`, if its digest is `expected`; returns how it ended."""
    try:
        files = files_in(folder)
        found = digest_of(files)
    except (OSError, ValueError) as error:
        files, found = {}, str(error)
    if found != expected:
        why = "it was changed since" if files else found
        said = f"{folder} is not the code that was launched: {why}. Remove it and give the command again."
        print(said, file=sys.stderr, flush=True)
        return EXIT_REFUSED
    own = tempfile.mkdtemp(prefix="nemo-distill-")  # of mode 0700
    try:
        for name, content in files.items():
            path = os.path.join(own, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as file:
                file.write(content)
        more = filter(None, [os.environ.get("PYTHONPATH")])
        os.environ["PYTHONPATH"] = os.pathsep.join([own, os.path.join(own, "evaluator"), *more])
        os.environ["PYTHONSAFEPATH"] = "1"
        for number in (signal.SIGTERM, signal.SIGINT):  # Slurm sends them to both: the folder is removed afterwards
            signal.signal(number, lambda *_: None)
        process = subprocess.Popen([sys.executable, *arguments])
        return process.wait()
    finally:
        shutil.rmtree(own, ignore_errors=True)


if __name__ == "__main__":
    code = main(sys.argv[1], sys.argv[2], sys.argv[3:])
    if code < 0:  # as the other was ended
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)
