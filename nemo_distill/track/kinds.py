"""The trackers there are: `track=wandb`, or several as `track=tensorboard,wandb`.

chosen("tensorboard,wandb")          # ("tensorboard", "wandb")
open_tracker("tensorboard", about, folder)
"""

import importlib
import importlib.util
import netrc
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.errors import UserError, nearest
from nemo_distill.track.tracker import About, Tracker

NONE = "none"


@dataclass(frozen=True)
class Kind:
    """A tracker that can be chosen."""

    package: str
    """Package that it needs."""
    install: str
    """What brings the package."""
    missing: Callable[[], str]
    """What it lacks to be reached, as the end of a sentence; empty: nothing."""


def _wandb_lacks() -> str:
    if os.environ.get("WANDB_MODE", "online") not in ("online", "shared") or os.environ.get("WANDB_API_KEY"):
        return ""
    try:
        hosts = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        hosts = {}
    server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0].split(":")[0]
    return "" if server in hosts else "a login: wandb login, or WANDB_MODE=offline to sync later"


def _mlflow_lacks() -> str:
    return "" if os.environ.get("MLFLOW_TRACKING_URI") else "the address of its server in MLFLOW_TRACKING_URI"


KINDS = {
    "tensorboard": Kind("tensorboard", "pip install tensorboard", lambda: ""),
    "wandb": Kind("wandb", "pip install 'nemo-distill[track]'", _wandb_lacks),
    "mlflow": Kind("mlflow", "pip install 'nemo-distill[track]'", _mlflow_lacks),
}
"""By the name that settings have, which is its module's here, too."""


def chosen(track: str | None) -> tuple[str, ...]:
    """The names in `track`; None: TensorBoard's files, which need nobody else, where it is installed.

    Raises `UserError` for one that there is not, is not installed, or cannot be reached.
    """
    if track is None:
        return ("tensorboard",) if _installed("tensorboard") else ()
    names = tuple(dict.fromkeys(name.strip() for name in track.split(",")))
    if names == (NONE,):
        return ()
    for name in names:
        if name not in KINDS:
            raise UserError(f"track cannot be '{name}'. {nearest(name, (*KINDS, NONE))}")
        if not _installed(name):
            raise UserError(f"track={name} needs the package {KINDS[name].package}: {KINDS[name].install}.")
        if missing := KINDS[name].missing():
            raise UserError(f"track={name} lacks {missing}.")
    return names


def _installed(name: str) -> bool:
    return importlib.util.find_spec(KINDS[name].package) is not None


def open_tracker(name: str, about: About, folder: Path) -> Tracker:
    """The tracked run `about` in the tracker called `name`, new or gone on with; `folder` is for files of its own."""
    return importlib.import_module(f"{__package__}.{name}").open_run(about, folder)
