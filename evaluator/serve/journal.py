"""Keeps measurements of served checkpoints as lines of a file, each at once.

journal = Journal(folder / "measured.jsonl", {"gpu": "NVIDIA H100 80GB HBM3", "vllm": "0.24.0", "context": 34_048})
if not journal.has(turn, "32768/1024x16"):
    journal.add(turn, "32768/1024x16", rate)
journal.served(turn, ["32768/1024x16"])
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.serve.throughput import Decoding, Memory, Rate, Served, gpu_hours

DECODING, MEMORY = "decode ", "memory"
"""What the name of a rate of decoding begins with, and the name of what memory is taken."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A checkpoint, or the first one again."""

    label: str
    """What tables call it."""
    folder: Path
    """Its Hugging Face folder."""
    identity: str
    """Hash of its config and the sizes of its weights."""
    control: bool = False
    """Whether it is the first one again."""

    @property
    def name(self) -> str:
        """What its logs are called."""
        return f"{self.label}-control" if self.control else self.label

    @property
    def model_id(self) -> str:
        """What it is served as."""
        return f"{self.label}-{self.identity}"


class Journal:
    """Measurements as lines of a file, which grows by one whole line at a time.

    A file of another GPU, vLLM or context, is set aside: what it has is not to be compared with.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]):
        self.path, self.lines = path, list(_lines(path))
        if self.lines[:1] == [header]:
            whole = "".join(json.dumps(line) + "\n" for line in self.lines)
            if path.read_text(encoding="utf-8", errors="replace") != whole:  # a line was cut
                path.write_text(whole, encoding="utf-8")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.replace(path.with_suffix(".before.jsonl"))
        self.lines = []
        self._append(dict(header))

    def has(self, turn: Turn, name: str) -> bool:
        """Whether it was measured."""
        return self._find(turn, name) is not None

    def add(self, turn: Turn, name: str, found: Rate | Decoding | Memory) -> None:
        """Keep what was measured."""
        self._append({**self._head(turn, name), **dataclasses.asdict(found)})

    def served(self, turn: Turn, names: Sequence[str]) -> Served:
        """All that was measured of a checkpoint."""
        lines = [(name, self._find(turn, name)) for name in names]
        decoding = tuple(Decoding(**line) for name, line in lines if line and name.startswith(DECODING))
        memory = self._find(turn, MEMORY)
        return Served(
            label=turn.label,
            identity=turn.identity,
            control=turn.control,
            memory=Memory(**memory) if memory else None,
            rates=tuple(Rate(**line) for name, line in lines if line and not name.startswith(DECODING)),
            decoding=decoding,
            aime_gpu_hours=gpu_hours(decoding) if decoding else None,
        )

    def _head(self, turn: Turn, name: str) -> dict[str, Any]:
        return {"label": turn.label, "identity": turn.identity, "control": turn.control, "measured": name}

    def _find(self, turn: Turn, name: str) -> dict[str, Any] | None:
        head = self._head(turn, name)
        found = [line for line in self.lines if line.items() >= head.items()]
        return {key: value for key, value in found[-1].items() if key not in head} if found else None

    def _append(self, line: dict[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.lines.append(line)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of the file, up to the first that is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines(keepends=True):
        try:
            record = json.loads(line)
        except ValueError:
            return
        if not (line.endswith("\n") and isinstance(record, dict)):
            return
        yield record
