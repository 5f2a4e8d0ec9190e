"""What of an iteration is a rank's own work: but for where it waits for the other copies' losses and gradients.

    own = OwnTime(config)
    own.begin()                      # an iteration
    passes()                         # the losses of a microbatch are done, and about to be averaged
    passes()                         # they have been
    own.seconds()

Ranks that share a copy of the model wait for each other within each layer as well, so they are told apart by copies.
"""

import threading
import time
from typing import Any

import torch

from nemo_distill.compat.device import on_gpu
from nemo_distill.run import beats

LATE_SECONDS = 30.0
"""How often a rank that does not get on looks whether its GPU has arrived, whose CPU has told it all and waits."""


class OwnTime:
    """Times each iteration of a training whose Megatron config is `config`, and notes where its own parts are done."""

    def __init__(self, config):
        global _here
        _here = self
        self._gpu = on_gpu()
        self._began: Any = None
        self._marks: list[Any] = []
        if self._gpu:
            threading.Thread(target=_look_late, args=(torch.cuda.current_device(),), daemon=True).start()
        finalize = config.finalize_model_grads_func

        def arrived(*arguments, **named):
            self.passes()
            return finalize(*arguments, **named)

        config.finalize_model_grads_func = arrived

    def begin(self) -> None:
        """An iteration begins."""
        self._began, self._marks = self._mark(), []

    def passes(self) -> None:
        """This rank begins to wait for others, or has waited for them; the last time in an iteration it begins to."""
        self._marks = [*self._marks, self._mark()]
        if self._gpu:  # which has yet to do what the CPU has told it
            marks = self._marks
            beats.here().reached = lambda: sum(mark.query() for mark in marks)
        else:
            beats.here().arrive(len(self._marks))

    def seconds(self) -> float | None:
        """Own time of the iteration that is over, whose results the CPU has; None where it is not known."""
        if len(self._marks) % 2 == 0 or (self._gpu and not self._marks[-1].query()):
            return None
        begins = [self._began, *self._marks[1::2]]
        return sum(self._between(begin, end) for begin, end in zip(begins, self._marks[::2], strict=True))

    def _between(self, begin, end) -> float:
        return begin.elapsed_time(end) / 1000 if self._gpu else end - begin

    def _mark(self):
        if not self._gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


_here: OwnTime | None = None


def passes() -> None:
    """As `OwnTime.passes`, of the training of this process, if it has one."""
    if _here is not None:
        _here.passes()


def _look_late(gpu: int) -> None:
    torch.cuda.set_device(gpu)  # a thread begins with the first, and would take memory there for a context of its own
    while True:
        time.sleep(LATE_SECONDS)
        beat = beats.here()
        if beat.clock() - beat.note.since > LATE_SECONDS:
            beat.look()
