"""Rows of a source's files, one after another, and the text that each becomes before it is tokenised.

A row that cannot be used is counted by its reason and dropped; `Tally.check` fails when too many were.

    tally = Tally()
    for row in rows([Path("corpora/math.jsonl")], field="messages", tally=tally):
        conversation = with_inline_reasoning(row)
    tally.check(allowed=0.01, where="math")
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nemo_distill.errors import UserError

ENDINGS = (".jsonl", ".jsonl.gz")
"""Of the files that can be read."""


@dataclass
class Tally:
    """What was read and what was dropped, and why."""

    rows: int = 0
    """Rows seen, blank lines not counted."""
    bytes: int = 0
    """Bytes of them, unpacked."""
    dropped: Counter = field(default_factory=Counter)
    """Rows dropped by reason."""
    first: str = ""
    """Where the first malformed row stands, and what is wrong with it."""

    def drop(self, reason: str, where: str) -> None:
        """Count a malformed row."""
        self.dropped[reason] += 1
        self.first = self.first or f"{where}: {reason}"

    def check(self, *, allowed: float, where: str) -> None:
        """Raise `UserError` when over `allowed` (a share of 1) of the rows were malformed, or nothing was read."""
        malformed = sum(self.dropped.values())
        if self.rows == 0:
            raise UserError(f"{where} has no documents.")
        if malformed > allowed * self.rows:
            raise UserError(
                f"{malformed:,} of {self.rows:,} rows of {where} are malformed, more than the {allowed:.2%} allowed; "
                f"the first is {self.first}."
            )


def rows(files: Iterable[Path], *, field: str, tally: Tally) -> Iterator[str | list[dict]]:
    """The `field` of every row of `files` (.jsonl or .jsonl.gz): a text, or a list of messages.

    Malformed rows are counted in `tally`. Raises `UserError` for a file that is missing, of another kind, or cut
    short in its compression.
    """
    for path in files:
        for number, line in _lines(path):
            tally.bytes += len(line)
            if line.isspace():
                continue
            tally.rows += 1
            try:
                yield _field(json.loads(line), field)
            except UnicodeDecodeError:
                tally.drop("not UTF-8", f"{path}, line {number}")
            except json.JSONDecodeError:
                tally.drop("not JSON", f"{path}, line {number}")
            except _MalformedError as error:
                tally.drop(str(error), f"{path}, line {number}")


class _MalformedError(Exception):
    """A row that is JSON but no document."""


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    if not path.name.endswith(ENDINGS):
        raise UserError(f"{path} is none of {', '.join(ENDINGS)}.")
    try:
        with gzip.open(path, "rb") if path.name.endswith(".gz") else open(path, "rb") as file:
            yield from enumerate(file, start=1)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}.") from None
    except (EOFError, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is damaged: {error}.") from None


def _field(row, field: str) -> str | list[dict]:
    if not isinstance(row, dict):
        raise _MalformedError(f"a {type(row).__name__} and no object")
    if field not in row:
        raise _MalformedError(f"no field {field!r}")
    value = row[field]
    if field == "text":
        if not isinstance(value, str):
            raise _MalformedError("'text' is no text")
        return value
    if not isinstance(value, list) or not value:
        raise _MalformedError("'messages' is no list of messages")
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise _MalformedError("a message without a role")
        if not isinstance(message.get("content"), str):
            raise _MalformedError("a message whose content is no text")
    return value


def with_inline_reasoning(messages: list[dict]) -> list[dict]:
    """`messages` with each `reasoning_content` moved to the front of its content, as `<think>...</think>`.

    >>> with_inline_reasoning([{"role": "assistant", "content": "4", "reasoning_content": "2 + 2"}])
    [{'role': 'assistant', 'content': '<think>2 + 2</think>4'}]
    """
    return [
        {
            **{key: value for key, value in message.items() if key not in ("content", "reasoning_content")},
            "content": f"<think>{message['reasoning_content']}</think>{message['content']}",
        }
        if message.get("reasoning_content")
        else message
        for message in messages
    ]
