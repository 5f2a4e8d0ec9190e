"""What Triton found out in one process serves the next."""

import json
import subprocess
import sys

import pytest
import torch

from nemo_distill.nemotron_h import tuning

SCAN = """
import sys, time, torch
from pathlib import Path
from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
from nemo_distill.nemotron_h import tuning

def random(*size):
    return torch.randn(*size, device="cuda", dtype=torch.bfloat16, requires_grad=True)

x, dt, b, c = random(1, 256, 4, 16), random(1, 256, 4), random(1, 256, 2, 32), random(1, 256, 2, 32)
known = tuning.recall(Path(sys.argv[1]))
torch.cuda.synchronize()
begin = time.perf_counter()
mamba_chunk_scan_combined(x, dt, -torch.ones(4, device="cuda"), b, c, chunk_size=64, dt_softplus=True).sum().backward()
torch.cuda.synchronize()
print(known, tuning.remember(Path(sys.argv[1])), time.perf_counter() - begin)
"""
"""Both directions of a small layer's scan: kernels known before, kernels known after, seconds."""


@pytest.mark.gpu
@pytest.mark.slow
def test_a_process_that_knows_the_variants_tries_none(tmp_path):
    def run() -> list[float]:
        done = subprocess.run([sys.executable, "-c", SCAN, tmp_path], capture_output=True, text=True, check=True)
        return [float(word) for word in done.stdout.split()]

    first, second = run(), run()
    found = json.loads(tuning.tuning_file(tmp_path).read_text())
    assert first[0] == 0 and first[1] == second[0] == second[1] == len(found) > 10
    assert second[2] < first[2] / 3, "trying is most of the time"
    assert torch.cuda.get_device_name().replace(" ", "-") in tuning.tuning_file(tmp_path).name
