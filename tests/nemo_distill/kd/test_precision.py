"""Where FP8 cannot be had: one sentence, and the setting to change."""

from types import SimpleNamespace

import pytest
import torch

from nemo_distill.errors import UserError
from nemo_distill.kd import precision


def on_a_gpu(
    monkeypatch, *, capability=(9, 0), installed=(*precision.NEEDED_ON_A_GPU, "transformer_engine"), shared_memory=227
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A100")
    properties = SimpleNamespace(shared_memory_per_block_optin=shared_memory * 1024)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: properties)
    monkeypatch.setattr(precision, "_installed", lambda package: package in installed)


def test_without_a_gpu_fp8_is_refused_and_nothing_else_is():
    precision.check("none")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="distill.fp8=both needs a GPU, and there is none here: say distill.fp8=no"):
            precision.check("both")


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (
            {"capability": (8, 0)},
            "needs FP8 tensor cores, which there are from compute capability 8.9 on, and the A100 has 8.0",
        ),
        (
            {"installed": tuple(precision.NEEDED_ON_A_GPU)},
            "needs Transformer Engine, which is not installed here: say distill.fp8=none",
        ),
        (
            {"shared_memory": 163},
            "true needs 227 KiB .* the A100 has 163 .compute capability .*: say distill.fused_kernels=false",
        ),
        ({"installed": ()}, "training on a GPU needs triton, which is not installed here: pip install"),
        ({"installed": ("triton", "causal_conv1d")}, "needs mamba-ssm, which .* pip install .* mamba-ssm\\."),
    ],
)
def test_a_gpu_that_lacks_something_is_told_what(monkeypatch, machine, said):
    on_a_gpu(monkeypatch, **machine)
    with pytest.raises(UserError, match=said):
        precision.check("teacher", fused_kernels=True)


def test_a_gpu_with_all_of_it_is_taken(monkeypatch):
    on_a_gpu(monkeypatch)
    precision.check("both", fused_kernels=True)
    on_a_gpu(monkeypatch, shared_memory=163)
    precision.check("both", fused_kernels=False)


def test_a_stand_in_is_not_taken_for_the_package():
    from nemo_distill.compat import registry

    registry.prepare()
    assert precision._installed("torch") and not precision._installed("no_such_package")
    assert precision._installed("mamba_ssm") == ("mamba-ssm-stand-in" not in registry.prepare())
