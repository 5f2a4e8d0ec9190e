"""What of an iteration is a rank's own work: up to where its gradients are done, and it waits for the other copies'.

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
    """Times each iteration of a training whose Megatron config is `config`, and notes when its own part is done."""

    def __init__(self, config):
        self._gpu = on_gpu()
        self._began: Any = None
        self._arrived: Any = None
        if self._gpu:
            threading.Thread(target=_look_late, daemon=True).start()
        finalize = config.finalize_model_grads_func

        def arrived(*arguments, **named):
            self._arrive()
            return finalize(*arguments, **named)

        config.finalize_model_grads_func = arrived

    def begin(self) -> None:
        """An iteration begins."""
        self._began, self._arrived = self._mark(), None

    def seconds(self) -> float | None:
        """Own time of the iteration that is over, whose results the CPU has; None where it is not known."""
        if self._arrived is None:
            return None
        if not self._gpu:
            return self._arrived - self._began
        return self._began.elapsed_time(self._arrived) / 1000 if self._arrived.query() else None

    def _arrive(self) -> None:
        self._arrived = self._mark()
        if self._gpu:  # which has yet to do what the CPU has told it
            beats.here().reached = self._arrived.query
        else:
            beats.here().arrive()

    def _mark(self):
        if not self._gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _look_late() -> None:
    while True:
        time.sleep(LATE_SECONDS)
        beat = beats.here()
        if beat.clock() - beat.note.since > LATE_SECONDS:
            beat.look()
