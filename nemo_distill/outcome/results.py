"""Reads finished evaluations, each once, however many runs share it and however many tables it is in.

result_of(Path("runs/evaluate-80B/0123456789ab"))       # a CheckpointResult
"""

import functools
from pathlib import Path

from evaluator.results.scores import RESULTS_FILE, CheckpointResult


def result_of(evaluation: Path) -> CheckpointResult:
    """A finished evaluation's answers. Raises ValueError when they are damaged."""
    path = evaluation / RESULTS_FILE
    return _result(evaluation, path.stat().st_mtime_ns if path.exists() else 0)


@functools.cache
def _result(evaluation: Path, changed: int) -> CheckpointResult:
    return CheckpointResult.load(evaluation)
