"""What NeMo-Run lets a site say of a Slurm job, as data of our own: importing NeMo-Run takes seconds.

    JobOptions(account="physics", time="04:00:00").of_nemo_run()      # arguments of nemo_run.SlurmExecutor

Names, types and defaults are those of `nemo_run.SlurmExecutor`; a test compares. What is left out there is made for
each launch. Slurm's own options are explained by `man sbatch`.
"""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

from nemo_distill.launch.executors import MISSING


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """A Slurm job's options."""

    account: str = MISSING
    """Account that pays."""
    partition: str | None = None
    """Partition, or several with commas between them."""
    qos: str | None = None
    """Quality of service."""
    time: str = "00:10:00"
    """Time limit, as Slurm writes it."""
    cpus_per_task: int | None = None
    """CPU cores of a task."""
    cpus_per_gpu: int | None = None
    """CPU cores of a GPU."""
    gpus_per_node: int | None = None
    """GPUs of a node; a job of many ranks asks for as many as it has on a node. None: they are counted otherwise."""
    gpus_per_task: int | None = None
    """GPUs of a task."""
    gres: str | None = None
    """Generic resources, e.g. `gpu:h100:8`."""
    mem: str | None = None
    """Memory of a node, e.g. `64G`."""
    mem_per_gpu: str | None = None
    """Memory for each GPU."""
    mem_per_cpu: str | None = None
    """Memory for each CPU core."""
    constraint: str | None = None
    """Features that nodes need to have."""
    exclude: str | None = None
    """Nodes to leave out."""
    exclusive: bool | str | None = None
    """Whether a job has its nodes to itself, or among whom it has."""
    network: str | None = None
    """Options of the network."""
    segment: int | None = None
    """Nodes of a block of the topology."""
    open_mode: str = "append"
    """Whether a requeued job's log goes on (`append`) or begins anew (`truncate`)."""
    additional_parameters: dict[str, Any] | None = None
    """Other options of sbatch, by name."""
    srun_args: list[str] | None = None
    """Arguments of srun."""
    setup_lines: str | None = None
    """Lines for the shell before a step."""
    env_vars: dict[str, str] = dataclasses.field(default_factory=dict)
    """Environment variables of every step."""
    container_image: str | None = None
    """Image, or its file, for pyxis; None: no container."""
    container_mounts: list[str] = dataclasses.field(default_factory=list)
    """What a container sees, each as `/host/path:/container/path`."""
    container_env: list[str] | None = None
    """Names of variables that a container takes over."""
    dependency_type: str = "afterok"
    """What a job waits for of those before it."""
    memory_measure: bool = False
    """Whether NeMo-Run logs the GPUs' memory beside a step."""
    retries: int = 0
    """How often NeMo-Run's script requeues a job that failed, whatever the reason."""
    launcher: str | None = None
    """NeMo-Run's launcher; None: a step's ranks are started by torchrun already."""
    torchrun_nproc_per_node: int | None = None
    """Ranks on a node for NeMo-Run's launcher."""

    job_name_prefix: str | None = None
    """Set for each job: RUN and a dot."""
    nodes: int = 1
    """Set for each job, by the layout."""
    ntasks_per_node: int = 1
    """Set for each job: one, which starts the ranks."""
    comment: str | None = None
    """Set for each job: the step's folder."""
    signal: str | None = None
    """Set for each job: the warning before its time limit (executor.warn_seconds)."""

    array: str | None = None
    """An array's indices, which no step has a use for."""
    heterogeneous: bool = False
    """Whether tasks of a group differ; a step is no group."""
    het_group_indices: list[int] | None = None
    """The groups of such tasks."""
    wait_time_for_group_job: int = 30
    """Seconds between the tasks of a group."""
    monitor_group_job: bool = True
    """Whether a group ends with its first task that fails."""
    monitor_group_job_wait_time: int = 60
    """Seconds between two looks at a group."""
    ray_template: str = "ray.sub.j2"
    """Template of a Ray cluster's job."""

    def of_nemo_run(self) -> dict[str, Any]:
        """These options as arguments of `nemo_run.SlurmExecutor`, which may change them."""
        return {field.name: copy.deepcopy(getattr(self, field.name)) for field in dataclasses.fields(JobOptions)}
