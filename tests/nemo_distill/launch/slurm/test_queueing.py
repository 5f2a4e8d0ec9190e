"""Runs of small steps as jobs of a real Slurm: order, failure, attaching, leaving, cancelling."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_distill.run.manifest import State, find, job_of_step, state_of
from tests.nemo_distill.launch.slurm.cluster_for_tests import wait_for

RECIPE = ("recipes/small.py", "--executor", "slurm")


def start(*arguments: str, **keywords) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "nemo_distill.cli", *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True, **keywords},
    )


def begun(step: str) -> bool:
    return bool(list(Path("runs").glob(f"{step}/*/attempts.txt")))


def record(step: str, name: str) -> str:
    (folder,) = Path("runs", step).iterdir()
    return (folder / name).read_text()


def test_a_run_makes_every_step_as_a_job_and_the_same_command_again_makes_none(nemo_run, site, slurm, attempts):
    code, out, _ = nemo_run(*RECIPE)
    assert code == 0 and "6 of 6 steps" in out
    run = find("small", runs=Path("runs"))
    assert {state_of(spec) for spec in run.specs.values()} == {State.DONE}
    wait_for(lambda: slurm.queue() == {})  # the last step has said so before its job has ended
    assert "Nothing to do" in nemo_run(*RECIPE)[1]
    assert [attempts("runs", step) for step in run.specs] == [1] * 6
    provenance = json.loads(record("prune", "spec.json"))["provenance"]
    assert provenance["slurm"]["nodes"] in ("node1", "node2")
    assert provenance["slurm"]["job"] == job_of_step(run.specs["prune"])["job"]


def test_a_failed_job_cancels_what_depends_on_it_and_its_log_is_shown(nemo_run, site, slurm, attempts):
    code, out, _ = nemo_run(*RECIPE, "small.fail=error", "small.lines=30")
    assert code == 1
    assert "distill-2 failed: RuntimeError: the disk of the tests is full" in out
    assert "line 29 of distill-2" in out and "line 3 of distill-2" not in out
    assert "Not started: evaluate-2." in out
    assert attempts("runs", "evaluate-2") == 0
    wait_for(lambda: slurm.queue() == {})  # evaluate-1 has begun at its milestone, and its job may be ending
    code, out, _ = nemo_run("status")
    rows = {line.split()[0]: line.split()[1] for line in out.splitlines()[1:7]}
    assert code == 0
    assert rows == {
        **dict.fromkeys(("world", "prune", "distill-1", "evaluate-1"), "done"),
        "distill-2": "failed",
        "evaluate-2": "waiting",
    }


def test_a_step_that_runs_out_of_memory_is_not_tried_again_and_the_advice_says_what_to_change(nemo_run, site, attempts):
    site(steps={"distill-2": {"mem": "300M"}})
    code, out, _ = nemo_run(*RECIPE, "small.fail=memory")
    assert code == 1
    assert "distill-2 failed" in out and "It ran out of memory" in out and "executor.mem" in out
    assert attempts("runs", "distill-2") == 1


def test_values_of_the_environment_arrive_as_they_were_written(nemo_run, site):
    values = {
        "SPACES": "two  words",
        "QUOTES": """it's "so" `here`""",
        "DOLLAR": "$HOME $x \\ !",
        "lower_case": "/a/nemo_run/b",
    }
    site(env_vars=values, setup_lines='export FROM_SETUP="$DOLLAR of $SLURM_JOB_ID"')
    names = " ".join([*values, "FROM_SETUP"])
    assert nemo_run(*RECIPE, f"small.variables={names}")[0] == 0
    recorded = json.loads(record("prune", "variables.json"))
    assert recorded.pop("FROM_SETUP").startswith(f"{values['DOLLAR']} of ")
    assert recorded == values


def test_what_slurm_refuses_is_said_in_its_own_words_and_nothing_stays_queued_or_written(
    nemo_run, site, slurm, listing
):
    place = site(steps={"distill-2": {"partition": "nowhere"}})
    code, out, err = nemo_run(*RECIPE)
    assert code == 2 and err.count("\n") == 1, out
    assert "Slurm refused the job of distill-2" in err and "partition" in err
    assert slurm.queue() == {} and not (place / "runs").exists(), listing(place)
    site()
    assert nemo_run(*RECIPE)[0] == 0


def test_a_refused_change_of_a_run_leaves_what_the_run_had(nemo_run, site, slurm, listing):
    assert nemo_run(*RECIPE, "small.fail=error")[0] == 1
    before, kept = listing(Path("runs")), Path("runs/small.json").read_text()
    site(steps={"evaluate-2": {"partition": "nowhere"}})
    code, _, err = nemo_run(*RECIPE, "small.lines=9")
    assert code == 2 and "Slurm refused the job of evaluate-2" in err
    assert listing(Path("runs")) == before and Path("runs/small.json").read_text() == kept
    assert nemo_run(*RECIPE, "small.fail=error")[0] == 2  # the failed step again, refused behind it
    assert listing(Path("runs")) == before and "distill-2: RuntimeError" in nemo_run("status")[1]


