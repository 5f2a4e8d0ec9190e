"""The loss of distillation from hidden states, against float64, NeMo's own loss and a second rank."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from nemo_distill.kd.divergence import Mixture, divergence_, masked_divergence, masked_mixture, mixture_
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


LABELS = torch.arange(TOKENS) * 97 % VOCABULARY


def mixed_reference(student, student_weight, teacher, teacher_weight, mask, *, share, temperature):
    """Both losses by PyTorch's own, on whole logits, the divergence times the temperature's square."""
    logits, others = student @ student_weight.t(), teacher @ teacher_weight.t()
    soft, target = ((part / temperature).log_softmax(-1) for part in (logits, others))
    divergence = torch.nn.functional.kl_div(soft, target, reduction="none", log_target=True).sum(-1)
    cross_entropy = torch.nn.functional.cross_entropy(logits, LABELS, reduction="none")
    parts = torch.stack([temperature**2 * (divergence * mask).sum(), (cross_entropy * mask).sum()])
    return (1 - share) * parts[0] + share * parts[1], parts.detach()


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


@pytest.mark.parametrize("chunk_tokens", [8, 64])
@pytest.mark.parametrize(("share", "temperature"), [(0.1, 1.0), (0.3, 2.0), (0.5, 0.5), (1.0, 1.0)])
def test_a_mixture_with_cross_entropy_is_pytorchs_two_losses_in_their_shares(share, temperature, chunk_tokens):
    given, mixture = inputs(torch.float64), Mixture(labels=LABELS, share=share, temperature=temperature)
    theirs, wanted = mixed_reference(**given, share=share, temperature=temperature)
    ours, parts = masked_mixture(**given, mixture=mixture, chunk_tokens=chunk_tokens)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12) and not parts.requires_grad
    torch.testing.assert_close(parts, wanted, rtol=1e-12, atol=0)
    for made, right in zip(gradients(3 * ours, given), gradients(3 * theirs, given), strict=True):
        torch.testing.assert_close(made, right, rtol=1e-10, atol=1e-13)


def test_without_a_share_of_cross_entropy_a_mixture_is_the_divergence():
    given = inputs()
    mixed, parts = masked_mixture(**given, mixture=Mixture(labels=LABELS, share=0.0))
    alone = masked_divergence(**given)
    assert mixed.item() == pytest.approx(alone.item(), rel=1e-6) == parts[0].item() and parts[1] > 0
    for made, wanted in zip(gradients(mixed, given), gradients(alone, given), strict=True):
        torch.testing.assert_close(made, wanted)


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
    wanted, sums = mixed_reference(**exact, share=0.4, temperature=1.5)
    wanted_hidden, wanted_weight = gradients(wanted, exact)
    mixture = Mixture(labels=LABELS, share=0.4, temperature=1.5, first=mine.start or 0)
    part, parts = masked_mixture(**given, mixture=mixture, group=group, chunk_tokens=8)
    by_hidden, by_weight = gradients(part, given)
    total = torch.cat([parts, part.detach().view(1)])
    torch.distributed.all_reduce(total)
    torch.distributed.all_reduce(by_hidden)
    torch.testing.assert_close(total, torch.cat([sums, wanted.detach().view(1)]), rtol=1e-12, atol=0)
    torch.testing.assert_close(by_hidden, wanted_hidden, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(by_weight, wanted_weight[mine], rtol=1e-10, atol=1e-13)
    torch.distributed.destroy_process_group()


def test_two_ranks_that_share_the_vocabulary_add_up_to_one():
    command = [sys.executable, *torchrun([__file__], nodes=1, ranks_per_node=2)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


IN_FLOAT32 = """
import dataclasses, json, os, sys, torch
from nemo_distill.kd import divergence, kernel

