"""What Triton found out in one process serves the next; and whatever it may choose, the scan is the scan."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from nemo_distill.compat import mamba_ssm as scan
from nemo_distill.nemotron_h.kernels import tuning

SCAN = """
import sys, time, torch
from pathlib import Path
from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
from nemo_distill.nemotron_h.kernels import tuning

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


@pytest.mark.parametrize("text", ["[", "[]", '{"k": 7}', '{"k": [[[[]], "a"]]}', '{"k": [[1, {}]]}', "[" * 10**5, None])
def test_results_that_another_user_has_damaged_are_left_aside_and_not_waited_for(tmp_path, monkeypatch, text):
    file = tmp_path / "a GPU.json"
    if text is None:
        os.mkfifo(file)
    else:
        file.write_text(text)
    monkeypatch.setattr(tuning, "tuning_file", lambda folder: file)
    monkeypatch.setattr(tuning, "tuners", lambda: {"k": SimpleNamespace(configs=["a"])})
    assert tuning.recall(tmp_path) == 0


SIZES, TOLERANCE = {"as the study's": (1, 16, 80, 8, 128), "small": (1, 24, 16, 2, 64)}, 0.03
"""Sequences, heads, their size, groups and states; and, relative, what bf16 makes of outputs and gradients."""


def scanned(kernel, batch: int, heads: int, head_dim: int, groups: int, state: int) -> dict[str, torch.Tensor]:
    """The output of a scan over 512 tokens, the same for every `kernel`, and the gradients of all it is given."""
    draw = torch.Generator().manual_seed(0)

    def leaf(*size: int, dtype=torch.bfloat16, around: float = 0.0) -> torch.Tensor:
        return (torch.randn(*size, generator=draw) + around).to("cuda", dtype).requires_grad_()

    given = {
        "x": leaf(batch, 512, heads, head_dim),
        "dt": leaf(batch, 512, heads, around=-4.0),
        "A": (-15 * torch.rand(heads, generator=draw) - 1).cuda().requires_grad_(),
        "B": leaf(batch, 512, groups, state),
        "C": leaf(batch, 512, groups, state),
        "D": leaf(heads, dtype=torch.float32, around=1.0),
        "z": leaf(batch, 512, heads, head_dim),
        "dt_bias": leaf(heads, dtype=torch.float32),
    }
    gradient = torch.randn(batch, 512, heads, head_dim, generator=draw).to("cuda", torch.bfloat16)
    made = kernel(**given, chunk_size=128, dt_softplus=True)
    made.backward(gradient)
    return {"y": made.detach(), **{name: tensor.grad for name, tensor in given.items()}}


def off(made: dict, wanted: dict) -> dict[str, float]:
    """What is further off than rounding explains, relative."""
    errors = {
        name: ((made[name].float() - value.float()).norm() / value.float().norm()).item()
        for name, value in wanted.items()
    }
    return {name: round(error, 3) for name, error in errors.items() if not error < TOLERANCE}


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES)
def test_every_variant_of_every_kernel_gives_the_same_scan(sizes):
    """Triton chooses by the clock, under load anything: one variant that computes wrongly is a run that may."""
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
    from triton.runtime.errors import OutOfResources

    wanted = scanned(scan.chunk_scan, *SIZES[sizes])
    wrong = {"first call": off(scanned(mamba_chunk_scan_combined, *SIZES[sizes]), wanted)}
    wrong["second call"] = off(scanned(mamba_chunk_scan_combined, *SIZES[sizes]), wanted)
    tried = 0
    for name, tuner in tuning.tuners().items():
        chosen = dict(tuner.cache)
        for variant in tuner.configs if chosen else ():
            tuner.cache.update(dict.fromkeys(chosen, variant))
            try:
                wrong[f"{name}, {variant}"] = off(scanned(mamba_chunk_scan_combined, *SIZES[sizes]), wanted)
                tried += 1
            except OutOfResources:  # Triton would not choose it either
                pass
        tuner.cache.update(chosen)
    assert tried > 50
    assert not {name: errors for name, errors in wrong.items() if errors}
