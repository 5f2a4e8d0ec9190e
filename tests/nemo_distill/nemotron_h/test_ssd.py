"""Mamba-2's scan in our own kernels, against the scan in PyTorch and through mamba-ssm's autograd function."""

import json
import os
import subprocess
import sys

import pytest
import torch

from nemo_distill.nemotron_h import scan
from tests.nemo_distill.nemotron_h.test_tuning import off, scanned

SIZES = {"the study's student": (1, 120, 80, 8, 128), "small": (8, 24, 16, 2, 64)}
"""Sequences, heads, their size, groups and states."""


IN_FLOAT32 = """
import json, torch
from nemo_distill.nemotron_h import scan, ssd

draw = torch.Generator().manual_seed(0)
heads, groups = 4, 2

def random(*size, around=0.0):
    return (torch.randn(size, generator=draw) + around).requires_grad_()

x, b, c = random(2, 256, heads, 80), random(2, 256, groups, 64), random(2, 256, groups, 64)
z, dy, d = random(2, 256, heads, 80).detach(), random(2, 256, heads, 80).detach(), random(heads).detach()
dt, rates = torch.rand(2, 256, heads, generator=draw).mul(0.1).requires_grad_(), random(heads, around=-5.0)
y = scan.chunk_scan(x, dt, rates, b, c, 64, D=d)
y.backward(dy)

steps = dt.detach().transpose(1, 2).unflatten(2, (-1, ssd.CHUNK)).contiguous()
decay = (steps * rates.detach()[:, None, None]).cumsum(-1)
given = [tensor.detach() for tensor in (x, steps, decay, b, c)]
gated, out, final = ssd.forward(*given, d, z)
made = [torch.empty_like(tensor) for tensor in (x, b, c)]
by_dt, by_decay = ssd.backward(dy, *given, d, *made)
_, state = scan.chunk_scan(x, dt, rates, b, c, 64, D=d, return_final_states=True)
pairs = {
    "y": (out, y), "gated": (gated, y * torch.nn.functional.silu(z)), "final": (final, state),
    "x": (made[0], x.grad), "B": (made[1], b.grad), "C": (made[2], c.grad),
    "dt": ((by_dt + by_decay * rates[:, None, None]).flatten(2).transpose(1, 2), dt.grad),
    "A": ((by_decay * steps).sum((0, 2, 3)), rates.grad),
}
print(json.dumps({name: ((one - two).norm() / two.norm()).item() for name, (one, two) in pairs.items()}))
"""


@pytest.mark.slow
def test_in_triton_s_interpreter_it_is_the_scan_in_pytorch_to_the_digits_of_float32():
    """On any machine with Triton, a GPU or none."""
    pytest.importorskip("triton", reason="the kernels are Triton's")
    done = subprocess.run(
        [sys.executable, "-c", IN_FLOAT32],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    errors = json.loads(done.stdout)
    assert max(errors.values()) < 2e-5, errors


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES)
def test_output_and_gradients_are_those_of_the_scan_in_pytorch(sizes, monkeypatch):
    from mamba_ssm.ops.triton import ssd_combined

    from nemo_distill.nemotron_h import ssd

    theirs = "_mamba_chunk_scan_combined_fwd", "_mamba_chunk_scan_combined_bwd"
    for name in theirs:  # as it was, once the test is over
        monkeypatch.setattr(ssd_combined, name, getattr(ssd_combined, name))
    calls = []
    forward, backward = ssd.forward, ssd.backward
    monkeypatch.setattr(ssd, "forward", lambda *given: calls.append("forward") or forward(*given))
    monkeypatch.setattr(ssd, "backward", lambda *given: calls.append("backward") or backward(*given))
    ssd.install()
    made = scanned(ssd_combined.mamba_chunk_scan_combined, *SIZES[sizes])
    assert calls == ["forward", "backward"]
    assert off(made, scanned(scan.chunk_scan, *SIZES[sizes])) == {}


@pytest.mark.gpu
def test_what_it_does_not_compute_is_left_to_mamba_ssm():
    from nemo_distill.nemotron_h import ssd

    def fits(length: int = 256, head: int = 80, state: int = 128, gate: bool = True, packed=None) -> bool:
        x, b = (torch.empty(1, length, 8, size, device="cuda") for size in (head, state))
        return ssd.fits(x, b, torch.ones(8, device="cuda"), x if gate else None, packed)

    assert fits()
    for otherwise in ({"length": 250}, {"head": 256}, {"state": 16}, {"gate": False}, {"packed": torch.zeros(1, 256)}):
        assert not fits(**otherwise), otherwise
