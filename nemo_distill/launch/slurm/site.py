"""What a site says of its Slurm: a job's options, and what a job needs beyond them."""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from nemo_distill.config.rules import PartOf, at_least, between, one_of
from nemo_distill.launch.slurm.commands import Tunnel
from nemo_distill.launch.slurm.facts import ClusterFacts, Image
from nemo_distill.launch.slurm.limits import seconds_of
from nemo_distill.launch.slurm.options import JobOptions, Text
from nemo_distill.launch.slurm.snapshot import Code
from nemo_distill.outcome.suites import Cluster
from nemo_distill.preflight.machines import Surroundings
from nemo_distill.run.step import Spec

WAITING_MEMORY, WAITING_REQUEUES = "4G", 1_000
"""Of a job that does no more than wait for others, which have limits of their own."""

PREFLIGHT, PREFLIGHT_TIME = "preflight", "00:30:00"
"""Name of the step that checks what a run will need, and the longest that its job may take where `steps` says no
other."""


def waits(spec: Spec) -> bool:
    """Whether the step does no work itself: an evaluation that nemo-evaluator-launcher sends to jobs of its own."""
    return "launcher" in spec.config


def _at_most(time: str, longest: str) -> str:
    """The shorter of two time limits; one that Slurm does not write so stays."""
    seconds, most = seconds_of(time), seconds_of(longest)
    return longest if seconds and most and seconds > most else time


@dataclass(frozen=True, kw_only=True)
class Site(JobOptions):
    """Options of a site's jobs, and what it says beyond them."""

    tunnel: Tunnel | None = None
    """The way to the host where Slurm's commands run; None: this one."""
    modules: list[Text] = dataclasses.field(default_factory=list)
    """Environment modules that a job loads."""
    steps: dict[Text, Annotated[dict[str, Any], PartOf(JobOptions)]] = dataclasses.field(default_factory=dict)
    """Other values for some steps, e.g. `{"evaluate": {"time": "01:00:00"}}` for evaluate-2.5B and the like."""
    uncommitted: Annotated[str, one_of("package", "refuse")] = "package"
    """What becomes of uncommitted changes to this package: `package` them with the code, or `refuse` to launch."""
    requeues: Annotated[int, at_least(0)] = 3
    """How often a step whose job ended for no fault of its own (time limit, preemption, lost node) is begun again."""
    warn_seconds: Annotated[int, between(0, 65_535)] = 120
    """This long before its time limit a job is ended and requeued, so that what waits for it goes on waiting."""
    poll_seconds: Annotated[float, between(0.1, 3_600)] = 3.0
    """Seconds between two questions about the queue."""
    evaluation: Cluster = Cluster()
    """Where and how suites of nemo-evaluator-launcher run."""

    def evaluations(self) -> Mapping[str, Any]:
        """As the site says it; where it does not, the account, partition and host of all other jobs."""
        here = {
            "account": self.account,
            "partition": self.partition,
            "hostname": self.tunnel.host if self.tunnel else None,
            "username": self.tunnel.user if self.tunnel else None,
        }
        return {**here, **self.evaluation.plain}

    def of_step(self, name: str) -> Self:
        """With what `steps` says of the step `name`: its whole name, or the part before a dash, counts."""
        said: dict[str, Any] = {}
        for key in sorted(self.steps, key=len):  # the longest match has the last word
            if name == key or name.startswith(f"{key}-"):
                said |= self.steps[key]
        return dataclasses.replace(self, **said)

    def of(self, spec: Spec) -> Self:
        """What the job of a step is told: one that only waits has a core, no GPU and no node of its own, and is begun
        again however long it takes, unless `steps` says otherwise."""
        if spec.name == PREFLIGHT:
            short = dataclasses.replace(self, time=_at_most(self.time, PREFLIGHT_TIME), requeues=0)
            return short.of_step(spec.name)
        if not waits(spec):
            return self.of_step(spec.name)
        waiting = dataclasses.replace(
            self,
            exclusive=None,
            gpus_per_node=None,
            gres=None,
            cpus_per_task=1,
            mem=WAITING_MEMORY,
            requeues=max(self.requeues, WAITING_REQUEUES),
        )
        return waiting.of_step(spec.name)

    @property
    def surroundings(self) -> Surroundings:
        """What a preflight's job is in (`launch.preflight.Surrounding`)."""
        job, prepare = self.of_step(PREFLIGHT), self.of_step("prepare")
        return Surroundings(
            image=job.container_image or "",
            mounts=tuple(job.container_mounts),
            prepares_elsewhere=(job.partition, job.constraint) != (prepare.partition, prepare.constraint),
        )

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
            host=self.tunnel.host if self.tunnel else None,
        )
