"""The production path as far as it goes without a cluster: what is submitted, waited for, read, and submitted again.

The launcher's dry run is in test_suite.py. Its record and the states that it tells are the real ones in one test here;
elsewhere a stand-in submits, which leaves what the launcher leaves.
"""

import dataclasses
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluator.harness import launcher
from evaluator.harness.cluster import Cluster
from evaluator.harness.invocations import RECORD, Invocations
from evaluator.harness.launcher import job_states, launcher_command, run_launcher, submit
from evaluator.harness.run import run_suite
from evaluator.results.spent import load_spent
from evaluator.suites.catalogue import STUDY
from tests.evaluator.harness.left_for_tests import SMALL, left_behind

SITE = Cluster(hostname="login", account="a", partition="p", judge_url="http://j/v1", judge_model="j")
TWO = SMALL.with_benchmarks(one for one in SMALL.benchmarks if one.title in ("GPQA Diamond", "IFEval"))
GPQA, IFEVAL = (benchmark.task for benchmark in TWO.benchmarks)


def test_a_suite_of_the_launcher_needs_a_cluster(tmp_path):
    wanted = "'study' is run on a cluster .*: say executor.evaluation.hostname and executor.evaluation.account and"
    with pytest.raises(ValueError, match=wanted):
        run_suite(tmp_path, suite=STUDY, folder=tmp_path, label="x", seed=0)


def test_a_launcher_that_fails_is_told_with_its_last_lines(tmp_path):
    environment = Invocations(tmp_path).environment
    with pytest.raises(RuntimeError, match=r"(?s)ended with 3:.*no such host"):
        submit(["sh", "-c", "echo no such host; exit 3"], environment)
    said = "echo 'Check: nemo-evaluator-launcher status 0123abcd4567cdef'"
    assert submit(["sh", "-c", said], environment) == "0123abcd4567cdef"


