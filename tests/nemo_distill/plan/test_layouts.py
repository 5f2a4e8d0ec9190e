"""Layouts that cannot be, and the nearest that can."""

import dataclasses
import re

import pytest

from nemo_distill.config.resolved import Pruning
from nemo_distill.config.scale import FULL
from nemo_distill.errors import UserError
from nemo_distill.kd.abilities import Ability
from nemo_distill.nemotron_h.published import PUBLISHED
from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2
from nemo_distill.plan import layouts
from nemo_distill.plan.figures import STUDY
from nemo_distill.plan.gpus import H200, get_gpu
from nemo_distill.plan.layouts import check, check_room, fastest, fits, lacking, misfit, student_shape


def like_the_study(**changes):
    return dataclasses.replace(STUDY, **changes)


def pruning(**changes) -> Pruning:
    return dataclasses.replace(FULL.prune, **changes)


def following(sentence: str, job):
    """The job after the advice at the end of a sentence was taken: `key=value` words."""
    advice = re.findall(r"(?:layout|distill)\.(\w+)=(\w+)", sentence.rpartition("nearest")[2] or sentence)
    read = {"gpu": get_gpu, "recompute": str}
    changes = {key: read.get(key, int)(value) for key, value in advice}
    return dataclasses.replace(job, **changes)


def test_the_studys_layout_can_be():
    check(STUDY)
    assert misfit(STUDY) is None


def test_without_whole_logits_the_study_s_gpus_need_not_split_its_model_eight_ways():
    asked = like_the_study(fused_loss=True, lean_activation=True)
    best = fastest(asked)
    assert best.tensor_parallel < 8 and fits(best)
    assert best.iteration_seconds < 0.7 * asked.iteration_seconds
    for parallel in (1, 2, 4, 8):
        for micro in (1, 2, 4):
            other = dataclasses.replace(asked, tensor_parallel=parallel, micro_batch_size=micro)
            if fits(other):
                assert best.iteration_seconds <= other.iteration_seconds


def test_where_nothing_fits_nothing_is_fastest():
    assert fastest(like_the_study(nodes=1, gpus_per_node=1, tensor_parallel=1, seq_length=131_072)) is None


def test_the_study_could_not_have_split_its_model_over_fewer_gpus():
    sentence = misfit(like_the_study(tensor_parallel=4))
    assert "needs 88 GiB per GPU and an H100 has 79" in sentence
    assert "nearest that fits is layout.recompute=mlp (78 GiB)" in sentence
    assert "nearest that fits is layout.tensor_parallel=8" in misfit(like_the_study(tensor_parallel=4, recompute="mlp",
                                                                                    seq_length=16_384))  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"tensor_parallel": 4},
        {"tensor_parallel": 1, "micro_batch_size": 1},
        {"seq_length": 65_536},
        {"nodes": 1, "gpus_per_node": 1, "tensor_parallel": 1, "micro_batch_size": 1},
        {"nodes": 2, "gpus_per_node": 4, "tensor_parallel": 4, "micro_batch_size": 8},
    ],
    ids=str,
)
def test_the_layout_that_is_advised_fits_and_divides(changes):
    job = like_the_study(**changes)
    check(job)
    advised = following(misfit(job), job)
    assert advised != job and fits(advised)
    check(advised)


def test_computing_mlp_layers_again_is_advised_where_it_spares_splitting_the_model():
    asked = like_the_study(nodes=1, fused_loss=True, fused_kernels=True, lean_activation=True, fp8="teacher",
                           gradient_bytes=2, tensor_parallel=1, micro_batch_size=1)  # fmt: skip
    assert "needs 81 GiB" in misfit(asked) and "that fits is layout.recompute=mlp (76 GiB)" in misfit(asked)
    best = fastest(asked)
    split = dataclasses.replace(asked, tensor_parallel=2)
    assert (best.tensor_parallel, best.recompute) == (1, "mlp") and fits(split)
    assert best.iteration_seconds < 0.9 * split.iteration_seconds


def test_where_a_machine_has_too_few_gpus_to_split_the_model_long_sequences_are_shared_over_several():
    long = like_the_study(nodes=4, gpus_per_node=1, tensor_parallel=1, micro_batch_size=1, seq_length=32_768,
                          fused_loss=True, fused_kernels=True, lean_activation=True, gradient_bytes=2)  # fmt: skip
    sentence = misfit(long)
    assert "needs 188 GiB" in sentence and "is layout.gpu=H200 layout.context_parallel=2 (128 GiB)" in sentence
    advised = following(sentence, long)
    check(advised)
    assert fits(advised)


