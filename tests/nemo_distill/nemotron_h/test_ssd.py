"""Mamba-2's scan with its state on the chip, against the scan in PyTorch and through mamba-ssm's autograd function."""

import pytest
import torch

from nemo_distill.nemotron_h import scan
from tests.nemo_distill.nemotron_h.test_tuning import off, scanned

SIZES = {"the study's student": (1, 120, 80, 8, 128), "small": (8, 24, 16, 2, 64)}
"""Sequences, heads, their size, groups and states: enough heads to fill a GPU."""


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
@pytest.mark.slow
def test_what_does_not_fill_the_gpu_or_has_no_gate_is_left_to_mamba_ssm():
    from nemo_distill.nemotron_h import ssd

    def fits(heads: int = 120, length: int = 256, gate: bool = True, packed=None) -> bool:
        x, b = (torch.empty(1, length, n, size, device="cuda") for n, size in ((heads, 80), (8, 128)))
        return ssd.fits(x, b, torch.ones(heads, device="cuda"), x if gate else None, packed)

    assert fits()
    assert not fits(heads=8)
    assert not fits(length=250)
    assert not fits(gate=False)
    assert not fits(packed=torch.zeros(1, 256))
