"""Runs a suite on this machine: the checkpoint is served, and nemo-evaluator asks and scores, in processes of its own.

    result = run_direct(Path("hf"), suite=suite, folder=Path("out"), label="pruned", seed=0, means=Means())

Our own tasks are asked in one evaluation, and so are a user's own questions that are asked alike; every other harness
asks its benchmark in an evaluation of its own (`Suite.evaluations`). All of them run at the same time. Our own server
answers alike every time, and an attempt which was cut is made anew; vLLM's answers, which cost GPU-hours, are kept as
they come (`evaluator.harness.kept`).
"""

import contextlib
import dataclasses
import json
import os
import shutil
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from evaluator.harness.evaluation import CONFIG, Evaluation, check_ended_well, evaluating, run_config
from evaluator.harness.kept import KEPT, keeping
from evaluator.harness.read import read_direct
from evaluator.harness.requirements import Means
from evaluator.harness.spent import asking, in_order, model_of
from evaluator.results.answers import save_answers
from evaluator.results.scores import CheckpointResult
from evaluator.results.spent import Spent, save_spent
from evaluator.serve import vllm
from evaluator.serve.bench import kind_of
from evaluator.serve.ports import free_ports
from evaluator.serve.processes import ProgramFailed
from evaluator.serve.server import Server, serving
from evaluator.suites.datasets import question_ids
from evaluator.suites.judge import judge_of
from evaluator.suites.own import QUESTIONS, write_own
from evaluator.suites.suite import Benchmark, Suite

OUTPUT = "nemo_evaluator"
"""Folder with what nemo-evaluator left, and the logs."""
ATTEMPT = "attempt-"
"""Prefix of the folder in which an attempt works until it has succeeded."""
POLL_SECONDS = 0.2
QUEUED_SECONDS = 21_600
"""What one answer of vLLM's may take: of eight benchmarks at once eight wait for each that is computed, and the longest
take 20 minutes where 128 share 3,500 tokens/s, a guess for one H100."""
SILENT_SECONDS = 3_600.0
"""What vLLM may take until the next of many answers comes: three times what the longest takes by that guess."""
MOST_IN_FLIGHT = 256
"""Requests of one benchmark: each is a thread of its harness, and a thread's stack counts as a sandbox's memory."""


def run_direct(
    checkpoint: Path,
    *,
    suite: Suite,
    folder: Path,
    label: str,
    model_id: str,
    seed: int,
    means: Means,
    progress: Callable[[int, int], None],
) -> CheckpointResult:
    """Score the checkpoint with a suite that is prepared (`evaluator.harness.requirements`); see `run_suite`."""
    began, started = time.time(), time.monotonic()
    folder = folder.resolve()
    _remove_cut_attempts(folder)
    work = folder / f"{ATTEMPT}{uuid.uuid4().hex}"
    work.mkdir()
    suite = suite if means.vllm is None else at_full_rate(suite)
    anew = not (folder / KEPT).exists()
    with _served(checkpoint, suite, folder, work / "server.log", means, model_id=model_id) as server:
        ready = time.monotonic()
        asked = _configurations(suite, work, means, server=server, model_id=model_id, seed=seed)
        _evaluate(server, asked, means, progress=lambda done: progress(min(done, suite.answers), suite.answers))
        spent = _spent(checkpoint, suite, means, start_seconds=ready - started, seconds=time.monotonic() - ready)
    ids = question_ids(means.datasets, suite)
    try:
        readings = read_direct(work, suite, model_id=model_id, started=began, ids=ids)
    except ValueError:  # what cannot be believed is asked again, not read again
        (folder / KEPT).unlink(missing_ok=True)
        raise
    save_answers(folder, (question for reading in readings for question in reading.questions))
    tasks = tuple(reading.result for reading in readings)
    counted = [
        one
        for asked_together in suite.evaluations
        for one in asking(work / suite.folder(asked_together), asked_together, suite, tasks, once=anew)
    ]
    save_spent(folder, dataclasses.replace(spent, benchmarks=in_order(suite, counted)))
    progress(suite.answers, suite.answers)
    shutil.rmtree(folder / OUTPUT, ignore_errors=True)
    os.replace(work, folder / OUTPUT)
    (folder / KEPT).unlink(missing_ok=True)
    _remove_cut_attempts(folder)
    together = suite.evaluation and "" in map(suite.folder, suite.evaluations)
    asked_for = f"{OUTPUT}/{CONFIG}" if together else f"{OUTPUT}/TASK/{CONFIG}"
    return CheckpointResult(
        label=label,
        suite=suite.name,
        seed=seed,
        seconds=round(time.monotonic() - started, 1),
        command=("nemo-evaluator", "run_eval", "--run_config", asked_for),
        tasks=tasks,
    )


