"""Reads the tables that reports leave for machines, and says as plain data what a report shows.

    read_csv(folder / SCORES)[0]["mean"]            # 0.925
    record_of(["distill_v1v3-debug"], folder)       # what `nemo-run report --json` prints

Imports nothing heavy: a list of runs reads a report of each.
"""

import contextlib
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluator.text import fixed
from nemo_distill.run.inside import opened
from nemo_distill.run.overview import SCHEMA

SCORES, VERDICTS, STOPPING = "scores.csv", "verdicts.csv", "stopping.csv"
"""Files of `evaluator.report`, the last two of a comparison only."""
AVERAGE = "Average"
"""What `SCORES` calls the mean over benchmarks."""
_TEXTS = ("run", "checkpoint", "role", "benchmark", "key", "family", "at", "column", "one", "other")
"""Columns whose text is no number, whatever it looks like."""


def read_csv(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, numbers as numbers and empty cells as None; no row where it is damaged or not there."""
    try:
        with io.TextIOWrapper(opened(path, "rb"), encoding="utf-8", newline="") as file:
            return [{key: _cell(key, text) for key, text in row.items() if key} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def points_of(points: float, *, signed: bool = False) -> str:
    """A score from 0 to 100, or a difference of two, as reports write it: rounded by their rule."""
    return fixed(points, signed=signed)


def record_of(runs: Sequence[str], folder: Path) -> dict[str, Any]:
    """The report in `folder`, of `runs`, as plain data: the rows of its tables by their columns."""
    tables = {path.removesuffix(".csv"): read_csv(folder / path) for path in (SCORES, VERDICTS, STOPPING)}
    return {"schema": SCHEMA, "runs": list(runs), "report": str(folder / "report.html"), **tables}


def _cell(column: str, text: str | None) -> Any:
    if not text:
        return None
    if column not in _TEXTS:
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(text)
    return text
