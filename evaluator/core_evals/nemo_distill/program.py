"""Runs a program that a model wrote against its tests, in a process of its own, inside a sandbox and nowhere else.

    passes(source, "assert f(2) == 4")          # True where it ends well, all tests passed, within `SECONDS`

The sandbox (`evaluator.harness.bubblewrap`) says that it is there by `SANDBOX` in the environment; without it nothing
is executed. That a program has come to its end is told by a word that it is not shown: one that ends itself before its
tests has not passed them.
"""

import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

SANDBOX = "NEMO_DISTILL_SANDBOX"
"""Environment variable that is set inside a sandbox."""
SECONDS = 10
"""Longest that a program may take."""
_DRIVER = """
import sys
word = sys.stdin.readline()
with open(sys.argv[1], encoding="utf-8") as program, open(sys.argv[2], encoding="utf-8") as tests:
    sources = program.read(), tests.read()
names = {"__name__": "__main__"}
for source in sources:
    exec(compile(source, "answer", "exec"), names)
sys.__stdout__.write("\\n" + word)
"""


def passes(source: str, tests: str) -> bool:
    """Whether `tests`, statements that raise where something is wrong, run to their end after `source`."""
    if not os.environ.get(SANDBOX):
        raise RuntimeError("a model's program is executed in a sandbox only, and this is none.")
    word = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, text in (("answer.py", source), ("tests.py", tests)):
            files.append(Path(folder) / name)
            files[-1].write_text(text, encoding="utf-8", errors="replace")
        try:
            ran = subprocess.run(
                [sys.executable, "-I", "-c", _DRIVER, *map(str, files)],
                input=word,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=SECONDS,
                cwd=folder,
            )
        except subprocess.TimeoutExpired:
            return False
    return ran.returncode == 0 and ran.stdout.endswith("\n" + word)
