"""Steps as processes on this machine: what `--executor local` stands for."""

from typing import TYPE_CHECKING

from nemo_distill.run.manifest import Run

if TYPE_CHECKING:
    from nemo_distill.launch.local.executor import LocalExecutor


def make() -> "LocalExecutor":
    """The executor as `executors/local.yaml`, if there is one, has it."""
    from nemo_distill.launch.local.executor import made

    return made()


def follow(run: Run) -> None:
    """Its steps end with the command that started them."""
