"""Seconds and memory of a distillation: how they follow from the layout."""

import dataclasses
from pathlib import Path

import pytest

from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2
from nemo_distill.plan import layouts
from nemo_distill.plan.calibration import Evidence, evidence
from nemo_distill.plan.cost import GIB
from nemo_distill.plan.figures import BENCH, STUDY
from nemo_distill.plan.flops import BF16, Mode, layer_weights, saved_weights
from nemo_distill.plan.gpus import H100, H200, get_gpu


def changed(job, **changes):
    return dataclasses.replace(job, **changes)


def test_the_parameter_counts_are_the_published_ones():
    assert round(NANO_9B_V2.parameters() / 1e9, 3) == 8.888
    assert round(NANO_7B_PRUNED.parameters() / 1e9, 3) == 6.998


def test_the_study_takes_2912_tokens_a_second_and_gpu():
    assert STUDY.tokens_per_second == pytest.approx(2_912, rel=2e-3)
    assert STUDY.gpu_hours(1_000) == pytest.approx(600, rel=2e-3)


def test_weights_gradients_and_optimizer_add_up_to_bytes_per_parameter():
    memory = changed(STUDY, tensor_parallel=1, nodes=1, gpus_per_node=1, micro_batch_size=1).memory()
    held = memory["student and gradients"] + memory["optimizer"]
    assert held * GIB == pytest.approx(NANO_7B_PRUNED.parameters() * (2 + 4 + 12))
    assert memory["teacher"] * GIB == pytest.approx(NANO_9B_V2.parameters() * 2)


def test_tensor_parallelism_divides_all_memory_and_data_parallelism_the_optimizer_only():
    one = changed(BENCH, optimizer=True, gpus_per_node=8, global_batch_size=8)
    split = changed(one, tensor_parallel=8)
    assert split.memory()["activations"] == pytest.approx(one.memory()["activations"] / 8)
    assert split.memory()["optimizer"] == pytest.approx(one.memory()["optimizer"])
    more = changed(one, nodes=2, global_batch_size=16).memory()
    assert more["optimizer"] == pytest.approx(one.memory()["optimizer"] / 2)
    assert more["teacher"] == one.memory()["teacher"]


LONG = changed(BENCH, optimizer=True, gpus_per_node=8, global_batch_size=64, seq_length=32_768, fused_loss=True,
               fused_kernels=True, lean_activation=True, fp8="teacher")  # fmt: skip


def test_the_guide_says_what_long_sequences_take():
    guide = Path("docs/guides/gpu.md").read_text(encoding="utf-8")
    lines = guide.partition("\n## Longer sequences\n")[2].partition("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| H")]
    assert len(rows) == 7
    for gpu, parallel, shared, recompute, *said in rows:
        job = changed(LONG, gpu=get_gpu(gpu), tensor_parallel=int(parallel), context_parallel=int(shared),
                      recompute=recompute)  # fmt: skip
        layouts.check(job)
        passes = [(job.teacher, 1), (job.student, 1), (job.student, 2)]
        exchanged = sum(job._exchanges(shape, rounds=rounds) for shape, rounds in passes) / job.microbatch_seconds
        assert layouts.fits(job) and evidence(job) is Evidence.NEVER_RUN
        assert said == [needed(job), f"{job.memory()['activations']:.0f}", f"{exchanged:.0%}",
                        f"{job.tokens_per_second:,.0f}"]  # fmt: skip
    text = " ".join(lines)
    assert f"it takes {needed(LONG)} GiB" in text
    two = [changed(LONG, gpu=H100, **shared) for shared in ({"context_parallel": 2}, {"tensor_parallel": 2})]
    assert not any(map(layouts.fits, two)) and f"({needed(two[0])} and {needed(two[1])} GiB)" in text


def needed(job) -> str:
    return f"{layouts.needed_gib(job):.0f}"


def test_context_parallelism_divides_what_is_per_token_and_takes_time_by_what_is_exchanged():
    one = changed(BENCH, optimizer=True, gpus_per_node=8, global_batch_size=8, seq_length=32_768, fused_loss=True)
    shared = changed(one, context_parallel=4)
    before, after = one.memory(), shared.memory()
    assert after == before | {"activations": pytest.approx(before["activations"] / 4)}
    assert (shared.data_parallel, shared.alike) == (2, 8)
    # By hand: of a student alone, in a forward pass, what a GPU sends of its 8,192 tokens.
    shape = shared.student
    mamba = shape.pattern.count("M") * (shape.mamba_in_proj_size + shape.mamba_inner_size) * 3 / 4
    attention = shape.pattern.count("*") * 2 * shape.num_query_groups * shape.kv_channels * 3
    sent = BF16 * 8_192 * (mamba + attention)
    assert shared._exchanges(shape) == pytest.approx(sent / (H200.nvlink * shared.rates.links))
    alone = one.microbatch_seconds / 4
    assert alone < shared.microbatch_seconds < 2 * alone and one._exchanges(shape) == 0
    over_the_network = changed(shared, gpus_per_node=2, nodes=4)
    assert over_the_network._exchanges(shape) == pytest.approx(9 * shared._exchanges(shape))


def test_one_gpu_waits_for_no_other():
    free = changed(BENCH, rates=changed(BENCH.rates, links=1e-9))
    assert free.iteration_seconds == BENCH.iteration_seconds
    assert changed(STUDY, rates=changed(STUDY.rates, links=1e-2)).iteration_seconds > 10 * STUDY.iteration_seconds


def test_gradients_are_exchanged_behind_the_backward_pass_until_it_is_too_short():
    one_microbatch = changed(STUDY, tensor_parallel=1, micro_batch_size=1, gpu=H200)
    shown = one_microbatch.iteration_seconds - one_microbatch.microbatch_seconds
    assert shown > 0.1
    assert STUDY.iteration_seconds - 2 * STUDY.microbatch_seconds < 0.01


def test_a_gpu_with_faster_memory_only_is_faster_by_less_than_its_memory_is():
    ratio = changed(BENCH, gpu=H100).microbatch_seconds / BENCH.microbatch_seconds
    assert 1 < ratio < H200.memory_bandwidth / H100.memory_bandwidth


def test_a_teacher_in_fp8_has_half_the_weights_in_its_layers_and_a_student_keeps_both():
    teacher, both = changed(BENCH, fp8="teacher").memory(), changed(BENCH, fp8="both").memory()
    weights = layer_weights(NANO_9B_V2)
    assert (BENCH.memory()["teacher"] - teacher["teacher"]) * GIB == pytest.approx(weights)
    assert teacher["student and gradients"] == BENCH.memory()["student and gradients"]
    more = (both["student and gradients"] - teacher["student and gradients"]) * GIB
    filled = BF16 * 24 * 4352 * 21_368  # of every Mamba layer, in_proj once more, filled up to a multiple of 16
    assert more == pytest.approx(2 * layer_weights(NANO_7B_PRUNED) + filled)


def test_a_student_whose_sizes_suit_fp8_copies_nothing():
    suits = dataclasses.replace(NANO_7B_PRUNED, mamba_num_heads=112)
    assert saved_weights(suits, Mode(fp8=True)) == 2 * layer_weights(suits)
    without = changed(BENCH, student=suits, fp8="both")
    assert without.microbatch_seconds < changed(BENCH, fp8="both").microbatch_seconds


def test_a_longer_sequence_costs_attention_more_than_its_length():
    twice = changed(BENCH, seq_length=2 * BENCH.seq_length)
    assert 2 < twice.microbatch_seconds / BENCH.microbatch_seconds < 2.2
