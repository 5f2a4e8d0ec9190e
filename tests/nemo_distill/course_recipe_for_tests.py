"""A part of the course of `segments` as a run, in the `folder` that holds what comes before it, on any layout."""

from pathlib import Path

from nemo_distill import Context, entrypoint, main
from nemo_distill.config.resolved import Parallelism
from nemo_distill.launch.launch import launch
from nemo_distill.run.facts import Beside, RunFacts
from nemo_distill.run.manifest import Run
from tests.nemo_distill.segments import CUT, placed, segment

LAYOUT = Parallelism()


@entrypoint
def course(ctx: Context, folder: str = "", layout: Parallelism = LAYOUT) -> None:
    """The course up to its milestone, in a segment of its own."""
    specs = placed(Path(folder), segment("distill-jobs", until=CUT))
    facts = RunFacts(beside=Beside(layout=layout))
    launch(ctx, Run(name=ctx.name, runs=Path(folder, "runs"), specs=specs, facts=facts))


if __name__ == "__main__":
    main(course)
