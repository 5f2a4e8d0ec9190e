"""Runs a suite with nemo-evaluator-launcher on a cluster, one checkpoint at a time, and reads its results back.

    result = run_launcher(Path("hf"), suite=get_suite("study"), folder=Path("out"), label="80B", model_id="80B-0123",
                          seed=0, cluster=Cluster(hostname="login", account="nvr", partition="gpu"))

Every benchmark is an invocation of the launcher's with a time limit of its own (`evaluator.harness.budget`): a Slurm
job that deploys the checkpoint with vLLM and asks. This process waits, and asks for their state once a minute; what it
reads back is judged by `evaluator.harness.read` as on any other path.

The launcher keeps its record of what it submitted in `folder`. An attempt that finds a benchmark there waits for it and
submits nothing; one that ended badly, or that could not be believed, is read once more and then submitted anew. So a
benchmark is submitted once per attempt at most, and never while it runs.
"""

import dataclasses
import json
import logging
import re
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from evaluator.harness.budget import budget_of
from evaluator.harness.cluster import Cluster, check_ready
from evaluator.harness.invocations import OUTPUT, Invocations, subproject
from evaluator.harness.launcher_config import BROUGHT, IN_FOLDER, bring, render
from evaluator.harness.read import Reading, read_launcher
from evaluator.harness.spent import asking, in_order, model_of
from evaluator.results.answers import save_answers
from evaluator.results.scores import CheckpointResult
from evaluator.results.spent import Spent, save_spent
from evaluator.serve.processes import die_with_parent
from evaluator.suites.suite import Benchmark, Suite

CONFIG = "nemo_evaluator.yaml"
POLL_SECONDS = 60
FIRST_PORT, PORTS = 20_000, 10_000
"""A deployment listens on one of these many ports, by model and benchmark: two may share a node."""
ENDED = {"success", "failed", "killed"}
"""States that the launcher's jobs end in."""
KNOWN = ENDED | {"pending", "running"}
MOST_UNTOLD = 30
"""So many times in a row a job's state may be one that says nothing: a cluster's accounting lags and fails."""
SURE = 5
"""So many times in a row a job has to be said to have failed: the launcher says so, too, where ssh does not answer."""
OVERRUN = "ERROR: Maximum total walltime"
"""What the launcher's job script says in its log where the budget is used up; its state is `pending` ever after."""
ENDED_BY = "NEMO_DISTILL_COMMAND"
"""Environment variable by which a command that is killed ends what it has started; what submits is let end."""
STATES = """
import json, sys
from nemo_evaluator_launcher.api.functional import get_status
print(json.dumps({job["job_id"]: job["status"] for job in get_status(sys.argv[1:])}))
"""
"""Asked in a process of its own: the launcher's imports are heavy, and it prints what it likes before the last line."""

logger = logging.getLogger(__name__)


