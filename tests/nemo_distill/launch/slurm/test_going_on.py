"""A job whose process goes on from one segment to the next, on a real Slurm: what waits, and what a kill leaves."""

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nemo_distill.config.resolved import Parallelism
from nemo_distill.launch.slurm import jobscript
from nemo_distill.launch.slurm.executor import SlurmExecutor
from nemo_distill.run.facts import Beside, RunFacts
from nemo_distill.run.manifest import Run, State, find, job_of_step, state_of
from nemo_distill.run.ranks import Processes
from nemo_distill.run.step import Step, place
from tests.nemo_distill.launch.slurm.cluster_for_tests import wait_for
from tests.nemo_distill.launch.slurm.test_faults import all_queued, assert_ended_as_if_undisturbed, command, half_way

GOES_ON = "small.module=going_on_steps_for_tests"


@pytest.fixture
def run_meanwhile(nemo_run, site, gate):
    """Run the recipe while `disturb()` does its worst to the second segment, which the job of the first is at, and
    which waits at the gate; the result."""

    def run(disturb, *settings: str):
        failed = []

        def meanwhile():
            try:
                gate.touch()
                wait_for(lambda: list(Path("runs").glob("distill-1/*/_SUCCESS")) and all_queued())
                gate.unlink()  # the second is not in its middle yet
                wait_for(lambda: half_way("distill-2"))
                disturb()
            except BaseException as error:
                failed.append(error)
            finally:
                gate.touch()

        thread = threading.Thread(target=meanwhile)
        thread.start()
        result = nemo_run(*command(gate), GOES_ON, *settings)
        thread.join()
        assert not failed, failed
        return result

    return run


def numbers() -> list[str]:
    """Jobs of the two segments, as they are recorded."""
    specs = find("small", runs=Path("runs")).specs
    return [job_of_step(specs[f"distill-{part}"]).get("job") for part in (1, 2)]


def test_a_milestone_is_evaluated_while_its_job_is_at_the_next_segment_and_goes_on_with_that_when_it_is_requeued(
    run_meanwhile, nemo_run, slurm, attempts
):
    def look_and_preempt():
        number = slurm.job("distill-1")["JobId"]
        wait_for(lambda: list(Path("runs").glob("evaluate-1/*/_SUCCESS")))
        assert numbers() == [number, number]
        run = find("small", runs=Path("runs"))
        assert [state_of(run.specs[f"distill-{part}"]) for part in (1, 2)] == [State.DONE, State.RUNNING]
        assert f"{number} on node" in nemo_run("status")[1]
        assert slurm.job("distill-2")["JobState"] == "PENDING"
        slurm.run("scontrol", "requeue", number)
        slurm.release("distill-1")

    code, out, _ = run_meanwhile(look_and_preempt)
    assert code == 0, out
    assert_ended_as_if_undisturbed(attempts, distill_2=2)
    wait_for(lambda: slurm.queue() == {})
    assert len(set(numbers())) == 1  # the second's own job was cancelled before it began


def test_when_time_runs_out_the_next_segments_own_job_takes_over(run_meanwhile, slurm, attempts):
    def warn():  # as Slurm does executor.warn_seconds before the limit
        wait_for(lambda: list(Path("runs").glob("evaluate-1/*/_SUCCESS")))
        slurm.run("scancel", "--signal=USR1", "--batch", slurm.job("distill-1")["JobId"])
        wait_for(lambda: slurm.job("distill-2").get("JobState") == "RUNNING")

    code, out, _ = run_meanwhile(warn)
    assert code == 0, out
    assert_ended_as_if_undisturbed(attempts, distill_2=2)
    assert len(set(numbers())) == 2


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_job_killed_or_cancelled_in_the_second_segment_leaves_the_first_and_nothing_in_the_queue(
    run_meanwhile, nemo_run, gate, slurm, attempts, cancelled
):
    def end():
        wait_for(lambda: list(Path("runs").glob("evaluate-1/*/_SUCCESS")))
        if cancelled:
            subprocess.run([sys.executable, "-m", "nemo_distill.cli", "cancel", "small"], check=True)
        else:
            slurm.run("scancel", "--signal=KILL", slurm.job("distill-1")["JobId"])
        wait_for(lambda: slurm.queue() == {})

    code, out, _ = run_meanwhile(end)
    assert code == 1 and "distill-2 failed: job" in out, out
    run = find("small", runs=Path("runs"))
    assert [name for name, spec in run.specs.items() if spec.done] == ["world", "prune", "distill-1", "evaluate-1"]
    assert nemo_run(*command(gate), GOES_ON)[0] == 0
    assert_ended_as_if_undisturbed(attempts, distill_2=2)


def test_a_job_goes_on_with_what_has_jobs_of_the_same_options(small_steps, tmp_path):
    from nemo_distill.launch.slurm.queueing import _following

    module = "going_on_steps_for_tests"
    steps = [Step(f"distill-{part}", module, {}, (f"distill-{part - 1}",) if part else ()) for part in range(4)]
    specs = place(steps, runs=tmp_path)
    run = Run(name="small", runs=tmp_path, specs=specs)
    executor = SlurmExecutor(account="a", steps={"distill-3": {"time": "01:00:00"}})
    assert [one.name for one in _following(executor, run, specs["distill-0"])] == ["distill-1", "distill-2"]
    layout = Parallelism(keep_process=False)
    kept = dataclasses.replace(run, facts=RunFacts(beside=Beside(layout=layout)))
    assert _following(executor, kept, specs["distill-0"]) == []
    task = jobscript.task_of(specs["distill-0"], Processes(), code=tmp_path, digest="d", following=[specs["distill-1"]])
    assert task.args[-2:] == [str(specs[f"distill-{part}"].folder / "spec.json") for part in (0, 1)]
