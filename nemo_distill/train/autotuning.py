"""Triton's autotuning results in a training: earlier processes' are recalled, new ones are kept for later processes."""

import logging
from pathlib import Path

from nemo_distill.compat import device
from nemo_distill.nemotron_h.kernels import tuning
from nemo_distill.train.events import Iteration, Listener, View

logger = logging.getLogger(__name__)


class Autotuning(Listener):
    """Gives Triton the results in `folder`, and after the first iteration keeps what it has tried; for GPUs only."""

    def __init__(self, folder: Path):
        self.folder, self.tuned = folder, False

    def start(self, view: View) -> None:
        super().start(view)
        logger.info("autotuning results of %d kernels are known", tuning.recall(self.folder))

    def iteration_done(self, iteration: Iteration) -> None:
        if not self.tuned:
            self.tuned = True
            device.release_local_memory()
            if self.view.first_rank:
                tuning.remember(self.folder)
