"""Launches a run as Slurm jobs, through NeMo-Run, which is loaded then and for no preview.

made().launch(run, console, detach=False)         # made of recipes/executors/slurm.yaml
"""

import dataclasses
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from nemo_distill.errors import UserError, nearest
from nemo_distill.launch.executors import site_settings
from nemo_distill.launch.slurm.commands import Tunnel
from nemo_distill.launch.slurm.limits import seconds_of
from nemo_distill.launch.slurm.options import JobOptions
from nemo_distill.launch.slurm.site import Site, waits
from nemo_distill.run.manifest import Run
from nemo_distill.run.ranks import Processes

UNCOMMITTED = ("package", "refuse")
"""What can become of uncommitted changes."""


@dataclass(frozen=True, kw_only=True)
class SlurmExecutor(Site):
    """A site's Slurm, to launch a run on."""

    name: ClassVar[str] = "slurm"
    scale: ClassVar[str] = "full"

    def check(self, run: Run, *, dryrun: bool, detach: bool) -> None:
        """Raise `UserError` for what Slurm or NeMo-Run would stumble over later."""
        if self.uncommitted not in UNCOMMITTED:
            hint = nearest(self.uncommitted, UNCOMMITTED)
            raise UserError(f"executor.uncommitted='{self.uncommitted}' is no choice. {hint}")
        known = [field.name for field in dataclasses.fields(JobOptions)]
        for step, values in self.steps.items():
            for key in values:
                if key not in known:
                    raise UserError(f"executor.steps.{step} has no setting '{key}'. {nearest(key, known)}")
        _check_paths(run.runs)
        for step, job in (("", self), *((f"steps.{name}.", self.of_step(name)) for name in self.steps)):
            seconds = seconds_of(job.time)
            if seconds is None:
                raise UserError(f"executor.{step}time='{job.time}' is no time limit of Slurm's, e.g. 04:00:00 or 1-12.")
            if seconds <= job.warn_seconds:
                raise UserError(
                    f"executor.{step}time='{job.time}' leaves no time before the warning: executor.warn_seconds="
                    f"{job.warn_seconds} has to be less."
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
        where = f"account {self.account}, partition {self.partition}, {self.time} a job"
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
        from nemo_distill.launch.slurm.queueing import run_on_cluster

        run_on_cluster(self, run, console, detach=detach)


def _check_paths(runs: Path) -> None:
    """Raise `UserError` for a folder that a job script cannot name."""
    for path in (runs, *filter(None, [os.environ.get("NEMORUN_HOME")])):
        if any(character.isspace() for character in str(path)):
            raise UserError(
                f"'{path}' has a space in it, which NeMo-Run's job scripts break on: choose another folder."
            )
    for path in (runs, Path(sys.executable)):
        if "/nemo_run" in str(path):
            raise UserError(
                f"NeMo-Run cannot have '/nemo_run' in a path, as in {path}: it rewrites that in job scripts."
            )


def made() -> SlurmExecutor:
    """The executor as the site's settings have it. Raises `UserError` where a site has none."""
    settings = site_settings("slurm", SlurmExecutor)
    if not settings:
        raise UserError("there is no recipes/executors/slurm.yaml here to say which account and partition to use.")
    given = {key: value for key, value in settings.items() if value is not None}
    return SlurmExecutor(**{**given, "tunnel": _tunnel(given.get("tunnel") or {})})


def _tunnel(settings: Any) -> Tunnel | None:
    """The way that the site's settings describe; None where they name no host. Raises `UserError`."""
    known = [field.name for field in dataclasses.fields(Tunnel)]
    if not isinstance(settings, dict):
        raise UserError(f"executor.tunnel='{settings}' has to say more: tunnel: {{host: {settings}}}.")
    given = {key: value for key, value in settings.items() if value is not None}
    for key in given:
        if key not in known:
            raise UserError(f"executor.tunnel has no setting '{key}'. {nearest(str(key), known)}")
    if given and "host" not in given:
        raise UserError(f"executor.tunnel has {', '.join(given)} but no host to reach.")
    return Tunnel(**given) if given else None
