"""Steps in the shape of a real run on a box: two segments on two GPUs, evaluations on one, and what needs none."""

from dataclasses import dataclass
from pathlib import Path

from nemo_distill import Context, entrypoint
from nemo_distill.launch.launch import launch
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import Step, place

ONE, TWO, NONE = "gpu_steps_for_tests", "wide_gpu_steps_for_tests", "one_rank_steps_for_tests"


@dataclass(frozen=True, kw_only=True)
class Box:
    """How long each step takes."""

    seconds: float = 0.3


@entrypoint
def box(ctx: Context, box: Box = Box(), runs: str = "runs") -> None:
    """import -> distill-1 -> distill-2, evaluations of the teacher and of both, and `prepare`, which has no GPU."""
    told = {"seconds": box.seconds}
    steps = [
        Step("import", ONE, told),
        Step("prepare", NONE, {"variables": ["CUDA_VISIBLE_DEVICES"]}),
        Step("distill-1", TWO, told, ("import", "prepare")),
        Step("distill-2", TWO, told, ("distill-1",)),
        Step("evaluate-teacher", ONE, told),
        Step("evaluate-1", ONE, told, ("distill-1",)),
        Step("evaluate-2", ONE, told, ("distill-2",)),
    ]
    folder = Path(runs).resolve()
    launch(ctx, Run(name=ctx.name, runs=folder, specs=place(steps, runs=folder)))
