"""Runs one evaluation: nemo-evaluator with its configuration, in a process group of its own, in a sandbox if need be.

    config = run_config(suite, [benchmark], url=server.url, model_id="pruned", folder=where, seed=0, judge=None)
    with evaluating(config, adapter_port=free_ports(1)[0], datasets=Path("datasets")) as process:
        process.wait()

Every evaluation has a port of its own for nemo-evaluator's adapter (two that share one score each other's model), a
fresh folder (a used one returns the old score), no cache between (it would give every repeat the same answer) and no
telemetry.
"""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from core_evals.nemo_distill.program import SANDBOX
from evaluator.harness.asking import ASKING, NOT_ANSWERED
from evaluator.harness.bubblewrap import endpoint_socket, limit, sandboxed
from evaluator.harness.parameters import ANSWER_SECONDS, own_files, parameters
from evaluator.serve.processes import die_with_parent
from evaluator.serve.server import HOST
from evaluator.suites.judge import Judge
from evaluator.suites.own import OWN, QUESTIONS
from evaluator.suites.suite import Benchmark, Suite

VERSION = 2
"""State of how harnesses' answers are taken, raised where a score changes by it. Since 2, what was cut while thinking
is no answer; before, the reasoning was scored."""
CONFIG = "asked_for.yml"
"""What nemo-evaluator was asked for, in the folder of an evaluation."""
WORKING_FOLDER = "started_in"
"""Where a harness is started: links to the data sets, and whatever it writes there."""
SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""A thread's stack counts as memory, and generated code runs in many processes at a time."""


def run_config(
    suite: Suite,
    benchmarks: Sequence[Benchmark],
    *,
    url: str,
    model_id: str,
    folder: Path,
    seed: int,
    judge: Judge | None,
) -> dict:
    """nemo-evaluator's configuration of one evaluation (`Suite.evaluations`)."""
    (benchmark, *others) = benchmarks
    ours = benchmark.harness == "offline"
    if ours:
        (repeats,) = {benchmark.repeats for benchmark in benchmarks}
        task = OWN if benchmark.own else suite.evaluation
        params = {
            "task": ",".join(benchmark.task for benchmark in benchmarks),
            "temperature": suite.temperature,
            "top_p": suite.top_p,
            "max_new_tokens": benchmark.params.get("max_new_tokens", suite.max_new_tokens),
            "parallelism": suite.parallelism,
            "extra": {"num_repeats": repeats, "seed": seed},
        }
        if benchmark.own:  # they lie in the evaluation's folder, and it is started in one beside them
            params["extra"] |= {"data": f"../{QUESTIONS}"}
            params["request_timeout"] = ANSWER_SECONDS
    else:
        assert not others, f"{benchmark.harness} asks one benchmark at a time"
        task = benchmark.task
        params = parameters(benchmark, suite, seed=seed, judge=judge)
    statistics = {
        "cache_dir": str(folder / "response_stats"),
        "save_individuals": False,
        "stats_file_saving_interval": None,
    }
    adapter: dict[str, Any] = {}
    sends: dict[str, Any] = {"name": "endpoint"}  # our own tasks ask again by themselves, by the same rules
    if not ours:
        adapter["discovery"] = {"modules": ["evaluator.harness.interceptor"]}
        patience = {"seconds": ANSWER_SECONDS}
        asking = {"timeout": ANSWER_SECONDS, "end_of_thinking": suite.reasoning_end, "patience": patience}
        sends = {"name": ASKING, "config": asking}
    interceptors = [sends, {"name": "response_stats", "config": statistics}]
    if benchmark.harness == "lm_eval":  # asks every question with the seed 1234
        interceptors.insert(0, {"name": "payload_modifier", "config": {"params_to_add": {"seed": seed}}})
    if suite.reasoning_end and not ours:  # which look after that themselves
        reasoning = {
            "end_reasoning_token": suite.reasoning_end,
            "include_if_not_finished": False,  # what was cut while thinking is no answer
            "enable_reasoning_tracking": False,
            "enable_caching": False,
        }
        interceptors.append({"name": "reasoning", "config": reasoning})
    adapter["interceptors"] = interceptors
    endpoint = {"url": url, "model_id": model_id, "type": "chat", "adapter_config": adapter}
    config = {"type": task, "output_dir": str(folder), "params": params}
    return {"config": config, "target": {"api_endpoint": endpoint}}


