"""Runs a suite with nemo-evaluator-launcher on a cluster, one checkpoint at a time, and reads its results back.

    result = run_launcher(Path("hf"), suite=get_suite("study"), folder=Path("out"), label="80B", seed=0)

The launcher is started with nemo_evaluator.yaml, deploys the checkpoint with vLLM in a Slurm job per benchmark, and
leaves its output in `folder`, which the compute nodes must see. What a site has to say it says in the environment:
EVALUATOR_HOSTNAME, the host that takes the jobs, and EVALUATOR_ACCOUNT; EVALUATOR_OVERRIDES may hold more of the
launcher's overrides, in its own form, separated by spaces. This process waits for the jobs and asks for their state
once a minute; what it reads back is judged by `evaluator.harness.read` as on any other path.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from evaluator.harness.launcher_config import render
from evaluator.harness.read import read_launcher
from evaluator.results.answers import save_answers
from evaluator.results.scores import CheckpointResult
from evaluator.serve.processes import die_with_parent
from evaluator.suites.judge import judge_of
from evaluator.suites.suite import Suite

CONFIG = "nemo_evaluator.yaml"
OUTPUT = "nemo_evaluator"
VARIABLES = ("EVALUATOR_HOSTNAME", "EVALUATOR_ACCOUNT")
OVERRIDES = "EVALUATOR_OVERRIDES"
POLL_SECONDS = 60
ENDED = {"success", "failed", "killed"}
"""States that the launcher's jobs end in."""
KNOWN = ENDED | {"pending", "running"}
MOST_UNTOLD = 30
"""So many times in a row a job's state may be one that says nothing: a cluster's accounting lags and fails."""
STATES = """
import json, sys
from nemo_evaluator_launcher.api.functional import get_status
print(json.dumps({job["job_id"]: job["status"] for job in get_status(sys.argv[1:])}))
"""
"""Asked in a process of its own: the launcher's imports are heavy, and it prints what it likes before the last line."""


def run_launcher(
    checkpoint: Path,
    *,
    suite: Suite,
    folder: Path,
    label: str,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckpointResult:
    """Score the checkpoint in a folder with every benchmark of `suite`, on the cluster that the environment names.

    `seed` is kept with the result; the benchmarks of the containers draw with seeds of their own. Raises ValueError
    when the site is not named or a result is not to be believed, RuntimeError with its last lines when the launcher
    fails.
    """
    began, started = time.time(), time.monotonic()
    judge_of(suite)
    folder = folder.resolve()
    command = launcher_command(checkpoint, suite=suite, folder=folder, label=label)
    (folder / CONFIG).write_text(render(suite), encoding="utf-8")
    invocation = submit(command)
    states = wait_for(invocation, jobs=len(suite.benchmarks), progress=progress)
    readings = read_launcher(
        output_of(folder, invocation),
        suite,
        model_id=label,
        started=began,
        states={number: states[f"{invocation}.{number}"] for number in range(len(suite.benchmarks))},
    )
    save_answers(folder, (question for reading in readings for question in reading.questions))
    return CheckpointResult(
        label=label,
        suite=suite.name,
        seed=seed,
        seconds=round(time.monotonic() - started, 1),
        command=tuple(command),
        tasks=tuple(reading.result for reading in readings),
    )


def launcher_command(
    checkpoint: Path, *, suite: Suite, folder: Path, label: str, environment: Mapping[str, str] = os.environ
) -> list[str]:
    """The launcher's command for one checkpoint. Raises ValueError where the environment does not name the site."""
    missing = [name for name in VARIABLES if not environment.get(name)]
    if missing:
        raise ValueError(
            f"the suite '{suite.name}' is run on a cluster by nemo-evaluator-launcher: set {' and '.join(missing)}."
        )
    overrides = {
        "deployment.checkpoint_path": str(checkpoint.resolve()),
        "deployment.served_model_name": label,
        "execution.hostname": environment["EVALUATOR_HOSTNAME"],
        "execution.account": environment["EVALUATOR_ACCOUNT"],
        "execution.output_dir": str(folder / OUTPUT),
    }
    words = [f"{name}={value}" for name, value in overrides.items()] + shlex.split(environment.get(OVERRIDES, ""))
    program = Path(sys.executable).with_name("nemo-evaluator-launcher")
    command = [str(program), "run", "--config", str(folder / CONFIG)]
    return command + [word for override in words for word in ("-o", override)]


def submit(command: list[str]) -> str:
    """Start the launcher's `command` and return the id of what it has submitted."""
    environment = os.environ | {"NEMO_EVALUATOR_TELEMETRY_LEVEL": "0"}
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        preexec_fn=die_with_parent(),
    )
    found = re.search(r"nemo-evaluator-launcher status ([0-9a-f]{8,})", done.stdout)
    if done.returncode != 0 or not found:
        lines = "\n".join(done.stdout.splitlines()[-15:])
        raise RuntimeError(f"nemo-evaluator-launcher ended with {done.returncode}:\n{lines}")
    return found[1]


def wait_for(
    invocation: str, *, jobs: int, progress: Callable[[int, int], None], poll_seconds: float = POLL_SECONDS
) -> dict[str, str]:
    """The states in which the jobs of an invocation have ended. Raises RuntimeError when they cannot be told."""
    untold = 0
    while True:
        states = job_states(invocation)
        ended = sum(state in ENDED for state in states.values())
        progress(ended, jobs)
        if ended == jobs:
            return states
        untold = 0 if set(states.values()) <= KNOWN else untold + 1
        if untold == MOST_UNTOLD:
            raise RuntimeError(f"the launcher cannot tell the state of the jobs of {invocation}: {states}.")
        time.sleep(poll_seconds)


def job_states(invocation: str) -> dict[str, str]:
    """State of each job of an invocation, by its id."""
    command = [sys.executable, "-c", STATES, invocation]
    done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=die_with_parent())
    return json.loads(done.stdout.splitlines()[-1])


def output_of(folder: Path, invocation: str) -> Path:
    """The folder in which an invocation leaves its output. Raises ValueError where there is not one."""
    found = sorted((folder / OUTPUT).glob(f"*-{invocation}"))
    if len(found) != 1:
        raise ValueError(f"'{folder / OUTPUT}' holds {len(found)} folders of the invocation {invocation}, not one.")
    return found[0]
