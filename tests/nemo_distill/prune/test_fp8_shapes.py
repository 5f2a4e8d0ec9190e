"""Which shapes run whole in FP8, and what that wins."""

import dataclasses

import pytest

from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2
from nemo_distill.plan.figures import OURS_IN_FP8, OURS_TEACHER_IN_FP8
from nemo_distill.plan.flops import matmul_weights
from nemo_distill.prune.fp8_shapes import Alignment, aligned_in_words, matrices, resized


@pytest.mark.parametrize(("heads", "ranks", "aligned"), [
    (112, 1, True), (120, 1, False), (128, 1, True), (112, 2, False), (96, 2, True), (128, 8, True), (120, 8, False),
])  # fmt: skip
def test_a_rank_s_part_decides_which_head_counts_are_aligned(heads, ranks, aligned):
    shape = dataclasses.replace(NANO_7B_PRUNED, mamba_num_heads=heads)
    assert (not Alignment(tensor_parallel=ranks).misfits(shape)) == aligned


def test_all_that_is_wrong_is_said():
    shape = dataclasses.replace(NANO_7B_PRUNED, hidden_size=4360, ffn_hidden_size=13_832)
    assert Alignment(tensor_parallel=16).misfits(shape) == [
        "120 Mamba heads do not divide among 16 ranks",
        "8 Mamba groups do not divide among 16 ranks",
        "40 attention heads do not divide among 16 ranks",
        "8 query groups do not divide among 16 ranks",
        "hidden size 4,360 is no multiple of 16",
        "Mamba in_proj has 1,335.5 rows on each of 16 ranks, no multiple of 16",
        "Mamba out_proj has 600 columns on each of 16 ranks, no multiple of 16",
        "MLP fc1 has 864.5 rows on each of 16 ranks, no multiple of 16",
        "MLP fc2 has 864.5 columns on each of 16 ranks, no multiple of 16",
    ]


@pytest.mark.parametrize("shape", [NANO_9B_V2, NANO_7B_PRUNED])
def test_the_matrices_are_those_whose_work_is_counted(shape):
    for kind in "M*-":
        counted = sum(m.rows * m.columns for m in matrices(shape) if m.kind == kind)
        assert counted == matmul_weights(shape, kind)


def test_fp8_saves_what_was_measured_and_a_round_student_saves_the_copies():
    keep = Alignment()
    saved = 1e3 * (OURS_TEACHER_IN_FP8.microbatch_seconds - OURS_IN_FP8.microbatch_seconds)
    assert saved == pytest.approx(713 - 554, rel=0.05)
    # Nearly as large as the study's, and round.
    rounder = dataclasses.replace(NANO_7B_PRUNED, mamba_num_heads=112, ffn_hidden_size=14_848)
    assert rounder.parameters() == pytest.approx(NANO_7B_PRUNED.parameters(), rel=0.004)
    won = keep.fp8_seconds(NANO_7B_PRUNED, tokens=8192) / keep.fp8_seconds(rounder, tokens=8192)
    assert 1.02 < won < 1.08


def test_a_matrix_that_cannot_be_padded_stays_in_bf16():
    odd = dataclasses.replace(NANO_7B_PRUNED, hidden_size=4360)
    near = dataclasses.replace(NANO_7B_PRUNED, hidden_size=4368)
    assert Alignment().fp8_seconds(odd, tokens=8192) > 1.2 * Alignment().fp8_seconds(near, tokens=8192)


def test_a_candidate_keeps_the_layers_that_rank_highest():
    assert resized(NANO_9B_V2, {"num_layers": 3, "hidden_size": 4352}, [15, 2, 1, *range(3, 15)]).pattern == "M-*"


def test_what_alignment_costs_and_wins_is_said():
    one = {"score": 0.5, "parameters": 7_000, "fp8_ms": 600.0, "chosen": True, "largest": True,
           "chip_friendly": False, "misfits": ["its rows are odd"]}  # fmt: skip
    other = one | {"score": 0.49, "parameters": 6_930, "fp8_ms": 500.0, "chosen": False, "largest": False,
                   "chip_friendly": True}  # fmt: skip
    said = aligned_in_words([one, other], Alignment())
    for part in ("scores 0.4900, -0.0100 against", "-1.0% parameters", "1.20x as fast", "The student is the other."):
        assert part in said
    assert "of the best of all, its rows are odd." in aligned_in_words([one], Alignment())
    assert "nothing is lost" in aligned_in_words([one | {"chip_friendly": True}], Alignment())
