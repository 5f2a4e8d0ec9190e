"""How far a step is: written by the step into its folder, read by whoever looks at the run.

    progress = Progress(folder)
    progress.update(done=40, total=200, unit="iterations", tokens_per_second=4200.0)
    Progress.read(folder)["seconds_left"]

The file is replaced atomically and at most about twice a second, so a step may call `update` at every iteration
and a reader never meets half a file.
"""

import json
import os
import time
from pathlib import Path

from nemo_distill.run.inside import opened, text_of

PROGRESS_FILE = "progress.json"
_KINDS = {
    **dict.fromkeys(("done", "total", "time"), int | float),
    **dict.fromkeys(("tokens_per_second", "seconds_left"), int | float | None),
    **dict.fromkeys(("unit", "note"), str),
}
"""What a record holds."""


class Progress:
    """The writer of one step's `progress.json`. Nothing but a step that runs should make one."""

    def __init__(self, folder: Path, *, every_seconds: float = 0.5):
        self.path = Path(folder) / PROGRESS_FILE
        self.every_seconds = every_seconds
        self._written = float("-inf")
        self._first: tuple[float, float] | None = None
        self._unit = ""

    def update(
        self,
        *,
        done: float,
        total: float,
        unit: str = "iterations",
        tokens_per_second: float | None = None,
        note: str = "",
    ) -> None:
        """Say that `done` of `total` units are done; a change of `unit` starts a new phase with its own clock.

        Time left is judged from the units done since the first call of the phase, so that a resumed step, whose
        first `done` is not zero, does not count what an earlier process did.
        """
        now = time.monotonic()
        if self._first is None or unit != self._unit:
            self._first, self._unit, self._written = (now, done), unit, float("-inf")
        if done < total and now - self._written < self.every_seconds:
            return
        self._written = now
        since, start = self._first
        seconds_left = (now - since) / (done - start) * (total - done) if done > start else None
        record = {
            "done": done,
            "total": total,
            "unit": unit,
            "tokens_per_second": tokens_per_second,
            "note": note,
            "seconds_left": seconds_left,
            "time": time.time(),
        }
        write_atomically(self.path, json.dumps(record))

    @staticmethod
    def read(folder: Path) -> dict | None:
        """The last record written into `folder`; None when the step has not said anything yet, or it is damaged."""
        try:
            record = json.loads(text_of(Path(folder) / PROGRESS_FILE))
            whole = all(isinstance(record[key], kinds) for key, kinds in _KINDS.items())
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return record if whole else None


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Put `text` at `path` so that a reader, or a crash, sees the old file or the new one and never a part; where it is
    not `durable`, a crash of the machine may take it."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with opened(scratch, "wb") as file:  # a link that is there is not followed
            file.write(text.encode("utf-8"))
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError:  # of a full disk, where a mark of failure is still to find room
        scratch.unlink(missing_ok=True)
        raise
