"""Recognises runs of one blend that differ in their seed only, by what decided their steps.

group([run, other, twin])           # [[run, twin], [other]]
"""

from collections.abc import Sequence
from typing import Any

from nemo_distill.run.manifest import Run

_NOT_TRAINING = ("report", "export", "quantize", "evaluate", "serve_bench", "contamination")
"""Steps that train nothing, by the first part of their names."""
_SEED = "seed"


def group(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs, those that are replicates of one another together, in the order in which they were named."""
    groups: list[list[Run]] = []
    for run in runs:
        for found in groups:
            if all(are_replicates(run, other) for other in found):
                found.append(run)
                break
        else:
            groups.append([run])
    return groups


def are_replicates(run: Run, other: Run) -> bool:
    """Whether what trained the two is the same but for its seed, as far as both went.

    A run that was cut at an earlier milestone is a replicate up to there: the steps that it has are compared.
    """
    mine, theirs = _training(run), _training(other)
    shared = mine.keys() & theirs.keys()
    if not any(name.startswith("distill-") for name in shared) or not (
        shared == mine.keys() or shared == theirs.keys()
    ):
        return False
    if any(_without_seed(mine[name]) != _without_seed(theirs[name]) for name in shared):
        return False
    return any(mine[name] != theirs[name] for name in shared)  # else the two are one run


def _training(run: Run) -> dict[str, Any]:
    """What decides each step that the student's weights rest on, by the step's name."""
    return {
        name: {"module": spec.module, "config": spec.config}
        for name, spec in run.specs.items()
        if name.split("-")[0] not in _NOT_TRAINING
    }


def _without_seed(value: Any) -> Any:
    """Plain data without what stands under `seed`, however deep."""
    if isinstance(value, dict):
        return {key: _without_seed(inner) for key, inner in value.items() if key != _SEED}
    return [_without_seed(inner) for inner in value] if isinstance(value, list | tuple) else value
