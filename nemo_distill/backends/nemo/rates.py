"""Sets an optimizer's learning rate to that of a schedule at every iteration; torch only, no NeMo.

    rates = CourseRates(optimizer, schedule)
    optimizer.step()
    rates.step()

Its state is the number of iterations done, so a part of a course goes on at the rate where the one before it ended.
"""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from nemo_distill.config.schedule import Schedule


class CourseRates(LRScheduler):
    """The learning rates of `schedule`; a group of parameters with a rate of its own keeps its proportion to them."""

    def __init__(self, optimizer: Optimizer, schedule: Schedule):
        self.schedule = schedule
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of each group for the next iteration."""
        rate = self.schedule.learning_rate_after(self.last_epoch)
        return [rate * (base / self.schedule.learning_rate) for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """The state without the schedule, which comes from the step's config: checkpoints hold no class of ours."""
        return {name: value for name, value in super().state_dict().items() if name != "schedule"}
