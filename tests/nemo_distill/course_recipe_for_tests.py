"""A part of the course of `segments` as a run, in the `folder` that holds what comes before it, on any layout."""

from dataclasses import asdict
from pathlib import Path

import nemo_run as run

from nemo_distill.config.settings import Layout
from nemo_distill.launch.context import Context
from nemo_distill.launch.launch import launch
from nemo_distill.run.manifest import Run
from tests.nemo_distill.segments import CUT, placed, segment

LAYOUT = Layout()


@run.cli.entrypoint(type="experiment", run_ctx_cls=Context)
def course(ctx: Context, folder: str = "", layout: Layout = LAYOUT) -> None:
    """The course up to its milestone, in a segment of its own."""
    specs = placed(Path(folder), segment("distill-jobs", until=CUT))
    launch(ctx, Run(name=ctx.name, runs=Path(folder, "runs"), specs=specs, facts={"layout": asdict(layout)}))


if __name__ == "__main__":
    run.cli.main(course)
