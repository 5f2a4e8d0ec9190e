"""Ends child processes with the process that started them, even one that is killed with no chance to clean up.

    subprocess.Popen(command, preexec_fn=die_with_parent())

A step that is killed leaves a server and an evaluation behind otherwise, which write into the folder of its next run.
"""

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def die_with_parent() -> Callable[[], None]:
    """A `preexec_fn` by which the child gets SIGTERM when the thread that started it ends; Linux only."""
    parent = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork, where little is safe

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)

    return in_child
