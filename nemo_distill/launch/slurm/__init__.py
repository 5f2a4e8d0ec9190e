"""A run on a Slurm cluster: what `--executor slurm` stands for, and what `nemo-run status` and `cancel` ask.

The way through, in the order in which a launch goes it:

    options      what NeMo-Run lets a site say of a job, and site, what we do; limits, how Slurm writes a time limit
    executor     checks, the preview's lines, and the launch itself, before which NeMo-Run is not loaded
    snapshot     the code as it is now, with its uncommitted changes, copied into the runs folder: what jobs will run
    queueing     under a lock, a job for every step that is neither done nor in the queue already, whoever put it there;
                 then the run is seen through to its end, or left to the cluster
    experiment   how NeMo-Run queues those jobs
    jobscript    what a step's job is: its nodes and ranks, its environment, and how it meets its time limit
    tunnels      how NeMo-Run gets at Slurm's commands
    facts        what the run's file keeps of it
    ways         which of them: the site's file of who asks says so
    watch        each step's job, found again by any process that sees the runs folder; cancelling
    commands     squeue, sacct and scancel, here or through ssh, and what they say of a job

How the ranks of one job agree is in `nemo_distill.run.ranks`. What is done, running or cut is read off the steps'
folders (`nemo_distill.run.manifest`); Slurm is asked only what becomes of the rest. Tests bring up a real Slurm on this
machine:

    python tests/nemo_distill/launch/slurm/cluster_for_tests.py bash
"""

from typing import TYPE_CHECKING

from nemo_distill.run.manifest import Run

if TYPE_CHECKING:
    from nemo_distill.launch.slurm.executor import SlurmExecutor
    from nemo_distill.launch.slurm.watch import Watch


def make() -> "SlurmExecutor":
    """The executor as `executors/slurm.yaml` has it."""
    from nemo_distill.launch.slurm.executor import made

    return made()


def follow(run: Run) -> "Watch | None":
    """The run's jobs; None where none was queued."""
    from nemo_distill.launch.slurm.facts import ClusterFacts
    from nemo_distill.launch.slurm.watch import Watch

    return Watch(run) if ClusterFacts.of(run).queued is not None else None
