"""What a site says of its Slurm: a job's options, and what a job needs beyond them."""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, Self

from nemo_distill.launch.slurm.commands import Tunnel
from nemo_distill.launch.slurm.facts import ClusterFacts, Image
from nemo_distill.launch.slurm.options import JobOptions
from nemo_distill.launch.slurm.snapshot import Code


@dataclass(frozen=True, kw_only=True)
class Site(JobOptions):
    """Options of a site's jobs, and what it says beyond them."""

    tunnel: Tunnel | None = None
    """The way to the host where Slurm's commands run; None: this one."""
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
        """With what `steps` says of the step `name`: its whole name, or the part before a dash, counts."""
        said: dict[str, Any] = {}
        for key in sorted(self.steps, key=len):  # the longest match has the last word
            if name == key or name.startswith(f"{key}-"):
                said |= self.steps[key]
        return dataclasses.replace(self, **said)

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
            tunnel=self.tunnel,
        )