@contextlib.contextmanager
def evaluating(
    config: dict, *, adapter_port: int, datasets: Path | None = None, sandbox: bool = False
) -> Iterator[subprocess.Popen]:
    """Run nemo-evaluator with `config` in a process group of its own, all of which ends with the block.

    A harness finds the hub's data sets in `datasets`; None leaves it to the hub. In a `sandbox` all of it runs, the
    harness and what it executes. Raises ValueError when the output folder holds an evaluation already: the harness
    would score what it finds there.
    """
    folder = Path(config["config"]["output_dir"])
    if (folder / CONFIG).exists():
        raise ValueError(f"'{folder}' holds an evaluation already; each needs a fresh folder.")
    started_in = _linked(datasets, folder / WORKING_FOLDER)
    told = config["config"] | {"output_dir": _in_shell(folder, started_in)}
    (folder / CONFIG).write_text(yaml.safe_dump(config | {"config": told}, sort_keys=False), encoding="utf-8")
    environment = {
        "ADAPTER_HOST": HOST,
        "ADAPTER_PORT": str(adapter_port),
        "ADAPTER_SERVER_THREADS": str(config["config"]["params"]["parallelism"] + 8),
        "NEMO_EVALUATOR_TELEMETRY_LEVEL": "0",
        "NEMO_EVALUATOR_LOG_LEVEL": "WARNING",  # or it writes four lines per request
        "HF_DATASETS_CACHE": str(started_in / ".cache"),
        # Harnesses are commands beside the python that runs this; our tasks' command is `python -m ...`.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    variables, covered = own_files(config["config"]["type"], datasets)
    environment |= variables
    if datasets or config["config"]["type"].startswith("nemo_distill."):
        environment["HF_HUB_OFFLINE"] = "1"
    entry = "from nemo_evaluator.core.entrypoint import run_eval; run_eval()"  # what the script nemo-evaluator does
    command = [sys.executable, "-c", entry, "run_eval", "--run_config", str(folder / CONFIG)]
    with contextlib.ExitStack() as around:
        before_start = [die_with_parent()]
        if sandbox:
            url = urllib.parse.urlsplit(config["target"]["api_endpoint"]["url"])
            inside = environment | {"HOME": "/tmp", "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "LANG": "C.UTF-8"}
            inside |= {SANDBOX: "1"}
            command = sandboxed(
                command,
                writable=folder,
                readable=[datasets.resolve()] if datasets else [],
                socket=around.enter_context(endpoint_socket(url.hostname, url.port)),
                port=url.port,
                environment=inside | SINGLE_THREADED,
                folder=started_in,
                covered=covered,
            )
            before_start.append(limit)
        log = around.enter_context(open(folder / "log.txt", "w"))
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            cwd=started_in,
            start_new_session=True,
            preexec_fn=lambda: [act() for act in before_start],
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            shutil.rmtree(started_in)


def _in_shell(folder: Path, started_in: Path) -> str:
    """How a harness that is started in a folder is told of another one.

    Their commands are templates for a shell and quote no path, so one with a space is given relative to their start.
    """
    return os.path.relpath(folder, started_in) if shlex.quote(str(folder)) != str(folder) else str(folder)


def _linked(datasets: Path | None, folder: Path) -> Path:
    """A new folder with a link to each owner's folder in `datasets`: harnesses write where they are started."""
    folder.mkdir()
    for owner in sorted(datasets.resolve().iterdir()) if datasets else ():
        (folder / owner.name).symlink_to(owner)
    return folder


def free_ports(number: int) -> list[int]:
    """So many ports that nothing listens on, no two alike, chosen by the system."""
    with contextlib.ExitStack() as open_listeners:
        listeners = [open_listeners.enter_context(socket.create_server((HOST, 0))) for _ in range(number)]
        return [listener.getsockname()[1] for listener in listeners]


def check_ended_well(evaluation: subprocess.Popen, config: dict) -> None:
    """Raise RuntimeError with the reason or the log's end where an evaluation of this configuration has failed."""
    if not evaluation.poll():
        return
    folder, what = Path(config["output_dir"]), f"nemo-evaluator's {config['type']} ended"
    if (folder / NOT_ANSWERED).is_file():
        raise RuntimeError(f"{what}: {(folder / NOT_ANSWERED).read_text(errors='replace')}")
    lines = (folder / "log.txt").read_text(errors="replace").splitlines()[-15:]
    raise RuntimeError(f"{what} with {evaluation.returncode}:\n" + "\n".join(lines))
