"""Ends whatever a command has started with the command, even one that is killed.

    with ending_with_this() as variables:            # of the environment that its processes are started with
        subprocess.Popen(command, env=environment | variables)

A process beside the command waits for its end. It then ends what bears the command's mark in its environment, as all
descendants of a step do, of whichever session and process group: first the steps by SIGTERM, as Ctrl-C does, and after
`GRACE_SECONDS` all that are left by SIGKILL, so also one that is in C code, where no signal is heard. A process that is
to outlive the command is started without the mark.

This file is also run by itself, without the package, so that it takes no time: `python ending.py MARK`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator

VARIABLE = "NEMO_DISTILL_COMMAND"
"""Environment variable with the mark of the command that a process belongs to."""
GRACE_SECONDS = 10.0
"""What processes have to end by themselves; torchx gives as much after Ctrl-C."""
LOOK_SECONDS = 0.1
"""Between two looks whether they have."""


@contextlib.contextmanager
def ending_with_this() -> Iterator[dict[str, str]]:
    """Within the block there is a process that ends, with this one, those that have the variables it gives.

    When the block ends, what it has left behind is ended, and waited for.
    """
    mark = uuid.uuid4().hex
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    keeper = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",
        start_new_session=True,
    )
    assert keeper.stdin
    try:
        yield {VARIABLE: mark}
    finally:
        keeper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            keeper.wait(GRACE_SECONDS + 5)


def end(mark: str, *, grace_seconds: float = GRACE_SECONDS) -> None:
    """End the processes that have the mark; returns when there is none any more."""
    for process in _roots(marked(mark)):
        _signal(process, signal.SIGTERM)
    until = time.monotonic() + grace_seconds
    while left := marked(mark):
        if time.monotonic() > until:
            for process in left:
                _signal(process, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)


def marked(mark: str) -> dict[int, int]:
    """Processes that were started with the mark, each with its parent; those that only wait to be reaped are none."""
    return started_with(VARIABLE, lambda value: value == mark)


def started_with(variable: str, wanted: Callable[[str], bool]) -> dict[int, int]:
    """Processes that were started with such a value of the environment's variable, as `marked` has them."""
    found = {}
    named = f"{variable}=".encode()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # ended meanwhile, or another user's
            with open(f"/proc/{name}/environ", "rb") as file:
                said = (one for one in file.read().split(b"\0") if one.startswith(named))
            if not any(wanted(os.fsdecode(one[len(named) :])) for one in said):
                continue
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
            if state not in (b"Z", b"X"):
                found[int(name)] = int(parent)
    return found


def _roots(found: dict[int, int]) -> list[int]:
    """Those that none of the others has started, but for one that steps are forked from, which ends with its forks."""
    return [process for process, parent in found.items() if parent not in found and not _serves(process)]


def _serves(process: int) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{process}/cmdline", "rb") as file:
        return b"--serve" in file.read().split(b"\0")
    return False


def _signal(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, number)


if __name__ == "__main__":
    sys.stdin.buffer.read()  # ends when the command has
    end(sys.argv[1])
