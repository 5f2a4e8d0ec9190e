"""Keeps what an evaluation took, benchmark by benchmark: what a later one is planned by, and no score rests on.

    save_spent(folder, spent)
    load_spent(folder).benchmarks[0].generated / load_spent(folder).benchmarks[0].seconds    # tokens a second

`spent.json` lies beside `results.json`. It is a record of its own, so that results stay as they are, and hundreds of
them are read in a moment.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluator.results.files import form, items, mapping, number, read_object, text, whole

SPENT_FILE = "spent.json"


@dataclass(frozen=True, kw_only=True)
class Asking:
    """One benchmark."""

    task: str
    """The task's name, see `evaluator.suites.suite`."""
    questions: int
    """Number of questions."""
    repeats: int
    """Times each was asked."""
    prompt: int
    """Tokens of all prompts; 0 where the endpoint did not say."""
    generated: int
    """Tokens of all answers; 0 where the endpoint did not say."""
    limit: int | None
    """Most tokens of an answer; None where the task itself limits them to a word or two."""
    seconds: float
    """Wall time of the evaluation that asked it, scoring included; others may have been asked meanwhile."""
    once: bool = True
    """Whether all of it was asked in that time: nothing was cut and went on, or was known before."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What the evaluation of one checkpoint took."""

    engine: str
    """What served it: vllm, transformers, or the image of the launcher's deployment."""
    version: str
    """Its version; empty where an image says it."""
    gpu: str
    """Kind of GPU, as the driver names it; empty where it is not known, or none."""
    gpus: int
    """GPUs that served at the same time; 0 on CPUs."""
    in_flight: int
    """Answers that each of them computed at a time, at most."""
    together: bool
    """Whether all benchmarks were asked at the same time."""
    start_seconds: float | None
    """Wall time from the engine's start until it was ready; None where it is not known."""
    seconds: float
    """Wall time from then until the last benchmark had ended."""
    benchmarks: tuple[Asking, ...]
    """Every benchmark, in the suite's order."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """The checkpoint's config.json."""


def save_spent(folder: Path, spent: Spent) -> None:
    """Write spent.json into `folder`."""
    (folder / SPENT_FILE).write_text(json.dumps(dataclasses.asdict(spent), indent=1) + "\n", encoding="utf-8")


def load_spent(folder: Path) -> Spent:
    """Read what `save_spent` wrote; what a later version added is passed over.

    Raises ValueError naming the file where it is not there, not that, or holds what cannot be.
    """
    path = folder / SPENT_FILE
    record = read_object(path)
    with form(f"'{path}'"):
        started = record["start_seconds"]
        return Spent(
            engine=text(record["engine"], "engine"),
            version=text(record["version"], "version"),
            gpu=text(record["gpu"], "gpu"),
            gpus=whole(record["gpus"], "gpus"),
            in_flight=whole(record["in_flight"], "in_flight", least=1),
            together=bool(record["together"]),
            start_seconds=None if started is None else number(started, "start_seconds"),
            seconds=number(record["seconds"], "seconds"),
            benchmarks=tuple(_asking(mapping(one, "a benchmark")) for one in items(record["benchmarks"], "benchmarks")),
            model=mapping(record["model"], "model"),
        )


def _asking(record: dict[str, Any]) -> Asking:
    name, limit = text(record["task"], "the name of a task"), record["limit"]
    return Asking(
        task=name,
        questions=whole(record["questions"], f"questions of {name}", least=1),
        repeats=whole(record["repeats"], f"repeats of {name}", least=1),
        prompt=whole(record["prompt"], f"prompt of {name}"),
        generated=whole(record["generated"], f"generated of {name}"),
        limit=None if limit is None else whole(limit, f"limit of {name}", least=1),
        seconds=number(record["seconds"], f"seconds of {name}"),
        once=bool(record["once"]),
    )
