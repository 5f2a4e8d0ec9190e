"""What goes wrong on a cluster, made to go wrong on a real Slurm: the run ends where an undisturbed one would."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nemo_distill.run.manifest import State, find, job_of_step, state_of
from tests.nemo_distill.launch.slurm.cluster_for_tests import wait_for

RECIPE = ("recipes/small.py", "--executor", "slurm")
TICKS = 20


@pytest.fixture
def run_meanwhile(nemo_run, site, gate):
    """Run the recipe while `disturb()` does its worst to the first segment, which waits at the gate; the result."""

    def run(disturb, *settings: str):
        failed = []

        def meanwhile():
            try:
                wait_for(lambda: half_way("distill-1") and all_queued())
                disturb()
            except BaseException as error:
                failed.append(error)
            finally:
                gate.touch()

        thread = threading.Thread(target=meanwhile)
        thread.start()
        result = nemo_run(*command(gate), *settings)
        thread.join()
        assert not failed, failed
        return result

    return run


def command(gate: Path) -> tuple[str, ...]:
    return (*RECIPE, f"small.seconds={TICKS * 0.05}", f"small.gate={gate}")


def trail(step: str) -> str:
    paths = list(Path("runs").glob(f"{step}/*/trail.txt"))
    return paths[0].read_text() if paths else "0 0"


def all_queued() -> bool:
    return bool(list(Path("runs").glob("evaluate-2/*/job.json")))


def half_way(step: str) -> bool:
    return trail(step).split()[0] == str(TICKS // 2)


def assert_ended_as_if_undisturbed(attempts, **expected_attempts: int):
    run = find("small", runs=Path("runs"))
    assert {state_of(spec) for spec in run.specs.values()} == {State.DONE}
    value = 0
    for tick in range(TICKS):
        value = (value * 31 + tick) % 1_000_003
    assert trail("distill-1") == trail("distill-2") == f"{TICKS} {value}"
    assert (run.specs["evaluate-2"].folder / "output.txt").read_text() == (
        "evaluate-2(distill-2(distill-1(prune(world()))))"
    )
    expected = dict.fromkeys(run.specs, 1) | {name.replace("_", "-"): n for name, n in expected_attempts.items()}
    assert {step: attempts("runs", step) for step in run.specs} == expected


def test_a_segment_that_somebody_cancels_ends_the_run_and_the_next_command_goes_on(
    run_meanwhile, nemo_run, gate, slurm, attempts
):
    def cancel():
        number = slurm.job("distill-1")["JobId"]
        slurm.run("scancel", number)
        # Its processes are to have ended before the gate opens: else it may finish what is left.
        wait_for(lambda: number not in slurm.run("squeue", "--noheader", "--format=%i").split())

    code, out, _ = run_meanwhile(cancel)
    assert code == 1 and "distill-1 failed: job" in out and "was cancelled" in out, out
    assert slurm.queue() == {}
    code, out, _ = nemo_run(*command(gate))
    assert code == 0, out
    assert_ended_as_if_undisturbed(attempts, distill_1=2)


def test_when_its_node_goes_down_a_segment_goes_on_at_another(run_meanwhile, slurm, attempts):
    def lose_the_node():
        node = slurm.job("distill-1")["NodeList"]
        slurm.kill_node(node)
        slurm.release("distill-1")
        wait_for(lambda: slurm.job("distill-1")["JobState"] == "RUNNING")
        slurm.start_node(node)

    code, out, _ = run_meanwhile(lose_the_node)
    assert code == 0, out
    assert_ended_as_if_undisturbed(attempts, distill_1=2)
    (folder,) = Path("runs/distill-1").iterdir()
    assert json.loads((folder / "spec.json").read_text())["provenance"]["slurm"]["restarts"] == 1


def test_near_its_time_limit_a_job_is_requeued_and_goes_on_where_it_was(run_meanwhile, slurm, attempts):
    def warn():  # as Slurm does executor.warn_seconds before the limit
        slurm.run("scancel", "--signal=USR1", "--batch", slurm.job("distill-1")["JobId"])
        slurm.release("distill-1")

    code, out, _ = run_meanwhile(warn)
    assert code == 0, out
    assert_ended_as_if_undisturbed(attempts, distill_1=2)


@pytest.mark.slow
def test_a_job_that_meets_its_time_limit_all_the_same_is_queued_again(run_meanwhile, slurm, attempts):
    def let_time_run_out():
        number = slurm.job("distill-1")["JobId"]
        slurm.run("scontrol", "update", f"JobId={number}", "EndTime=now+1")
        wait_for(lambda: slurm.job("distill-1").get("JobId") not in (None, number))

    code, out, _ = run_meanwhile(let_time_run_out, "executor.requeues=1", "executor.warn_seconds=0")
    assert code == 0 and "Queued again: distill-1 (job" in out and "TIMEOUT" in out, out
    assert_ended_as_if_undisturbed(attempts, distill_1=2)


def test_a_preempted_job_is_queued_again_a_bounded_number_of_times(
    run_meanwhile, nemo_run, site, gate, slurm, attempts
):
    site(partition="idle", requeues=1, poll_seconds=3)  # longer than queueing again takes

    def preempt_twice():
        for attempt in (1, 2):
            wait_for(lambda attempt=attempt: slurm.job("distill-1").get("JobState") == "RUNNING")
            wait_for(lambda attempt=attempt: attempts("runs", "distill-1") == attempt)
            slurm.run(
                "sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1"
            )
            wait_for(lambda: slurm.job("distill-1").get("JobState") != "RUNNING")

    code, out, _ = run_meanwhile(preempt_twice)
    assert code == 1 and out.count("Queued again: distill-1") == 1
    assert "distill-1 failed: job" in out and "was preempted" in out
    code, out, _ = nemo_run(*command(gate))
    assert code == 0, out
    assert_ended_as_if_undisturbed(attempts, distill_1=3)


def test_a_job_is_not_requeued_for_ever(run_meanwhile, nemo_run, gate, slurm, attempts):
    def requeue():
        slurm.run("scontrol", "requeue", slurm.job("distill-1")["JobId"])
        slurm.release("distill-1")

    code, out, _ = run_meanwhile(requeue, "executor.requeues=0")
    assert code == 1 and "given up (executor.requeues=0)" in out, out
    code, out, _ = nemo_run(*command(gate))
    assert code == 0, out
    assert_ended_as_if_undisturbed(attempts, distill_1=2)


def test_a_restart_of_slurms_controller_is_waited_for(run_meanwhile, slurm, gate, attempts):
    def restart():
        slurm.stop_controller()
        gate.touch()
        wait_for(lambda: list(Path("runs").glob("distill-1/*/_SUCCESS")))
        slurm.start_controller()

    code, out, _ = run_meanwhile(restart)
    assert code == 0, out
    assert_ended_as_if_undisturbed(attempts)


def test_the_jobs_of_a_command_that_was_killed_are_taken_up_by_the_next(site, nemo_run, gate, attempts):
    process = subprocess.Popen(
        [sys.executable, "-m", "nemo_distill.cli", *command(gate)], stdout=subprocess.DEVNULL, start_new_session=True
    )
    wait_for(lambda: half_way("distill-1") and all_queued())
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run = find("small", runs=Path("runs"))
    number = job_of_step(run.specs["distill-2"])["job"]
    # as if it had been killed before it could write down what it had queued
    (run.specs["distill-2"].folder / "job.json").unlink()
    code, out, _ = nemo_run(*command(gate), "--detach")  # while the first segment waits at the gate
    assert code == 0 and f"distill-2 (job {number})" in out
    gate.touch()
    assert nemo_run(*command(gate))[0] == 0
    assert_ended_as_if_undisturbed(attempts)


def test_a_full_disk_fails_the_step_and_the_next_command_goes_on(site, nemo_run, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", small]).returncode != 0:
        pytest.skip("this machine does not let root mount a small file system")
    try:
        settings = ("small.fail=disk", f"runs={small}")
        os.environ["NEMORUN_HOME"] = str(tmp_path / "records")
        code, out, _ = nemo_run(*RECIPE, *settings)
        assert code == 1 and "distill-2 failed" in out and "no space left on device" in out.lower()
        run = find("small", runs=small)
        assert not run.specs["distill-2"].done and not run.specs["evaluate-2"].done
        subprocess.run(["mount", "-o", "remount,size=30m", small], check=True)
        assert nemo_run(*RECIPE, *settings)[0] == 0
        assert run.specs["evaluate-2"].done
    finally:
        os.environ.pop("NEMORUN_HOME", None)
        subprocess.run(["umount", "--lazy", small], check=True)
