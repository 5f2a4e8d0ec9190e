"""A training that is equal bit for bit when it is repeated: under what it began, and kernels of one variant each."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from nemo_distill.compat import device
from nemo_distill.config.resolved import Parallelism
from nemo_distill.run.conditions import Conditions
from nemo_distill.train.events import Listener, View


def conditions(layout: Parallelism, versions: Mapping[str, str]) -> Conditions:
    """Those of this process, whose backend's packages have these `versions`."""
    return Conditions.of(layout, device=device.name(), versions={**versions, **device.versions()})


class Deterministic(Listener):
    """Leaves each of mamba-ssm's kernels one variant, and keeps the conditions in the step's `folder`."""

    def __init__(self, folder: Path, here: Conditions):
        self.folder, self.here = folder, here

    def start(self, view: View) -> None:
        super().start(view)
        kernels = {}
        if device.on_gpu():
            from nemo_distill.nemotron_h.kernels import tuning

            kernels = tuning.keep_one_variant()
        if view.first_rank:
            dataclasses.replace(self.here, kernels=kernels).write(self.folder)
