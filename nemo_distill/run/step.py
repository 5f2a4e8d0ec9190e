"""The contract of a step: a folder named by what produced it, and a mark of success written last.

A step is a name, a module, a config of plain JSON data and the steps before it. Its fingerprint is the hash of the
module's name and `VERSION`, the config and the fingerprints before it; its folder is RUNS/NAME/FINGERPRINT. So the
same work is found again by any run that needs it, and a change re-runs what follows from it and nothing else.

    world = Step("world", "nemo_distill.steps.debug_world", {"seed": 1})
    prepare = Step("prepare", "nemo_distill.steps.prepare", {"seq_length": 256}, upstream=("world",))
    specs = place([world, prepare], runs=Path("runs"))      # in this order: a step follows its upstream
    specs["prepare"].folder                                 # runs/prepare/5b1c0d3e9a77

A step's module has `VERSION = 1`, raised when its output changes meaning, and `def main(spec: Spec) -> None`, which
writes into `spec.folder` and may find there what an attempt that was cut left behind. It may have `MANY_RANKS = True`,
if it runs over all ranks of a layout, `GPUS = 1`, if it takes a GPU (`nemo_distill.run.gpus`), `WATCHED = True`, if it
is to be ended when it stands still (`nemo_distill.run.watched`), `GOES_ON = True`, if its process may go on with the
next step of its kind (`nemo_distill.run.at_work`), and `IMPORTS = (...)`, which names what takes seconds to import, for
`nemo_distill.run.forkserver`.
`python -m nemo_distill.step FOLDER/spec.json` runs it (`nemo_distill.run.process`).
"""

import ast
import contextlib
import fnmatch
import functools
import importlib.util
import json
import os
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_distill.config.plain import fingerprint
from nemo_distill.errors import UserError
from nemo_distill.run.facts import Beside
from nemo_distill.run.inside import NAME, check_module, check_name, folder_in, folder_of_step, leaves, text_of
from nemo_distill.run.progress import PROGRESS_FILE, Progress, write_atomically
from nemo_distill.run.standstill import FILES, STALLED

SUCCESS = "_SUCCESS"
FAILED = "_FAILED"
SPEC_FILE = "spec.json"
OPTIMIZER = "optimizer"
"""What a mark of success calls the optimizer's state among what was `removed` from a finished checkpoint."""
LOG_FILE = "log.txt"
RANK_LOG_FILE = "log-{rank}.txt"
"""Of a rank but the first, in a step that has several (`nemo_distill.run.ranks`)."""
LOCK_FILE = ".lock"
JOB_FILE = "job.json"
"""The Slurm job that runs the step, or ran it last (`nemo_distill.launch.slurm.watch`)."""
_NOT_OUTPUT = (
    *(SUCCESS, FAILED, SPEC_FILE, LOG_FILE, RANK_LOG_FILE.format(rank="*"), LOCK_FILE, JOB_FILE, PROGRESS_FILE),
    *(STALLED, FILES),
    "*.tmp",
)


@dataclass(frozen=True)
class Step:
    """One unit of work, declared."""

    name: str
    """Unique in a run; the first part of the folder, e.g. `distill-2`."""
    module: str
    """Dotted name of the module with `VERSION` and `main(spec)`; it is not imported to plan."""
    config: dict
    """Everything that decides the output, as plain JSON data."""
    upstream: tuple[str, ...] = ()
    """Names of the steps whose folders it reads."""


@dataclass(frozen=True)
class Spec:
    """One unit of work, placed: what `main(spec)` of a step's module is given."""

    name: str
    """The step's name."""
    module: str
    """The step's module."""
    config: dict
    """The step's config."""
    folder: Path
    """Where the output goes, an absolute path; exists when the step runs."""
    upstream: dict[str, Path]
    """Folder of each upstream step by its name; finished and whole when the step runs."""
    fingerprint: str
    """Twelve hex digits."""

    @functools.cached_property
    def progress(self) -> Progress:
        """Where the step says how far it is."""
        return Progress(self.folder)

    @property
    def runs(self) -> Path:
        """The folder of all runs."""
        return self.folder.parent.parent

    @property
    def done(self) -> bool:
        """Whether the step's mark of success stands."""
        return is_done(self.folder)

    @property
    def beside(self) -> Beside:
        """What the launch tells the step beside its config, as `spec.json` has it now."""
        path = self.folder / SPEC_FILE
        return Beside.read(json.loads(text_of(path))) if path.exists() else Beside()

    @property
    def many_ranks(self) -> bool:
        """Whether the step runs over all ranks of a layout, as its module says; else on one."""
        return bool(module_constant(self.module, "MANY_RANKS"))

    @classmethod
    def load(cls, path: Path) -> "Spec":
        """Read a `spec.json`. Upstream folders in it are relative to its own, so a runs folder can be moved whole.

        Raises `UserError` where it is none, or names another module than a step's, or a folder that is not in the runs
        folder.
        """
        folder = folder_of_step(path.parent)
        runs = folder.parents[1]
        try:
            record = json.loads(text_of(folder / path.name))
            upstream = {name: os.path.normpath(folder / where) for name, where in record["upstream"].items()}
            return cls(
                name=check_name(record["name"], f"the step in {path}"),
                module=check_module(record["module"]),
                config=record["config"],
                folder=folder,
                upstream={name: folder_in(runs, os.path.relpath(where, runs)) for name, where in upstream.items()},
                fingerprint=record["fingerprint"],
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path} is no step's: {error}.") from None

    def save(self, beside: Beside | None = None, **ran) -> Path:
        """Write `spec.json` into the folder, made if need be: the spec, what is beside it, and what it `ran` with."""
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {
            "name": self.name,
            "module": self.module,
            "fingerprint": self.fingerprint,
            "config": self.config,
            "upstream": {name: os.path.relpath(where, self.folder) for name, where in self.upstream.items()},
        }
        path = self.folder / SPEC_FILE
        write_atomically(path, json.dumps(record | (beside or Beside()).record() | ran, indent=1))
        return path


