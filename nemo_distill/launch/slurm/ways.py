"""How whoever asks for a run's jobs gets to Slurm: by the site's file of his own, whatever the run's file says.

    slurm_of(run).jobs(["17"])

A run's file, which anybody who may write the runs folder may have written, names a host and no more: where the site's
file here has the way to that host, it is taken, and where it has not, nobody is asked.
"""

from nemo_distill.launch.slurm.commands import Slurm, SlurmSilent
from nemo_distill.launch.slurm.facts import ClusterFacts
from nemo_distill.run.manifest import Run


class Unreachable(Slurm):
    """A Slurm that there is no way to."""

    def __init__(self, why: str):
        super().__init__()
        self.why = why

    def _run(self, *words: str) -> tuple[int, str, str]:
        raise SlurmSilent(self.why)


def slurm_of(run: Run) -> Slurm:
    """The Slurm that has the jobs of `run`."""
    host = ClusterFacts.of(run).host
    if host is None:
        return Slurm()
    from nemo_distill.launch.executors import site_settings
    from nemo_distill.launch.slurm.executor import SlurmExecutor

    tunnel = site_settings("slurm", SlurmExecutor).get("tunnel")
    if tunnel is None or tunnel.host != host:
        return Unreachable(f"the jobs were queued through {host!r}, which is not tunnel.host of the site's file here")
    return Slurm(tunnel)
