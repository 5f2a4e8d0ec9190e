"""Mamba-2's scan in our own kernels, against the scan in PyTorch and through mamba-ssm's autograd function."""

import pytest
import torch

from nemo_distill.nemotron_h import scan
from tests.nemo_distill.nemotron_h.test_tuning import off, scanned

SIZES = {"the study's student": (1, 120, 80, 8, 128), "small": (8, 24, 16, 2, 64)}
"""Sequences, heads, their size, groups and states."""


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
