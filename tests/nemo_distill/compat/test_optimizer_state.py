"""A distributed optimizer's checkpoint, written and read by several ranks, against Megatron's own way with it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nemo_distill.compat import optimizer_state

SCRIPT = Path(__file__).with_name("optimizer_for_tests.py")


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "tensor_parallel"), [(2, 1), (4, 2)], ids=["data", "data and tensor"])
def test_every_tensor_is_on_disk_as_megatron_itself_writes_it(tmp_path, ranks, tensor_parallel):
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(ranks), str(tensor_parallel)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    own, theirs = json.loads(done.stdout.splitlines()[-1]).values()
    assert own == theirs and sum(name.startswith("optimizer.state.exp_avg_sq") for name in own["tensors"]) > 10
    assert len(own["files"]) == 2 * ranks, "each rank writes two"


def test_ranges_are_cut_at_the_ends_of_a_bucket():
    assert optimizer_state._within([(0, 4), (6, 9), (20, 30)], 3, 8) == [(3, 4), (6, 8)]


def test_memory_that_is_set_aside_is_there_only_when_it_is_written_to():
    def here() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = here()
    room = optimizer_state.memory(2**28)  # 1 GiB
    assert here() - before < 2**26
    room[: 2**20] = 1
    assert torch.equal(room[: 2**20], torch.ones(2**20)) and here() - before < 2**26
