"""Copies what a process and its children write to a log as well, with secrets starred on the way.

    with copied_output(folder / "log.txt"):
        ...                                     # to the log, and to where standard output went before
    with redirected_output(folder / "log-1.txt"):
        ...                                     # to the log alone

A process of its own does it (`nemo_distill.run.copier`), below Python: it also catches what C libraries print, and
drains what was written when the writer is killed.
"""

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

from nemo_distill.run.inside import opened

COPIER = Path(__file__).with_name("copier.py")
COPIED_SECONDS = 10.0
"""What it has, at most, to copy what was written."""
END_SECONDS = 0.3
"""What the copying process has to end, once this one writes no more. A child that goes on writing keeps it."""


@contextlib.contextmanager
def copied_output(log: Path) -> Iterator[None]:
    """Copy what this process and its children write to standard output and error to `log` as well."""
    with _starred_into(log, None):
        yield


@contextlib.contextmanager
def redirected_output(log: Path) -> Iterator[None]:
    """Send what this process and its children write to standard output and error to `log` instead."""
    with _starred_into(log, subprocess.DEVNULL):
        yield


@contextlib.contextmanager
def _starred_into(log: Path, stdout: int | None) -> Iterator[None]:
    process = copier(log, stdout=stdout)
    assert process.stdin
    try:
        with _output_into(process.stdin.fileno()):
            process.stdin.close()
            try:
                yield
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                _wait_until_copied(process)
    finally:
        # A child still running keeps the pipe open (Megatron's checkpoint writer does, until the interpreter ends);
        # the log is then complete but for what that child adds.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=END_SECONDS)


def _wait_until_copied(process: subprocess.Popen) -> None:
    """Wait until nothing is left in the pipe, standard output, and the copying process waits for more.

    Who reads the log of a step that has ended finds it whole, on a machine that is busy as well.
    """
    ends = time.monotonic() + COPIED_SECONDS
    while process.poll() is None and time.monotonic() < ends:
        left = struct.unpack("i", fcntl.ioctl(1, termios.FIONREAD, b"\0" * 4))[0]
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
            if not left and state == b"S":
                return
        time.sleep(0.005)


def copier(log: Path, *, stdout: int | None = subprocess.DEVNULL) -> subprocess.Popen:
    """A process that appends its standard input, starred, to `log`, and writes it to `stdout`, until it ends."""
    with opened(log, "ab") as file:  # by its descriptor: what has its name by now may be a link
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(COPIER), str(file.fileno())],
            stdin=subprocess.PIPE,
            stdout=stdout,
            start_new_session=True,
            pass_fds=[file.fileno()],
        )


@contextlib.contextmanager
def _output_into(descriptor: int) -> Iterator[None]:
    """Within the block, standard output and error go to the open file `descriptor`, which may then be closed."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(before[0], 1)
        os.dup2(before[1], 2)
        os.close(before[0])
        os.close(before[1])
