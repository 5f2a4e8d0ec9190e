import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from evaluator.harness.run import run_suite
from evaluator.results.answers import ANSWERS_FILE, load_answers
from evaluator.results.scores import CheckpointResult
from evaluator.results.spent import load_spent
from evaluator.suites.catalogue import OFFLINE

TWO_TASKS = dataclasses.replace(OFFLINE, benchmarks=OFFLINE.benchmarks[2:4]).with_repeats(2)


@pytest.fixture(scope="module")
def first(checkpoint, tmp_path_factory) -> tuple:
    """A suite's result, its folder, and the progress that was told."""
    folder, told = tmp_path_factory.mktemp("first"), []
    result = run_suite(
        checkpoint, suite=TWO_TASKS, folder=folder, label="tiny", seed=0, progress=lambda *counts: told.append(counts)
    )
    return result, folder, told


@pytest.mark.slow
def test_a_suite_runs_through_nemo_evaluator_and_keeps_every_question(first):
    result, folder, told = first
    assert [task.task for task in result.tasks] == ["offline_math", "offline_ifeval"]
    assert all(len(task.scores) == 40 and len(task.scores[0]) == 2 for task in result.tasks)
    output = folder / "nemo_evaluator"
    assert set(yaml.safe_load((output / "results.yml").read_text())["results"]["tasks"]) == {
        "offline_math",
        "offline_ifeval",
    }
    samples = [json.loads(line) for line in (output / "samples.jsonl").read_text().splitlines()]
    assert len({(sample["id"], sample["repeat"]) for sample in samples}) == len(samples) == 160
    # Repeats are draws of their own: a cache in between would have made them one.
    assert len({(sample["id"], sample["response"]) for sample in samples}) > 120
    assert told[-1] == (160, 160)
    questions = list(load_answers(folder / ANSWERS_FILE))
    for task in result.tasks:
        of_task = [question for question in questions if question.task == task.task]
        assert tuple(question.question for question in of_task) == task.questions
        assert tuple(tuple(answer.score for answer in question.answers) for question in of_task) == task.scores
    assert questions[0].prompt and questions[0].reference.isdigit() and questions[0].answers[0].text
    assert not list(folder.glob("attempt-*"))
    took = load_spent(folder)
    assert (took.engine, took.gpus, took.gpu, took.in_flight) == ("transformers", 0, "", TWO_TASKS.parallelism)
    assert took.start_seconds > 0 and 0 < took.seconds < took.start_seconds + took.seconds <= result.seconds + 0.2
    tokens = [sum(sample["tokens"] for sample in samples if sample["task"] == one.task) for one in took.benchmarks]
    assert [one.generated for one in took.benchmarks] == pytest.approx(tokens, rel=0.01)
    # both are rounded, and a request begins by another clock than the evaluation
    assert all(0 < one.seconds <= took.seconds + 1 and one.once for one in took.benchmarks), took
    assert all(one.prompt > 80 for one in took.benchmarks), took
    assert took.model["hidden_size"] == 72


STEP = """
import sys
from pathlib import Path
from nemo_distill.run.step import Spec
from nemo_distill.steps import evaluate

if __name__ == "__main__":
    evaluate.main(Spec.load(Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_a_step_killed_in_the_middle_leaves_no_process_and_when_run_again_answers_anew_and_alike(
    checkpoint, first, monkeypatch
):
    from nemo_distill.run.step import Spec
    from nemo_distill.steps import evaluate

    result, folder, _ = first
    output = folder / "nemo_evaluator"
    before, stamp = (output / "samples.jsonl").read_bytes(), (output / "results.yml").stat().st_mtime
    monkeypatch.setattr("evaluator.suites.catalogue._SUITES", {"offline": TWO_TASKS})
    config = {"checkpoint": str(checkpoint), "label": "tiny", "suite": "offline", "repeats": 2, "seed": 0, "threads": 1}
    spec = Spec("evaluate-tiny", "nemo_distill.steps.evaluate", config, folder, {}, "0123456789ab")
    command = [sys.executable, "-c", STEP, str(spec.save())]
    killed = subprocess.Popen(command)
    while not list(folder.glob("attempt-*/log.txt")):
        assert killed.poll() is None
        time.sleep(0.1)
    time.sleep(2)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert (output / "results.yml").stat().st_mtime == stamp

    evaluate.main(spec)
    assert CheckpointResult.load(folder).tasks == result.tasks
    assert (output / "samples.jsonl").read_bytes() == before
    assert (output / "results.yml").stat().st_mtime > stamp
    assert json.loads((folder / "progress.json").read_text())["done"] == 160
    assert not list(folder.glob("attempt-*"))
    deadline = time.monotonic() + 300
    while (left := processes_about(str(folder))) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not left


def processes_about(text: str) -> list[str]:
    """Command lines of processes that name `text`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                command = file.read().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if text in command:
            found.append(command)
    return found


@pytest.mark.slow
def test_a_task_that_fails_fails_the_suite_with_the_end_of_its_log(checkpoint, tmp_path):
    too_hot = dataclasses.replace(TWO_TASKS, temperature=200.0)
    with pytest.raises(
        RuntimeError,
        # Both benchmarks are asked at once: either may be refused first.
        match=r"offline ended: question offline_(math|ifeval)-\d+, repeat \d, is refused: 400 .*'temperature' is 200",
    ):
        run_suite(checkpoint, suite=too_hot, folder=tmp_path, label="tiny", seed=0)


@pytest.mark.slow
def test_a_suite_whose_prompts_are_over_the_context_is_refused_with_what_the_server_said(checkpoint, tmp_path):
    too_long = dataclasses.replace(TWO_TASKS, max_new_tokens=250)
    with pytest.raises(
        ValueError,
        match=r"80 of the 80 answers to Math could not be .*model's context of 256.*evaluate.max_unasked=0.05",
    ):
        run_suite(checkpoint, suite=too_long, folder=tmp_path, label="tiny", seed=0)
