"""A run on disk: RUNS/NAME.json says what was asked for and which folders its steps have.

    run = find("distill_v1v3-debug", runs=Path("runs"))
    [(spec.name, state_of(spec)) for spec in run.specs.values()]

The folders are the truth: what is done, running or cut is read off them, so any process, today or next week, on any
machine that sees the folder, gives the same answer.
"""

import contextlib
import dataclasses
import enum
import fcntl
import itertools
import json
import os
import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_distill.errors import UserError, nearest
from nemo_distill.run.facts import RunFacts
from nemo_distill.run.full_disk import is_used_up, said_full, why_full
from nemo_distill.run.inside import check_module, check_name, folder_in, opened, text_of
from nemo_distill.run.job import LAUNCH_FAILED, NEVER, Job
from nemo_distill.run.progress import write_atomically
from nemo_distill.run.sharing import records_of
from nemo_distill.run.step import FAILED, JOB_FILE, LOCK_FILE, LOG_FILE, Spec, module_constant

ADVICE = (
    "It ran out of memory: a smaller distill.micro_batch_size, layout.recompute=mlp, more layout.tensor_parallel, with "
    "long sequences layout.context_parallel or, for the machine's own memory, executor.mem would help."
)
_MEMORY = re.compile(
    r"out[ -_]of[ -_]memory|OutOfMemory|oom[-_ ]kill|exceeded (job |step )?memory limit", re.IGNORECASE
)
_NUMBER = re.compile(r"\d{1,20}")
"""Of a Slurm job."""
_OTHER_CODE = re.compile(r"\S+ is not the code that was launched: .+")
"""What a job says whose copy of the code was changed (`nemo_distill.launch.slurm.own_copy`)."""
_WORDLESS = "its process ended without a word: killed, or out of memory?"
_ENDED = {
    "TIMEOUT": "met its time limit (executor.time).",
    "DEADLINE": "met its deadline.",
    "PREEMPTED": "was preempted.",
    "NODE_FAIL": "its node went down.",
    "BOOT_FAIL": "its node did not boot.",
    "OUT_OF_MEMORY": "was killed for the memory it took.",
    "CANCELLED": "was cancelled.",
    LAUNCH_FAILED: "its node could not start it, or lost it.",
}


