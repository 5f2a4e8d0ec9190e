"""Runs a program that a model wrote against its tests, by itself, inside a sandbox and nowhere else.

    passes(source, "assert f(2) == 4")          # True where it ends well, all tests passed, within `SECONDS`

The sandbox (`evaluator.harness.bubblewrap`) says that it is there by `SANDBOX` in the environment; without it nothing
is executed. It names the module that runs a program apart (`evaluator.harness.apart`), so that it can change nothing of
what is judged beside it. That it has come to its end is told by a word that it is not shown: one that ends itself
before its tests has not passed them.
"""

import importlib
import json
import os
import secrets
import subprocess
import sys

SANDBOX = "NEMO_DISTILL_SANDBOX"
"""Environment variable that is set inside a sandbox, to the name of the module that runs a command apart."""
SECONDS = 10
"""Longest that a program may take."""
_DRIVER = """
import json, sys
word, *sources = json.loads(sys.stdin.readline())
names = {"__name__": "__main__"}
for source in sources:
    exec(compile(source, "answer", "exec"), names)
sys.__stdout__.write("\\n" + word)
"""


def passes(source: str, tests: str) -> bool:
    """Whether `tests`, statements that raise where something is wrong, run to their end after `source`.

    Raises `NotShutIn` where that was not tried.
    """
    apart = os.environ.get(SANDBOX)
    if not apart:
        raise RuntimeError("a model's program is executed in a sandbox only, and this is none.")
    word = secrets.token_hex(16)
    try:
        ran = importlib.import_module(apart).run_apart(
            [sys.executable, "-I", "-c", _DRIVER],
            input=json.dumps([word, source, tests]) + "\n",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return False
    return ran.returncode == 0 and ran.stdout.endswith("\n" + word)
