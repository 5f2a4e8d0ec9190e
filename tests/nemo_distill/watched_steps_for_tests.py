"""A step for the tests of the watchdog: iterations over several ranks, which wait for each other in each of them."""

import os
import time

from steps_for_tests import hang

from nemo_distill.run import beats
from nemo_distill.run.ranks import Ranks

VERSION = 1
MANY_RANKS = True
WATCHED = True


def main(spec) -> None:
    """Config: `iterations`, and `hang`, in C code, where Python hears no signal.

    It goes on from `iteration.txt`; `pid-RANK-ATTEMPT.txt` have the ranks' processes.
    """
    if spec.config.get("hang"):
        hang()
    ranks, beat, total = Ranks.here(), beats.here(), spec.config["iterations"]
    attempt = ranks.agree("attempt", lambda: _count(spec.folder / "attempts.txt"))
    (spec.folder / f"pid-{ranks.rank}-{attempt}.txt").write_text(str(os.getpid()))
    path = spec.folder / "iteration.txt"
    begin = ranks.agree("begin", lambda: int(path.read_text()) if path.exists() else 0)
    for number in range(begin + 1, total + 1):
        beat.begin(number)
        started = time.monotonic()
        time.sleep(0.02)
        beat.arrive()
        own = time.monotonic() - started
        ranks.gather(f"gradients {number}", 1)
        ranks.agree(f"weights {number}", lambda number=number: path.write_text(str(number)))
        beat.done(time.monotonic() - started, own)


def _count(path) -> int:
    """How often this has been called with the path."""
    with path.open("a") as file:
        file.write("begun\n")
    return len(path.read_text().splitlines())