class State(enum.Enum):
    """State of a step."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    CUT = "cut"
    """Started once, ended without a word: killed, or its machine went away. It resumes."""
    QUEUED = "queued"
    """On a cluster: all that it waits for is nodes."""
    WAITING = "waiting"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run: a name and its steps, placed."""

    name: str
    """Name of the run; its file is RUNS/NAME.json."""
    runs: Path
    """The folder of all runs, absolute."""
    specs: dict[str, Spec]
    """The steps, upstream first."""
    facts: RunFacts = RunFacts()
    """What was asked for, and how it was launched."""
    whole: Mapping[str, Spec] = field(default_factory=dict)
    """All steps of the run where `specs` are those that were asked for (`--until`); empty: `specs` are all."""

    @property
    def path(self) -> Path:
        """The run's file."""
        return self.runs / f"{self.name}.json"

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprint of each step of the whole run by its name."""
        return {name: spec.fingerprint for name, spec in (self.whole or self.specs).items()}

    def until(self, names: Collection[str]) -> "Run":
        """The run of which these steps are asked for; its file has all of them."""
        specs = {name: spec for name, spec in self.specs.items() if name in names}
        return dataclasses.replace(self, specs=specs, whole=self.whole or self.specs)

    def may_follow(self, spec: Spec, left: Collection[Spec]) -> list[Spec]:
        """Those of the steps that are `left` that the process of `spec` may go on with, one after the other."""
        found: list[Spec] = []
        while self.facts.beside.layout.keep_process and module_constant(spec.module, "GOES_ON"):
            goes_on = [one for one in left if one.module == spec.module and spec.folder in one.upstream.values()]
            if len(goes_on) != 1:  # none, or branches, which can be trained side by side
                break
            (spec,) = goes_on
            found.append(spec)
        return found

    def make_ready(self, specs: Iterable[Spec]) -> None:
        """Write what starts each of these steps, and take back that it failed; but not where a process is at it."""
        for spec in specs:
            if state_of(spec) != State.RUNNING:  # on another executor, or left behind by a killed command
                spec.save(self.facts.beside)
                (spec.folder / FAILED).unlink(missing_ok=True)

    def save(self) -> None:
        """Write the run's file; folders in it are relative to it. One of that name is kept (`kept_as`)."""
        steps = [
            {
                "name": spec.name,
                "module": spec.module,
                "config": spec.config,
                "upstream": list(spec.upstream),
                "fingerprint": spec.fingerprint,
                "folder": os.path.relpath(spec.folder, self.runs),
            }
            for spec in (self.whole or self.specs).values()
        ]
        self.runs.mkdir(parents=True, exist_ok=True)
        if kept := self.kept_as():
            there, record = self.path.stat(), json.loads(text_of(self.path))
            write_atomically(kept, json.dumps(record | {"name": kept.stem}, indent=1))
            os.utime(kept, ns=(there.st_atime_ns, there.st_mtime_ns))  # it is no run that was begun now
        write_atomically(self.path, json.dumps({"name": self.name, **self.facts.record(), "steps": steps}, indent=1))

    def kept_as(self) -> Path | None:
        """File that the run of this name goes to before this one is written, since it has steps, done or begun, that
        this one has not, another version's say; None where it has none.

        What is made anew from the same scores, a report, is no such step.
        """
        there = self.there()
        folders = {spec.folder for spec in (self.whole or self.specs).values()}
        lost = [
            spec
            for spec in (there.specs.values() if there else ())
            if spec.folder not in folders and not spec.module.endswith(".report") and _has_work(spec)
        ]
        if there is None or not lost:
            return None
        day = there.facts.time[:10] or time.strftime("%Y-%m-%d", time.localtime(self.path.stat().st_mtime))
        endings = itertools.chain([""], (f".{number}" for number in itertools.count(2)))
        paths = (self.runs / f"{self.name}-{day}{ending}.json" for ending in endings)
        return next(path for path in paths if not path.exists())

    def there(self) -> "Run | None":
        """The run of this name that is on disk; None where there is none, or its file is damaged or no run's."""
        with contextlib.suppress(UserError):
            return Run.load(self.path) if self.path.exists() else None
        return None

    def save_if_other(self) -> None:
        """Write the run's file unless there is one of the same steps, which says how they were made."""
        there = self.there()
        if there is None or there.fingerprints != self.fingerprints:
            self.save()

    @classmethod
    def load(cls, path: Path) -> "Run":
        """Read a run's file; raises `UserError` when it is none."""
        runs = path.parent.resolve()
        specs: dict[str, Spec] = {}
        try:
            record = json.loads(text_of(path))
            name = check_name(record.pop("name"), "the run")
            for step in record.pop("steps"):
                check_name(step["name"], "a step")
                check_module(step["module"])
                upstream = {name: specs[name].folder for name in step["upstream"]}
                folder = folder_in(runs, step["folder"])
                specs[step["name"]] = Spec(**{**step, "folder": folder, "upstream": upstream})
            facts = RunFacts.read(record)
        except (
            AttributeError,
            KeyError,
            OSError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:  # a link to itself, too
            raise UserError(f"{path} is no run's file: {str(error).removesuffix('.')}.") from None
        return cls(name=name, runs=runs, specs=specs, facts=facts)


def _has_work(spec: Spec) -> bool:
    """Whether the step is done, or was begun and can go on."""
    state = state_of(spec)
    return state not in (State.WAITING, State.FAILED) or (state == State.FAILED and not failure_of(spec).lasting)


def find(argument: str | None, *, runs: Path) -> Run:
    """The run of that name or file; None: the one begun last. Raises `UserError` with the nearest name."""
    files = {path.stem: path for path in sorted(runs.glob("*.json"))}
    if argument is None:
        for path in sorted(files.values(), key=_modified, reverse=True):
            with contextlib.suppress(UserError):  # something else that lies there
                return Run.load(path)
        raise UserError(f"there is no run in the folder '{runs}'.")
    if argument in files:
        return Run.load(files[argument])
    path = Path(argument)
    if argument and path.is_dir():
        return find(None, runs=path)
    if path.suffix == ".json" and path.is_file():
        return Run.load(path)
    raise UserError(f"there is no run '{argument}' in {runs}. {nearest(argument, files)}")


def _modified(path: Path) -> float:
    """When the file was written; a link to nothing is the oldest."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def state_of(spec: Spec, job: Job | None = None) -> State:
    """What the step's folder says of it and, on a cluster, Slurm of its `job`."""
    if spec.done:
        return State.DONE
    if job and job.running:
        return State.RUNNING
    if job and job.live:
        return State.WAITING if job.reason == "Dependency" else State.QUEUED
    if is_locked(spec.folder / LOCK_FILE):
        return State.RUNNING
    if (spec.folder / FAILED).exists():
        return State.FAILED
    if job and job.reason == NEVER:  # cancelled for what it waited for
        return State.WAITING
    if (spec.folder / LOG_FILE).exists() or (job and job.nodes):
        return State.CUT
    return State.WAITING


@dataclass(frozen=True)
class Failure:
    """Why a step is not done."""

    error: str
    """In a line, or what the exception said."""
    refused: bool = False
    """It did not start, for want of what comes before it: the failure is elsewhere."""
    memory: bool = False
    """It ran out of memory."""
    lasting: bool = False
    """Running it again as it is would end alike: it ran out of memory, or failed for its settings, its data or a fault
    in the code; not for a network, a disk, a device, a time limit or a signal."""


def failure_of(spec: Spec, job: Job | None = None) -> Failure:
    """What a failed or cut step left to say and, on a cluster, how its `job` ended."""
    record = _mark_of_failure(spec)
    if record is not None:
        said = [record["error"]]
    else:
        said = [*last_lines(spec.folder / LOG_FILE), *(last_lines(job_log(spec)) if job else ())]
        # On a full disk there is no room for a mark.
        wordless = said_full(said) or (why_full(spec.runs) if is_used_up(spec.runs) else _WORDLESS)
        error = (_ENDED.get(job.reason) or _ENDED.get(job.state, wordless)) if job else wordless
        where = f"job {job.id}{f' on {job.nodes}' if job.nodes else ''}: " if job else ""
        record = {"error": f"{where}{error}", "refused": False}
        if refusal := next(filter(None, map(_OTHER_CODE.search, reversed(said))), None):
            record = {"error": refusal[0], "refused": True}
    memory = bool(job and job.state == "OUT_OF_MEMORY") or any(map(_MEMORY.search, said))
    error = record["error"]
    if memory:
        error = f"{error.replace(_WORDLESS, _ENDED['OUT_OF_MEMORY'])} {ADVICE}"
    return Failure(error, record["refused"], memory, lasting=memory or record.get("lasting", False))


def _mark_of_failure(spec: Spec) -> dict[str, Any] | None:
    """What the step's mark of failure says; None where there is none, or it was damaged."""
    try:
        record = json.loads(text_of(spec.folder / FAILED))
        return record if isinstance(record["error"], str) and isinstance(record["refused"], bool) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def job_of_step(spec: Spec) -> dict:
    """What `job.json` says: number and log folder of the Slurm job that has the step or had it last; else empty.

    Where that is the job of an earlier segment, whose process has gone on, `queued` says the same of the one that was
    queued for this step, or is empty. A number that is none, and logs that are not where NeMo-Run keeps its records,
    are left out: they are asked for and read by whoever looks at the run.
    """
    try:
        record = json.loads(text_of(spec.folder / JOB_FILE))
    except (OSError, ValueError, RecursionError):  # none, or damaged
        return {}
    if not isinstance(record, dict) or not _NUMBER.fullmatch(str(record.get("job"))):
        return {}
    if "queued" in record:
        queued = record["queued"]
        known = isinstance(queued, dict) and _NUMBER.fullmatch(str(queued.get("job")))
        record["queued"] = {name: str(queued.get(name) or "") for name in ("job", "run", "logs")} if known else {}
    own = os.environ.get("NEMORUN_HOME")
    homes = [spec.runs, records_of(spec.runs), *([Path(own)] if own else [])]
    logs = os.path.realpath(str(record.get("logs") or ""))
    kept = any(Path(logs).is_relative_to(os.path.realpath(home)) for home in homes)
    return {**record, "logs": logs if record.get("logs") and kept else ""}


def job_log(spec: Spec) -> Path | None:
    """The newest log of the step's job that says anything: what srun wrote, or else the batch script."""
    record = job_of_step(spec)
    if not record.get("logs"):
        return None
    found = list(Path(record["logs"]).glob(f"*_{record['job']}*.out"))
    said = [path for path in found if path.stat().st_size] or found
    return max(said, key=lambda path: (path.name.startswith("log-"), path.stat().st_mtime), default=None)


def script_lines(spec: Spec) -> list[str]:
    """What the job's batch script, and Slurm in it, said last beside what the step did: why it was ended, mostly."""
    record = job_of_step(spec)
    logs = list(Path(record["logs"]).glob(f"sbatch_*_{record['job']}.out")) if record.get("logs") else []
    lines = [line for log in logs for line in last_lines(log)]
    # NeMo-Run's script prints its own lines as it goes, up to one that jobscript puts into it.
    begin = max((number for number, line in enumerate(lines, 1) if line.startswith("{ set +vx; }")), default=0)
    return [line for line in lines[begin:] if line.strip()]


def last_lines(log: Path | None, lines: int = 15) -> list[str]:
    """The end of a log; empty when there is none, none that we may read, or a link to another file."""
    if log is None:
        return []
    try:
        with opened(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    # Of a line that a progress bar wrote over and over, what was last to be seen.
    return [line.rpartition("\r")[2] for line in text.splitlines()][-lines:]


def is_locked(path: Path) -> bool:
    try:
        with opened(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or a folder of that name
        return False
    return False