def test_where_slurm_does_not_answer_nothing_is_written(nemo_run, site, monkeypatch):
    place = site()
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    code, _, err = nemo_run(*RECIPE)
    assert code == 2 and "Slurm does not answer: there is no squeue on this machine." in err
    assert not (place / "runs").exists()


def test_a_space_in_the_runs_folder_is_refused_before_anything_is_written(nemo_run, site, monkeypatch, listing):
    place = site()
    before = listing(place)
    code, _, err = nemo_run(*RECIPE, "runs=my runs")
    assert code == 2 and err.count("\n") == 1
    assert f"'{place}/my runs' has a space in it, which NeMo-Run's job scripts break on" in err
    monkeypatch.setenv("NEMORUN_HOME", f"{place}/its records")
    assert "its records' has a space" in nemo_run(*RECIPE)[2]
    assert listing(place) == before


def test_the_environments_folder_may_have_a_space_in_its_name(site, attempts):
    place = site()
    (place / "its own venv").symlink_to(sys.prefix)
    command = [place / "its own venv/bin/python", "-m", "nemo_distill.cli", *RECIPE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "6 of 6 steps" in done.stdout, done.stdout + done.stderr
    assert attempts("runs", "evaluate-2") == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"time": "soon"}, "time=soon cannot be: it has to be a time limit"),
        ({"time": "00:01:00"}, "leaves no time before the warning"),
        ({"uncommitted": "ignore"}, "'package', 'refuse'"),
        ({"steps": {"evaluate": {"tme": "1"}}}, "Did you mean 'steps.evaluate.time'"),
        ({"partition": "???"}, "slurm.yaml:2: fill in partition"),
    ],
)
def test_site_settings_that_cannot_be_are_refused_before_anything_is_written(nemo_run, site, settings, words):
    place = site(**settings)
    code, _, err = nemo_run(*RECIPE)
    assert code == 2 and words in err and err.count("\n") == 1
    assert not (place / "runs").exists()


def test_a_segment_may_be_spread_over_nodes_and_processes(nemo_run, site, slurm, attempts):
    code, out, _ = nemo_run(*RECIPE, "layout.nodes=2", "layout.gpus_per_node=2", "--detach")
    assert code == 0 and "distill-1, distill-2 on 2 nodes x 2; the others on 1 node x 1" in out
    wait_for(lambda: list(Path("runs").glob("distill-1/*/_SUCCESS")))
    nemo_run("cancel", "small")  # the second is no different
    wait_for(lambda: slurm.queue() == {})
    assert attempts("runs", "distill-1") == 1  # rank 0 alone writes
    assert sorted(path.name for path in Path("runs").glob("distill-1/*/log*.txt")) == [
        "log-1.txt",
        "log-2.txt",
        "log-3.txt",
        "log.txt",
    ]
    assert json.loads(record("distill-1", "spec.json"))["provenance"]["slurm"]["nodes"] == "node[1-2]"


def test_a_detached_run_shows_its_jobs_and_the_same_command_attaches_to_them(nemo_run, site, slurm, gate, attempts):
    command = (*RECIPE, f"small.gate={gate}")
    code, out, _ = nemo_run(*command, "--detach")
    assert code == 0 and "jobs of small are with the cluster" in out
    wait_for(lambda: begun("distill-1"))
    rows = {line.split()[0]: line for line in nemo_run("status", "small")[1].splitlines()[1:7]}
    number = json.loads(record("distill-1", "job.json"))["job"]
    assert all(said in rows["distill-1"] for said in ("running", f"job {number} on node", "ticks"))
    assert "waiting" in rows["evaluate-2"] and "PENDING, Dependency" in rows["evaluate-2"]
    # a milestone is evaluated while the next segment trains: neither waits for the other
    waits_for = {step: slurm.job(step)["Dependency"] for step in ("evaluate-1", "distill-2")}
    assert waits_for == dict.fromkeys(waits_for, f"afterok:{number}(unfulfilled)")
    queued = set(slurm.run("squeue", "--noheader", "--format=%i").split())
    code, out, _ = nemo_run(*command, "--detach")
    assert code == 0 and f"distill-1 (job {number})" in out.partition("In the queue already:")[2]
    assert set(slurm.run("squeue", "--noheader", "--format=%i").split()) <= queued
    gate.touch()
    assert nemo_run(*command)[0] == 0
    assert [attempts("runs", step) for step in ("world", "distill-1", "distill-2", "evaluate-2")] == [1, 1, 1, 1]


