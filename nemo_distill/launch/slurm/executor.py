"""NeMo-Run's Slurm executor, and what a site says of jobs beyond Slurm's own options.

made().launch(ctx, run, console)         # made of recipes/executors/slurm.yaml
"""

import dataclasses
import functools
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import nemo_run
from rich.console import Console

from nemo_distill.errors import UserError, nearest
from nemo_distill.launch.executors import site_settings
from nemo_distill.launch.slurm import jobscript
from nemo_distill.launch.slurm.commands import Tunnel, ssh
from nemo_distill.launch.slurm.facts import ClusterFacts, Image
from nemo_distill.launch.slurm.queueing import run_on_cluster
from nemo_distill.launch.slurm.snapshot import Code
from nemo_distill.run.manifest import Run
from nemo_distill.run.ranks import Processes

if TYPE_CHECKING:
    from nemo_distill.launch.context import Context

UNCOMMITTED = ("package", "refuse")
"""What can become of uncommitted changes."""


@dataclass(kw_only=True)
class SlurmExecutor(nemo_run.SlurmExecutor):
    """NeMo-Run's, and what a site says beyond it."""

    name: ClassVar[str] = "slurm"
    scale: ClassVar[str] = "full"
    modules: list[str] = dataclasses.field(default_factory=list)
    """Environment modules that a job loads."""
    steps: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Other values for some steps, e.g. `{"evaluate": {"time": "01:00:00"}}` for evaluate-2.5B and the like."""
    uncommitted: str = "package"
    """What becomes of uncommitted changes to this package: `package` them with the code, or `refuse` to launch."""
    requeues: int = 3
    """How often a step whose job ended for no fault of its own (time limit, preemption, lost node) is begun again."""
    warn_seconds: int = 120
    """This long before its time limit a job is ended and requeued, so that what waits for it goes on waiting."""
    poll_seconds: float = 3.0
    """How often the queue is asked about."""

    def of_step(self, name: str) -> "SlurmExecutor":
        """A copy with what `steps` says of the step `name`: its whole name, or the part before a dash, counts."""
        executor = self.clone()
        for key in sorted(self.steps, key=len):  # the longest match has the last word
            if name == key or name.startswith(f"{key}-"):
                for field_name, value in self.steps[key].items():
                    setattr(executor, field_name, value)
        return executor

    @functools.cached_property
    def code(self) -> Code:
        """The code as it is at the launch, which every job will run."""
        return Code.here()

    @property
    def facts(self) -> ClusterFacts:
        """What the run's file keeps of a launch."""
        return ClusterFacts(
            code=self.code.facts(),
            modules=tuple(self.modules),
            image=Image.named(self.container_image),
            tunnel=self.tunnel.way if isinstance(self.tunnel, SharedTunnel) else None,
        )

    def check(self, ctx: "Context", run: Run) -> None:
        """Raise `UserError` for what Slurm or NeMo-Run would stumble over later."""
        if self.uncommitted not in UNCOMMITTED:
            hint = nearest(self.uncommitted, UNCOMMITTED)
            raise UserError(f"executor.uncommitted='{self.uncommitted}' is no choice. {hint}")
        known = {field.name for field in dataclasses.fields(nemo_run.SlurmExecutor) if field.init}
        for step, values in self.steps.items():
            for key in values:
                if key not in known:
                    raise UserError(f"executor.steps.{step} has no setting '{key}'. {nearest(key, known)}")
        _check_paths(run.runs)
        for step, job in (("", self), *((f"steps.{name}.", self.of_step(name)) for name in self.steps)):
            seconds = jobscript.seconds_of(job.time)
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

    def launch(self, ctx: "Context", run: Run, console: Console) -> None:
        """Queue what is neither done nor in the queue and, unless detached, see the run to its end."""
        run_on_cluster(self, run, console, detach=ctx.detach)


@dataclass(kw_only=True)
class LocalTunnel(nemo_run.LocalTunnel):
    """NeMo-Run's, whose commands leave standard input alone: a terminal stops what reads it in the background."""

    def __post_init__(self):
        super().__post_init__()
        self.session.config.run.in_stream = False


@dataclass(kw_only=True)
class SharedTunnel(LocalTunnel):
    """Runs Slurm's commands on a host that is reached by ssh and sees the runs folder, so that nothing is copied."""

    host: str
    """Its name; what follows is as `Tunnel` has it."""
    user: str | None = None
    port: int | None = None
    identity: str | None = None
    config: str | None = None

    @property
    def way(self) -> Tunnel:
        """How to get there."""
        return Tunnel(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Tunnel)})

    def run(self, command: str, hide: bool = True, warn: bool = False, **settings):
        return super().run(shlex.join([*ssh(self.way), command]), hide=hide, warn=warn, **settings)


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
    tunnel = {key: value for key, value in given.pop("tunnel", {}).items() if value is not None}
    kind = SharedTunnel if "host" in tunnel else LocalTunnel
    return SlurmExecutor(
        **given,
        tunnel=kind(**{"job_dir": "", **tunnel}),
        packager=nemo_run.Packager(),
        poll_estimated_start_time=False,
    )
