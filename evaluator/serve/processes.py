"""Ends child processes with the process that started them, even one that is killed with no chance to clean up.

    subprocess.Popen(command, preexec_fn=die_with_parent())

    process = subprocess.Popen(kept(["vllm", "serve", ...]), start_new_session=True, env=os.environ | {MARK: "runs/x"},
                               preexec_fn=die_with_parent())
    end_session(process, mark="runs/x")              # nothing is left of it, whichever of its processes was killed

A step that is killed leaves a server and an evaluation behind otherwise, which write into the folder of its next run.
A server that has processes of its own is started through `evaluator.serve.keeper`, which ends them all.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
MARK = "EVALUATOR_SERVES"
"""Environment variable by which a server's processes are known, whoever their parent is by now."""
KEEP_ENVIRONMENT = {"SPT_NOENV": "1"}
"""Has processes that name themselves by setproctitle, as vLLM's do, leave their environment to be read."""
GRACE_SECONDS = 15.0
"""What a server has to end by itself."""


class ProgramFailed(RuntimeError):
    """A server or an evaluation that was started has failed; the text is a sentence, with the end of a log where there
    is one. The same may work later."""


def die_with_parent() -> Callable[[], None]:
    """A `preexec_fn` by which the child gets SIGTERM when the thread that started it ends; Linux only."""
    parent = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork, where little is safe

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)

    return in_child


def adopt_orphans() -> None:
    """Become the parent of whatever is left by processes below this one."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1)


def kept(command: Sequence[str]) -> list[str]:
    """`command` with a process around it that ends all which it starts (`evaluator.serve.keeper`)."""
    return [sys.executable, "-P", "-m", "evaluator.serve.keeper", *command]


def below(root: int) -> list[int]:
    """The process `root` and all that descend from it, parents first."""
    children: dict[int, list[int]] = {}
    for process in _processes():
        with contextlib.suppress(OSError, ValueError, IndexError):
            children.setdefault(int(_status(process)[1]), []).append(process)
    found, left = [], [root]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def end_session(process: subprocess.Popen, *, mark: str) -> None:
    """End `process`, the leader of a session, and all of that session and of this `mark`."""
    process.terminate()
    try:
        process.wait(2 * GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    end_all(lambda: [*in_session(process.pid), *marked(mark)])


def end_marked(mark: str) -> None:
    """End what an earlier server of this `mark` has left, if anything."""
    end_all(lambda: marked(mark))


def end_all(left: Callable[[], Iterable[int]], *, seconds: float = 10) -> None:
    """Kill what `left()` names until it names nothing, or for so long."""
    deadline = time.monotonic() + seconds
    while (found := set(left()) - {os.getpid()}) and time.monotonic() < deadline:
        for process in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def in_session(leader: int) -> list[int]:
    """The live processes of a session."""
    found = []
    for process in _processes():
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = _status(process)
            if int(status[3]) == leader and status[0] not in (b"Z", b"X"):
                found.append(process)
    return found


def marked(mark: str) -> list[int]:
    """The live processes, of this user, in whose environment `MARK` is this."""
    found, wanted = [], f"{MARK}={mark}".encode()
    for process in _processes():
        with contextlib.suppress(OSError), open(f"/proc/{process}/environ", "rb") as file:
            if wanted in file.read().split(b"\0"):
                found.append(process)
    return found


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _status(process: int) -> list[bytes]:
    """State, parent, process group, session, ... of a process."""
    with open(f"/proc/{process}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()
