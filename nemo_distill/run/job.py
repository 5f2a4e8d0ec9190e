"""A job of a step on a cluster, as whoever keeps the queue knows it.

>>> from nemo_distill.run.job import Job
>>> str(Job(id="18", state="PENDING", reason="Resources"))
'18 PENDING, Resources'
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

LIVE = {
    *("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"),
    *("STAGE_OUT", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD", "REVOKED"),
}
"""States of a job that has not ended."""
PASSING = {"TIMEOUT", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "DEADLINE"}
"""States of a job that ended for no fault of its step's: another job goes on where it was."""
LAUNCH_FAILED = "JobLaunchFailure"
"""Reason of the failure of a job that its node could not start."""
NEVER = "DependencyNeverSatisfied"
"""Reason of a job that is about to be cancelled by the queue: one that it waits for has failed."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job."""

    id: str
    """Number in the queue."""
    state: str
    """State in Slurm's words, e.g. `PENDING`."""
    reason: str = ""
    """Why it waits, or why it ended as it did."""
    nodes: str = ""
    """Where it runs or ran, e.g. `node[1-2]`."""
    restarts: int = 0
    """How often it was requeued."""
    user: str = ""
    """Whose it is."""
    comment: str = ""
    """What it was given to be found by: its step's folder."""

    @property
    def live(self) -> bool:
        """Whether it waits or runs."""
        return self.state in LIVE and self.reason != NEVER

    @property
    def passing(self) -> bool:
        """Whether it ended for no fault of its step's."""
        return self.state in PASSING or (self.state == "FAILED" and self.reason == LAUNCH_FAILED)

    @property
    def running(self) -> bool:
        """Whether it has its nodes."""
        return self.state in ("RUNNING", "COMPLETING", "SUSPENDED", "STAGE_OUT")

    def __str__(self) -> str:
        """E.g. `17 on node1`, `18 PENDING, Resources`, `19 on node2, requeued twice`."""
        where = f" on {self.nodes}" if self.running and self.nodes else f" {self.state}"
        why = f", {self.reason}" if self.state == "PENDING" and self.reason not in ("", "None") else ""
        again = f", requeued {self.restarts}x" if self.restarts else ""
        return f"{self.id}{where}{why}{again}"


NO_JOBS: Mapping[str, Job] = MappingProxyType({})
"""Jobs of a run that is not on a cluster."""
