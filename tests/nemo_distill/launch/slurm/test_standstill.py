"""A rank that is stopped on one of two machines of a real Slurm: its job goes on without that machine."""

import json
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from nemo_distill.run.manifest import State, find, state_of
from tests.nemo_distill.conftest import HERE
from tests.nemo_distill.launch.slurm.cluster_for_tests import wait_for

COMMAND = ("recipes/watched.py", "--executor", "slurm", "layout.nodes=2", "layout.gpus_per_node=1")


@pytest.mark.slow
def test_a_job_whose_step_stands_still_goes_on_without_the_node_of_the_rank_that_lags(nemo_run, site, slurm, attempts):
    site(partition="spare")
    shutil.copy(HERE / "watched_recipe_for_tests.py", "recipes/watched.py")
    failed = []

    def stop_the_second_rank() -> None:
        try:
            done = wait_for(lambda: next(Path("runs").glob("distill/*/iteration.txt"), None))
            wait_for(lambda: int(done.read_text() or 0) >= 2)
            os.kill(int((done.parent / "pid-1-1.txt").read_text()), signal.SIGSTOP)
            slurm.release("distill")
        except BaseException as error:
            failed.append(error)

    beside = threading.Thread(target=stop_the_second_rank)
    beside.start()
    code, out, err = nemo_run(*COMMAND, "health.stall_seconds=3")
    beside.join()
    assert not failed, failed
    assert code == 0 and "started as job" in out and "on node[1,3], requeued 1x" in out, out + err
    spec = find(None, runs=Path("runs")).specs["distill"]
    assert state_of(spec) == State.DONE and attempts("runs", "distill") == 2
    assert json.loads((spec.folder / "spec.json").read_text())["provenance"]["slurm"]["nodes"] == "node[1,3]"
    log = (spec.folder / "log.txt").read_text()
    assert "rank 1 on node2 (its process is stopped) lags." in log
    waiting, stopped = log.index("Stacks of rank 0 of 2:"), log.index("Stacks of rank 1 of 2:")
    assert "in gather" in log[waiting:stopped] and "State:\tT (stopped)" in log[stopped:]
    (script,) = Path("runs/.nemo-run").rglob("sbatch_*.out")
    assert "it stands still: requeued without node2" in script.read_text()
