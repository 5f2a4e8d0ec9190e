"""Finds what finished evaluations took, and what rates were measured, by which the preview tells what others will.

    found, unread = measured_in(Path("runs"))
    found[0].shape, found[0].way.in_flight, found[0].asked[0].generated
    rates, unread = rates_in(Path("runs"))
    rates[0].shape, rates[0].decoding[0].tokens_per_second

Every evaluation keeps its own record (`evaluator.results.spent`), and so does what measures served checkpoints
(`evaluator.serve.throughput`). Those of a folder of runs are read whoever ran them; one that cannot be read is named,
and holds up nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.results.spent import SPENT_FILE, Asking, load_spent
from evaluator.serve.throughput import RESULTS_FILE, Decoding, Setting, read_throughput
from nemo_distill import families
from nemo_distill.config.plain import resolve_package_paths
from nemo_distill.config.teacher import path_of
from nemo_distill.data.models import CONFIG
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.run.step import SPEC_FILE, Spec, is_done

PREFIX = "evaluate-"
"""What the names of evaluations begin with, before the checkpoint's label."""
SERVE_BENCH = "serve_bench"
"""Name of the step that measures served checkpoints."""
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
    """Evaluations of the folder `runs` that are done, newest first, and sentences on those with damaged records."""
    found, unread = [], []
    for file in sorted(runs.glob(f"{PREFIX}*/*/{SPENT_FILE}"), key=_age):
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


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What one served checkpoint reached."""

    name: str
    """Step and label of the checkpoint."""
    shape: Shape
    """Sizes of the checkpoint."""
    format: str
    """Format of the matrices that are quantised: a name in `plan.quantisation.BYTES`."""
    gpu: str
    """Kind of GPU, as the driver names it."""
    decoding: tuple[Decoding, ...]
    """Rates of decoding, by context."""
    settings: tuple[tuple[Setting, float], ...]
    """Settings, and generated tokens per second at each."""


def rates_in(runs: Path) -> tuple[tuple[Rates, ...], tuple[str, ...]]:
    """Rates of checkpoints that were served in the folder `runs`, and sentences on what cannot be read.

    A checkpoint that is there no more, or that only the Hub has, is left out: nothing says its sizes.
    """
    found, unread = [], []
    for folder in (file.parent for file in sorted(runs.glob(f"{SERVE_BENCH}/*/{RESULTS_FILE}"), key=_age)):
        if not is_done(folder):
            continue
        throughput = read_throughput(folder)
        if throughput is None:
            unread.append(f"What {folder.parent.name} measured is not known: '{folder / RESULTS_FILE}' is damaged.")
            continue
        try:
            spec = Spec.load(folder / SPEC_FILE)
            sources = {label: _folder(spec, of) for label, of in resolve_package_paths(spec.config)["checkpoints"]}
            found += [
                Rates(
                    name=f"{spec.name} of {one.label}",
                    shape=families.family_of(config, one.label).shape_of(config),
                    format=format,
                    gpu=throughput.gpu,
                    decoding=one.decoding,
                    settings=tuple((Setting.parse(rate.setting), rate.tokens_per_second) for rate in one.rates),
                )
                for one in throughput.models
                if not one.control and (read := _config(sources.get(one.label)))
                for config, format in (without_format(read),)
            ]
        except (OSError, ValueError, LookupError, TypeError, UserError) as error:
            unread.append(f"What {folder.parent.name} measured is not known: {str(error).rstrip('.')}.")
    return tuple(found), tuple(unread)


def _age(file: Path) -> tuple[float, str]:
    """Sorts files by when they were written, the newest first."""
    return -file.stat().st_mtime, str(file)


def _folder(spec: Spec, of: str) -> Path:
    """Folder of the checkpoint that a step made, or that a path names."""
    return spec.upstream[of] / "hf" if of in spec.upstream else Path(path_of(of, spec.beside.teacher))


def _config(folder: Path | None) -> dict[str, Any] | None:
    """The config.json in a folder; None where there is none."""
    file = folder / CONFIG if folder else None
    return json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else None


def without_format(config: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """A config.json without what it says of quantised matrices, and their format."""
    said = config.get("quantization_config")
    algorithm = str(said.get("quant_algo")) if isinstance(said, dict) else ""
    return {key: value for key, value in config.items() if key != "quantization_config"}, FORMATS.get(algorithm, "none")
