"""The log of a training's losses, `losses.jsonl`: a line per iteration, and the step's progress."""

import json
from pathlib import Path
from typing import TextIO

from nemo_distill.run.progress import Progress
from nemo_distill.train.course import Course
from nemo_distill.train.events import Iteration, Listener, View
from nemo_distill.train.losses import cut_past


class LossLog(Listener):
    """Appends a line per iteration and keeps the step's progress.

    A line: iteration (1-based, of the course), loss, learning_rate, tokens (since the start of the course), seconds
    (of this iteration), grad_norm (of the whole batch, before clipping), memory_gib (peak of the first rank) and, of a
    loss that is mixed, its parts by name (`kd_loss`, `cross_entropy`). Lines past the iteration that a resumed process
    starts from are cut first: they belong to an attempt whose weights are lost. Of several ranks, which all know the
    loss of the whole batch, the first writes.
    """

    def __init__(self, path: Path, course: Course, progress: Progress | None = None, *, first: int = 0, until: int = 0):
        self.path, self.course, self.progress = path, course, progress
        self.first, self.until = first, until
        self._file: TextIO | None = None

    def start(self, view: View) -> None:
        super().start(view)
        if not view.first_rank:
            return
        cut_past(self.path, view.iteration)
        self._file = self.path.open("a", buffering=1)

    def iteration_done(self, iteration: Iteration) -> None:
        if not self._file:
            return
        line = {
            "iteration": iteration.number,
            "loss": iteration.loss,
            "learning_rate": iteration.learning_rate,
            "tokens": iteration.tokens,
            "seconds": round(iteration.seconds, 4),
        }
        line |= iteration.loss_parts
        if iteration.grad_norm is not None:
            line["grad_norm"] = iteration.grad_norm
        if iteration.memory is not None:
            line["memory_gib"] = round(iteration.memory / 2**30, 3)
        self._file.write(json.dumps(line) + "\n")
        if self.progress:
            self.progress.update(
                done=iteration.number - self.first,
                total=self.until - self.first,
                unit="iterations",
                tokens_per_second=self.course.tokens_per_iteration / iteration.seconds,
                note=f"loss {iteration.loss:.4f}",
            )

    def end(self) -> None:
        if self._file:
            self._file.close()