def _spent(checkpoint: Path, suite: Suite, means: Means, *, start_seconds: float, seconds: float) -> Spent:
    """What served, and how long: the benchmarks are counted once they are believed."""
    gpus = vllm.gpus_here() if means.vllm else ()
    return Spent(
        engine="vllm" if means.vllm else "transformers",
        version=means.vllm.version if means.vllm else version("transformers"),
        gpu=(kind_of(gpus[0]) or "") if gpus else "",
        gpus=len(gpus),
        in_flight=vllm.SEQUENCES if means.vllm else suite.parallelism,
        together=True,
        start_seconds=round(start_seconds, 1),
        seconds=round(seconds, 1),
        benchmarks=(),
        model=model_of(checkpoint),
    )


def at_full_rate(suite: Suite) -> Suite:
    """`suite` with as many requests of each benchmark in flight as fill the GPUs, or as a sandbox's threads can hold.

    The benchmarks are asked at the same time, so that several fill what one cannot.
    """
    parallelism = min(MOST_IN_FLIGHT, vllm.SEQUENCES * len(vllm.gpus_here()))
    return dataclasses.replace(suite, parallelism=parallelism, answer_seconds=QUEUED_SECONDS)


@contextlib.contextmanager
def _served(
    checkpoint: Path, suite: Suite, folder: Path, log: Path, means: Means, *, model_id: str
) -> Iterator[Server]:
    """The server that answers: our own, or vLLM, whose answers are kept in `folder` until all have come."""
    if means.vllm is None:
        with serving(checkpoint, model_id=model_id, log=log, threads=means.threads, context=suite.context) as server:
            yield server
        return
    engine, context, mark = means.vllm, suite.context, str(folder)
    said = vllm.said_besides(thinking=bool(suite.reasoning_end))
    by = {"vllm": engine.version, "options": list(vllm.options(context)), "request": said}
    with contextlib.ExitStack() as around:
        started = vllm.serving(checkpoint, engine, model_id=model_id, log=log, context=context, mark=mark)
        server, probed = around.enter_context(started)
        yield around.enter_context(keeping(server, folder / KEPT, model_id=model_id, by=by, probed=probed))


def _configurations(
    suite: Suite, work: Path, means: Means, *, server: Server, model_id: str, seed: int
) -> list[tuple[dict, Benchmark]]:
    """Configuration and first benchmark of each evaluation."""
    found: list[tuple[dict, Benchmark]] = []
    judge = judge_of(suite)
    for asked in suite.evaluations:
        where = work / suite.folder(asked)
        where.mkdir(exist_ok=True)
        write_own(suite.with_benchmarks(asked), means.questions, where / QUESTIONS)
        url = server.url if asked[0].endpoint == "chat" else server.completions
        config = run_config(suite, asked, url=url, model_id=model_id, folder=where, seed=seed, judge=judge)
        found.append((config, asked[0]))
    return found


def check_answering(server: Server) -> None:
    """Raise ProgramFailed where a server that keeps count of it has questions and has answered none for long."""
    silent = told(server).get("silent", 0)
    if silent > SILENT_SECONDS:
        raise ProgramFailed(f"vLLM has questions and has answered none for {silent:,.0f} s.")


def _evaluate(
    server: Server,
    asked: Sequence[tuple[dict, Benchmark]],
    means: Means,
    *,
    progress: Callable[[int], None],
) -> None:
    """Run all evaluations until each has ended, one has failed or the server is gone; `progress` is told of answers."""
    with contextlib.ExitStack() as group:
        # Together: one starts up or scores while another's answers are written, and batches fill.
        evaluations: list[Evaluation] = [
            group.enter_context(
                evaluating(
                    config,
                    adapter_port=port,
                    datasets=means.datasets,
                    named=benchmark.datasets,
                    executes_code=benchmark.executes_code,
                    token=server.token,
                )
            )
            for (config, benchmark), port in zip(asked, free_ports(len(asked)), strict=True)
        ]
        while server.process.poll() is None and any(evaluation.poll() is None for evaluation in evaluations):
            if any(evaluation.poll() for evaluation in evaluations):
                break
            progress(answered(server))
            check_answering(server)
            time.sleep(POLL_SECONDS)
        if server.process.poll() is None:  # else `serving` says why it ended
            for evaluation in evaluations:
                check_ended_well(evaluation)


def answered(server: Server) -> int:
    """Requests the server has answered so far; 0 while it loads the checkpoint."""
    return told(server).get("answered", 0)


def told(server: Server) -> dict:
    """What the server says of itself; nothing while it loads the checkpoint."""
    try:
        asked = urllib.request.Request(f"{server.root}/health", headers=server.headers)
        with urllib.request.urlopen(asked, timeout=0.5) as reply:
            return json.load(reply)
    except (TimeoutError, urllib.error.URLError):
        return {}


def _remove_cut_attempts(folder: Path) -> None:
    # Before and after: processes of an attempt that was killed have a moment to live, and may write once more.
    for left_over in folder.glob(f"{ATTEMPT}*"):
        shutil.rmtree(left_over, ignore_errors=True)