def test_a_launcher_that_has_begun_is_let_end_when_this_process_is_told_to(tmp_path):
    program = (
        "import os, signal\n"
        "def ending(*_): raise SystemExit(143)\n"
        "signal.signal(signal.SIGTERM, ending)\n"
        "from evaluator.harness.launcher import submit\n"
        "submit(['sh', '-c', 'echo begun >&2; sleep 1; touch recorded; echo'], os.environ)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.iterdir()) and process.poll() is None:
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout
        if children:
            process.terminate()
            break
    assert process.wait() == 143 and (tmp_path / "recorded").exists()


class Cloud:
    """A stand-in for launcher and cluster: what was submitted, and in what state it says each is."""

    def __init__(self, folder: Path):
        self.folder, self.submitted, self.states, self.default = folder, [], {}, "success"

    def submit(self, command, environment) -> str:
        task = command[command.index("-t") + 1]
        self.submitted.append(task)
        id_ = f"{len(self.submitted):016x}"
        output = self.folder / "nemo_evaluator" / f"20260101_120000-{id_}"
        made = left_behind(self.folder / f"made-{id_}")
        output.mkdir(parents=True)
        next(made.glob(f"{task}.*")).rename(output / f"{task}.0")
        (output / f"{task}.0" / "artifacts" / "results.yml").touch()
        (output / f"{task}.0" / "logs" / "stage.exit").unlink(missing_ok=True)  # the Slurm executor leaves none
        job = {"invocation_id": id_, "job_id": f"{id_}.0", "timestamp": 1.0 + len(self.submitted),
               "executor": "slurm", "data": {}, "config": {"evaluation": {"tasks": [{"name": task}]}}}  # fmt: skip
        with (self.folder / RECORD).open("a") as file:
            file.write(json.dumps(job) + "\n")
        return id_

    def job_states(self, ids, environment) -> dict[str, str]:
        told = {}
        for id_ in ids:
            said = self.states.get(id_, [self.default])
            told[f"{id_}.0"] = said.pop(0) if len(said) > 1 else said[0]
            if told[f"{id_}.0"] == "Ctrl-C":
                raise KeyboardInterrupt
        return told


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    cloud = Cloud(tmp_path)
    monkeypatch.setattr(launcher, "submit", cloud.submit)
    monkeypatch.setattr(launcher, "job_states", cloud.job_states)
    monkeypatch.setattr(launcher, "POLL_SECONDS", 0)
    return cloud


def run(folder: Path, suite=TWO):
    return run_launcher(folder / "hf", suite=suite, folder=folder, label="80B", model_id="80B", seed=0, cluster=SITE)


def test_every_benchmark_is_submitted_once_and_read(cloud, tmp_path):
    result = run(tmp_path)
    assert cloud.submitted == [GPQA, IFEVAL] == [task.task for task in result.tasks]
    assert (tmp_path / "answers.jsonl").stat().st_size and result.label == "80B"
    took = load_spent(tmp_path)
    assert (took.engine, took.gpu, took.gpus, took.in_flight, took.together) == (SITE.image, "", 8, 8, False)
    gpqa = took.benchmarks[0]
    assert (gpqa.task, gpqa.questions, gpqa.repeats, gpqa.seconds, gpqa.once) == (GPQA, 3, 2, 102.4, True)
    assert (gpqa.prompt, gpqa.generated) == (6 * 210, round(6 * 3512.17)) and gpqa.limit == 32_768


def test_an_attempt_that_was_cut_is_gone_on_from_and_nothing_is_submitted_twice(cloud, tmp_path, caplog):
    cloud.states["2".zfill(16)] = ["running", "Ctrl-C", "running", "success"]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    (tmp_path / "invocations.json").unlink()  # as if it had been killed before it could write that
    with caplog.at_level(logging.INFO):
        assert len(run(tmp_path).tasks) == 2
    assert cloud.submitted == [GPQA, IFEVAL]
    assert f"IFEval was submitted before, as {'2'.zfill(16)}, and is not again." in caplog.text
    run(tmp_path)
    assert cloud.submitted == [GPQA, IFEVAL]  # nor when all has ended


@pytest.mark.parametrize("state", ["failed", "killed"])
def test_a_job_that_ended_badly_is_submitted_again_by_the_next_attempt_alone(state, cloud, tmp_path, caplog):
    cloud.states["1".zfill(16)] = [state]
    with pytest.raises(ValueError, match=f"ns_gpqa is '{state}'.*the same command asks no other benchmark again"):
        run(tmp_path)
    assert cloud.submitted == [GPQA, IFEVAL]
    assert len(run(tmp_path).tasks) == 2 and cloud.submitted == [GPQA, IFEVAL, GPQA]
    assert "GPQA Diamond is submitted again: " in caplog.text and state in caplog.text


def test_results_that_are_not_believed_are_read_once_more_before_they_are_asked_for_again(cloud, tmp_path):
    run(tmp_path)
    (results,) = (tmp_path / "nemo_evaluator").glob(f"*/{GPQA}.0/artifacts/results.yml")
    right = results.read_text()
    results.write_text(right.replace("80B", "79B"))
    with pytest.raises(ValueError, match="79B"):
        run(tmp_path)
    results.write_text(right)
    assert len(run(tmp_path).tasks) == 2 and cloud.submitted == [GPQA, IFEVAL]
    results.write_text("")
    with pytest.raises(ValueError, match="results.yml"):
        run(tmp_path)
    assert len(run(tmp_path).tasks) == 2 and cloud.submitted == [GPQA, IFEVAL, GPQA]


def test_what_the_launcher_has_no_record_of_is_submitted_again(cloud, tmp_path, caplog):
    run(tmp_path)
    first, second = (tmp_path / RECORD).read_text().splitlines()
    (tmp_path / RECORD).write_text(first + "\n" + second[: len(second) // 2])
    (tmp_path / "nemo_evaluator" / f"20260101_120000-{'2'.zfill(16)}" / "cancelled").touch()
    run(tmp_path)
    assert cloud.submitted == [GPQA, IFEVAL, IFEVAL]
    assert f"ns_ifeval was submitted as {'2'.zfill(16)}, of which the launcher has no record." in caplog.text


def test_a_failure_is_believed_when_it_was_said_for_a_while(cloud, tmp_path):
    cloud.states["1".zfill(16)] = ["running", *["failed"] * (launcher.SURE - 1), "running", "success"]
    assert len(run(tmp_path).tasks) == 2  # ssh did not answer, of which the launcher makes a failure


def test_a_job_that_has_used_up_its_budget_is_not_waited_for_for_ever(cloud, tmp_path):
    cloud.states["1".zfill(16)] = ["Ctrl-C"]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    cloud.states["1".zfill(16)] = ["pending"]  # as the launcher calls what met its time limit and does not go on
    (job,) = (tmp_path / "nemo_evaluator").glob(f"*/{GPQA}.0")
    (job / "logs").mkdir(exist_ok=True)
    (job / "logs" / "slurm-7.log").write_text("ERROR: Maximum total walltime (03:00:00) exceeded.\n")
    with pytest.raises(ValueError, match="GPQA Diamond has used up its budget of .* tokens"):
        run(tmp_path)
    cloud.states = {}
    assert len(run(tmp_path).tasks) == 2 and cloud.submitted == [GPQA, IFEVAL, GPQA]


def test_states_that_say_nothing_end_the_waiting(cloud, tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "MOST_UNTOLD", 3)
    cloud.default = "unknown"
    with pytest.raises(RuntimeError, match="cannot tell the state of its jobs: {'ns_gpqa': 'unknown'"):
        run(tmp_path)


def test_the_real_launcher_tells_states_from_the_record_in_the_steps_folder(tmp_path):
    invocations = Invocations(tmp_path)
    for number, code in enumerate(("0", "1")):
        (tmp_path / f"job.{number}" / "logs").mkdir(parents=True)
        (tmp_path / f"job.{number}" / "logs" / "stage.exit").write_text(f"2026-11-25T00:00:00Z {code}")
        job = {"invocation_id": f"{number:016x}", "job_id": f"{number:016x}.0", "timestamp": 1.0,
               "executor": "local", "data": {"output_dir": str(tmp_path / f"job.{number}")},
               "config": {"evaluation": {"tasks": [{"name": f"task{number}"}]}}}  # fmt: skip
        with (tmp_path / RECORD).open("a") as file:
            file.write(json.dumps(job) + "\n")
    ids = [invocations.of(f"task{number}").id for number in range(2)]
    told = job_states([*ids, "f" * 16], invocations.environment)
    assert (told[f"{ids[0]}.0"], told[f"{ids[1]}.0"]) == ("success", "failed") and f"{'f' * 16}.0" not in told


def test_a_command_names_the_checkpoint_its_budget_and_ports_of_its_own(tmp_path):
    def words(task: str, model_id: str) -> dict[str, str]:
        (benchmark,) = (one for one in STUDY.benchmarks if one.task == task)
        command = launcher_command(tmp_path / "hf", benchmark, STUDY, tmp_path / "evaluate-80B/0123", model_id, SITE)
        return dict(word.split("=", 1) for word in command if "=" in word)

    one = words("ns_mmlu_pro", "80B-0123")
    assert one["deployment.served_model_name"] == "80B-0123"
    assert one["execution.subproject"] == "evaluate-80B-0123"
    assert (one["execution.walltime"], one["execution.max_walltime"]) == ("04:00:00", "06:00:00")
    assert words("ns_ifeval", "80B-0123")["execution.walltime"] == "02:00:00"
    ports = [words(task, name)["deployment.port"] for task in ("ns_gpqa", "ns_ifeval") for name in ("a-1", "b-2")]
    assert len(set(ports)) == 4 and all(20_000 <= int(port) < 30_000 and int(port) % 2 == 0 for port in ports)
    assert one["++evaluation.env_vars.ADAPTER_PORT"] == f"lit:{int(one['deployment.port']) + 1}"


def test_what_a_launcher_had_no_time_to_record_is_cancelled_by_name_before_it_is_submitted_again(tmp_path, monkeypatch):
    folder = tmp_path / "evaluate-80B" / "0123456789ab"
    left = folder / "nemo_evaluator" / f"20260101_120000-{'a' * 16}"
    (left / "ns_gpqa.0").mkdir(parents=True)
    (left / "ns_gpqa.0" / "run.sub").touch()
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\nexit "$(cat {tmp_path}/code)"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(ssh.parent), prepend=os.pathsep)
    (tmp_path / "code").write_text("255")
    site = dataclasses.replace(SITE, username="me")
    with pytest.raises(RuntimeError, match="may be queued, and cannot be cancelled"):
        Invocations(folder).cancel_unrecorded(site)
    (tmp_path / "code").write_text("0")
    Invocations(folder).cancel_unrecorded(site)
    Invocations(folder).cancel_unrecorded(site)  # once is enough
    told = "me@login scancel --user=me --name=a-evaluate-80B-0123456789ab.ns_gpqa.0\n"
    assert (tmp_path / "said").read_text() == 2 * told
