"""Runs a suite against a checkpoint, on whichever path the suite says, and reads what came out.

The single entry point for all evaluations:

    result = run_suite(Path("hf"), suite=get_suite("offline"), folder=Path("out"), label="pruned", seed=0)

A suite of the launcher goes to `evaluator.harness.launcher`. All others are run here: the checkpoint is served
(`evaluator.serve.server`) and nemo-evaluator asks and scores, in process groups of this machine. Every evaluation has a
port of its own for nemo-evaluator's adapter (two that share one score each other's model), a fresh folder (a used one
returns the old score), no cache between (it would give every repeat the same answer) and no telemetry. Our own tasks
are asked in one evaluation: batches fill, and nemo-evaluator starts once, not five times; every other harness asks
its benchmark in an evaluation of its own.
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from evaluator.harness.bubblewrap import endpoint_socket, limit, sandboxed
from evaluator.harness.parameters import own_files, parameters
from evaluator.harness.read import read_direct
from evaluator.harness.requirements import Means, prepare_suite
from evaluator.results.answers import save_answers
from evaluator.results.scores import CheckpointResult
from evaluator.serve.processes import die_with_parent
from evaluator.serve.server import HOST, Server, serving
from evaluator.suites.datasets import question_ids
from evaluator.suites.judge import Judge, judge_of
from evaluator.suites.suite import Benchmark, Suite

OUTPUT = "nemo_evaluator"
"""Folder with what nemo-evaluator left, and the logs."""
CONFIG = "asked_for.yml"
"""What nemo-evaluator was asked for, in the folder of an evaluation."""
WORKING_FOLDER = "started_in"
"""Where a harness is started: links to the data sets, and whatever it writes there."""
ATTEMPT = "attempt-"
"""Prefix of the folder in which an attempt works until it has succeeded."""
POLL_SECONDS = 0.2
SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""A thread's stack counts as memory, and generated code runs in many processes at a time."""


def run_suite(
    checkpoint: Path,
    *,
    suite: Suite,
    folder: Path,
    label: str,
    seed: int,
    means: Means | None = None,
    progress: Callable[[int, int], None] = lambda answered, total: None,
) -> CheckpointResult:
    """Score the Hugging Face checkpoint in a folder with every benchmark of `suite`.

    Writes `answers.jsonl`, nemo-evaluator's own output and the server's log into `folder`; `progress(answered, total)`
    is called as answers come in. Raises ValueError when the checkpoint is not whole, something that the suite needs is
    lacking or a result is not what was asked for, RuntimeError with the log's end when a program fails.
    """
    means = means or Means()
    suite = prepare_suite(suite, means)
    if suite.runner == "launcher":
        from evaluator.harness.launcher import run_launcher

        return run_launcher(checkpoint, suite=suite, folder=folder, label=label, seed=seed, progress=progress)
    began, started = time.time(), time.monotonic()
    folder = folder.resolve()
    _remove_cut_attempts(folder)
    work = folder / f"{ATTEMPT}{uuid.uuid4().hex}"
    work.mkdir()
    log = work / "server.log"
    with serving(checkpoint, model_id=label, log=log, threads=means.threads, context=suite.context) as server:
        running = []
        for benchmark in (None,) if suite.evaluation else suite.benchmarks:
            where = work / benchmark.task if benchmark else work
            where.mkdir(exist_ok=True)
            config = run_config(
                suite, benchmark, url=server.url, model_id=label, folder=where, seed=seed, judge=judge_of(suite)
            )
            running.append((config, benchmark))
        with contextlib.ExitStack() as group:
            # Together: one starts up or scores while another's answers are written, and batches fill.
            evaluations = [
                group.enter_context(
                    evaluating(
                        config,
                        adapter_port=port,
                        datasets=means.datasets if benchmark else None,
                        sandbox=benchmark is not None and benchmark.executes_code,
                    )
                )
                for (config, benchmark), port in zip(running, free_ports(len(running)), strict=True)
            ]
            while server.process.poll() is None and any(evaluation.poll() is None for evaluation in evaluations):
                if any(evaluation.poll() for evaluation in evaluations):
                    break
                progress(min(answered(server), suite.answers), suite.answers)
                time.sleep(POLL_SECONDS)
            if server.process.poll() is None:
                for evaluation, (config, _) in zip(evaluations, running, strict=True):
                    _check_ended_well(evaluation, config["config"])
    ids = question_ids(means.datasets, suite)
    readings = read_direct(work, suite, model_id=label, started=began, ids=ids)
    save_answers(folder, (question for reading in readings for question in reading.questions))
    progress(suite.answers, suite.answers)
    shutil.rmtree(folder / OUTPUT, ignore_errors=True)
    os.replace(work, folder / OUTPUT)
    _remove_cut_attempts(folder)
    asked_for = f"{OUTPUT}/{CONFIG}" if suite.evaluation else f"{OUTPUT}/TASK/{CONFIG}"
    return CheckpointResult(
        label=label,
        suite=suite.name,
        seed=seed,
        seconds=round(time.monotonic() - started, 1),
        command=("nemo-evaluator", "run_eval", "--run_config", asked_for),
        tasks=tuple(reading.result for reading in readings),
    )


