"""The Mamba mixer in our own kernels, against convolution, scan and norm in PyTorch."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks.random_mixer import in_pytorch, random_mixer

IN_FLOAT32 = """
import json, torch
from nemo_distill.compat import mamba_ssm as scan
from nemo_distill.nemotron_h.kernels import norm, ssd

draw = torch.Generator().manual_seed(0)
groups = 2
pairs = {}

def random(*size, around=0.0):
    return (torch.randn(size, generator=draw) + around).requires_grad_()

for heads, head_dim, state in ((4, 80, 64), (10, 64, 128)):
    def both(name, ours, theirs):
        pairs[f"{name} of {heads} heads"] = ours, theirs

    x, b, c = random(2, 256, heads, head_dim), random(2, 256, groups, state), random(2, 256, groups, state)
    d, dt = random(heads), torch.rand(2, 256, heads, generator=draw).mul(0.1).requires_grad_()
    rates, dy = random(heads, around=-5.0), random(2, 256, heads, head_dim).detach()
    y = scan.chunk_scan(x, dt, rates, b, c, 64, D=d)
    y.backward(dy)
    steps = dt.detach().transpose(1, 2).unflatten(2, (-1, ssd.CHUNK)).contiguous()
    decay = (steps * rates.detach()[:, None, None]).cumsum(-1)
    given = [tensor.detach() for tensor in (x, steps, decay, b, c, d)]
    out, entering = ssd.forward(*given)
    made = [torch.empty_like(tensor) for tensor in (x, b, c)]
    by_dt, by_decay, by_skip = ssd.backward(dy, *given, entering, *made)
    both("y", out, y)
    both("x", made[0], x.grad)
    both("B", made[1], b.grad)
    both("C", made[2], c.grad)
    both("D", by_skip, d.grad)
    both("dt", (by_dt + by_decay * rates[:, None, None]).flatten(2).transpose(1, 2), dt.grad)
    both("A", (by_decay * steps).sum((0, 2, 3)), rates.grad)

    if state == 64:
        # documents of one token, of fewer than a chunk has and of more, two of which begin where chunks do
        sizes = [1, 2, 125, 70, 58], [127, 1, 128]
        numbers = torch.stack([torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in sizes]).int()
        begins = [[sum(row[:at]) for at in range(len(row) + 1)] for row in sizes]
        along = x, dt, b, c

        def alone(row, first, end):
            part = [tensor[row : row + 1, first:end] for tensor in along]
            return scan.chunk_scan(part[0], part[1], rates, part[2], part[3], 64, D=d)

        y = torch.cat([
            torch.cat([alone(row, *bounds) for bounds in zip(places, places[1:])], 1)
            for row, places in enumerate(begins)
        ])
        wanted = torch.autograd.grad(y, [x, b, c, d, dt, rates], dy)
        given[2] = given[2] - ssd.apart(numbers)
        out, entering = ssd.forward(*given)
        made = [torch.empty_like(tensor) for tensor in (x, b, c)]
        by_dt, by_decay, by_skip = ssd.backward(dy, *given, entering, *made)
        by_dt = (by_dt + by_decay * rates[:, None, None]).flatten(2).transpose(1, 2)
        found = [*made, by_skip, by_dt, (by_decay * steps).sum((0, 2, 3))]
        both("y of documents", out, y)
        for name, one, two in zip(("x", "B", "C", "D", "dt", "A"), found, wanted):
            both(f"{name} of documents", one, two)

    y, wide, weight = random(100, heads * head_dim), random(100, 2 * heads * head_dim), random(heads * head_dim)
    z = wide[:, heads * head_dim :]
    dout, dz = random(*y.shape).detach(), torch.empty_like(wide)[:, heads * head_dim :]
    for gate, size in ((z, heads * head_dim // groups), (None, heads * head_dim)):
        normed = scan.gated_rms_norm(y, weight, None, gate, 1e-5, size, False)
        wanted = torch.autograd.grad(normed, [tensor for tensor in (y, weight, gate) if tensor is not None], dout)
        given = [None if tensor is None else tensor.detach() for tensor in (y, gate, weight)]
        what = "norm" if gate is None else "gated norm"
        out, scale, largest = norm.forward(*given, group_size=size, eps=1e-5)
        both(what, out, normed)
        both(f"{what}'s largest magnitude", largest, normed.abs().max()[None])
        made = norm.backward(dout, *given, scale, None if gate is None else dz)
        both(f"{what}'s input", made[0], wanted[0])
        both(f"{what}'s weight", made[1], wanted[1])
        if gate is not None:
            both(f"{what}'s gate", dz, wanted[2])
print(json.dumps({name: ((one - two).norm() / two.norm()).item() for name, (one, two) in pairs.items()}))
"""


@pytest.mark.slow
@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) >= "2.4.0", reason="Triton 3.6's interpreter fails with it")
def test_in_triton_s_interpreter_scan_and_norm_are_pytorch_s_to_the_digits_of_float32():
    """On any machine with Triton, a GPU or none."""
    pytest.importorskip("triton", reason="the kernels are Triton's")
    done = subprocess.run(
        [sys.executable, "-c", IN_FLOAT32],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    errors = json.loads(done.stdout)
    assert len(errors) == 32 + 7 and max(errors.values()) < 2e-5, errors


SIZES = {
    "the study's student": (1, 512, 120, 80, 8, 128),
    "an eighth of it, two sequences": (2, 256, 15, 80, 1, 128),
    "small": (2, 256, 24, 16, 2, 64),
}
"""Sequences, their length, heads, their size, groups and states."""
NAMES = "zxbcdt", "conv_weight", "conv_bias", "dt_bias", "A", "D", "norm_weight"


@pytest.mark.gpu
@pytest.mark.parametrize("sizes", SIZES)
def test_in_bf16_output_and_gradients_are_those_of_float32_within_its_rounding(sizes):
    from nemo_distill.nemotron_h.kernels.mixer import MixerFunction

    given = random_mixer(*SIZES[sizes])
    _, _, _, head_dim, groups, _ = SIZES[sizes]
    made, largest = MixerFunction.apply(*given, 1e-5, groups, head_dim)
    assert largest == made.abs().max()
    gradient = torch.randn_like(made)
    found = [made, *torch.autograd.grad(made, given, gradient)]
    exact = [tensor.detach().float().requires_grad_() for tensor in given]
    wanted = in_pytorch(*exact, 1e-5, groups, head_dim)
    wanted = [wanted, *torch.autograd.grad(wanted, exact, gradient.float())]
    errors = {
        name: ((one.float() - two).norm() / two.norm()).item()
        for name, one, two in zip(("output", *NAMES), found, wanted, strict=True)
    }
    assert all(error < 0.02 for error in errors.values()), errors


DOCUMENTS = {
    "the study's student": ([1, 2, 125, 3, 200, 181],),
    "an eighth of it, two sequences": ([130, 1, 125], [256]),
    "small": ([255, 1], [2, 3, 1, 250]),
}
"""Tokens of each document of each sequence."""


@pytest.mark.gpu
@pytest.mark.parametrize("sizes", DOCUMENTS)
def test_documents_that_are_kept_apart_are_those_documents_one_by_one(sizes):
    from nemo_distill.nemotron_h.documents import Documents
    from nemo_distill.nemotron_h.kernels.mixer import MixerFunction

    given, (_, length, _, head_dim, groups, _) = random_mixer(*SIZES[sizes]), SIZES[sizes]
    lengths = [torch.tensor(row, device="cuda") for row in DOCUMENTS[sizes]]
    packed = Documents.of([row.cumsum(0) - row for row in lengths], length=length)
    made, _ = MixerFunction.apply(*given, 1e-5, groups, head_dim, packed.numbers, packed.decay)
    gradient = torch.randn_like(made)
    found = [made, *torch.autograd.grad(made, given, gradient)]
    exact = [tensor.detach().float().requires_grad_() for tensor in given]
    wanted = torch.cat(
        [
            torch.cat([in_pytorch(part[None], *exact[1:], 1e-5, groups, head_dim) for part in row.split(sizes)], 1)
            for row, sizes in zip(exact[0], DOCUMENTS[sizes], strict=True)
        ]
    )
    wanted = [wanted, *torch.autograd.grad(wanted, exact, gradient.float())]
    errors = {
        name: ((one.float() - two).norm() / two.norm()).item()
        for name, one, two in zip(("output", *NAMES), found, wanted, strict=True)
    }
    assert all(error < 0.02 for error in errors.values()), errors


@pytest.mark.gpu
def test_of_what_a_document_is_given_nothing_reaches_another():
    from nemo_distill.nemotron_h.documents import Documents
    from nemo_distill.nemotron_h.kernels.mixer import MixerFunction

    given = random_mixer(*SIZES["small"])
    packed = Documents.of([torch.tensor([0, 131], device="cuda")] * 2, length=256)
    made, _ = MixerFunction.apply(*given, 1e-5, 2, 16, packed.numbers, packed.decay)
    (of_the_second,) = torch.autograd.grad(made[:, 131:].float().sum(), given[:1], retain_graph=True)
    (of_the_first,) = torch.autograd.grad(made[:, :131].float().sum(), given[:1])
    dt = slice(-24, None)  # whose gradient is a sum of differences that all but cancel
    assert of_the_second[:, :131, :-24].abs().max() == 0 == of_the_first[:, 131:, :-24].abs().max()
    assert of_the_second[:, :131, dt].abs().max() < 1e-3 * of_the_first[:, :131, dt].abs().max()


@pytest.mark.gpu
def test_rows_may_lie_apart_as_those_of_a_layer_that_was_filled_up_do():
    from nemo_distill.nemotron_h.kernels.mixer import MixerFunction

    zxbcdt, *weights = random_mixer(*SIZES["the study's student"])
    wide = F.pad(zxbcdt.detach(), (0, 8))
    apart = wide[..., :-8].requires_grad_()
    made = [MixerFunction.apply(rows, *weights, 1e-5, 8, 80)[0] for rows in (zxbcdt, apart)]
    assert not apart.is_contiguous()
    torch.testing.assert_close(*made, rtol=0.01, atol=1e-3)  # rounding in another order, in a few places
    gradients = [
        torch.autograd.grad(y, rows, torch.ones_like(y)) for y, rows in zip(made, (zxbcdt, apart), strict=True)
    ]
    torch.testing.assert_close(*gradients, rtol=0.01, atol=1e-3)


@pytest.mark.gpu
def test_what_it_does_not_compute_is_left_to_mamba_ssm():
    from nemo_distill.nemotron_h.kernels import mixer

    def fits(length: int = 256, context_parallel: int = 1, **otherwise) -> bool:
        as_built = {
            "headdim": 80, "d_state": 128, "rmsnorm": True, "norm_before_gate": False, "D_has_hdim": False,
            "activation": "silu", "ngroups_local_tp": 8, "cp": SimpleNamespace(cp_size=context_parallel),
        }  # fmt: skip
        return mixer._fits(SimpleNamespace(**{**as_built, **otherwise}), torch.empty(length, 1, 8))

    assert fits() and fits(context_parallel=8)
    for otherwise in (
        {"length": 250}, {"headdim": 256}, {"d_state": 16}, {"rmsnorm": False}, {"norm_before_gate": True},
        {"D_has_hdim": True}, {"activation": "relu"}, {"context_parallel": 16},
    ):  # fmt: skip
        assert not fits(**otherwise), otherwise
