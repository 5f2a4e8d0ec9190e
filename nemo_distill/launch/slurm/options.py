"""What NeMo-Run lets a site say of a Slurm job, as data of our own: importing NeMo-Run takes seconds.

    JobOptions(account="physics", time="04:00:00").of_nemo_run()      # arguments of nemo_run.SlurmExecutor

Names, types and defaults are those of `nemo_run.SlurmExecutor`; a test compares. What is left out there is made for
each launch. Slurm's own options are explained by `man sbatch`.
"""

import copy
import dataclasses
import re
from dataclasses import dataclass
from typing import Annotated, Any

from nemo_distill.config.rules import WORD, Elsewhere, Rule, Variable, between, one_of
from nemo_distill.launch.executors import MISSING
from nemo_distill.launch.slurm.limits import seconds_of

YEAR = 366 * 86_400
"""Longest time limit in seconds: what is longer is mistyped."""
Text = Annotated[str, WORD]
Count = Annotated[int, between(1, 65_535)]
"""As many as Slurm can count of cores."""
Plain = Annotated[Any, Rule(lambda value: not isinstance(value, dict | list), "a word or a number")]
TimeLimit = Annotated[
    str,
    Rule(lambda time: 0 < (seconds_of(time) or 0) <= YEAR, "a time limit of Slurm's, e.g. 04:00:00 or 1-12"),
]
Memory = Annotated[
    str,
    Rule(lambda size: bool(re.fullmatch(r"\d{1,12}([KMGT]B?)?", size, re.I)), "memory as Slurm writes it, e.g. 64G"),
]
Exclusive = Annotated[bool | str, one_of("true", "false", "user", "mcs", "topo")]
Mount = Annotated[
    str, Rule(lambda mount: bool(re.fullmatch(r"/[^:]*:/[^:]*(:[^:]+)?", mount)), "/host/path:/container/path")
]
NO_GROUP = Elsewhere("a step is one job, and no group of tasks")
NO_LAUNCHER = Elsewhere("a step's ranks are started by torchrun already")


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """A Slurm job's options."""

    account: Text = MISSING
    """Account that pays."""
    partition: Text | None = None
    """Partition, or several with commas between them."""
    qos: Text | None = None
    """Quality of service."""
    time: TimeLimit = "00:10:00"
    """Time limit, as Slurm writes it."""
    cpus_per_task: Count | None = None
    """CPU cores of a task."""
    cpus_per_gpu: Count | None = None
    """CPU cores of a GPU."""
    gpus_per_node: Count | None = None
    """GPUs of a node; a job of many ranks asks for as many as it has on a node. None: they are counted otherwise."""
    gpus_per_task: Count | None = None
    """GPUs of a task."""
    gres: Text | None = None
    """Generic resources, e.g. `gpu:h100:8`."""
    mem: Memory | None = None
    """Memory of a node, e.g. `64G`."""
    mem_per_gpu: Memory | None = None
    """Memory for each GPU."""
    mem_per_cpu: Memory | None = None
    """Memory for each CPU core."""
    constraint: Text | None = None
    """Features that nodes need to have."""
    exclude: Text | None = None
    """Nodes to leave out."""
    exclusive: Exclusive | None = None
    """Whether a job has its nodes to itself, or among whom it has."""
    network: Text | None = None
    """Options of the network."""
    segment: Count | None = None
    """Nodes of a block of the topology."""
    open_mode: Annotated[str, one_of("append", "truncate")] = "append"
    """Whether a requeued job's log goes on (`append`) or begins anew (`truncate`)."""
    additional_parameters: dict[str, Plain] | None = None
    """Other options of sbatch, by name."""
    srun_args: list[str] | None = None
    """Arguments of srun."""
    setup_lines: str | None = None
    """Lines for the shell before a step."""
    env_vars: dict[Variable, str] = dataclasses.field(default_factory=dict)
    """Environment variables of every step."""
    container_image: Text | None = None
    """Image, or its file, for pyxis; None: no container."""
    container_mounts: list[Mount] = dataclasses.field(default_factory=list)
    """What a container sees, each as `/host/path:/container/path`."""
    container_env: list[Variable] | None = None
    """Names of variables that a container takes over."""
    dependency_type: Annotated[str, Elsewhere("a step waits for the success of what it depends on")] = "afterok"
    """What a job waits for of those before it."""
    memory_measure: bool = False
    """Whether NeMo-Run logs the GPUs' memory beside a step."""
    retries: Annotated[int, Elsewhere("say executor.requeues")] = 0
    """How often NeMo-Run's script requeues a job that failed, whatever the reason."""
    launcher: Annotated[str | None, NO_LAUNCHER] = None
    """NeMo-Run's launcher; None: a step's ranks are started by torchrun already."""
    torchrun_nproc_per_node: Annotated[int | None, NO_LAUNCHER] = None
    """Ranks on a node for NeMo-Run's launcher."""

    job_name_prefix: Annotated[str | None, Elsewhere("a job is called RUN.STEP, and --name names the run")] = None
    """Set for each job: RUN and a dot."""
    nodes: Annotated[int, Elsewhere("say layout.nodes")] = 1
    """Set for each job, by the layout."""
    ntasks_per_node: Annotated[int, Elsewhere("say layout.gpus_per_node")] = 1
    """Set for each job: one, which starts the ranks."""
    comment: Annotated[str | None, Elsewhere("it is the step's folder, by which its job is found")] = None
    """Set for each job: the step's folder."""
    signal: Annotated[str | None, Elsewhere("say executor.warn_seconds")] = None
    """Set for each job: the warning before its time limit (executor.warn_seconds)."""

    array: Annotated[str | None, NO_GROUP] = None
    """An array's indices, which no step has a use for."""
    heterogeneous: Annotated[bool, NO_GROUP] = False
    """Whether tasks of a group differ; a step is no group."""
    het_group_indices: Annotated[list[int] | None, NO_GROUP] = None
    """The groups of such tasks."""
    wait_time_for_group_job: Annotated[int, NO_GROUP] = 30
    """Seconds between the tasks of a group."""
    monitor_group_job: Annotated[bool, NO_GROUP] = True
    """Whether a group ends with its first task that fails."""
    monitor_group_job_wait_time: Annotated[int, NO_GROUP] = 60
    """Seconds between two looks at a group."""
    ray_template: Annotated[str, Elsewhere("no step is a job of Ray's")] = "ray.sub.j2"
    """Template of a Ray cluster's job."""

    def of_nemo_run(self) -> dict[str, Any]:
        """These options as arguments of `nemo_run.SlurmExecutor`, which may change them."""
        said = {field.name: copy.deepcopy(getattr(self, field.name)) for field in dataclasses.fields(JobOptions)}
        return {**said, "exclusive": self.exclusive or None}  # NeMo-Run would write --exclusive=False
