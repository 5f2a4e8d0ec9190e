"""Renders nemo_evaluator.yaml, the study's suite for nemo-evaluator-launcher, from `evaluator.suites.catalogue`.

    python -m evaluator.harness.launcher_config > nemo_evaluator.yaml
    identity(get_suite("study"), Cluster())          # of it, what decides a score

The launcher's dry run on it is part of the tests: a parameter that a task does not use fails them.
"""

import hashlib
import importlib.metadata
import os
import shlex
import shutil
import stat
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from core_evals.nemo_distill import version
from evaluator.harness.cluster import Cluster
from evaluator.harness.parameters import ANSWER_SECONDS, REQUEST_TIMEOUT_SECONDS, SHARED
from evaluator.suites.catalogue import STUDY
from evaluator.suites.judge import VARIABLES
from evaluator.suites.own import OWN, QUESTIONS, write_own
from evaluator.suites.suite import Benchmark, Suite

TEMPLATES = Path(__file__).parent
PACKAGE = TEMPLATES.parent
HF_HOME = "/hf-home"
"""Where the harnesses' containers have the site's folder of data sets."""
MAX_RETRIES = 10
"""How often the harnesses that let themselves be told ask again, as in the study."""
BROUGHT, IN_FOLDER = "/nemo-distill", "brought"
"""Where they have what asks a user's own questions, and where that lies in the evaluation's folder."""
_ABOUT_JOBS = {
    "deployment": ("checkpoint_path", "served_model_name", "tensor_parallel_size", "data_parallel_size",
                   "gpu_memory_utilization"),
}  # fmt: skip
"""Keys that decide no score."""


def render(suite: Suite = STUDY, cluster: Cluster | None = None, *, seed: int = 0) -> str:
    """The text of nemo_evaluator.yaml for `suite` on a cluster; None: what is left to the command line is marked.

    `seed` is that of the answers to a user's own questions; the harnesses draw with seeds of their own.
    """
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
        task_lines=lambda benchmark: _yaml(_task(suite, benchmark, cluster, seed)).splitlines(),
    )


def identity(suite: Suite, cluster: Cluster) -> dict[str, Any]:
    """What the launcher is told that decides a score, as plain JSON data: of the file, of the site, and its version.

    The version stands for the harnesses' images, where the site names none, and for their commands.
    """
    # A user's own questions say by themselves what is asked, and how they are judged our tasks' version.
    told = yaml.safe_load(render(suite.with_benchmarks(one for one in suite.benchmarks if not one.own), Cluster()))
    for key in _ABOUT_JOBS["deployment"]:
        del told["deployment"][key]
    del told["evaluation"]["nemo_evaluator_config"]["config"]["params"]["parallelism"]
    tasks = {task["name"]: task.get("nemo_evaluator_config") for task in told["evaluation"]["tasks"] or ()}
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


def _own_task(suite: Suite, benchmark: Benchmark, cluster: Cluster, seed: int) -> dict[str, Any]:
    """What the launcher is told of a user's own questions, whose runner `brought` has put into the container."""
    params = {
        "task": benchmark.task,
        "temperature": suite.temperature,
        "top_p": suite.top_p,
        "max_new_tokens": benchmark.params.get("max_new_tokens", suite.max_new_tokens),
        "max_retries": MAX_RETRIES,
        "request_timeout": ANSWER_SECONDS,
        "extra": {"num_repeats": benchmark.repeats, "seed": seed, "data": f"{BROUGHT}/{QUESTIONS}"},
    }
    adapter = {"process_reasoning_traces": False}  # the runner looks after that itself
    told: dict[str, Any] = {
        "env_vars": {"PYTHONPATH": f"lit:{BROUGHT}"},
        "nemo_evaluator_config": {
            "config": {"type": OWN, "params": params},
            "target": {"api_endpoint": {"adapter_config": adapter}},
        },
    }
    image = cluster.image_of(benchmark)
    return {"container": image, **told} if image else told


def bring(suite: Suite, files: Mapping[str, Path], folder: Path) -> Path:
    """Put what asks a user's own questions, and the questions, into a folder in `folder`, which containers have.

    One that is there already stays as it is: a job of an earlier attempt may be running from it. Raises ValueError
    where it was changed, by others who may write there, or a file does not hold the questions of the suite.
    """
    scratch = folder / IN_FOLDER / f"{os.getpid()}.tmp"
    leave = shutil.ignore_patterns("__pycache__", "core_evals")
    for package, name in ((Path(version.__file__).parent, "core_evals/nemo_distill"), (PACKAGE, "evaluator")):
        shutil.copytree(package, scratch / name, ignore=leave)
    write_own(suite, files, scratch / QUESTIONS)
    digest = _digest(scratch)
    brought = folder / IN_FOLDER / digest[:12]
    if not os.path.lexists(brought):
        scratch.rename(brought)
        return brought
    shutil.rmtree(scratch)
    if brought.is_symlink() or _digest(brought) != digest:
        raise ValueError(f"'{brought}' was changed by somebody who can write there: remove it.")
    return brought


def _digest(folder: Path) -> str:
    """Hex digits that stand for every byte and name below the folder; "" where there is anything but files."""
    digest = hashlib.sha256()
    for where, folders, names in os.walk(folder):
        folders.sort()
        if any(os.path.islink(os.path.join(where, name)) for name in folders):
            return ""
        for path in (Path(where, name) for name in sorted(names)):
            if not stat.S_ISREG(path.lstat().st_mode):
                return ""
            digest.update(os.fsencode(path.relative_to(folder)) + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _task(suite: Suite, benchmark: Benchmark, cluster: Cluster, seed: int) -> dict[str, Any]:
    """What the launcher is told of a task besides its name."""
    if benchmark.own:
        return _own_task(suite, benchmark, cluster, seed)
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
