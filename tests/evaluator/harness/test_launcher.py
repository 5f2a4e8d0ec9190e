"""The production path as far as it goes without a cluster: its command (test_suite.py dry-runs it), its jobs."""

import json

import pytest

from evaluator.harness import launcher as production
from evaluator.harness.launcher import submit, wait_for
from evaluator.harness.run import run_suite
from evaluator.suites.catalogue import STUDY

SITE = {"EVALUATOR_HOSTNAME": "login.cluster", "EVALUATOR_ACCOUNT": "an_account"}


def test_a_suite_of_the_launcher_needs_a_cluster(tmp_path, monkeypatch):
    for name in SITE:
        monkeypatch.delenv(name, raising=False)
    for name in ("JUDGE_URL", "JUDGE_MODEL_ID", "JUDGE_API_KEY"):
        monkeypatch.setenv(name, "x")
    with pytest.raises(ValueError, match="'study' is run on a cluster .* set EVALUATOR_HOSTNAME and EVALUATOR_ACCOUNT"):
        run_suite(tmp_path, suite=STUDY, folder=tmp_path, label="x", seed=0)


def test_a_launcher_that_fails_is_told_with_its_last_lines(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)ended with 3:.*no such host"):
        submit(["sh", "-c", "echo no such host; exit 3"])
    assert submit(["sh", "-c", "echo 'Check: nemo-evaluator-launcher status 0123abcd4567cdef'"]) == "0123abcd4567cdef"


INVOCATION = "0123456789abcdef"


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """Two jobs in the records of the real launcher, which tells their state by the files that they leave."""
    records = tmp_path / "records" / "jobs.jsonl"
    records.parent.mkdir()
    monkeypatch.setenv("NEMO_EVALUATOR_EXEC_DB_FILE", str(records))
    logs = []
    with records.open("w") as file:
        for number in range(2):
            folder = tmp_path / f"job.{number}"
            (folder / "logs").mkdir(parents=True)
            logs.append(folder / "logs")
            job = {"invocation_id": INVOCATION, "job_id": f"{INVOCATION}.{number}", "timestamp": 0.0,
                   "executor": "local", "data": {"output_dir": str(folder)}, "config": {}}  # fmt: skip
            file.write(json.dumps(job) + "\n")
    return logs


def test_jobs_are_waited_for_until_each_has_ended_well_or_not(launched):
    first, second = launched
    (first / "stage.exit").write_text("2026-11-25T00:00:00Z 0")
    seen = []

    def progress(done, total):
        seen.append((done, total))
        if len(seen) == 2:  # the other fails while it is waited for
            (second / "stage.exit").write_text("2026-11-25T00:00:00Z 1")

    states = wait_for(INVOCATION, jobs=2, progress=progress, poll_seconds=0)
    assert states == {f"{INVOCATION}.0": "success", f"{INVOCATION}.1": "failed"}
    assert seen[0] == (1, 2) and seen[-1] == (2, 2)


def test_an_invocation_that_the_launcher_does_not_know_is_not_waited_for_for_ever(launched, monkeypatch):
    monkeypatch.setattr(production, "MOST_UNTOLD", 1)
    with pytest.raises(RuntimeError, match="the launcher cannot tell the state of the jobs of fedcba"):
        wait_for("fedcba9876543210", jobs=2, progress=lambda done, total: None, poll_seconds=0)
