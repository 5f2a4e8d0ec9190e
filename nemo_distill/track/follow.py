"""Sends a run's news to one tracker, in a process of its own: `python -m nemo_distill.track RUNS ID KIND`.

    with following(runs, tracked):          # in the step that trains, on its first rank
        ...                                 # a process per tracker reads what the run's folders gain

The process lives as long as its standard input is open, so it ends with whoever started it, killed or not. What it
could not send, since the tracker was down or slow, the next one sends: a mark per tracker says what each has. One
process at a time writes to a tracked run.
"""

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from nemo_distill.run.facts import Tracked
from nemo_distill.run.locks import SHARED_MODE
from nemo_distill.run.starred import copier
from nemo_distill.track.kinds import open_tracker
from nemo_distill.track.run import FOLDER, Sent, TrackedRun
from nemo_distill.track.tracker import Tracker

EVERY_SECONDS = 5.0
"""Between two looks at the run's folders."""
LONGEST_PAUSE = 120.0
"""Seconds before a tracker that failed is tried again, at most; the pauses double."""
LAST_SECONDS = 30.0
"""What a tracker has, after the step's work is done, to take the last news."""


@contextlib.contextmanager
def following(runs: Path, tracked: Tracked | None) -> Iterator[None]:
    """Send what the run gains while the block runs, and wait a little for the last of it. Raises nothing."""
    processes = [_start(runs, tracked.id, kind) for kind in tracked.kinds] if tracked else []
    try:
        yield
    finally:
        for process in processes:
            assert process.stdin
            process.stdin.close()
        ends = time.monotonic() + LAST_SECONDS
        for process in processes:
            try:
                process.wait(timeout=max(0.0, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(runs: Path, number: str, kind: str) -> subprocess.Popen:
    folder = runs / FOLDER / number
    folder.mkdir(parents=True, exist_ok=True)
    # Neither ranks nor GPUs are its business: a library that looks for them would find those of the training.
    hidden = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    env = {name: value for name, value in os.environ.items() if name not in hidden} | {"CUDA_VISIBLE_DEVICES": ""}
    log = copier(folder / f"{kind}.log")  # a library may say what it was logged in with
    assert log.stdin
    with log.stdin:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "nemo_distill.track", str(runs), number, kind],
            stdin=subprocess.PIPE,
            stdout=log.stdin,
            stderr=subprocess.STDOUT,
            env=env,
        )


def main(arguments: list[str]) -> int:
    """Follow a run until standard input is closed; the exit code says whether all was sent."""
    runs, number, kind = Path(arguments[0]), arguments[1], arguments[2]
    run = TrackedRun.load(runs, number)
    follower, lock = Follower(run, kind), FileLock(run.folder / f"{kind}.lock", mode=SHARED_MODE)
    more, pause = True, 0.0
    while more:
        more = not _closed_within(pause)
        try:
            with lock.acquire(timeout=0 if more else LAST_SECONDS):  # another step of the run may be at it
                while True:
                    follower.send()
                    pause = EVERY_SECONDS
                    if not more:
                        return 0
                    more = not _closed_within(pause)
        except Timeout:
            pause = EVERY_SECONDS
        except Exception as error:  # of a library that is not ours: whatever it is, the training goes on
            pause = min(LONGEST_PAUSE, max(EVERY_SECONDS, 2 * pause))
            print(f"{kind}: {type(error).__name__}: {error}; again in {pause:g} s", flush=True)
            follower.forget()
        finally:
            if not more:
                follower.forget()
    return 1


def _closed_within(seconds: float) -> bool:
    """Wait; whether standard input was closed meanwhile."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready) and not os.read(sys.stdin.fileno(), 1)


class Follower:
    """What one tracker has of a run, and what it lacks."""

    def __init__(self, run: TrackedRun, kind: str):
        self.run, self.kind = run, kind
        self._mark = run.folder / f"{kind}.json"
        self._tracker: Tracker | None = None

    def send(self) -> None:
        """Send what is new. Raises whatever the tracker does; what was not sent then is sent again."""
        before = Sent.read(self._mark)
        after, points = self.run.news(before)
        if after == before:
            return
        if self._tracker is None:
            self._tracker = open_tracker(self.kind, self.run.about, self.run.runs / FOLDER / self.kind)
        self._tracker.log(points)
        if after.report and not before.report:
            self._tracker.link("report", str(self.run.page))
        after.write(self._mark)

    def forget(self) -> None:
        """Close the tracker; the next `send` opens it again."""
        tracker, self._tracker = self._tracker, None
        if tracker:
            with contextlib.suppress(Exception):  # it failed already, and that was said
                tracker.close()
