"""A step that is watched: a rank that is stopped ends it with a sentence, and it goes on from where it was."""

import os
import signal
import time

from nemo_distill.run.manifest import State, failure_of, state_of
from nemo_distill.run.step import STALLED, Step, place
from tests.nemo_distill.segments import ended, start


def test_a_step_whose_process_is_stopped_ends_and_the_next_command_goes_on(tmp_path, small_steps):
    spec = place([Step("one", "watched_steps_for_tests", {"iterations": 12})], runs=tmp_path)["one"]
    (process,) = start(spec, limits={"stall_seconds": 1.0})
    done = spec.folder / "iteration.txt"
    while not (done.exists() and int(done.read_text() or 0) >= 3):
        assert process.poll() is None, ended([process])
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGSTOP)
    codes, _ = ended([process])
    assert codes == [-signal.SIGKILL] and state_of(spec) == State.FAILED
    failure, log = failure_of(spec), (spec.folder / "log.txt").read_text()
    assert "where 1 s are allowed (health.stall_*): rank 0" in failure.error and "is stopped) lags." in failure.error
    assert failure.error in log and "State:\tT (stopped)" in log
    assert not failure.lasting
    cut = int(done.read_text())
    codes, output = ended(start(spec))
    assert codes == [0] and spec.done, output
    assert 3 <= cut < 12 and done.read_text() == "12"
    assert not (spec.folder / STALLED).exists()


def test_a_rank_answers_with_its_stacks_though_it_waits_for_ever(tmp_path, small_steps):
    spec = place([Step("one", "watched_steps_for_tests", {"iterations": 12, "hang": True})], runs=tmp_path)["one"]
    codes, output = ended(start(spec, limits={"stall_seconds": 1.0, "stall_phase_seconds": 1.0}))
    assert codes == [-signal.SIGKILL], output
    log = (spec.folder / "log.txt").read_text()
    assert "Stacks of rank 0 of 1:" in log and "watched_steps_for_tests.py" in log and "in hang" in log
    assert "before its first iteration was done" in failure_of(spec).error
