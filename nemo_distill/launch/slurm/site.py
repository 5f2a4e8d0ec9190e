"""What a site says of its Slurm: NeMo-Run's executor, and what a job needs beyond Slurm's own options."""

import dataclasses
import functools
import shlex
from dataclasses import dataclass
from typing import Any, Self

import nemo_run

from nemo_distill.launch.slurm.commands import Tunnel, ssh
from nemo_distill.launch.slurm.facts import ClusterFacts, Image
from nemo_distill.launch.slurm.snapshot import Code


@dataclass(kw_only=True)
class Site(nemo_run.SlurmExecutor):
    """NeMo-Run's, and what a site says beyond it."""

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

    def of_step(self, name: str) -> Self:
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
