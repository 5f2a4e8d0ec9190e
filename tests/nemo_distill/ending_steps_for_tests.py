"""Step: a distillation whose first rank fails as soon as its first checkpoint is being written; the next time, no more.

Config: that of `nemo_distill.steps.distill`, and `error`, the name of what is raised.
"""

import builtins

from nemo_distill.steps import distill

VERSION = 1
MANY_RANKS = True
WATCHED = True
IMPORTS = ("nemo_distill.backends:prepared", "nemo_distill.train.health_gate")


def main(spec) -> None:
    from nemo_distill.train import checkpoints

    class Failing(checkpoints.Checkpoints):
        def save(self, number: int) -> None:
            super().save(number)
            if self.view.first_rank:
                raise getattr(builtins, spec.config["error"])("just so")

    if not checkpoints.complete_checkpoints(spec.folder):
        checkpoints.Checkpoints = Failing
    distill.main(spec)