def test_a_single_h200_holds_it_all_where_many_share_the_optimizer():
    assert fits(like_the_study(gpu=H200, tensor_parallel=1, micro_batch_size=1))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tensor_parallel": 3}, "8 GPUs of a machine (layout.gpus_per_node); the nearest that does is 4"),
        ({"tensor_parallel": 16}, "the nearest that does is 8"),
        ({"gpus_per_node": 6, "tensor_parallel": 3}, "does not divide the teacher's num_attention_heads, 40"),
        ({"micro_batch_size": 3}, "among 96 copies of the model in micro batches of 3; "
                                  "distill.micro_batch_size=4 would do"),
        ({"nodes": 100}, "distill.global_batch_size=800 would do"),
        ({"context_parallel": 5}, "=5 does not divide the 96 ranks that there are times layout.tensor_parallel=8: 4"),
        ({"context_parallel": 16, "tensor_parallel": 1, "micro_batch_size": 1, "seq_length": 8_176},
         "cut distill.seq_length=8176 into 32 equal parts, two for a rank; the nearest that does is "
         "layout.context_parallel=8."),
        ({"context_parallel": 16, "tensor_parallel": 1, "micro_batch_size": 1},
         "does not divide the 120 Mamba heads of the student that a rank has without it; the nearest that does is "
         "layout.context_parallel=8."),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_divide_is_refused_with_the_nearest_that_does(changes, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        check(like_the_study(**changes))


@pytest.mark.parametrize("changes", [{"micro_batch_size": 3}, {"nodes": 100}, {"nodes": 7, "micro_batch_size": 5}])
def test_the_batch_that_is_advised_divides(changes):
    job = like_the_study(**changes)
    with pytest.raises(UserError) as refused:
        check(job)
    check(following(str(refused.value).partition(";")[2], job))


def test_a_gpu_nobody_knows_is_named_with_all_that_are_known_since_none_stands_for_another():
    known = "Known: H100, H200, A100, A100-40GB, L40S, H20, B200."
    with pytest.raises(UserError, match=f"H800: nothing is known of such a GPU. {known}"):
        get_gpu("H800")


@pytest.mark.parametrize(
    ("gpu", "changes", "sentence"),
    [
        ("A100", {"fused_kernels": True}, "layout.gpu=A100: distill.fused_kernels=true needs 227 KiB .* has 163 "),
        ("L40S", {"fused_kernels": True}, "the L40S has 99 .compute capability 8.9.: say distill.fused_kernels=false"),
        ("A100", {"fp8": "teacher"}, "from compute capability 8.9 on, and the A100 has 8.0: say distill.fp8=none"),
        ("L40S", {"fp8": "both"}, ""),
        ("H20", {"fp8": "both", "fused_kernels": True}, ""),
        ("B200", {"fp8": "both", "fused_kernels": True}, ""),
    ],
)
def test_what_a_gpu_can_run_follows_from_its_compute_capability(gpu, changes, sentence):
    assert re.search(sentence, lacking(like_the_study(gpu=get_gpu(gpu), **changes)))
    assert bool(sentence) == bool(lacking(like_the_study(gpu=get_gpu(gpu), **changes)))


def test_a_gpu_of_no_bf16_is_refused_whatever_it_is_called_and_one_that_cannot_be_known_is_let_try():
    turing = Ability(name="Quadro RTX 8000", capability=(7, 5))
    assert "needs tensor cores of compute capability 8.0, and the Quadro RTX 8000 has 7.5" in turing.lacks(
        fp8="none", fused_kernels=False, bf16=True
    )
    later = Ability(name="a later one", capability=(13, 0))
    assert later.lacks(fp8="both", fused_kernels=True, bf16=True) == ""
    seen = dataclasses.replace(later, shared_memory=99)
    assert "and the a later one has 99 (compute capability 13.0)" in seen.lacks(
        fp8="both", fused_kernels=True, bf16=True
    )


@pytest.mark.parametrize(("fp8", "advised"), [("none", "A100"), ("teacher", "H20")])
def test_no_gpu_is_advised_that_cannot_run_what_is_asked(monkeypatch, fp8, advised):
    monkeypatch.setattr(layouts, "GPUS", {name: get_gpu(name) for name in ("A100", "H20")})
    asked = like_the_study(
        gpu=get_gpu("L40S"), nodes=1, micro_batch_size=1, global_batch_size=8, seq_length=65_536, fused_loss=True,
        lean_activation=True, fp8=fp8,
    )  # fmt: skip
    assert f"nearest that fits is layout.gpu={advised} " in misfit(asked)


def test_a_teacher_that_one_gpu_does_not_hold_is_refused_for_import_and_pruning_with_what_would():
    large = PUBLISHED["nvidia/Nemotron-H-47B-Base-8K"]
    check_room(large, ("H200", 139.8), ranked_over=8192)
    check_room(large, None, ranked_over=8192)
    whole = "hold the teacher's 46.8B parameters whole on one GPU, which takes 107 GiB at least, and the A has 79"
    with pytest.raises(UserError, match=f"{whole}: of those that are known here H200 and B200 would do."):
        check_room(large, ("the A", 79.1), ranked_over=8192)
    wider = dataclasses.replace(large, hidden_size=2 * large.hidden_size)
    with pytest.raises(UserError, match=r"none that is known here has as much, and a teacher of up to 64B would do"):
        check_room(wider, ("the A", 139.8), ranked_over=8192)
    check_room(NANO_9B_V2, ("the A", 44.3), ranked_over=8192)


def test_the_student_is_the_studys_until_it_is_pruned_and_then_what_it_became(tmp_path):
    shape, words = student_shape(NANO_9B_V2, pruning(parameters=7.0e9), tmp_path)
    assert shape == NANO_7B_PRUNED and "study" in words
    smaller = dataclasses.replace(NANO_7B_PRUNED, ffn_hidden_size=9728)
    smaller.save(tmp_path / "shape.json")
    assert student_shape(NANO_9B_V2, pruning(parameters=7.0e9), tmp_path) == (smaller, "as pruned")


@pytest.mark.parametrize("target", [0.9, 0.6, 4.0e9])
def test_another_target_is_met_from_below(tmp_path, target):
    shape, _ = student_shape(NANO_9B_V2, pruning(parameters=target), tmp_path)
    parameters = target if target > 1 else target * NANO_9B_V2.parameters()
    assert 0.97 * parameters < shape.parameters() <= parameters


def test_sizes_given_outright_are_the_students(tmp_path):
    sizes = {"num_layers": 48, "hidden_size": 4352, "mamba_num_heads": 120, "ffn_hidden_size": 13824}
    shape, _ = student_shape(NANO_9B_V2, pruning(parameters=None, export_config=sizes), tmp_path)
    assert shape.num_layers == 48 and shape.parameters() == pytest.approx(NANO_7B_PRUNED.parameters(), rel=0.02)
