"""Small steps in the shape of a real run: a chain, and two branches that follow it."""

from dataclasses import asdict, dataclass
from pathlib import Path

import nemo_run as run

from nemo_distill.config.settings import Distill, Layout
from nemo_distill.launch.context import Context
from nemo_distill.launch.launch import launch
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import Step, place


@dataclass(frozen=True, kw_only=True)
class Small:
    """How long a segment takes, and how one of them ends."""

    seconds: float = 0.0
    fail: str = ""
    lines: int = 0
    variables: str = ""
    gate: str = ""
    module: str = "steps_for_tests"


DISTILL = Distill(learning_rate=1e-3)
LAYOUT = Layout()


@run.cli.entrypoint(type="experiment", run_ctx_cls=Context)
def small(
    ctx: Context,
    small: Small = Small(lines=3),
    distill: Distill = DISTILL,
    layout: Layout = LAYOUT,
    runs: str = "runs",
) -> None:
    """world -> prune -> distill-1 -> distill-2, each distill-* followed by its evaluate-*."""
    module = small.module
    config = {"seconds": small.seconds, "learning_rate": distill.learning_rate, "gate": small.gate}
    steps = [
        Step("world", module, {"seconds": 0.1}),
        Step("prune", module, {"variables": small.variables.split()} if small.variables else {}, ("world",)),
        Step("distill-1", module, config, ("prune",)),
        Step("distill-2", module, {**config, "fail": small.fail, "lines": small.lines}, ("distill-1",)),
        Step("evaluate-1", module, {}, ("distill-1",)),
        Step("evaluate-2", module, {}, ("distill-2",)),
    ]
    folder = Path(runs).resolve()
    launch(ctx, Run(name=ctx.name, runs=folder, specs=place(steps, runs=folder), facts={"layout": asdict(layout)}))


if __name__ == "__main__":
    run.cli.main(small)