def test_cancel_ends_the_jobs_and_the_same_command_goes_on(nemo_run, site, slurm, gate):
    nemo_run(*RECIPE, f"small.gate={gate}", "--detach")
    wait_for(lambda: begun("distill-1"))
    code, out, _ = nemo_run("cancel", "small")
    assert code == 0 and "distill-1" in out and "world" not in out
    wait_for(lambda: slurm.queue() == {})
    assert "was cancelled" in nemo_run("status", "small")[1]
    assert nemo_run("cancel", "small")[1] == "small has no jobs to cancel.\n"
    gate.touch()
    assert nemo_run(*RECIPE, f"small.gate={gate}")[0] == 0


def test_a_step_that_another_run_waits_for_is_not_cancelled_with_the_first(nemo_run, site, gate):
    nemo_run(*RECIPE, f"small.gate={gate}", "--detach", "--name", "one")
    two = (*RECIPE, f"small.gate={gate}", "small.lines=1", "--name", "two")
    code, out, _ = nemo_run(*two, "--detach")
    assert code == 0 and "distill-1 (job" in out  # which both need
    code, out, _ = nemo_run("cancel", "one")
    assert code == 0 and "distill-2" in out.splitlines()[0] and "distill-1" in out.splitlines()[1]
    gate.touch()
    assert nemo_run(*two)[0] == 0


def test_ctrl_c_asks_and_leaves_the_jobs_or_cancels_them(site, slurm, gate, attempts):
    for answer, left in (("leave", True), ("cancel", False)):
        terminal, other_end = pty.openpty()
        process = start(*RECIPE, f"small.gate={gate}", stdin=other_end)
        for line in process.stdout:  # the line that says so comes once the command watches
            if "distill-1: started" in line or "In the queue already" in line:
                break
        wait_for(lambda: begun("distill-1"))
        process.send_signal(signal.SIGINT)
        os.write(terminal, f"{answer}\n".encode())
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 130 and "Leave the jobs to the cluster, or cancel them?" in output
        assert ("left to the cluster" in output) is left and ("Cancelled: " in output) is not left
        wait_for(lambda left=left: ("distill-1" in slurm.queue()) is left)
    assert slurm.queue() == {} and attempts("runs", "distill-1") == 1


def test_of_two_commands_at_once_each_step_has_one_job(site, gate, attempts, tmp_path):
    said = [tmp_path / "one", tmp_path / "two"]
    both = [start(*RECIPE, f"small.gate={gate}", stdout=path.open("w")) for path in said]
    wait_for(lambda: any("In the queue already" in path.read_text() for path in said))
    gate.touch()
    assert [process.wait(180) for process in both] == [0, 0], [path.read_text() for path in said]
    assert sum("In the queue already" in path.read_text() for path in said) == 1
    assert [attempts("runs", step) for step in ("world", "distill-1", "distill-2", "evaluate-2")] == [1, 1, 1, 1]


def test_a_run_that_slurm_has_forgotten_still_has_a_status(nemo_run, site, slurm, monkeypatch):
    nemo_run(*RECIPE, "small.fail=error")
    number = job_of_step(find("small", runs=Path("runs")).specs["distill-2"])["job"]
    path = Path("runs/distill-2").glob("*/job.json").__next__()
    path.write_text(path.read_text().replace(f'"{number}"', '"999999"'))
    assert "distill-2: RuntimeError" in nemo_run("status")[1]
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    out = nemo_run("status")[1]
    assert "Slurm does not answer" in out and "distill-2: RuntimeError" in out


def test_slurm_may_be_on_a_host_that_is_reached_by_ssh(nemo_run, site, login_node, gate):
    site(tunnel={"host": "login", "config": str(login_node)})
    code, out, _ = nemo_run(*RECIPE, f"small.gate={gate}", "--detach")
    assert code == 0 and "jobs of small are with the cluster" in out
    assert re.search(r"evaluate-2 +\w+ +job \d+ PENDING, Dependency", nemo_run("status")[1])
    gate.touch()
    assert nemo_run(*RECIPE, f"small.gate={gate}")[0] == 0
    assert nemo_run("cancel", "small")[1] == "small has no jobs to cancel.\n"
    site(tunnel={"host": "127.0.0.1", "port": 1, "config": str(login_node)})
    code, _, err = nemo_run(*RECIPE, "small.lines=1")
    assert code == 2 and "ssh to 127.0.0.1" in err and "refused" in err


@pytest.mark.slow
def test_what_the_queue_has_forgotten_is_in_the_accounts(nemo_run, site, forgetful_slurm, gate):
    site()
    nemo_run(*RECIPE, f"small.gate={gate}", "--detach")
    wait_for(lambda: begun("distill-1"))
    number = job_of_step(find("small", runs=Path("runs")).specs["distill-1"])["job"]
    nemo_run("cancel", "small")
    wait_for(lambda: not forgetful_slurm.run("squeue", "--noheader", "--states=all"))
    out = nemo_run("status")[1]
    assert f"{number} CANCELLED" in out and f"distill-1: job {number} on node" in out and "was cancelled" in out
