"""Renders nemo_evaluator.yaml, the study's suite for nemo-evaluator-launcher, from `evaluator.suites.catalogue`.

    python -m evaluator.harness.launcher_config > nemo_evaluator.yaml
    identity(get_suite("study"), Cluster())          # of it, what decides a score

The launcher's dry run on it is part of the tests: a parameter that a task does not use fails them.
"""

import importlib.metadata
import shlex
import textwrap
from pathlib import Path
from typing import Any

import jinja2
import yaml

from evaluator.harness.cluster import Cluster
from evaluator.harness.parameters import REQUEST_TIMEOUT_SECONDS, SHARED
from evaluator.suites.catalogue import STUDY
from evaluator.suites.judge import VARIABLES
from evaluator.suites.suite import Benchmark, Suite

TEMPLATES = Path(__file__).parent
HF_HOME = "/hf-home"
"""Where the harnesses' containers have the site's folder of data sets."""
MAX_RETRIES = 10
"""How often the harnesses that let themselves be told ask again, as in the study."""
_ABOUT_JOBS = {
    "deployment": ("checkpoint_path", "served_model_name", "tensor_parallel_size", "data_parallel_size",
                   "gpu_memory_utilization"),
}  # fmt: skip
"""Keys that decide no score."""


def render(suite: Suite = STUDY, cluster: Cluster | None = None) -> str:
    """The text of nemo_evaluator.yaml for `suite` on a cluster; None: what is left to the command line is marked."""
    cluster = cluster or Cluster(hostname="???", account="???", partition="???")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template("nemo_evaluator.yaml.j2").render(
        suite=suite,
        cluster=cluster,
        execution=textwrap.indent(_yaml(_execution(cluster)), "  ").rstrip(),
        engine=[shlex.join(suite.engine)] * bool(suite.engine) + [cluster.engine_args] * bool(cluster.engine_args),
        hf_home=HF_HOME,
        task_lines=lambda benchmark: _yaml(_task(suite, benchmark, cluster)).splitlines(),
    )


def identity(suite: Suite, cluster: Cluster) -> dict[str, Any]:
    """What the launcher is told that decides a score, as plain JSON data: of the file, of the site, and its version.

    The version stands for the harnesses' images, where the site names none, and for their commands.
    """
    told = yaml.safe_load(render(suite, Cluster()))
    for key in _ABOUT_JOBS["deployment"]:
        del told["deployment"][key]
    del told["evaluation"]["nemo_evaluator_config"]["config"]["params"]["parallelism"]
    tasks = {task["name"]: task.get("nemo_evaluator_config") for task in told["evaluation"]["tasks"]}
    return {
        "version": importlib.metadata.version("nemo-evaluator-launcher"),
        "engine": told["deployment"],
        "asked": told["evaluation"]["nemo_evaluator_config"],
        "tasks": tasks,
        "site": cluster.identity,
    }


def _execution(cluster: Cluster) -> dict[str, Any]:
    """Where and how jobs run; the budgets are given on the command line, benchmark by benchmark."""
    told: dict[str, Any] = {
        "hostname": cluster.hostname,
        "account": cluster.account,
        "partition": cluster.partition,
        "output_dir": "???",
        "walltime": cluster.walltime,
        "gres": cluster.gres,
        "sbatch_extra_flags": {"exclusive": cluster.exclusive, **cluster.sbatch},
        "mounts": {"mount_home": False},
    }
    if cluster.username:
        told["username"] = cluster.username
    if cluster.gpus_per_node:
        told["gpus_per_node"] = cluster.gpus_per_node
    mounts = ({cluster.hf_home: HF_HOME} if cluster.hf_home else {}) | cluster.mounts
    if mounts:
        told["mounts"]["evaluation"] = mounts
    return told


def _task(suite: Suite, benchmark: Benchmark, cluster: Cluster) -> dict[str, Any]:
    """What the launcher is told of a task besides its name."""
    given: dict[str, Any] = {
        "temperature": suite.temperature,
        "top_p": suite.top_p,
        "max_new_tokens": suite.max_new_tokens,
    }
    plain = benchmark.endpoint == "completions"
    if plain or benchmark.judged:  # NeMo-Skills is told neither: its client has its own
        given |= {"max_retries": MAX_RETRIES, "request_timeout": REQUEST_TIMEOUT_SECONDS}
    given = {name: value for name, value in (given | dict(benchmark.params)).items() if value is not None}
    params = {name: given.pop(name) for name in SHARED if name in given}
    extra = dict(given)
    if benchmark.repeats_key:
        extra[benchmark.repeats_key] = benchmark.repeats
    task: dict = {}
    config: dict = {"config": {"params": params | ({"extra": extra} if extra else {})}}
    if image := cluster.image_of(benchmark):
        task["container"] = image
    if plain:
        # A completions endpoint takes no chat template, and the answer follows at once.
        config["target"] = {
            "api_endpoint": {"adapter_config": {"params_to_add": None, "process_reasoning_traces": False}}
        }
        if image:
            task["endpoint_type"] = "completions"  # which the launcher knows of its own images only
    if benchmark.judged:
        url, model, key = VARIABLES
        extra["judge"] = {
            "url": cluster.judge_url or f"${{oc.env:{url}}}",
            "model_id": cluster.judge_model or f"${{oc.env:{model}}}",
            "api_key": key,
        }
        task["env_vars"] = {key: f"runtime:{key}"}
    return task | {"nemo_evaluator_config": config}


def _yaml(told: dict[str, Any]) -> str:
    return yaml.safe_dump(told, sort_keys=False, width=120)


if __name__ == "__main__":
    print(render(), end="")
