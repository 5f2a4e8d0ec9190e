"""Launches a run as Slurm jobs, through NeMo-Run, which is loaded then and for no preview.

made().launch(run, console, detach=False)         # made of recipes/executors/slurm.yaml
"""

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.console import Console

from nemo_distill.compat.nemo_run import imported_alone
from nemo_distill.errors import UserError, nearest
from nemo_distill.launch.executors import site_file, site_settings
from nemo_distill.launch.slurm.limits import seconds_of
from nemo_distill.launch.slurm.options import JobOptions
from nemo_distill.launch.slurm.site import Site, waits
from nemo_distill.pipeline import KINDS, PRUNED, TEACHER
from nemo_distill.run.manifest import Run
from nemo_distill.run.ranks import Processes
from nemo_distill.run.sharing import records_of
from nemo_distill.run.table import duration

_LABEL = re.compile(rf"{TEACHER}|{PRUNED}|[\d.]+[KMBT]?(-fp8)?")
"""What may follow a step's kind and a dash."""
_EXPORT = re.compile(r"--export[= ](?:.*,)?(\w+)=")
"""An option that sets a variable."""


@dataclass(frozen=True, kw_only=True)
class SlurmExecutor(Site):
    """A site's Slurm, to launch a run on."""

    name: ClassVar[str] = "slurm"
    scale: ClassVar[str] = "full"

    def check(self, run: Run, *, dryrun: bool, detach: bool) -> None:
        """Raise `UserError` for what Slurm or NeMo-Run would stumble over later."""
        _check_paths(run.runs)
        _check_steps(self.steps, run)
        for step, job in (("", self), *((f"steps.{name}.", self.of_step(name)) for name in self.steps)):
            seconds = seconds_of(job.time)
            if seconds is not None and seconds <= job.warn_seconds:
                raise UserError(
                    f"executor.{step}time='{job.time}' leaves no time before the warning: executor.warn_seconds="
                    f"{job.warn_seconds} has to be less."
                )
            _check_exports(job, f"executor.{step}")
            if self.tunnel is None:  # else what is there is not seen from here
                _check_container(job, f"executor.{step}")
        if found := self.code.secret():
            raise UserError(
                f"{found} holds what looks like a secret, and jobs run a copy of the code that others may read: take "
                "it out, and read it from a variable of executor.env_vars."
            )
        if self.uncommitted == "refuse" and self.code.git and self.code.changed:
            names = [line[6:] for line in (self.code.git["diff"] or "").splitlines() if line.startswith("+++ b/")]
            names += self.code.git["untracked"]
            raise UserError(
                f"there are uncommitted changes ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''}) and "
                "executor.uncommitted=refuse: commit them, or give executor.uncommitted=package."
            )

    def describe(self, run: Run) -> list[str]:
        """The jobs' shapes, where they run, and which code."""
        shapes: dict[str, list[str]] = {}
        for name, spec in run.specs.items():
            shapes.setdefault(str(Processes.of(spec, run.facts.beside.layout)), []).append(name)
        most = max(shapes, key=lambda shape: len(shapes[shape]))
        words = [f"{', '.join(names)} on {shape}" for shape, names in shapes.items() if shape != most]
        words.append(f"{'the others' if words else 'all'} on {most}")
        if any(map(waits, run.specs.values())):
            words.append("evaluations on a core of a node, to wait for those of nemo-evaluator-launcher")
        limits = [seconds_of(self.of(spec).time) or 0 for spec in run.specs.values()]
        limit = duration(max(limits, default=0))  # a number alone is minutes, which is easily overlooked
        where = f"account {self.account}, partition {self.partition}, at most {limit} a job"
        image, code = self.container_image, self.code
        if not image:
            within = "no container"
        elif "@sha256:" in image or Path(image).is_file():
            within = f"in {image}"
        else:
            within = f"in {image}, a name that may move to another image: @sha256:... would pin it"
        changes = f"uncommitted changes packaged ({code.sha256})" if code.changed else f"packaged ({code.sha256})"
        origin = f"commit {code.commit[:12]}, {changes}" if code.commit else changes
        return [f"Jobs: {'; '.join(words)}; {where}; {within}", f"Code: {origin}"]

    def launch(self, run: Run, console: Console, *, detach: bool) -> None:
        """Queue what is neither done nor in the queue and, unless detached, see the run to its end."""
        with imported_alone():
            from nemo_distill.launch.slurm.queueing import run_on_cluster

        run_on_cluster(self, run, console, detach=detach)


def _check_paths(runs: Path) -> None:
    """Raise `UserError` for a folder that a job script cannot name."""
    for path in (runs, records_of(runs), *filter(None, [os.environ.get("NEMORUN_HOME")])):
        if any(character.isspace() for character in str(path)):
            raise UserError(
                f"'{path}' has a space in it, which NeMo-Run's job scripts break on: choose another folder."
            )
    for path in (runs, Path(sys.executable)):
        if "/nemo_run" in str(path):
            raise UserError(
                f"NeMo-Run cannot have '/nemo_run' in a path, as in {path}: it rewrites that in job scripts."
            )


def _check_steps(steps: Iterable[str], run: Run) -> None:
    """Raise `UserError` for a key of `steps` that no step of any run has for its name, or for the part before a dash.

    A site's file is for all runs: it may name a milestone that this one has not.
    """
    there = {part for name in run.specs for part in (name, name.partition("-")[0])}
    for step in steps:
        kind, dash, label = step.partition("-")
        known = step in there or (kind in KINDS and (not dash or _LABEL.fullmatch(label)))
        if not known:
            raise UserError(f"executor.steps has no step '{step}'. {nearest(step, there | set(KINDS))}")


def _check_exports(job: JobOptions, key: str) -> None:
    """Raise `UserError` for variables whose values are on the command line of srun or sbatch, which `ps` shows."""
    options = [f"--{name}={value}" for name, value in (job.additional_parameters or {}).items()]
    for name, words in {"srun_args": job.srun_args or (), "additional_parameters": options}.items():
        if found := next(filter(None, map(_EXPORT.search, words)), None):
            raise UserError(
                f"{key}{name} has --export with the value of {found[1]}, which every user of a node may read on the "
                f"command line: say {key}env_vars.{found[1]} in its place."
            )


def _check_container(job: JobOptions, key: str) -> None:
    """Raise `UserError` for an image's file, or a folder to mount, that is not there."""
    image = job.container_image
    if image and image.startswith(("/", "./", "../", "~")) and not Path(image).is_file():
        raise UserError(f"{key}container_image={image} is no file on this machine.")
    for mount in job.container_mounts:
        if not Path(mount.partition(":")[0]).exists():
            raise UserError(f"{key}container_mounts has {mount}, and there is no {mount.partition(':')[0]} here.")


def made() -> SlurmExecutor:
    """The executor as the site's settings have it. Raises `UserError` where a site has none."""
    if site_file("slurm") is None:
        raise UserError("there is no recipes/executors/slurm.yaml here to say which account and partition to use.")
    return SlurmExecutor(**site_settings("slurm", SlurmExecutor))
