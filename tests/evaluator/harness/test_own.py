"""A user's own questions, asked of the debug world's teacher through nemo-evaluator, programs in the sandbox."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from evaluator.harness import launcher
from evaluator.harness.cluster import Cluster
from evaluator.harness.invocations import RECORD
from evaluator.harness.launcher_config import bring
from evaluator.harness.requirements import Means, prepare_suite
from evaluator.harness.run import run_suite
from evaluator.results.answers import ANSWERS_FILE, load_answers
from evaluator.suites.catalogue import OFFLINE, STUDY
from evaluator.suites.own import digest_of, read_own
from evaluator.suites.suite import Benchmark, Own, Suite
from tests.evaluator.conftest import TEACHER
from tests.evaluator.harness.left_for_tests import left_by_our_own_tasks

CHOICES = "A) shallow B) narrow C) weak D) sour"
ROWS = {
    "quiz": (
        "choice",
        [
            {"question": f"What is the opposite of strong?\n{CHOICES}", "answer": "C", "id": "strong"},
            {"question": "Find a gas.\nA) Saturn B) helium C) moth D) gold", "answer": "B", "id": "gas"},
        ],
    ),
    "sums": (
        "boxed",
        [
            {"question": "Compute 465 + 111.", "answer": 576},
            {"question": "Tom has 742 pens and loses 186. How many pens now?", "answer": "556.0"},
        ],
    ),
    "programs": (
        "code",
        [
            {
                "question": "Write a Python function calc that returns x plus 8 minus 2.",
                "tests": "assert [calc(x) for x in (-3, 0, 40)] == [3, 6, 46]",
            },
            {
                "question": "Give me a Python function g that returns x minus 6 if x is above 3, else x plus 7.",
                "tests": "assert g(10) == 4 and g(1) == 8",
            },
        ],
    ),
}


def own_suite(folder, *names: str) -> tuple[Suite, Means]:
    """The suite of these benchmarks, and where their files are."""
    benchmarks, files = [], {}
    for name in names:
        kind, rows = ROWS[name]
        files[name] = folder / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
        questions = read_own(files[name], Own(kind, "", "{question}"))
        benchmarks.append(
            Benchmark(
                title=name.title(),
                task=name,
                repeats=2,
                metric="pass_at_1_avg-of-{n}",
                score="symbolic_correct",
                questions=len(rows),
                protocol="own",
                repeats_key="num_repeats",
                harness="offline",
                executes_code=kind == "code",
                declared=True,
                own=Own(kind, digest_of(questions), "{question}"),
            )
        )
    return OFFLINE.with_benchmarks(benchmarks), Means(questions=files, execute_generated_code=True)


def test_a_program_of_the_models_needs_leave_and_a_suite_its_files(tmp_path):
    suite, means = own_suite(tmp_path, "sums", "programs")
    with pytest.raises(ValueError, match=r"executes what the model writes \(Programs\).*execute_generated_code=true"):
        prepare_suite(suite, Means(questions=means.questions))
    with pytest.raises(ValueError, match="the file of the questions of 'sums' is not said"):
        prepare_suite(suite, Means(execute_generated_code=True))


def test_what_a_container_is_brought_is_not_what_somebody_else_left_there(tmp_path):
    suite, means = own_suite(tmp_path, "quiz")
    brought = bring(suite, means.questions, tmp_path)
    assert bring(suite, means.questions, tmp_path) == brought
    file = brought / "evaluator" / "harness" / "asking.py"
    kept = file.read_bytes()
    changes = (
        (lambda: file.write_bytes(b"planted"), lambda: file.write_bytes(kept)),
        (lambda: (brought / "yaml.py").touch(), lambda: (brought / "yaml.py").unlink()),
        (lambda: os.mkfifo(brought / "pipe"), lambda: (brought / "pipe").unlink()),
        (lambda: (brought / "linked").symlink_to("/etc"), lambda: (brought / "linked").unlink()),
    )
    for change, undo in changes:
        change()
        with pytest.raises(ValueError, match=f"{brought.name}' was changed by somebody who can write there: remove it"):
            bring(suite, means.questions, tmp_path)
        undo()
    assert bring(suite, means.questions, tmp_path) == brought
    assert [path.name for path in brought.parent.iterdir()] == [brought.name]


def test_on_a_cluster_each_is_asked_in_a_container_that_is_brought_what_asks_it(tmp_path, monkeypatch):
    own, means = own_suite(tmp_path, "quiz", "sums")
    suite = dataclasses.replace(STUDY, benchmarks=own.benchmarks)
    folder = tmp_path / "evaluate" / "0123"
    folder.mkdir(parents=True)
    submitted = []

    def submit(command: list[str], environment) -> str:
        config = yaml.safe_load(Path(command[command.index("--config") + 1]).read_text())
        (task,) = config["evaluation"]["tasks"]
        assert task["name"] == command[command.index("-t") + 1] == "AIME_2025"  # the launcher knows no other
        told, (mounted, inside) = (
            task["nemo_evaluator_config"]["config"],
            *config["execution"]["mounts"]["evaluation"].items(),
        )
        assert told["type"] == "nemo_distill.own" and task["env_vars"] == {"PYTHONPATH": f"lit:{inside}"}
        name = told["params"]["task"]
        assert told["params"]["extra"] == {"num_repeats": 2, "seed": 7, "data": f"{inside}/questions"}
        for brought in (f"questions/{name}.jsonl", "core_evals/nemo_distill/runner.py", "evaluator/harness/asking.py"):
            assert (Path(mounted) / brought).is_file()
        assert f"execution.subproject=evaluate-0123-{name}" in command
        id_ = f"{len(submitted):016x}"
        left_by_our_own_tasks(
            folder / "nemo_evaluator" / f"20260101_120000-{id_}" / "AIME_2025.0" / "artifacts", [name]
        )
        job = {"invocation_id": id_, "timestamp": 1.0 + len(submitted), "config": {"evaluation": {"tasks": [task]}}}
        with (folder / RECORD).open("a") as file:
            file.write(json.dumps(job) + "\n")
        submitted.append(name)
        return id_

    monkeypatch.setattr(launcher, "submit", submit)
    monkeypatch.setattr(launcher, "job_states", lambda ids, environment: {f"{one}.0": "success" for one in ids})
    cluster = Cluster(hostname="login", account="a", partition="p")
    asked = {"suite": suite, "folder": folder, "label": "80B", "model_id": "80B", "seed": 7}
    result = run_suite(tmp_path / "hf", **asked, means=means, cluster=cluster)
    assert [task.task for task in result.tasks] == submitted == ["quiz", "sums"]
    assert [task.summary.mean for task in result.tasks] == [0.5, 0.5]
    assert not (folder / "brought").exists()
    (folder / "invocations.json").unlink()  # as if it had been killed: the launcher's record tells them apart
    assert run_suite(tmp_path / "hf", **asked, means=means, cluster=cluster).tasks == result.tasks
    assert submitted == ["quiz", "sums"]


@pytest.mark.slow
def test_own_questions_are_asked_and_judged_as_the_suites_are(tmp_path):
    names = [*ROWS] if shutil.which("bwrap") else ["quiz", "sums"]
    suite, means = own_suite(tmp_path, *names)
    assert [len(asked) for asked in suite.evaluations] == [2, 1][: len(names) - 1]
    folder = tmp_path / "out with 'a space"
    folder.mkdir()
    result = run_suite(TEACHER, suite=suite, folder=folder, label="teacher", seed=0, means=means)
    assert [task.task for task in result.tasks] == names
    assert result.tasks[0].questions == ("gas", "strong") and len(result.tasks[0].scores[0]) == 2
    assert [task.summary.mean for task in result.tasks] == [1.0] * len(names), result.tasks
    kept = {question.question: question for question in load_answers(folder / ANSWERS_FILE) if question.task == "quiz"}
    assert kept["strong"].prompt.endswith(CHOICES) and kept["strong"].reference == "C"
    assert (folder / "nemo_evaluator" / "quiz" / "questions" / "sums.jsonl").is_file()
