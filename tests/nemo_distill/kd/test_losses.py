"""What a student can be distilled by, on whole logits in float64."""

import pytest
import torch

from nemo_distill.errors import UserError
from nemo_distill.kd.losses import find_loss


def random(*shape) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(shape[0]))


STUDENT, STUDENT_WEIGHT, TEACHER, TEACHER_WEIGHT = random(11, 8), random(23, 8), random(11, 16), random(23, 16)
MASK = (torch.arange(11) % 3 > 0).double()


def given(name: str) -> torch.Tensor:
    return find_loss(name)(STUDENT, STUDENT_WEIGHT, TEACHER, TEACHER_WEIGHT, MASK, group=None)


def log_probabilities() -> tuple[torch.Tensor, torch.Tensor]:
    return (STUDENT @ STUDENT_WEIGHT.t()).log_softmax(-1), (TEACHER @ TEACHER_WEIGHT.t()).log_softmax(-1)


def test_the_forward_divergence_is_pytorchs():
    student, teacher = log_probabilities()
    by_token = torch.nn.functional.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    assert torch.allclose(given("forward_kl"), (by_token * MASK).sum())


def test_a_loss_that_there_is_not_is_named_with_the_nearest():
    with pytest.raises(UserError, match="no distill.loss 'forwards_kl'. Did you mean 'forward_kl'"):
        find_loss("forwards_kl")
