"""What Slurm says of jobs, with and without accounting, here or through SSH.

    slurm = Slurm()
    slurm.jobs(["17", "18"])["17"].state        # "RUNNING"
    slurm.live_in([Path("/runs/prune/5b1c0d3e9a77")])

`squeue` knows jobs until some minutes after their end, `sacct`, where a site keeps accounts, for ever. Where neither
knows a job any more, what its step's folder says is all there is; it is the truth about success in any case.
"""

import getpass
import re
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from nemo_distill.config.rules import FILE, WORD, between
from nemo_distill.run.job import Job

_FIELDS = ("JobID", "State", "Reason", "NodeList", "RestartCnt", "UserName", "Comment")
_DENIED = re.compile(r"job id (\d+)\b.*(?:denied|permission)", re.IGNORECASE)


class SlurmSilent(Exception):
    """Slurm did not answer: its controller is restarting, or the way to it is cut."""


@dataclass(frozen=True, kw_only=True)
class Tunnel:
    """How to reach, by ssh, the host where a cluster's commands run."""

    host: Annotated[str, WORD]
    """Its name."""
    user: Annotated[str, WORD] | None = None
    """User there; None: what ssh makes of it."""
    port: Annotated[int, between(1, 65_535)] | None = None
    """Port of its ssh server; None: the usual one."""
    identity: Annotated[str, FILE] | None = None
    """File of a private key."""
    config: Annotated[str, FILE] | None = None
    """File in place of ~/.ssh/config."""


def ssh(tunnel: Tunnel) -> list[str]:
    """The command, up to the words to run there, that goes through `tunnel`. It never asks for a password."""
    options = {"-l": tunnel.user, "-p": tunnel.port, "-i": tunnel.identity, "-F": tunnel.config}
    given = [(option, str(value)) for option, value in options.items() if value is not None]
    return ["ssh", "-o", "BatchMode=yes", *(word for pair in given for word in pair), "--", tunnel.host]


class Slurm:
    """Slurm's commands, run on this machine or, given how to get there (`ssh`), on another."""

    def __init__(self, tunnel: Tunnel | None = None):
        self.tunnel = tunnel

    def jobs(self, ids: Iterable[str]) -> dict[str, Job]:
        """Those of the jobs `ids` that Slurm still knows. Raises `SlurmSilent`."""
        ids = list(ids)
        if not ids:
            return {}
        found = {job.id: job for job in self._queue("--states=all", "--jobs", ",".join(ids))}
        forgotten = [id for id in ids if id not in found]
        return found | (self._accounts(forgotten) if forgotten else {})

    def live_in(self, folders: Iterable[Path]) -> dict[Path, Job]:
        """The live jobs of any user whose comment is one of `folders`. Raises `SlurmSilent`.

        A job carries the folder of its step, so it is found even when the command that queued it was killed before it
        could write down the job's number.
        """
        folders = set(folders)
        jobs = [job for job in self._queue() if job.live and job.comment]
        return {Path(job.comment): job for job in jobs if Path(job.comment) in folders}

    def cancel(self, ids: Iterable[str]) -> set[str]:
        """Cancel the jobs, whether they wait or run; returns those that are another's. Raises `SlurmSilent`."""
        ids = list(ids)
        return set(_DENIED.findall(self._run("scancel", *ids)[2])) if ids else set()

    def belongs_to_another(self, job: Job) -> bool:
        """Whether it is another user's, as far as is known: through a tunnel we may have another name."""
        ours = self.tunnel.user if self.tunnel else getpass.getuser()
        return bool(ours and job.user) and job.user != ours

    def _queue(self, *which: str) -> list[Job]:
        columns = ",".join(f"{field}:|" for field in _FIELDS)
        code, out, error = self._run("squeue", "--noheader", *which, "-O", columns)
        if code != 0:
            if "Invalid job id" in error:
                return []
            raise SlurmSilent(error.strip().splitlines()[-1] if error.strip() else "squeue failed")
        return [job_of(line) for line in out.splitlines() if line.strip()]

    def _accounts(self, ids: list[str]) -> dict[str, Job]:
        words = ("sacct", "--noheader", "--parsable2", "--allocations", "--jobs", ",".join(ids))
        code, out, _ = self._run(*words, "--format=JobID,State,Reason,NodeList")
        if code != 0:  # the site keeps no accounts
            return {}
        rows = [map(_plain, line.split("|")) for line in out.splitlines() if line.count("|") == 3]
        # "CANCELLED by 1000"
        jobs = [Job(id=id, state=state.split()[0], reason=why, nodes=nodes) for id, state, why, nodes in rows]
        return {job.id: job for job in jobs}

    def sees(self, folder: Path) -> bool:
        """Whether that folder is there where Slurm's commands run. Raises `SlurmSilent`."""
        return folder.is_dir() if self.tunnel is None else self._run("test", "-d", str(folder))[0] == 0

    def _run(self, *words: str) -> tuple[int, str, str]:
        if self.tunnel is not None:
            words = (*ssh(self.tunnel), shlex.join(words))
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        except FileNotFoundError:
            raise SlurmSilent(f"there is no {words[0]} on this machine") from None
        except subprocess.TimeoutExpired:
            raise SlurmSilent(f"{words[0]} did not answer within two minutes") from None
        if self.tunnel is not None and done.returncode == 255:  # ssh's own
            raise SlurmSilent(f"ssh to {self.tunnel.host}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
        return done.returncode, done.stdout, done.stderr


def job_of(line: str) -> Job:
    """The job in a line of `squeue -O`, whose columns are `_FIELDS`, each followed by a bar."""
    id, state, reason, nodes, restarts, user, comment = map(_plain, line.split("|", len(_FIELDS))[: len(_FIELDS)])
    return Job(
        id=id, state=state, reason=reason, nodes=nodes, restarts=int(restarts or 0), user=user, comment=comment.strip()
    )


def _plain(word: str) -> str:
    """`word`, empty where it is one of Slurm's for nothing."""
    return "" if word in ("(null)", "None", "N/A", "None assigned") else word
