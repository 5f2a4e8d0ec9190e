"""Finds what finished evaluations took, by which the preview tells what the next ones will.

    found, unread = measured_in(Path("runs"))
    found[0].shape, found[0].way.in_flight, found[0].asked[0].generated

Every evaluation keeps its own record (`evaluator.results.spent`). Those of a folder of runs are read whoever ran them;
one that cannot be read is named, and holds up nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.results.spent import SPENT_FILE, Asking, load_spent
from nemo_distill import families
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.run.step import is_done

PREFIX = "evaluate-"
"""What the names of evaluations begin with, before the checkpoint's label."""
OTHERS = ("teacher", "pruned")
"""Labels of checkpoints that are no milestones."""
FORMATS = {"FP8": "fp8", "NVFP4": "nvfp4"}
"""Formats of quantised matrices, by their names in a config.json."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a checkpoint is asked."""

    gpus: int = 1
    """GPUs of a server; 0: it computes on CPUs."""
    in_flight: int = 128
    """Answers that each of them computes at a time, at most."""
    together: bool = True
    """Whether one server is asked all benchmarks at the same time; else each has one of its own."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one finished evaluation took."""

    name: str
    """Name of its step."""
    shape: Shape
    """Sizes of the checkpoint."""
    format: str
    """Format of the matrices that are quantised: a name in `plan.quantisation.BYTES`."""
    gpu: str
    """Kind of GPU, as the driver names it; empty where it is not known."""
    way: Way
    """How it was asked."""
    start_seconds: float | None
    """Wall time until the engine was ready; None where it is not known."""
    seconds: float
    """Wall time from then until the last benchmark had ended."""
    asked: tuple[Asking, ...]
    """What was asked, by benchmark."""

    @property
    def role(self) -> str:
        """`teacher`, `pruned` or `student`."""
        label = self.name.removeprefix(PREFIX)
        return label if label in OTHERS else "student"


def measured_in(runs: Path) -> tuple[tuple[Measured, ...], tuple[str, ...]]:
    """Evaluations of the folder `runs` that are done, and sentences on those whose records are damaged."""
    found, unread = [], []
    for file in sorted(runs.glob(f"{PREFIX}*/*/{SPENT_FILE}")):
        if not is_done(file.parent):
            continue
        try:
            found.append(_measured(file.parent))
        except (ValueError, UserError) as error:
            unread.append(f"What {file.parent.parent.name} took is not known: {str(error).rstrip('.')}.")
    return tuple(found), tuple(unread)


def _measured(folder: Path) -> Measured:
    spent = load_spent(folder)
    config, format = without_format(spent.model)
    what = f"'{folder / SPENT_FILE}'"
    return Measured(
        name=folder.parent.name,
        shape=families.family_of(config, what).shape_of(config),
        format=format,
        gpu=spent.gpu,
        way=Way(gpus=spent.gpus, in_flight=spent.in_flight, together=spent.together),
        start_seconds=spent.start_seconds,
        seconds=spent.seconds,
        asked=spent.benchmarks,
    )


def without_format(config: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """A config.json without what it says of quantised matrices, and their format."""
    said = config.get("quantization_config")
    algorithm = str(said.get("quant_algo")) if isinstance(said, dict) else ""
    return {key: value for key, value in config.items() if key != "quantization_config"}, FORMATS.get(algorithm, "none")
