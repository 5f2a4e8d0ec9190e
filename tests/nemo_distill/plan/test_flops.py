"""What layers compute and keep, against the model's parameters and against PyTorch's own bookkeeping."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2
from nemo_distill.plan.flops import (
    BF16,
    Mode,
    backward,
    forward,
    layer_backward,
    layer_forward,
    matmul_weights,
    saved_bytes,
)

SMALL = dataclasses.replace(
    NANO_9B_V2, hidden_size=32, ffn_hidden_size=96, num_attention_heads=4, num_query_groups=2, kv_channels=8
)


@pytest.mark.parametrize("shape", [NANO_9B_V2, NANO_7B_PRUNED])
def test_a_token_is_multiplied_with_all_parameters_but_the_embedding_and_the_vectors(shape):
    matrices = sum(matmul_weights(shape, kind) for kind in shape.pattern) + shape.vocab_size * shape.hidden_size
    embedding = shape.vocab_size * shape.hidden_size
    vectors = shape.parameters() - embedding - matrices
    assert 0 < vectors < 1e-3 * shape.parameters()


def test_the_backward_pass_multiplies_twice_as_much_as_the_forward_pass_attention_scores_aside():
    short = 1
    assert backward(NANO_9B_V2, short).matmul == pytest.approx(2 * forward(NANO_9B_V2, short).matmul, rel=1e-4)


def test_attention_flops_are_those_that_pytorch_counts_halved_by_the_causal_mask():
    length = 64
    query = torch.randn(1, SMALL.num_attention_heads, length, SMALL.kv_channels)
    with FlopCounterMode(display=False) as counter:
        scores = query @ query.transpose(-1, -2)
        scores @ query
    scores_only = layer_forward(SMALL, "*", length).matmul - 2 * matmul_weights(SMALL, "*")
    assert length * scores_only == counter.get_total_flops() / 2


def test_an_mlp_keeps_what_autograd_keeps():
    h, f, tokens = SMALL.hidden_size, SMALL.ffn_hidden_size, 5
    into, out = (torch.randn(*size, requires_grad=True) for size in ((f, h), (h, f)))
    normed = torch.randn(tokens, h, requires_grad=True)
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(t.data_ptr(), t), lambda t: t):
        F.linear(torch.pow(F.relu(F.linear(normed, into)), 2), out)
    activations = sum(t.numel() for pointer, t in kept.items() if pointer not in (into.data_ptr(), out.data_ptr()))
    the_layers_input = h
    assert BF16 * (activations / tokens + the_layers_input) == saved_bytes(SMALL, "-")


def test_an_mlp_computed_again_keeps_its_input_and_multiplies_once_more():
    again = Mode(recompute="mlp")
    for kind, parts in (("-", 1), ("M", 0), ("*", 0)):
        more = layer_backward(SMALL, kind, 64, again).matmul - layer_backward(SMALL, kind, 64).matmul
        assert more == parts * 2 * matmul_weights(SMALL, kind)
        assert (saved_bytes(SMALL, kind, again) == BF16 * SMALL.hidden_size) == bool(parts)


def test_a_ranks_part_of_in_proj_is_unaligned_where_its_rows_fill_no_16_bytes():
    of_student = 2 * 24 * 4352 * 21_368
    for ranks, unaligned in ((1, 0), (2, of_student), (8, of_student)):  # 21,368, 10,684 and 2,671 rows
        split = Mode(split=ranks)
        work = forward(NANO_7B_PRUNED, 8192, split)
        assert work.unaligned == unaligned and backward(NANO_7B_PRUNED, 8192, split).unaligned == 2 * unaligned
        assert work.matmul + work.unaligned == forward(NANO_7B_PRUNED, 8192).matmul
        in_fp8 = forward(NANO_7B_PRUNED, 8192, dataclasses.replace(split, fp8=True))
        assert in_fp8.unaligned == forward(NANO_9B_V2, 8192, split).unaligned == 0
