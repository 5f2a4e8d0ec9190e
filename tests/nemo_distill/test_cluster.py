"""Runs of small steps as jobs of a real Slurm."""

from pathlib import Path

import pytest

from nemo_distill.manifest import State, find, state_of

RECIPE = ("recipes/small.py", "--executor", "slurm")


def test_a_run_makes_every_step_as_a_job_and_the_same_command_again_makes_none(nemo_run, site, slurm, attempts):
    code, out, err = nemo_run(*RECIPE)
    print(out, err)
    assert code == 0
    run = find("small", runs=Path("runs"))
    assert {state_of(spec) for spec in run.specs.values()} == {State.DONE}
    assert slurm.queue() == {}
    assert "Nothing to do" in nemo_run(*RECIPE)[1]
    assert [attempts("runs", step) for step in run.specs] == [1] * 6
