"""Finds what a folder of runs need not hold any more and, when told, removes it: `nemo-run clean`.

    found = look(runs, RULES)
    found.removable, found.kept              # what would go, by rule, and what stays though a rule names it, and why
    for item in found.removable:
        item.remove()

`optimizer`: the optimizer's state in the checkpoint of a milestone that every run has trained past. The weights stay,
so the milestone can be exported still, and its step stays done; a training that would go on from there says what is
missing. `unreferenced`: the folders of steps, and tokenised sources, that no run refers to.

Nothing goes that a running or queued run refers to, that belongs to another user, or whose run's file cannot be read.
A removal that was cut is finished by the next.
"""

import functools
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_distill import backends
from nemo_distill.errors import UserError
from nemo_distill.launch.executors import follow
from nemo_distill.run.at_work import locked
from nemo_distill.run.manifest import Run, State, is_locked, state_of
from nemo_distill.run.sources import sources_of
from nemo_distill.run.step import LOCK_FILE, OPTIMIZER, SPEC_FILE, Spec, read_mark, remark, sizes_of

RULES = ("optimizer", "unreferenced")
CHECKPOINT = "checkpoint"
REMOVED = ".removed"
"""Folder among the runs that folders go to before they are deleted, so that none is met half deleted."""
_FINGERPRINT = re.compile(r"[0-9a-f]{12}")
_DISTILL = "nemo_distill.steps.distill"
_SOURCES = "sources"


@dataclass(frozen=True, kw_only=True)
class Removable:
    """Something that can go."""

    rule: str
    """The rule that names it, of `RULES`."""
    folder: Path
    """Folder of the step or source."""
    size: int
    """Bytes that are freed."""
    why: str
    """Why it is not needed, in half a sentence."""
    remove: Callable[[], None]
    """Removes it; raises `UserError` when that cannot be."""


@dataclass(frozen=True)
class Found:
    """What the rules name in a folder of runs."""

    removable: tuple[Removable, ...]
    """What can go, largest first."""
    kept: tuple[tuple[Path, str], ...]
    """What stays although a rule names it, and why."""

    @property
    def size(self) -> int:
        """Bytes that can go."""
        return sum(item.size for item in self.removable)


def look(runs: Path, rules: Sequence[str] = RULES) -> Found:
    """What `rules` name in the folder `runs`; removes nothing."""
    known, unreadable = _runs_in(runs)
    busy = _busy(known)
    found: list[Removable] = []
    kept: list[tuple[Path, str]] = []
    candidates = itertools.chain(
        _optimizers(known) if "optimizer" in rules else (),
        _unreferenced(runs, known) if "unreferenced" in rules and not unreadable else (),
    )
    for item in candidates:
        if why := busy.get(item.folder) or _not_ours(item.folder):
            kept.append((item.folder, why))
        else:
            found.append(item)
    if "unreferenced" in rules:
        kept += [
            (path, "cannot be read, so what it refers to is not known: nothing unreferenced goes")
            for path in unreadable
        ]
    return Found(tuple(sorted(found, key=lambda item: -item.size)), tuple(kept))


def _runs_in(runs: Path) -> tuple[list[Run], list[Path]]:
    """The runs of a folder, and the files that look like a run's and are none."""
    known, unreadable = [], []
    for path in sorted(runs.glob("*.json")):
        try:
            known.append(Run.load(path))
        except (UserError, OSError, UnicodeDecodeError):
            unreadable.append(path)
    return known, unreadable


def _busy(known: Iterable[Run]) -> dict[Path, str]:
    """Folders of runs that are at work, or may be, and why they stay."""
    busy: dict[Path, str] = {}
    for run in known:
        following = follow(run)
        jobs = following.look() if following else {}
        states = {state_of(spec, jobs.get(name)) for name, spec in run.specs.items()}
        if following and following.silent and states != {State.DONE}:
            why = f"{run.name} may run: its cluster does not answer ({following.silent})"
        elif State.RUNNING in states:
            why = f"{run.name} is running"
        elif State.QUEUED in states or any(job.live for job in jobs.values()):
            why = f"{run.name} is queued"
        else:
            continue
        busy |= {spec.folder: why for spec in run.specs.values()}
        busy |= {source: why for source in sources_of(run.specs.values()) or ()}
    return busy


