"""Squared ReLU against PyTorch's own operations and differentiation."""

import pytest
import torch

from nemo_distill.nemotron_h.activation import squared_relu


def both(x, gradient):
    """Output and gradient, ours and PyTorch's."""
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, wanted = squared_relu(ours), torch.relu(theirs).square()
    y.backward(gradient)
    wanted.backward(gradient)
    return (y, ours.grad), (wanted, theirs.grad)


def test_value_and_gradient_are_pytorch_s():
    draw = torch.Generator().manual_seed(0)
    x, gradient = (torch.randn(7, 33, generator=draw) for _ in range(2))
    x[0, :3] = torch.tensor([0.0, 1e-12, -1e-12])
    (y, by_x), (wanted, wanted_by_x) = both(x, gradient)
    assert torch.equal(y, wanted)
    torch.testing.assert_close(by_x, wanted_by_x, rtol=1e-6, atol=1e-30)


def test_only_its_output_is_kept_for_the_backward_pass():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        y = squared_relu(torch.randn(5, requires_grad=True))
    assert [tensor.data_ptr() for tensor in kept] == [y.data_ptr()]


@pytest.mark.gpu
def test_on_a_gpu_it_differs_from_float64_by_the_rounding_of_its_output():
    draw = torch.Generator("cuda").manual_seed(0)
    x, gradient = (torch.randn(1001, 333, generator=draw, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    (y, by_x), _ = both(x, gradient)
    _, (wanted, wanted_by_x) = both(x.double(), gradient.double())
    for made, exact in ((y, wanted), (by_x, wanted_by_x)):
        assert ((made.double() - exact).norm() / exact.norm()).item() < 4e-3