def run_config(
    suite: Suite, benchmark: Benchmark | None, *, url: str, model_id: str, folder: Path, seed: int, judge: Judge | None
) -> dict:
    """nemo-evaluator's configuration of one evaluation: of `benchmark`, or of our own tasks together."""
    if benchmark is None:
        (repeats,) = {benchmark.repeats for benchmark in suite.benchmarks}
        task = suite.evaluation
        params = {
            "task": ",".join(benchmark.task for benchmark in suite.benchmarks),
            "temperature": suite.temperature,
            "top_p": suite.top_p,
            "max_new_tokens": suite.max_new_tokens,
            "parallelism": suite.parallelism,
            "extra": {"num_repeats": repeats, "seed": seed},
        }
    else:
        task = benchmark.task
        params = parameters(benchmark, suite, seed=seed, judge=judge)
    statistics = {
        "cache_dir": str(folder / "response_stats"),
        "save_individuals": False,
        "stats_file_saving_interval": None,
    }
    interceptors = [{"name": "endpoint"}, {"name": "response_stats", "config": statistics}]
    if benchmark and benchmark.harness == "lm_eval":  # asks every question with the seed 1234
        interceptors.insert(0, {"name": "payload_modifier", "config": {"params_to_add": {"seed": seed}}})
    if suite.reasoning_end:
        reasoning = {
            "end_reasoning_token": suite.reasoning_end,
            "enable_reasoning_tracking": False,
            "enable_caching": False,
        }
        interceptors.append({"name": "reasoning", "config": reasoning})
    endpoint = {"url": url, "model_id": model_id, "type": "chat", "adapter_config": {"interceptors": interceptors}}
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


def answered(server: Server) -> int:
    """Requests the server has answered so far; 0 while it loads the checkpoint."""
    try:
        with urllib.request.urlopen(f"{server.root}/health", timeout=0.5) as reply:
            return json.load(reply)["answered"]
    except (TimeoutError, urllib.error.URLError):
        return 0


def free_ports(number: int) -> list[int]:
    """So many ports that nothing listens on, no two alike, chosen by the system."""
    with contextlib.ExitStack() as open_listeners:
        listeners = [open_listeners.enter_context(socket.create_server((HOST, 0))) for _ in range(number)]
        return [listener.getsockname()[1] for listener in listeners]


def _check_ended_well(evaluation: subprocess.Popen, config: dict) -> None:
    if evaluation.poll():
        lines = (Path(config["output_dir"]) / "log.txt").read_text(errors="replace").splitlines()[-15:]
        what = f"nemo-evaluator's {config['type']} ended with {evaluation.returncode}"
        raise RuntimeError(f"{what}:\n" + "\n".join(lines))


def _remove_cut_attempts(folder: Path) -> None:
    # Before and after: processes of an attempt that was killed have a moment to live, and may write once more.
    for left_over in folder.glob(f"{ATTEMPT}*"):
        shutil.rmtree(left_over, ignore_errors=True)