def place(steps: Iterable[Step], *, runs: Path) -> dict[str, Spec]:
    """The folder and fingerprint of every step under `runs`, by name; writes nothing.

    Raises `UserError` when a config holds something without a stable form.
    """
    specs: dict[str, Spec] = {}
    for step in steps:
        assert NAME.fullmatch(step.name), f"a step's name becomes a folder's: {step.name!r}"
        assert step.name not in specs, f"two steps are called {step.name!r}"
        assert set(step.upstream) <= set(specs), f"{step.name} comes before its upstream {step.upstream}"
        try:
            digest = _digest(step.module, step.config, {name: specs[name].fingerprint for name in step.upstream})
        except UserError as error:
            raise UserError(f"step {step.name}: {error}") from None
        specs[step.name] = Spec(
            name=step.name,
            module=step.module,
            config=step.config,
            folder=folder_of_step(Path(runs).resolve() / step.name / digest),
            upstream={name: specs[name].folder for name in step.upstream},
            fingerprint=digest,
        )
    return specs


def fingerprint_of(spec: Spec) -> str:
    """The fingerprint that follows from what `spec` says, by which its folder is named unless it was changed."""
    return _digest(spec.module, spec.config, {name: folder.name for name, folder in spec.upstream.items()})


def _digest(module: str, config: dict, upstream: dict[str, str]) -> str:
    return fingerprint({"module": module, "version": module_version(module), "config": config, "upstream": upstream})


def module_version(module: str) -> int:
    """The `VERSION` of a step's module."""
    version = module_constant(module, "VERSION")
    assert version is not None, f"{module} has no line `VERSION = <int>`"
    return version


def module_constant(module: str, name: str) -> Any:
    """What a step's module sets `name` to, read from its source: importing it may take half a minute. None: nothing."""
    found = importlib.util.find_spec(module)
    assert found is not None and found.origin, f"no module {module!r}"
    path = Path(found.origin)
    return _constants(path, path.stat().st_mtime).get(name)


@functools.cache
def _constants(path: Path, modified: float) -> dict[str, Any]:
    """The plain values that the file gives names at its top."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            with contextlib.suppress(ValueError):  # no plain value
                found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def is_done(folder: Path) -> bool:
    """Whether the mark of success stands in `folder`."""
    return (folder / SUCCESS).is_file()


def mark_done(folder: Path, **facts) -> None:
    """Write the mark of success: `facts`, the time, and the size of every file in `folder`, for `damage` to check."""
    (folder / FAILED).unlink(missing_ok=True)
    remark(folder, {**facts, "finished": time.time(), "files": sizes_of(folder)})


def remark(folder: Path, mark: dict) -> None:
    """Write or replace the mark of success."""
    write_atomically(folder / SUCCESS, json.dumps(mark, indent=1))


def sizes_of(folder: Path) -> dict[str, int]:
    """Size in bytes of every output in `folder`, by its path in it: the `files` of a mark of success."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in _outputs(folder)}


def why_not_resumable(name: str, folder: Path) -> str | None:
    """Why no training goes on from the finished segment `name`, and what would help; None: one can."""
    mark = read_mark(folder)
    removed = mark.get("removed", {}).get(OPTIMIZER)
    if removed is None:
        return None
    seconds = removed.get("seconds")
    took = f", which took {seconds / 3600:.1f} h," if seconds else ""
    return (
        f"the optimizer's state of {name} was removed by nemo-run clean, so no training goes on from it. "
        f"Remove {folder} to train that segment again{took} or leave the milestones as they were."
    )


def read_mark(folder: Path) -> dict:
    """What the mark of success in `folder` says: `files`, sizes by name, `finished`, and whatever facts the step gave.

    Raises `UserError` when there is none, or it is none.
    """
    path = folder / SUCCESS
    try:
        mark = json.loads(text_of(path))
        whole = all(isinstance(size, int) for size in mark["files"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is no mark of success: {error}.") from None
    if not whole:
        raise UserError(f"{path} is no mark of success: it holds a size that is no number.")
    return mark


def damage(folder: Path, names: Collection[str] | None = None) -> str | None:
    """What is wrong with a finished folder, by file and size, or None: nothing missing, nothing cut short.

    Of the files that the mark of success lists those with these `names` are looked at; None: all of them.
    """
    try:
        files = read_mark(folder)["files"]
    except UserError as error:
        return str(error).removesuffix(".")
    for name, size in files.items():
        if names is not None and name not in names:
            continue
        path = folder / name
        if leaves(path, folder):
            return f"{path} is a link out of the runs folder"
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != size:
            return f"{path} has {path.stat().st_size} bytes where {size} were written"
    return None


def why_damaged(
    what: str, folder: Path, *, names: Collection[str] | None = None, again: str = "run again"
) -> str | None:
    """The sentences on `damage` to a finished folder, called `what`, and on what to do; None: there is none."""
    broken = damage(folder, names)
    return f"{what} is damaged: {broken}. Remove {folder} and {again} to make it anew." if broken else None


def _outputs(folder: Path) -> list[Path]:
    """Every file below `folder` but the contract's own and scratch files, in order."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(fnmatch.fnmatch(path.name, pattern) for pattern in _NOT_OUTPUT)
    )
