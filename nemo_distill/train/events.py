"""What happens in a training, told to listeners in words of our own, whichever framework trains.

    class Loud(Listener):
        def iteration_done(self, iteration):
            if iteration.loss > 10:
                self.view.stop(f"the loss is {iteration.loss} at iteration {iteration.number}.")

Every rank tells its own listeners, in the order in which they were given: `start` once the models stand,
`iteration_done` after every iteration of the optimizer, `end` when a part of the course was trained to its end. A
listener acts on the training through its `view`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

import numpy as np
from torch import Tensor

from nemo_distill.data.held_out import Batch


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """One iteration of the optimizer, as every rank knows it."""

    number: int
    """Number of the iteration in the course, from 1."""
    loss: float
    """Mean loss of the global batch, in nats."""
    learning_rate: float
    """Learning rate that the iteration was made with."""
    tokens: int
    """Tokens since the start of the course."""
    seconds: float
    """Duration in seconds."""
    grad_norm: float | None = None
    """Norm of the global batch's gradient before clipping; None where the framework does not say."""
    loss_parts: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """What the loss was mixed of: means over the global batch in nats, before their shares, by name; empty for a loss
    that is not mixed."""
    memory: int | None = None
    """Peak memory of this rank so far in bytes, the GPU's where there is one; None where it is not known."""


class View(Protocol):
    """A training as its listeners see it."""

    failed: OSError | None
    """What a listener of this rank has failed with while something was being saved; None: nothing."""

    @property
    def first_rank(self) -> bool:
        """Whether this is the rank that writes."""

    @property
    def iteration(self) -> int:
        """Iterations of the course that are done."""

    def teacher_loss(self) -> float:
        """The teacher's own next-token loss on the blend, in nats, the same on every rank."""

    def held_out(self, batches: Sequence[Batch]) -> list[np.ndarray]:
        """`kd.held_out.SUMS` of each document of each batch, (documents, 3), the same on every rank; nothing of the
        training is changed by it. All ranks together, which share the batches."""

    def state(self) -> dict[str, Tensor]:
        """The trained model's tensors in our names (`backends.Backend.state_of`)."""

    def save(self, folder: Path, then: Callable[[], None]) -> None:
        """Write a checkpoint, optimizer included, into `folder`, and call `then` on every rank when all of it is on
        disk: before this returns or, where saves overlap with the training, after a later iteration. All ranks
        together."""

    @property
    def saving(self) -> bool:
        """Whether something is being saved while the training goes on; the same on every rank."""

    def finish_saving(self) -> None:
        """Go on when whatever is being saved is on disk, and has been said to be; all ranks together."""

    def wait_for_all(self) -> None:
        """Go on when every rank is here."""

    def stop(self, reason: str) -> NoReturn:
        """End the training on this rank with `UserError`; every rank has to come to the same verdict."""


class Listener:
    """Does nothing when it is told of something: what listens overrides what it wants to hear."""

    view: View
    """The training, from `start` on."""

    def start(self, view: View) -> None:
        """The models stand and the first iteration is about to begin."""
        self.view = view

    def iteration_done(self, iteration: Iteration) -> None:
        """An iteration is over."""

    def end(self) -> None:
        """The last iteration of this part of the course is over."""


class Audience:
    """The listeners of a part of a course, told one after the other.

    What is saved while the training goes on is complete once all ranks have met over it. So what one rank alone fails
    with meanwhile, as the log of losses does on a full disk, ends the training when that is done, and before anything
    newer is saved.
    """

    def __init__(self, listeners: Sequence[Listener]):
        self.listeners = listeners

    def start(self, view: View) -> None:
        self._view = view
        for listener in self.listeners:
            listener.start(view)

    def iteration_done(self, iteration: Iteration) -> None:
        self._tell(lambda listener: listener.iteration_done(iteration))

    def end(self) -> None:
        self._tell(lambda listener: listener.end())

    def _tell(self, what: Callable[[Listener], None]) -> None:
        for listener in self.listeners:
            self._end_if_failed()
            try:
                what(listener)
            except OSError as error:
                if not self._view.saving:
                    raise
                self._view.failed = self._view.failed or error
        self._end_if_failed()

    def _end_if_failed(self) -> None:
        if self._view.failed and not self._view.saving:
            raise self._view.failed
