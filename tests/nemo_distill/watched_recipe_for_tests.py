"""One step that is watched, on any layout."""

from pathlib import Path

from nemo_distill import Context, Health, entrypoint, main
from nemo_distill.config.resolved import Parallelism
from nemo_distill.launch.launch import launch
from nemo_distill.run.facts import Beside, RunFacts
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import Step, place

LAYOUT, HEALTH = Parallelism(), Health()


@entrypoint
def watched(ctx: Context, iterations: int = 12, layout: Parallelism = LAYOUT, health: Health = HEALTH) -> None:
    """So many iterations."""
    runs = Path("runs").resolve()
    specs = place([Step("distill", "watched_steps_for_tests", {"iterations": iterations})], runs=runs)
    launch(ctx, Run(name=ctx.name, runs=runs, specs=specs, facts=RunFacts(beside=Beside(layout=layout, health=health))))


if __name__ == "__main__":
    main(watched)