kernel.BLOCK = 64  # several to a row
draw = torch.Generator().manual_seed(0)
errors = {}
for vocabulary in (301, 128):
    exact = [3 * torch.randn(9, vocabulary, generator=draw, dtype=torch.float64) for _ in range(2)]
    mask = (torch.arange(9) % 4 > 0).double()
    labels = torch.arange(9) * 41 % vocabulary
    for mixture in (
        None,
        divergence.Mixture(labels=labels, share=0.3, temperature=2.0),
        divergence.Mixture(labels=labels, share=0.6),
    ):
        def made(module, dtype):
            given = [logits.to(dtype, copy=True) for logits in exact]
            if mixture is None:
                return module.divergence_(*given, mask.to(dtype), None), given[0]
            return module.mixture_(*given, mask.to(dtype), mixture, None), given[0]

        pairs = zip(made(kernel, torch.float32), made(divergence, torch.float64), strict=True)
        for what, (ours, theirs) in zip(("value", "gradient"), pairs, strict=True):
            error = (ours.double() - theirs).norm() / theirs.norm()
            errors[f"{what} of {vocabulary}, {mixture}"] = error.item()

# Two ranks with unequal parts of the vocabulary.
rank, world = 0 if os.fork() else 1, torch.distributed
world.init_process_group("gloo", store=world.FileStore(sys.argv[1], 2), rank=rank, world_size=2)
exact = [3 * torch.randn(9, 301, generator=draw, dtype=torch.float64) for _ in range(2)]
for mixture in (None, divergence.Mixture(labels=torch.arange(9) * 41 % 301, share=0.3, temperature=2.0)):
    whole, mine = [logits.clone() for logits in exact], slice(None, 100) if rank == 0 else slice(100, None)
    parts = [logits[:, mine].float() for logits in exact]
    if mixture is None:
        wanted = divergence.divergence_(*whole, mask)
        found = kernel.divergence_(*parts, mask.float(), world.group.WORLD)
    else:
        wanted = divergence.mixture_(*whole, mask, mixture)
        mixture = dataclasses.replace(mixture, first=mine.start or 0)
        found = kernel.mixture_(*parts, mask.float(), mixture, world.group.WORLD)
    world.all_reduce(found)
    worst = torch.stack([(found - wanted).norm() / wanted.norm(), (parts[0] - whole[0][:, mine]).norm()])
    world.all_reduce(worst, world.ReduceOp.MAX)
    errors[f"two ranks, {mixture}"] = worst.max().item()
if rank:
    os._exit(0)
print(json.dumps(errors))
"""


def test_in_tritons_interpreter_the_kernel_is_the_formula_to_the_digits_of_float32(tmp_path):
    """On any machine with Triton, a GPU or none."""
    pytest.importorskip("triton", reason="the kernel is Triton's")
    done = subprocess.run(
        [sys.executable, "-c", IN_FLOAT32, str(tmp_path / "store")],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    errors = json.loads(done.stdout)
    assert len(errors) == 14 and max(errors.values()) < 1e-6, errors


@pytest.mark.gpu
@pytest.mark.parametrize("vocabulary", [131072, 5003])
@pytest.mark.parametrize(("share", "temperature"), [(0.1, 1.0), (0.4, 2.0)])
def test_on_a_gpu_the_kernel_of_a_mixture_agrees_with_float64(vocabulary, share, temperature):
    draw = torch.Generator("cuda").manual_seed(0)
    student, teacher = (
        torch.randn(64, vocabulary, generator=draw, device="cuda", dtype=torch.bfloat16) * 3 for _ in range(2)
    )
    mask = (torch.arange(64, device="cuda") % 5 > 0).float()
    labels = torch.randint(0, vocabulary, (64,), generator=draw, device="cuda")
    mixture = Mixture(labels=labels, share=share, temperature=temperature)
    exact, on_cpu = student.double().cpu(), Mixture(labels=labels.cpu(), share=share, temperature=temperature)
    sums = mixture_(exact, teacher.double().cpu(), mask.double().cpu(), on_cpu)
    made = student.clone()
    assert mixture_(made, teacher.clone(), mask, mixture).tolist() == pytest.approx(sums.tolist(), rel=1e-5)
    error = (made.double().cpu() - exact).norm() / exact.norm()
    assert error.item() < 3e-3  # the rounding of bf16, in which the gradient is stored


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
