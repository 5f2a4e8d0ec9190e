import pytest
import torch
from torch import nn

from nemo_distill.compat.mamba_ssm import GatedRMSNorm, causal_conv, chunk_scan


def recurrence(x, dt, A, B, C, D=None, z=None, dt_bias=None):
    """The state-space recurrence token by token, in float64: what the chunked form has to equal."""
    x, dt, A, B, C = (t.double() for t in (x, dt, A, B, C))
    dt = nn.functional.softplus(dt + (dt_bias.double() if dt_bias is not None else 0))
    per_group = x.shape[2] // B.shape[2]
    B, C = B.repeat_interleave(per_group, 2), C.repeat_interleave(per_group, 2)
    h = torch.zeros(*x.shape[:1], *x.shape[2:], B.shape[-1], dtype=torch.float64)
    out = []
    for t in range(x.shape[1]):
        decay = (dt[:, t] * A).exp()[..., None, None]
        h = h * decay + (dt[:, t, :, None] * x[:, t])[..., None] * B[:, t, :, None, :]
        out.append((h * C[:, t, :, None, :]).sum(-1))
    y = torch.stack(out, 1)
    if D is not None:
        y = y + x * D.double()[:, None]
    if z is not None:
        y = y * nn.functional.silu(z.double())
    return y, h


def inputs(length, heads=6, groups=2, head_dim=5, state=4, batch=2):
    g = torch.Generator().manual_seed(length)
    draw = lambda *size: torch.randn(*size, generator=g)  # noqa: E731
    return {
        "x": draw(batch, length, heads, head_dim),
        "dt": draw(batch, length, heads),
        "A": -draw(heads).exp(),
        "B": draw(batch, length, groups, state),
        "C": draw(batch, length, groups, state),
        "D": draw(heads),
        "z": draw(batch, length, heads, head_dim),
        "dt_bias": draw(heads),
    }


@pytest.mark.parametrize("length", [1, 7, 32, 33, 100, 128])
def test_the_chunked_scan_equals_the_recurrence(length):
    given = inputs(length)
    y, state = chunk_scan(**given, chunk_size=128, dt_softplus=True, return_final_states=True)
    expected, last = recurrence(**given)
    torch.testing.assert_close(y.double(), expected, atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(state.double(), last, atol=5e-5, rtol=1e-4)


def test_the_chunk_size_does_not_change_the_result():
    given = inputs(96)
    runs = [chunk_scan(**given, chunk_size=size, dt_softplus=True) for size in (8, 16, 32)]
    for run in runs[1:]:
        torch.testing.assert_close(run, runs[0], atol=2e-5, rtol=1e-4)


def test_its_gradients_are_the_recurrence_s():
    given = inputs(40)
    for t in given.values():
        t.requires_grad_()
    names = list(given)
    weights = torch.randn(2, 40, 6, 5, generator=torch.Generator().manual_seed(1))
    got = torch.autograd.grad(
        (chunk_scan(**given, chunk_size=16, dt_softplus=True) * weights).sum(), list(given.values())
    )
    expected = torch.autograd.grad((recurrence(**given)[0] * weights).sum(), list(given.values()))
    for name, ours, theirs in zip(names, got, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), atol=5e-4, rtol=1e-3, msg=name)


DOCUMENTS = ([1, 2, 61, 32, 4], [33, 3, 64])
"""Tokens of each, in two sequences: some shorter than the convolution is wide, some as long as chunks, most neither."""
NUMBERS = torch.stack([torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in DOCUMENTS]).int()


def one_by_one(compute, along: dict[str, torch.Tensor], dim: int) -> torch.Tensor:
    """`compute` of every document by itself, as sequences; `along` has the tokens in the dimension `dim`."""
    return torch.cat(
        [
            torch.cat([compute(dict(zip(along, part, strict=True))) for part in documents], dim)
            for row, sizes in enumerate(DOCUMENTS)
            for documents in [zip(*(tensor[row : row + 1].split(sizes, dim) for tensor in along.values()), strict=True)]
        ]
    )


def test_the_state_begins_anew_at_every_document_and_no_gradient_gets_across():
    given = inputs(100)
    for t in given.values():
        t.requires_grad_()
    along = {name: given[name] for name in ("x", "dt", "B", "C", "z")}
    fixed = {name: given[name] for name in ("A", "D", "dt_bias")}
    weights = torch.randn(2, 100, 6, 5, generator=torch.Generator().manual_seed(1))
    made = chunk_scan(**given, chunk_size=32, dt_softplus=True, seq_idx=NUMBERS)
    wanted = one_by_one(lambda part: chunk_scan(**part, **fixed, chunk_size=32, dt_softplus=True), along, 1)
    torch.testing.assert_close(made, wanted, atol=2e-5, rtol=1e-4)
    results = (torch.autograd.grad((y * weights).sum(), list(given.values())) for y in (made, wanted))
    for name, ours, theirs in zip(given, *results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=5e-4, rtol=1e-3, msg=name)
    alone = chunk_scan(**given, chunk_size=32, dt_softplus=True)
    assert (alone - made).abs().max() > 0.1, "they are not apart by themselves"


def test_the_convolution_s_window_ends_where_a_document_begins():
    draw = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(size, generator=draw, dtype=torch.float64).requires_grad_() for size in ((2, 6, 100), (6, 4), (6,))
    )
    made = causal_conv(x, weight, bias, seq_idx=NUMBERS, activation="silu")
    wanted = one_by_one(lambda part: causal_conv(part["x"], weight, bias, activation="silu"), {"x": x}, 2)
    torch.testing.assert_close(made, wanted)
    weights = torch.randn(made.shape, generator=draw, dtype=torch.float64)
    results = (torch.autograd.grad((y * weights).sum(), (x, weight, bias)) for y in (made, wanted))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_transformers_own_torch_scan_agrees():
    from transformers.models.nemotron_h import modeling_nemotron_h as upstream

    names = [name for name in dir(upstream) if "chunk_scan" in name and callable(getattr(upstream, name))]
    assert names, "transformers has no torch chunk scan to compare with"
    given = inputs(64)
    z, dt_bias = given.pop("z"), given.pop("dt_bias")
    theirs = getattr(upstream, names[0])(
        given["x"], given["dt"], given["A"], given["B"], given["C"], chunk_size=32, D=given["D"],
        dt_bias=dt_bias, dt_softplus=True,
    )  # fmt: skip
    theirs = theirs[0] if isinstance(theirs, tuple) else theirs
    ours = chunk_scan(**given, chunk_size=32, dt_bias=dt_bias, dt_softplus=True)
    torch.testing.assert_close(ours, theirs, atol=5e-5, rtol=1e-4)
    assert z.shape == ours.shape


@pytest.mark.parametrize("norm_before_gate", [True, False])
def test_the_gated_norm_normalises_each_group_of_channels(norm_before_gate):
    g = torch.Generator().manual_seed(0)
    x, z = torch.randn(3, 8, generator=g), torch.randn(3, 8, generator=g)
    norm = GatedRMSNorm(8, eps=1e-5, group_size=4, norm_before_gate=norm_before_gate)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(1.0, 9.0))
    gate = nn.functional.silu(z.double())
    inside = x.double() if norm_before_gate else x.double() * gate
    rms = (inside.view(3, 2, 4).square().mean(-1, keepdim=True) + 1e-5).sqrt()
    expected = (inside.view(3, 2, 4) / rms).view(3, 8) * torch.arange(1.0, 9.0).double()
    expected = expected * gate if norm_before_gate else expected
    torch.testing.assert_close(norm(x, z).double(), expected, atol=1e-5, rtol=1e-5)
