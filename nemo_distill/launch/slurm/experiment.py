"""A NeMo-Run experiment that queues all its jobs at once, each waiting in the queue for its own dependencies.

Nothing here waits for the jobs: `nemo_distill.launch.slurm.queueing` does.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from nemo_distill.launch.records import Experiment
from nemo_distill.run.signals import interrupts_kept


class SlurmExperiment(Experiment):
    """`run.Experiment` that queues its jobs and leaves; its executors are `nemo_run.SlurmExecutor`s."""

    waits_for: Mapping[str, list[str]] = MappingProxyType({})
    """For each task the jobs, by task or by Slurm's number, that have to succeed first."""
    on_queued: Callable[[str, str], None] = staticmethod(lambda task, number: None)
    """Called with a task's name and its job's number as soon as it has one."""

    def _run_dag(self, detach: bool, tail_logs: bool, executors: set) -> None:
        self._launched = self._waited = True
        numbers: dict[str, str] = {}
        try:
            with interrupts_kept() as interrupted:
                for job in self._jobs:
                    if interrupted():
                        raise KeyboardInterrupt
                    waits_for = [numbers.get(name, name) for name in self.waits_for.get(job.id, ())]
                    job.executor.dependencies = [f"slurm_tunnel://nemo_run/{number}" for number in waits_for]
                    job.launch(wait=False, runner=self._runner)
                    numbers[job.id] = job.handle.rpartition("/")[2]
                    self.on_queued(job.id, numbers[job.id])
        finally:
            self._save_jobs()
