"""Appends to a run of Weights & Biases; project, entity, server and `WANDB_MODE=offline` are said in its own variables.

Offline, every process leaves a folder of its own, and `wandb sync --append` makes one run of them.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wandb

from nemo_distill.track.tracker import About, Point

PROJECT = "nemo-distill"


def open_run(about: About, folder: Path) -> "Wandb":
    """The run of that id, made where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    # Nothing is sent that was not asked for: no command line, no git, no list of packages, no machine.
    quiet: dict[str, Any] = {
        "console": "off",
        "disable_git": True,
        "disable_code": True,
        "x_disable_meta": True,
        "x_disable_stats": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
    }
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        id=about.id,
        name=about.name,
        config=dict(about.config),
        resume="allow",
        dir=folder,
        settings=wandb.Settings(**quiet),
    )
    # Not W&B's own steps, which may only rise: a milestone's scores come after later iterations.
    run.define_metric("iteration", hidden=True)
    run.define_metric("*", step_metric="iteration")
    return Wandb(run)


class Wandb:
    """A run in Weights & Biases (`track.tracker.Tracker`)."""

    def __init__(self, run: Any):
        self._run = run

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self._run.log({"iteration": point.iteration, **point.values})

    def link(self, name: str, address: str) -> None:
        self._run.summary[name] = address

    def close(self) -> None:
        self._run.finish()
