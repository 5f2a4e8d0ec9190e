"""A step for the tests of forking: says what its process is like, waits, spawns, or ends badly, as its config says."""

import json
import multiprocessing
import os
import random
import signal
import sys
import time

VERSION = 1
IMPORTS = ("imported_for_tests",)


def main(spec) -> None:
    """Config, all of which may be left out: `wait` (for a signal), `gate` (a file to wait for), `spawn`, and `fail`:
    "error", "killed" or "exit".
    """
    state = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "group": os.getpgrp(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "umask": os.umask(0o22),
        "argv": sys.argv,
        "path": sys.path,
        "main": sys.modules["__main__"].__spec__.name,
        "random": [random.random()],
        "handlers": {n: str(signal.getsignal(n)) for n in signal.valid_signals() if n != signal.SIGTERM},
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "input": sys.stdin.read() if not sys.stdin.isatty() else None,
        "imported": "imported_for_tests" in sys.modules,
    }
    if numpy := sys.modules.get("numpy"):
        state["random"].append(numpy.random.random())
    print("to standard output", flush=True)
    print("to standard error", file=sys.stderr, flush=True)
    if spec.config.get("spawn"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            state["spawned"] = pool.apply(modules_here)
    (spec.folder / "state.json").write_text(json.dumps(state))
    while (gate := spec.config.get("gate")) and not os.path.exists(gate):
        time.sleep(0.05)
    if spec.config.get("wait"):
        time.sleep(120)
    if spec.config.get("fail") == "error":
        raise RuntimeError("the disk of the tests is full")
    if spec.config.get("fail") == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if spec.config.get("fail") == "exit":
        os._exit(7)


def modules_here() -> list[str]:
    """Called in a spawned process: which modules of the project it has loaded."""
    return sorted(name for name in sys.modules if name.startswith(("nemo_distill", "imported_for_tests")))