def run_launcher(
    checkpoint: Path,
    *,
    suite: Suite,
    folder: Path,
    label: str,
    model_id: str,
    seed: int,
    cluster: Cluster,
    questions: Mapping[str, Path] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckpointResult:
    """Score the checkpoint in a folder with every benchmark of `suite`, on a cluster.

    `model_id` is what the deployment calls the checkpoint, and nothing else is called; `seed` is kept with the result,
    and is that of the answers to a user's own `questions`, whose files these are: the benchmarks of the containers draw
    with seeds of their own. Raises ValueError when the cluster is not named or a result is not to be believed,
    RuntimeError with its last lines when the launcher fails.
    """
    started = time.monotonic()
    check_ready(suite, cluster)
    folder = folder.resolve()
    invocations = Invocations(folder)
    checkpoint = checkpoint.resolve()
    _write_configs(suite, cluster, questions or {}, folder, seed=seed)
    read: dict[str, Reading] = {}
    for benchmark in suite.benchmarks:
        task, known = benchmark.task, invocations.of(benchmark.task)
        if known and known.given_up:
            try:
                read[task] = _read(benchmark, suite, invocations, model_id)
                invocations.end(task)
            except ValueError as error:
                logger.warning("%s is submitted again: %s", benchmark.title, error)
                known = None
        elif known:
            logger.info("%s was submitted before, as %s, and is not again.", benchmark.title, known.id)
        if known is None:
            invocations.cancel_unrecorded(cluster)
            now = time.time()
            command = launcher_command(checkpoint, benchmark, suite, folder, model_id, cluster)
            invocations.add(task, submit(command, invocations.environment), submitted=now)
    left = [benchmark for benchmark in suite.benchmarks if benchmark.task not in read]
    wait_for(invocations, [benchmark.task for benchmark in left], progress=progress)
    wrong = []
    for benchmark in left:
        try:
            read[benchmark.task] = _read(benchmark, suite, invocations, model_id)
        except ValueError as error:
            wrong.append(str(error))
            known = invocations.of(benchmark.task)
            invocations.end(benchmark.task, known.state if known else "", refused=str(error))
    if wrong:
        more = f" So are the results of {len(wrong) - 1} more." if len(wrong) > 1 else ""
        raise ValueError(f"{wrong[0]}{more} What stands is kept: the same command asks no other benchmark again.")
    done = [read[benchmark.task] for benchmark in suite.benchmarks]
    save_answers(folder, (question for reading in done for question in reading.questions))
    save_spent(folder, _spent(checkpoint, suite, invocations, cluster, done))
    shutil.rmtree(folder / IN_FOLDER, ignore_errors=True)
    return CheckpointResult(
        label=label,
        suite=suite.name,
        seed=seed,
        seconds=round(time.monotonic() - started, 1),
        command=("nemo-evaluator-launcher", "run", "--config", CONFIG),
        tasks=tuple(reading.result for reading in done),
    )


def _spent(
    checkpoint: Path, suite: Suite, invocations: Invocations, cluster: Cluster, done: Sequence[Reading]
) -> Spent:
    """What the deployments took; how long each waited, and for its image, is not known here."""
    counted = []
    for benchmark in suite.benchmarks:
        artifacts = invocations.output(benchmark.task) / f"{benchmark.launched_as}.0" / "artifacts"
        tasks = [reading.result for reading in done]
        counted += asking(artifacts, [benchmark], suite, tasks, once=True)
    return Spent(
        engine=cluster.image,
        version="",
        gpu="",
        gpus=cluster.data_parallel_size,
        in_flight=max(1, cluster.parallelism // cluster.data_parallel_size),
        together=False,
        start_seconds=None,
        seconds=sum(one.seconds for one in counted),
        benchmarks=in_order(suite, counted),
        model=model_of(checkpoint),
    )


def config_of(benchmark: Benchmark) -> str:
    """The name of the launcher's configuration that holds a benchmark: one for all, but for a user's own questions."""
    return f"{Path(CONFIG).stem}-{benchmark.task}.yaml" if benchmark.own else CONFIG


def _write_configs(suite: Suite, cluster: Cluster, questions: Mapping[str, Path], folder: Path, *, seed: int) -> None:
    """Write the launcher's configurations, and what a user's own questions take in their container."""
    own = [benchmark for benchmark in suite.benchmarks if benchmark.own]
    if own:
        brought = bring(suite, questions, folder)
        there = dataclasses.replace(cluster, mounts={**cluster.mounts, str(brought): BROUGHT})
        for benchmark in own:
            text = render(suite.with_benchmarks([benchmark]), there, seed=seed)
            (folder / config_of(benchmark)).write_text(text, encoding="utf-8")
    others = suite.with_benchmarks(benchmark for benchmark in suite.benchmarks if not benchmark.own)
    if others.benchmarks:
        (folder / CONFIG).write_text(render(others, cluster), encoding="utf-8")


def launcher_command(
    checkpoint: Path, benchmark: Benchmark, suite: Suite, folder: Path, model_id: str, cluster: Cluster
) -> list[str]:
    """The launcher's command for one benchmark of one checkpoint."""
    seconds = 3600 * budget_of(benchmark, suite, tokens_per_second=cluster.tokens_per_second).hours
    overrides = {
        "deployment.checkpoint_path": str(checkpoint),
        "deployment.served_model_name": model_id,
        "deployment.port": _port(model_id, benchmark),
        "execution.output_dir": str(folder / OUTPUT),
        "execution.subproject": subproject(folder) + (f"-{benchmark.task}" if benchmark.own else ""),
        "execution.walltime": _clock(min(seconds, cluster.seconds)),
        "execution.max_walltime": _clock(seconds),
        # Of the evaluation's own server, between harness and deployment.
        "++evaluation.env_vars.ADAPTER_PORT": f"lit:{_port(model_id, benchmark) + 1}",
    }
    words = [f"{name}={value}" for name, value in overrides.items()] + list(cluster.overrides)
    program = Path(sys.executable).with_name("nemo-evaluator-launcher")
    command = [str(program), "run", "--config", str(folder / config_of(benchmark)), "-t", benchmark.launched_as]
    return command + [word for override in words for word in ("-o", override)]


def submit(command: list[str], environment: Mapping[str, str]) -> str:
    """Start the launcher's `command` and return the id of what it has submitted.

    Once begun it is let end, also where this process is told to: what it submits has to be in its record.
    """
    # In a thread, as what this process is told by a signal is raised where its first one is; that waits here.
    with ThreadPoolExecutor(1) as beside:
        done = beside.submit(
            subprocess.run,
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={name: value for name, value in environment.items() if name != ENDED_BY},
            start_new_session=True,
        ).result()
    found = re.search(r"nemo-evaluator-launcher status ([0-9a-f]{8,})", done.stdout)
    if done.returncode != 0 or not found:
        lines = "\n".join(done.stdout.splitlines()[-15:])
        raise RuntimeError(f"nemo-evaluator-launcher ended with {done.returncode}:\n{lines}")
    return found[1]


def wait_for(invocations: Invocations, tasks: Sequence[str], *, progress: Callable[[int, int], None]) -> None:
    """Wait until the jobs of `tasks` have ended, and note in what state. RuntimeError when it cannot be told."""
    found = {task: invocations.of(task) for task in tasks}
    waiting = {task: one.id for task, one in found.items() if one and not one.state}
    said_bad, untold = dict.fromkeys(waiting, 0), 0
    while True:
        states = job_states(waiting.values(), invocations.environment) if waiting else {}
        for task, invocation in list(waiting.items()):
            state = states.get(f"{invocation}.0", "")
            over = state == "pending" and _overran(invocations.output(task))
            said_bad[task] = said_bad[task] + 1 if state in ENDED else 0
            if over or state == "success" or said_bad[task] >= SURE:
                invocations.end(task, "overrun" if over else state)
                del waiting[task]
        progress(len(found) - len(waiting), len(found))
        if not waiting:
            return
        untold = 0 if states and set(states.values()) <= KNOWN else untold + 1
        if untold == MOST_UNTOLD:
            told = {task: states.get(f"{invocation}.0", "unknown") for task, invocation in waiting.items()}
            raise RuntimeError(f"the launcher cannot tell the state of its jobs: {told}.")
        time.sleep(POLL_SECONDS)


def job_states(invocations: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """State of each job of some invocations, by its id."""
    command = [sys.executable, "-c", STATES, *invocations]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment, preexec_fn=die_with_parent()
    )
    return json.loads(done.stdout.splitlines()[-1])


def _read(benchmark: Benchmark, suite: Suite, invocations: Invocations, model_id: str) -> Reading:
    """What a benchmark's job left. Raises ValueError with the reason not to believe it."""
    known = invocations.of(benchmark.task)
    assert known, "it was submitted"
    if known.state == "overrun":
        raise ValueError(
            f"{benchmark.title} has used up its budget of {budget_of(benchmark, suite).tokens:,} tokens: answers are "
            "too long, or the deployment writes fewer than executor.evaluation.tokens_per_second."
        )
    (reading,) = read_launcher(
        invocations.output(benchmark.task),
        suite.with_benchmarks([benchmark]),
        model_id=model_id,
        started=known.submitted,
        states={0: known.state},
    )
    return reading


def _overran(output: Path) -> bool:
    """Whether a job says in its log that it has used up its budget."""
    return any(OVERRUN in log.read_text(errors="replace") for log in output.glob("*/logs/slurm-*.log"))


def _port(model_id: str, benchmark: Benchmark) -> int:
    return FIRST_PORT + 2 * (zlib.crc32(f"{model_id} {benchmark.task}".encode()) % (PORTS // 2))


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds % 3600 // 60:02}:{seconds % 60:02}"
