"""Keeps what nemo-evaluator-launcher has submitted for a checkpoint, in the folder of its evaluation.

    invocations = Invocations(folder)
    invocations.of("ns_gpqa")                       # "0123456789abcdef", None before it was submitted
    invocations.end("ns_gpqa", "success")

Two files: `launcher.jsonl` is the launcher's own record, which it writes in this place rather than in a home that a
container does not keep, and `invocations.json` is ours. What the launcher submitted and had no time to say is in the
first alone, and is found there.
"""

import json
import logging
import os
import re
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluator.harness.cluster import Cluster
from evaluator.suites.own import OWN

RECORD = "launcher.jsonl"
FILE = "invocations.json"
OUTPUT = "nemo_evaluator"
SSH_SECONDS = 120
logger = logging.getLogger(__name__)


@dataclass
class Invocation:
    """One benchmark of one checkpoint, submitted."""

    id: str
    """The launcher's id of it."""
    submitted: float
    """When, in seconds since 1970."""
    state: str = ""
    """In what state its job ended, as the launcher has it, or `overrun`; empty while it was not seen to end."""
    refused: str = ""
    """Why its results were not believed; empty where they were, or were not read yet."""

    @property
    def given_up(self) -> bool:
        """Whether an attempt has ended over it."""
        return bool(self.refused) or self.state not in ("", "success")


class Invocations:
    """The invocations of an evaluation, by task."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "NEMO_EVALUATOR_EXEC_DB_FILE": str(folder / RECORD),
            "NEMO_EVALUATOR_TELEMETRY_LEVEL": "0",
            # Images that the site names hold tasks that the launcher does not list.
            "NEMO_EVALUATOR_TRUST_UNLISTED_TASKS": "1",
        }
        record = folder / RECORD
        if record.is_file() and not record.read_bytes().endswith(b"\n"):  # a line that was cut takes no other with it
            with record.open("a") as file:
                file.write("\n")
        self._known: dict[str, Invocation] = {}
        if (folder / FILE).is_file():
            known = json.loads((folder / FILE).read_text(encoding="utf-8"))
            self._known = {task: Invocation(**values) for task, values in known.items()}

    def of(self, task: str) -> Invocation | None:
        """The last invocation of a task; None where it was not submitted, or the launcher has lost it."""
        recorded = {id: (name, when) for id, name, when in self._recorded()}
        known = self._known.get(task)
        last = max(((when, id) for id, (name, when) in recorded.items() if name == task), default=None)
        if last and (known is None or (known.id != last[1] and known.submitted < last[0])):
            known = self._known[task] = Invocation(last[1], last[0])
            self._save()
        if known and known.id not in recorded:
            logger.warning("%s was submitted as %s, of which the launcher has no record.", task, known.id)
            return None
        return known

    def add(self, task: str, id: str, *, submitted: float) -> Invocation:
        """Note that a task was submitted."""
        self._known[task] = Invocation(id, submitted)
        self._save()
        return self._known[task]

    def end(self, task: str, state: str = "success", *, refused: str = "") -> None:
        """Note in what state a task's job ended, and why its results were `refused`."""
        self._known[task].state, self._known[task].refused = state, refused
        self._save()

    def output(self, task: str) -> Path:
        """The folder in which a task's invocation leaves its output. Raises ValueError where there is not one."""
        return output_of(self.folder, self._known[task].id)

    def cancel_unrecorded(self, cluster: Cluster) -> None:
        """Cancel what a launcher has left in the queue that was killed before it could record it.

        Its scripts lie in the output's folder without being in the record; whether they were queued nobody knows, but
        their names are this evaluation's own. Raises RuntimeError when the cluster does not answer.
        """
        recorded = {id for id, _, _ in self._recorded()}
        for folder in sorted((self.folder / OUTPUT).glob("*-*")):
            if folder.name.rpartition("-")[2] in recorded or (folder / "cancelled").exists():
                continue
            usual = f"{cluster.account}-{subproject(self.folder)}"
            names = ",".join(_name_of(job) or f"{usual}.{job.name}" for job in _jobs(folder))
            user = cluster.username or os.environ.get("USER", "")
            if names:
                cancel = shlex.join(["scancel", f"--user={user}", f"--name={names}"])
                done = subprocess.run(
                    ["ssh", f"{user}@{cluster.hostname}", cancel], capture_output=True, text=True, timeout=SSH_SECONDS
                )
                if done.returncode != 0:
                    raise RuntimeError(f"'{folder}' may be queued, and cannot be cancelled: {done.stderr.strip()}")
            (folder / "cancelled").touch()

    def _recorded(self) -> Iterable[tuple[str, str, float]]:
        """Id, task and time of each job in the launcher's record; a line that was cut is none."""
        path = self.folder / RECORD
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                job = json.loads(line)
                yield job["invocation_id"], _asked_in(job["config"]["evaluation"]["tasks"][0]), job["timestamp"]
            except (ValueError, KeyError, IndexError, TypeError):
                continue

    def _save(self) -> None:
        path = self.folder / FILE
        scratch = path.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(json.dumps({task: asdict(one) for task, one in self._known.items()}, indent=1))
        os.replace(scratch, path)


def _asked_in(task: dict) -> str:
    """The benchmark that a task of the launcher's asks: of a user's own questions it says which."""
    config = (task.get("nemo_evaluator_config") or {}).get("config") or {}
    return config["params"]["task"] if config.get("type") == OWN else task["name"]


def _name_of(job: Path) -> str:
    """The name of a job in the queue, as its script has it; empty where it has none."""
    named = re.search(r"^#SBATCH --job-name[ =](\S+)", (job / "run.sub").read_text(errors="replace"), re.MULTILINE)
    return named[1] if named else ""


def _jobs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/run.sub"))


def output_of(folder: Path, invocation: str) -> Path:
    """The folder in which an invocation leaves its output. Raises ValueError where there is not one."""
    found = sorted((folder / OUTPUT).glob(f"*-{invocation}"))
    if len(found) != 1:
        raise ValueError(f"'{folder / OUTPUT}' holds {len(found)} folders of the invocation {invocation}, not one.")
    return found[0]


def subproject(folder: Path) -> str:
    """What the jobs of an evaluation are called by: the names of its step and of its fingerprint."""
    return f"{folder.parent.name}-{folder.name}"
