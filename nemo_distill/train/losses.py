"""Reads the logs of a training: `losses.jsonl` (`nemo_distill.train.loss_log`), `held_out.jsonl` (`.held_out`)."""

import json
from pathlib import Path

from nemo_distill.run.inside import opened

HELD_OUT_FILE = "held_out.jsonl"
"""What was measured on held-out documents, beside the losses."""


def read_losses(path: Path, *, until: int | None = None) -> list[dict]:
    """The lines of the log `path` up to iteration `until`; a last line cut by a kill is left out."""
    try:
        with opened(path, "rb") as file:
            texts = file.read().decode("utf-8").splitlines()
    except FileNotFoundError:
        return []
    lines = []
    for text in texts:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if until is None or line["iteration"] <= until:
            lines.append(line)
    return lines


def cut_past(path: Path, iteration: int) -> None:
    """Remove the lines past `iteration` from the log `path`: they belong to an attempt whose weights are lost."""
    kept = read_losses(path, until=iteration)
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))
