"""What a launch changes in NeMo-Run: where its records lie."""

import os
from pathlib import Path

from nemo_distill.compat.changes import Change, find, never

_SCHEDULERS = "nemo_run.run.torchx_backend.schedulers"


def _keep_records(home: Path) -> None:
    find("nemo_run.config").set_nemorun_home(str(home))
    find(f"{_SCHEDULERS}.local").LOCAL_JOB_DIRS = str(home / ".local_jobs.json")
    find(f"{_SCHEDULERS}.slurm").SLURM_JOB_DIRS = str(home / ".slurm_jobs")


def keep_records_in(home: Path) -> None:
    """Have NeMo-Run keep its records in the folder `home`, unless NEMORUN_HOME says otherwise."""
    if "NEMORUN_HOME" not in os.environ:
        RECORDS.check()
        _keep_records(home)  # anew for every run, each of which has a folder of its own


RECORDS = Change(
    name="launcher-records",
    changes=f"{_SCHEDULERS}.local.LOCAL_JOB_DIRS, {_SCHEDULERS}.slurm.SLURM_JOB_DIRS",
    why="NeMo-Run fixes both when it is imported, before the runs folder is known.",
    upstream="none: nemo_run.config.set_nemorun_home does not reach them",
    versions="nemo-run 0.11.1",
    when="on request",
    applies=lambda: (
        find(f"{_SCHEDULERS}.local:LOCAL_JOB_DIRS") is not None
        and find(f"{_SCHEDULERS}.slurm:SLURM_JOB_DIRS") is not None
    ),
    mended=never,
    make=_keep_records,
)
CHANGES = (RECORDS,)
