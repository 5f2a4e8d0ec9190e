"""Run a suite against a checkpoint: serve it, have nemo-evaluator ask and score, read what came out.

    result = run_suite(Path("hf"), suite=get_suite("offline"), folder=Path("out"), label="pruned", seed=0)

Every evaluation has a port of its own for nemo-evaluator's adapter (two that share one score each other's model), a
fresh folder (a used one returns the old score), no cache (it would give every repeat the same answer) and no
telemetry. All benchmarks are asked in one evaluation: batches fill, and nemo-evaluator starts once, not five times.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from evaluator.answers import save_answers
from evaluator.processes import die_with_parent
from evaluator.results import CheckpointResult, read_answers, read_suite
from evaluator.serve import HOST, Server, serving
from evaluator.suite import Suite

OUTPUT = "nemo_evaluator"
"""Folder with what nemo-evaluator left, and the logs."""
CONFIG = "asked_for.yml"
"""What nemo-evaluator was asked for, in this folder."""
ATTEMPT = "attempt-"
"""Prefix of the folder in which an attempt works until it has succeeded."""
POLL_SECONDS = 0.2


def run_suite(
    checkpoint: Path,
    *,
    suite: Suite,
    folder: Path,
    label: str,
    seed: int,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda answered, total: None,
) -> CheckpointResult:
    """Score the Hugging Face checkpoint in a folder with every benchmark of `suite`.

    Writes `answers.jsonl`, nemo-evaluator's own output and the server's log into `folder`; `progress(answered, total)`
    is called as answers come in. `threads` is the number of CPU threads the model may use. Raises ValueError when
    the checkpoint is not whole or a result is not what was asked for, RuntimeError with the log's end when a program
    fails.
    """
    if not suite.evaluation:
        raise ValueError(f"the suite '{suite.name}' is run by nemo-evaluator-launcher, see nemo_evaluator.yaml.")
    started = time.monotonic()
    folder = folder.resolve()
    _remove_cut_attempts(folder)
    work = folder / f"{ATTEMPT}{uuid.uuid4().hex}"
    work.mkdir()
    with serving(checkpoint, model_id=label, log=work / "server.log", threads=threads) as server:
        config = run_config(suite, url=server.url, model_id=label, folder=work, seed=seed)
        with evaluating(config, adapter_port=free_port()) as evaluation:
            while evaluation.poll() is None and server.process.poll() is None:
                progress(min(answered(server), suite.answers), suite.answers)
                time.sleep(POLL_SECONDS)
        if evaluation.returncode != 0 and server.process.poll() is None:
            lines = (work / "log.txt").read_text(errors="replace").splitlines()[-15:]
            raise RuntimeError(f"nemo-evaluator ended with {evaluation.returncode}:\n" + "\n".join(lines))
    tasks = read_suite(work, suite, model_id=label)
    save_answers(folder, read_answers(work, suite))
    progress(suite.answers, suite.answers)
    shutil.rmtree(folder / OUTPUT, ignore_errors=True)
    os.replace(work, folder / OUTPUT)
    _remove_cut_attempts(folder)
    return CheckpointResult(
        label=label,
        suite=suite.name,
        seed=seed,
        seconds=round(time.monotonic() - started, 1),
        command=("nemo-evaluator", "run_eval", "--run_config", f"{OUTPUT}/{CONFIG}"),
        tasks=tasks,
    )


def run_config(suite: Suite, *, url: str, model_id: str, folder: Path, seed: int) -> dict:
    """nemo-evaluator's configuration of one evaluation of `suite`, which asks as often as its benchmarks say."""
    (repeats,) = {benchmark.repeats for benchmark in suite.benchmarks}
    params = {
        "task": ",".join(benchmark.task for benchmark in suite.benchmarks),
        "temperature": suite.temperature,
        "top_p": suite.top_p,
        "max_new_tokens": suite.max_new_tokens,
        "parallelism": suite.parallelism,
        "extra": {"num_repeats": repeats, "seed": seed},
    }
    statistics = {
        "cache_dir": str(folder / "response_stats"),
        "save_individuals": False,
        "stats_file_saving_interval": None,
    }
    interceptors = [{"name": "endpoint"}, {"name": "response_stats", "config": statistics}]
    endpoint = {"url": url, "model_id": model_id, "type": "chat", "adapter_config": {"interceptors": interceptors}}
    config = {"type": suite.evaluation, "output_dir": str(folder), "params": params}
    return {"config": config, "target": {"api_endpoint": endpoint}}


@contextlib.contextmanager
def evaluating(config: dict, *, adapter_port: int) -> Iterator[subprocess.Popen]:
    """Run nemo-evaluator with `config` in a process group of its own, all of which ends with the block."""
    folder = Path(config["config"]["output_dir"])
    (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    environment = os.environ | {
        "ADAPTER_HOST": HOST,
        "ADAPTER_PORT": str(adapter_port),
        "ADAPTER_SERVER_THREADS": str(config["config"]["params"]["parallelism"] + 8),
        "NEMO_EVALUATOR_TELEMETRY_LEVEL": "0",
        "NEMO_EVALUATOR_LOG_LEVEL": "WARNING",  # or it writes four lines per request
        "HF_HUB_OFFLINE": "1",
        # The command of our tasks is `python -m ...`: the python that runs this.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    entry = "from nemo_evaluator.core.entrypoint import run_eval; run_eval()"  # what the script nemo-evaluator does
    command = [sys.executable, "-c", entry, "run_eval", "--run_config", str(folder / CONFIG)]
    with open(folder / "log.txt", "w") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answered(server: Server) -> int:
    """Requests the server has answered so far; 0 while it loads the checkpoint."""
    try:
        with urllib.request.urlopen(f"{server.root}/health", timeout=0.5) as reply:
            return json.load(reply)["answered"]
    except (TimeoutError, urllib.error.URLError):
        return 0


def free_port() -> int:
    """A port that nothing listens on, chosen by the system."""
    with socket.create_server((HOST, 0)) as listener:
        return listener.getsockname()[1]


def _remove_cut_attempts(folder: Path) -> None:
    # Before and after: processes of an attempt that was killed have a moment to live, and may write once more.
    for left_over in folder.glob(f"{ATTEMPT}*"):
        shutil.rmtree(left_over, ignore_errors=True)
