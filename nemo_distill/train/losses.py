"""Reads the log of a training's losses, `losses.jsonl` (`nemo_distill.train.loss_log`)."""

import json
from pathlib import Path


def read_losses(path: Path, *, until: int | None = None) -> list[dict]:
    """The lines of `losses.jsonl` up to iteration `until`; a last line cut by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if until is None or line["iteration"] <= until:
            lines.append(line)
    return lines
