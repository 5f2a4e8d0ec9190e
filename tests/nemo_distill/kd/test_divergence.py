"""The loss of distillation from hidden states, against float64, NeMo's own loss and a second rank."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from nemo_distill.kd.divergence import divergence_, masked_divergence
from nemo_distill.run.ranks import torchrun

TOKENS, STUDENT, TEACHER, VOCABULARY = 37, 24, 32, 301


def inputs(dtype=torch.float32, seed=0) -> dict:
    """Hidden states and output layers of two models, and a mask that leaves every fifth token out."""
    draw = torch.Generator().manual_seed(seed)

    def random(*shape, scale=1.0):
        return (scale * torch.randn(*shape, generator=draw, dtype=torch.float64)).to(dtype)

    mask = (torch.arange(TOKENS) % 5 > 0).to(dtype)
    return {
        "student": random(TOKENS, STUDENT).requires_grad_(),
        "student_weight": random(VOCABULARY, STUDENT, scale=0.3).requires_grad_(),
        "teacher": random(TOKENS, TEACHER),
        "teacher_weight": random(VOCABULARY, TEACHER, scale=0.3),
        "mask": mask,
    }


def reference(student, student_weight, teacher, teacher_weight, mask):
    """The textbook's formula on whole logits."""
    log_student = (student @ student_weight.t()).log_softmax(-1)
    log_teacher = (teacher @ teacher_weight.t()).log_softmax(-1)
    return ((log_teacher.exp() * (log_teacher - log_student)).sum(-1) * mask).sum()


def gradients(loss, given: dict):
    return torch.autograd.grad(loss, [given["student"], given["student_weight"]])


@pytest.mark.parametrize("chunk_tokens", [1, 8, TOKENS, 64])
def test_value_and_gradient_are_those_of_whole_logits_whatever_the_chunk(chunk_tokens):
    given = inputs(torch.float64)
    ours, theirs = masked_divergence(**given, chunk_tokens=chunk_tokens), reference(**given)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    for made, wanted in zip(gradients(3 * ours, given), gradients(3 * theirs, given), strict=True):
        torch.testing.assert_close(made, wanted, rtol=1e-10, atol=1e-13)


def test_in_float32_it_is_as_close_to_float64_as_float32_can_be():
    exact, given = inputs(torch.float64), inputs(torch.float32)
    ours, theirs = masked_divergence(**given, chunk_tokens=8), reference(**exact)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    for made, wanted in zip(gradients(ours, given), gradients(theirs, exact), strict=True):
        assert ((made.double() - wanted).norm() / wanted.norm()).item() < 1e-6


def test_it_is_nemo_s_loss():
    from nemo_distill.compat import registry

    registry.prepare()
    from nemo.collections.llm.modelopt.distill.loss import LogitsKLLoss

    given = inputs()
    logits = [(given[who] @ given[f"{who}_weight"].t())[:, None] for who in ("student", "teacher")]
    per_token, _, _ = LogitsKLLoss(SimpleNamespace(tensor_model_parallel_size=1))(*[(part, None) for part in logits])
    theirs = (per_token.view(-1) * given["mask"]).sum()
    ours = masked_divergence(**given, chunk_tokens=8)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    for made, wanted in zip(gradients(ours, given), gradients(theirs, given), strict=True):
        torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-6)


def test_masked_tokens_count_for_nothing():
    given = inputs(torch.float64)
    by_hidden, _ = gradients(masked_divergence(**given), given)
    assert (by_hidden[::5] == 0).all() and (by_hidden[1::5] != 0).any()


def test_equal_models_are_at_no_distance_however_sure_they_are():
    logits = torch.zeros(4, 100)
    logits[:, 7] = 200.0  # all others have probability 0 in float32
    made = logits.clone()
    assert divergence_(made, logits.clone(), torch.ones(4)).item() == 0.0
    assert (made == 0).all()


def test_a_second_backward_pass_is_refused_rather_than_wrong():
    given = inputs()
    loss = masked_divergence(**given)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def as_one_of_two_ranks() -> None:
    """Compare a half of the vocabulary with the whole; run by torchrun."""
    torch.distributed.init_process_group("gloo")
    rank, group = torch.distributed.get_rank(), torch.distributed.group.WORLD
    exact, given = inputs(torch.float64), inputs(torch.float64)
    wanted = reference(**exact)
    wanted_hidden, wanted_weight = gradients(wanted, exact)
    mine = slice(None, 140) if rank == 0 else slice(140, None)  # unequal parts of the vocabulary
    given["student_weight"] = given["student_weight"].detach()[mine].requires_grad_()
    given["teacher_weight"] = given["teacher_weight"][mine]
    part = masked_divergence(**given, group=group, chunk_tokens=8)
    by_hidden, by_weight = gradients(part, given)
    total = part.detach().clone()
    torch.distributed.all_reduce(total)
    torch.distributed.all_reduce(by_hidden)
    torch.testing.assert_close(total, wanted.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(by_hidden, wanted_hidden, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(by_weight, wanted_weight[mine], rtol=1e-10, atol=1e-13)
    assert abs(part.item() - wanted.item()) > 0.01 * wanted.item(), "each rank has a part only"
    torch.distributed.destroy_process_group()


def test_two_ranks_that_share_the_vocabulary_add_up_to_one():
    command = [sys.executable, *torchrun([__file__], nodes=1, ranks_per_node=2)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.gpu
@pytest.mark.parametrize("vocabulary", [131072, 5003])
def test_on_a_gpu_the_kernel_agrees_with_float64(vocabulary):
    draw = torch.Generator("cuda").manual_seed(0)
    student, teacher = (
        torch.randn(64, vocabulary, generator=draw, device="cuda", dtype=torch.bfloat16) * 3 for _ in range(2)
    )
    mask = (torch.arange(64, device="cuda") % 5 > 0).float()
    exact = student.double().cpu()
    value = divergence_(exact, teacher.double().cpu(), mask.double().cpu())
    made = student.clone()
    assert divergence_(made, teacher.clone(), mask).item() == pytest.approx(value.item(), rel=1e-5)
    error = (made.double().cpu() - exact).norm() / exact.norm()
    assert error.item() < 3e-3  # the rounding of bf16, in which the gradient is stored


if __name__ == "__main__":
    as_one_of_two_ranks()
