"""What a student is distilled by: a name in `LOSSES`, a function of what enters both models' output layers.

    loss = find_loss("forward_kl")(student, student_weight, teacher, teacher_weight, mask, group=None)

Adding a loss is adding a function and its name here; `distill.loss=NAME` takes it. torch is not imported before a loss
is computed, so that a preview can ask for the names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from nemo_distill.config.settings import FORWARD_KL
from nemo_distill.errors import UserError, nearest

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup


class Loss(Protocol):
    """A sum over tokens, differentiable by `student` and `student_weight`."""

    def __call__(
        self,
        student: Tensor,
        student_weight: Tensor,
        teacher: Tensor,
        teacher_weight: Tensor,
        mask: Tensor,
        *,
        group: ProcessGroup | None,
    ) -> Tensor:
        """Args as `divergence.masked_divergence` takes them; with a `group`, a rank gives its part of the sum."""


def forward_kl(student, student_weight, teacher, teacher_weight, mask, *, group) -> Tensor:
    """Forward KL divergence of the student from the teacher, as in the study, over chunks of tokens."""
    from nemo_distill.kd.divergence import masked_divergence

    return masked_divergence(student, student_weight, teacher, teacher_weight, mask, group=group)


LOSSES: dict[str, Loss] = {
    FORWARD_KL: forward_kl,
}
"""Every loss by the name that `distill.loss` takes."""


def find_loss(name: str) -> Loss:
    """The loss called `name`; raises `UserError` with the nearest name there is."""
    if name not in LOSSES:
        raise UserError(f"there is no distill.loss '{name}'. {nearest(name, LOSSES)}")
    return LOSSES[name]
