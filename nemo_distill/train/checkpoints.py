"""The checkpoints of a training: one at a time, which is complete when it says so.

It says so when all of it is on disk, and only then does the one before go: whatever ends a save, a full disk or a kill,
leaves one to go on from.
"""

import os
import shutil
import time
from pathlib import Path

from nemo_distill.run import beats
from nemo_distill.train.events import Iteration, Listener

COMPLETE = "_COMPLETE"
"""Written into a checkpoint's folder when all of it is on disk."""


class Checkpoints(Listener):
    """Saves the whole training state every `every` iterations and at the end; only the newest is kept."""

    def __init__(self, folder: Path, *, every: int, until: int):
        self.folder, self.every, self.until = folder, every, until
        self.seconds = 0.0
        """What the last save has kept the training, in seconds."""

    def iteration_done(self, iteration: Iteration) -> None:
        if iteration.number == self.until or (self.every and iteration.number % self.every == 0):
            self.save(iteration.number)

    def save(self, number: int) -> None:
        """Save, and once all of it is on disk mark as complete and let the older ones go."""
        target, began = checkpoint_of(self.folder, number), time.monotonic()
        with beats.here().within(beats.Phase.SAVING):
            self.view.finish_saving()
            if self.view.failed:
                raise self.view.failed
            if self.view.first_rank and target.exists():
                shutil.rmtree(target)
            self.view.wait_for_all()
            self.view.save(target, lambda: self._complete(target))
        self.seconds = time.monotonic() - began

    def end(self) -> None:
        self.view.finish_saving()

    def _complete(self, target: Path) -> None:
        if self.view.first_rank:
            for file in target.rglob("*"):
                if file.is_file():
                    _reach_disk(file)
            (target / COMPLETE).touch()
            for other in complete_checkpoints(self.folder)[:-1]:
                (other / COMPLETE).unlink()  # first: a kill may leave a part of what follows
                shutil.rmtree(other)
        self.view.wait_for_all()


def _reach_disk(file: Path) -> None:
    """Raise `OSError` unless the file is on disk; some disks say only now that they are full."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checkpoint_of(folder: Path, number: int) -> Path:
    """Folder of the checkpoint of an iteration among the checkpoints in `folder`."""
    return folder / f"iteration_{number:07d}"


def complete_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints that `Checkpoints` left in `folder`, oldest first."""
    return sorted(path.parent for path in folder.glob(f"iteration_*/{COMPLETE}"))


def remove_incomplete(folder: Path) -> None:
    """Remove what a killed process left of a checkpoint."""
    for path in folder.glob("iteration_*"):
        if not (path / COMPLETE).exists():
            shutil.rmtree(path)
