"""What a launch changes in NeMo-Run: where its records lie, that a run does not hang on them, and what it imports."""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from nemo_distill.compat.changes import Change, find, never, source_of, wrap
from nemo_distill.run.garbage import uncollected

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
_TASK = "torchx.schedulers.local_scheduler:_LocalAppDef"
_COPY = "torchx.schedulers.streams:Tee"
_LIST = f"{_SCHEDULERS}.local:_save_job_dir"


def _without_room(record, *args, **kwargs) -> None:
    """Write the record where that can be done: the disk may be full, or what is there damaged."""
    with contextlib.suppress(OSError, TypeError, ValueError):
        record(*args, **kwargs)


def _read_if_whole(read, task):
    """What a task has left of its error; where that was cut short, what is said of one that left nothing."""
    try:
        return read(task)
    except (OSError, ValueError):
        return find("torchx.specs.api:NONE")


def _let_records_fail() -> None:
    wrap(find(f"{_SCHEDULERS}.local"), "_save_job_dir", _without_room)
    wrap(find(_TASK), "close", _without_room)
    wrap(find(_COPY), "write", _without_room)
    wrap(find(_TASK), "get_structured_error_msg", _read_if_whole)


UNWRITTEN = Change(
    name="launcher-without-room",
    changes=f"{_LIST.replace(':', '.')}, {_TASK.replace(':', '.')}.close and "
    f".get_structured_error_msg, {_COPY.replace(':', '.')}.write",
    why="Each look at a task's state writes a file. On a full disk that fails, and a task that has ended counts as "
    "running for ever.",
    upstream="none: nemo_run.run.job.Job.status drops the error; the record should be apart from the state",
    versions="nemo-run 0.11.1, torchx 0.7",
    when="on request",
    applies=lambda: (
        "_save_job_dir(self._apps)" in source_of(f"{_SCHEDULERS}.local:PersistentLocalScheduler.describe")
        and '"SUCCESS"' in source_of(f"{_TASK}.close")
        and "self.out.write" in source_of(f"{_COPY}.write")
        and "json.load" in source_of(f"{_TASK}.get_structured_error_msg")
    ),
    mended=never,
    make=_let_records_fail,
)


def _hide_torch() -> None:
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]  # which a process that has it keeps


def _that_imports_torch() -> str:
    """NeMo-Run's module that imports torch, read without importing it."""
    package = importlib.util.find_spec("nemo_run")
    file = Path((package and package.origin) or "").with_name("core") / "serialization" / "yaml.py"
    return file.read_text(encoding="utf-8") if file.is_file() else ""


@contextlib.contextmanager
def imported_alone() -> Iterator[None]:
    """Within the block, in which NeMo-Run is imported, there is no torch."""
    try:
        with uncollected():
            if "nemo_run" not in sys.modules:
                WITHOUT_TORCH.apply()
            yield
    finally:
        if sys.modules.get("torch", ...) is None:
            del sys.modules["torch"]


WITHOUT_TORCH = Change(
    name="launcher-without-torch",
    changes="sys.modules: there is no torch while nemo_run is imported",
    why="NeMo-Run imports torch, a second of CPU, to write its types as YAML, which no launch does, and does without "
    "it where there is none.",
    upstream="none: nemo_run/core/serialization/yaml.py",
    versions="nemo-run 0.11.1",
    when="on request",
    applies=lambda: "try:\n    import torch" in _that_imports_torch(),
    mended=lambda: True,
    make=_hide_torch,
)
CHANGES = (RECORDS, UNWRITTEN, WITHOUT_TORCH)
