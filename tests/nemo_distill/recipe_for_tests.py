"""Small steps in the shape of a real run: a chain, and two branches that follow it."""

from dataclasses import dataclass
from pathlib import Path

from nemo_distill import Context, Distill, entrypoint, main
from nemo_distill.config.resolved import Parallelism
from nemo_distill.launch.launch import launch
from nemo_distill.run.facts import Beside, RunFacts
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import Step, place


@dataclass(frozen=True, kw_only=True)
class Small:
    """How long a segment takes, and how one of them ends."""

    seconds: float = 0.0
    fail: str = ""
    lines: int = 0
    variables: str = ""
    says: str = ""
    gate: str = ""
    module: str = "steps_for_tests"
    beside: bool = False


DISTILL = Distill(learning_rate=1e-3)
LAYOUT = Parallelism()


@entrypoint
def small(
    ctx: Context,
    small: Small = Small(lines=3),
    distill: Distill = DISTILL,
    layout: Parallelism = LAYOUT,
    runs: str = "runs",
) -> None:
    """world -> prune -> distill-1 -> distill-2, each distill-* followed by its evaluate-*."""
    module, spread = small.module, small.module
    if module in ("steps_for_tests", "going_on_steps_for_tests"):
        module = "one_rank_steps_for_tests"
    config = {"seconds": small.seconds, "learning_rate": distill.learning_rate, "gate": small.gate}
    told = {"variables": small.variables.split()} if small.variables else {}
    says = {"says": small.says} if small.says else {}
    steps = [
        Step("world", module, {"seconds": 0.1}),
        Step("prune", module, told, ("world",)),
        Step("distill-1", spread, config, ("prune",)),
        Step("distill-2", spread, {**config, "fail": small.fail, "lines": small.lines, **says}, ("distill-1",)),
        Step("evaluate-1", module, {}, ("distill-1",)),
        Step("evaluate-2", module, {}, ("distill-2",)),
    ]
    if small.beside:
        steps.append(Step("beside", module, {"fail": "error"}, ("prune",)))
    folder = Path(runs).resolve()
    facts = RunFacts(beside=Beside(layout=layout))
    launch(ctx, Run(name=ctx.name, runs=folder, specs=place(steps, runs=folder), facts=facts))


if __name__ == "__main__":
    main(small)