def _not_ours(folder: Path) -> str:
    """Why a folder is not this user's to clean now; empty: it is."""
    if folder.stat().st_uid != os.getuid():
        return f"belongs to user {folder.stat().st_uid}"
    return "a process works on it" if is_locked(folder / LOCK_FILE) else ""


def _optimizers(known: Sequence[Run]) -> Iterator[Removable]:
    """Milestones whose optimizer's state nothing will go on from: every segment after them is done, in every run."""
    after: dict[Path, list[Spec]] = {}
    segments: dict[Path, Spec] = {}
    for spec in (spec for run in known for spec in run.specs.values() if spec.module == _DISTILL):
        segments[spec.folder] = spec
        for folder in spec.upstream.values():
            after.setdefault(folder, []).append(spec)
    for folder, spec in segments.items():
        following = after.get(folder, [])
        if not (spec.done and following and all(one.done for one in following)):
            continue
        if OPTIMIZER in read_mark(folder).get("removed", {}):
            continue
        checkpoint = folder / CHECKPOINT  # not there after a kill between two renames
        yield Removable(
            rule="optimizer",
            folder=folder,
            size=backends.of(checkpoint).optimizer_size(checkpoint) if checkpoint.exists() else 0,
            why=f"trained past: {', '.join(sorted({one.name for one in following}))}",
            remove=functools.partial(remove_optimizer, folder),
        )


def remove_optimizer(folder: Path) -> None:
    """Leave of a milestone's checkpoint what holds the weights. What a kill leaves half done is done by the next call.

    Until the smaller checkpoint is in its place the mark of success says nothing of the checkpoint's files, so the step
    stays done at any moment.
    """
    checkpoint, smaller, old = (folder / name for name in (CHECKPOINT, f"{CHECKPOINT}.smaller", f"{CHECKPOINT}.old"))
    with locked(folder):
        mark = read_mark(folder)
        files = {name: size for name, size in mark["files"].items() if Path(name).parts[0] != CHECKPOINT}
        remark(folder, mark | {"files": files})
        if not checkpoint.exists():  # killed between the two renames
            os.replace(smaller, checkpoint)
        backend = backends.of(checkpoint)
        size = backend.optimizer_size(checkpoint)
        if size:
            shutil.rmtree(smaller, ignore_errors=True)
            backend.without_optimizer(checkpoint, smaller)
            shutil.rmtree(old, ignore_errors=True)
            os.replace(checkpoint, old)
            os.replace(smaller, checkpoint)
        for left in (old, smaller):
            shutil.rmtree(left, ignore_errors=True)
        removed = mark.get("removed", {}) | {OPTIMIZER: {"bytes": size, "seconds": mark.get("seconds")}}
        remark(folder, mark | {"removed": removed, "files": sizes_of(folder)})


def _unreferenced(runs: Path, known: Sequence[Run]) -> Iterator[Removable]:
    specs = [spec for run in known for spec in run.specs.values()]
    wanted = {spec.folder for spec in specs}
    for path in sorted(runs.glob(f"*/*/{SPEC_FILE}")):
        folder = path.parent.resolve()
        if _FINGERPRINT.fullmatch(folder.name) and folder not in wanted:
            yield _folder(folder, runs, "no run refers to it")
    sources = sources_of(specs)
    if sources is None:  # a prepare that is not done would find its sources gone
        return
    for path in sorted(runs.glob(f"{_SOURCES}/*/*/{SPEC_FILE}")):
        folder = path.parent.resolve()
        if _FINGERPRINT.fullmatch(folder.name) and folder not in sources:
            yield _folder(folder, runs, "no run's prepare refers to it")


def _folder(folder: Path, runs: Path, why: str) -> Removable:
    size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
    return Removable(rule="unreferenced", folder=folder, size=size, why=why, remove=lambda: remove_folder(folder, runs))


def remove_folder(folder: Path, runs: Path) -> None:
    """Remove a step's folder, whole at any moment or gone."""
    away = runs / REMOVED
    away.mkdir(exist_ok=True)
    with locked(folder):
        target = away / f"{folder.parent.name}-{folder.name}-{os.getpid()}"
        os.replace(folder, target)
    shutil.rmtree(away)
    for parent in (folder.parent, folder.parent.parent):
        if parent != runs and not any(parent.iterdir()):
            parent.rmdir()
