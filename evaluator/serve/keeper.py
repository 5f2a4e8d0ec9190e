"""Starts a command and ends all that it started, once it, this process or the one that started this has ended.

    python -m evaluator.serve.keeper vllm serve hf --port 8000

vLLM is several processes: an API server or more, and an engine for every GPU. One that is killed leaves the others
behind, with the GPUs' memory. So this one stands between: it is made the parent of orphans below it, gets SIGTERM when
its own parent ends (`evaluator.serve.processes.die_with_parent`), and asks everything below it to end, then kills it.
Its exit code is the command's. Should this process itself be killed, the command gets SIGTERM, and whoever started
this ends what is left (`end_session`). The command may be of another environment: what makes Python look into this one
is not passed on.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

from evaluator.serve.processes import GRACE_SECONDS, adopt_orphans, below, die_with_parent

OWN = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "VIRTUAL_ENV")
"""Environment variables that say where this Python finds its packages."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(command: list[str]) -> int:
    """Run `command` until it ends or this process is told to; what it returns is the exit code."""
    adopt_orphans()
    for signum in SIGNALS:
        signal.signal(signum, lambda number, _: sys.exit(128 + number))
    child = None
    try:
        environment = {name: value for name, value in os.environ.items() if name not in OWN}
        child = subprocess.Popen(command, env=environment, preexec_fn=die_with_parent())
        code = child.wait()
        return code if code >= 0 else 128 - code
    finally:
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_IGN)
        _end(child)


def _end(child: subprocess.Popen | None) -> None:
    """Have everything below this process end: the command by itself, where it still runs, what is left by force."""
    if child and child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)
    deadline = time.monotonic() + GRACE_SECONDS
    while (left := below(os.getpid())[1:]) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
