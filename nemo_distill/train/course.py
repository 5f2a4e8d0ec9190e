"""The whole of a training run, whichever framework trains it and however many processes it takes.

A process trains a part of a course, from the iteration its checkpoint stands at to the next milestone. Sample order
and learning rate belong to the whole, so they do not depend on where it is cut.

>>> from nemo_distill.train.course import Course
>>> course = Course.of_indices(max_iterations=100, global_batch_size=16, seq_length=256, seed=1)
>>> course.tokens_per_iteration
4096
>>> "validation_interval" in course.config()
False
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from nemo_distill.config.schedule import COSINE


@dataclass(frozen=True, kw_only=True)
class Course:
    """Length, batch, learning rate and precision of a training run."""

    max_iterations: int
    """Length of the learning-rate schedule in iterations."""
    global_batch_size: int
    """Sequences per iteration."""
    micro_batch_size: int
    """Sequences per forward pass and device."""
    seq_length: int
    """Tokens per sequence."""
    learning_rate: float
    """Learning rate at the end of the warm-up."""
    min_learning_rate: float
    """Learning rate at the end of the schedule."""
    warmup_iterations: int
    """Warm-up length in iterations."""
    weight_decay: float
    """Weight decay of Adam."""
    clip_grad: float
    """Norm to which gradients are clipped."""
    seed: int
    """Seed of the sample order."""
    precision: str
    """Precision of the layers: `32` or `bf16-mixed`."""
    gradients: str = "float32"
    """Precision in which gradients are added up, kept and exchanged: `float32` or, with `bf16-mixed`, `bfloat16`."""
    schedule: str = COSINE
    """Learning-rate schedule: a name in `nemo_distill.config.schedule.SCHEDULES`."""
    validation_interval: int = 0
    """Iterations between validations; 0 for none."""
    validation_batches: int = 0
    """Batches of a validation."""

    @classmethod
    def of_indices(cls, *, max_iterations: int, global_batch_size: int, seq_length: int, seed: int) -> "Course":
        """The course as far as its sample order depends on it, which is all that Megatron's indices are built of."""
        return cls(
            max_iterations=max_iterations,
            global_batch_size=global_batch_size,
            micro_batch_size=1,
            seq_length=seq_length,
            learning_rate=0.0,
            min_learning_rate=0.0,
            warmup_iterations=0,
            weight_decay=0.0,
            clip_grad=0.0,
            seed=seed,
            precision="32",
        )

    @property
    def tokens_per_iteration(self) -> int:
        """Tokens of one global batch."""
        return self.global_batch_size * self.seq_length

    def config(self) -> dict[str, Any]:
        """The fields as the config of a step holds them: the schedule only where it is not the study's, those of a
        validation only where there is one."""
        fields = dataclasses.asdict(self)
        if self.schedule == COSINE:
            del fields["schedule"]
        if not self.validation_interval:
            del fields["validation_interval"], fields["validation_batches"]
        return fields
