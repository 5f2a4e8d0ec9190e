"""Rows of a source's files, one after another, and the document that each one holds.

A file is a `Path` or a file of a source (`nemo_distill.data.files`): a .jsonl, compressed or not, or a .parquet. A row
that cannot be used is counted by its reason and dropped; `Tally.check` fails when too many were.

    tally = Tally()
    for messages in rows([Path("corpora/math.jsonl")], field="messages", tally=tally):
        conversation = with_inline_reasoning(messages)
    tally.check(allowed=0.01, where="math")

Reading comes in two parts, so that a process can read while others parse: `batches` cuts a file into batches of rows
without looking into them, `parse` turns a batch into documents.
"""

import contextlib
import io
import itertools
import json
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_distill.data.files import DAMAGED, ENDINGS, SourceFile, decompressed
from nemo_distill.errors import UserError

if TYPE_CHECKING:
    import pyarrow

BATCH_BYTES = 1 << 20
"""A batch is closed when its rows have reached this size."""
_BATCH_ROWS = 1_000
"""A batch has no more rows than this."""


@dataclass
class Tally:
    """What was read and what was dropped, and why."""

    rows: int = 0
    """Rows seen, blank lines not counted."""
    dropped: Counter = field(default_factory=Counter)
    """Rows dropped by reason."""
    first: str = ""
    """Where the first row that was dropped stands, and what is wrong with it."""

    def drop(self, reason: str, where: str) -> None:
        """Count a row that cannot be used."""
        self.dropped[reason] += 1
        self.first = self.first or f"{where}: {reason}"

    def add(self, other: "Tally") -> None:
        """Count what `other` counted, later in the source."""
        self.rows += other.rows
        self.dropped += other.dropped
        self.first = self.first or other.first

    def check(self, *, allowed: float, where: str) -> None:
        """Raise `UserError` when over `allowed` (a share of 1) of the rows were dropped, or nothing was read."""
        malformed = sum(self.dropped.values())
        if self.rows == 0:
            raise UserError(f"{where} has no documents.")
        if malformed > allowed * self.rows:
            raise UserError(
                f"{malformed:,} of {self.rows:,} rows of {where} are malformed, more than the {allowed:.2%} allowed; "
                f"the first is {self.first}."
            )


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of one file, not yet looked into."""

    where: str
    """Path of the file, for messages."""
    numbers: Sequence[int]
    """Numbers of the rows: lines of a .jsonl, rows of a .parquet, from 1; blank lines are left out."""
    rows: "list[bytes] | pyarrow.RecordBatch"
    """As many as there are numbers."""
    read: float
    """Share of the file that has been read when the batch ends, of 1."""

    def head(self, count: int) -> "Batch":
        """The first `count` rows."""
        return Batch(self.where, self.numbers[:count], self.rows[:count], self.read)


@dataclass(frozen=True)
class Document:
    """What a row holds."""

    index: int
    """Place of its row in the batch, from 0."""
    value: str | list[dict]
    """The text, or the messages."""
    tools: list | None = None
    """Tools that the messages may call, where the row names some."""


def rows(
    files: Iterable[Path | SourceFile],
    *,
    field: str,
    tally: Tally,
    say: Callable[[Path | SourceFile, float], None] | None = None,
) -> Generator[str | list[dict], None, None]:
    """The `field` of every row of `files`: a text, or a list of messages.

    Args:
        files: In the order in which they are read.
        field: `text` or `messages`.
        tally: Counts the rows that cannot be used.
        say: Called with the file and the share of it that has been read, from time to time.

    Raises `UserError` for a file that is missing, of another kind, or damaged.
    """
    for file in files:
        for batch in batches(file, field=field):
            yield from (document.value for document in parse(batch, field=field, tally=tally))
            if say:
                say(file, batch.read)


def batches(file: Path | SourceFile, *, field: str, skip: int = 0) -> Iterator[Batch]:
    """The rows of `file` after number `skip`, in batches; of a .parquet only `field` and `tools` are read.

    Raises `UserError` for a file that is missing, of another kind, or damaged.
    """
    if not file.name.endswith(ENDINGS):
        raise UserError(f"{file} is none of {', '.join(ENDINGS)}.")
    read = _parquet_batches if file.name.endswith(".parquet") else _line_batches
    try:
        with file.open("rb") as opened:
            yield from read(file, opened, field, skip)
    except FileNotFoundError:
        raise UserError(f"there is no file {file}.") from None


def parse(batch: Batch, *, field: str, tally: Tally) -> Iterator[Document]:
    """The documents of `batch`; rows that hold none are counted in `tally` with where they stand."""
    rows = batch.rows if isinstance(batch.rows, list) else batch.rows.to_pylist()
    plain = rows is batch.rows
    for index, row in enumerate(rows):
        tally.rows += 1
        try:
            # What a column of structs does not hold is None there: as good as not said.
            row = json.loads(row) if plain else _without_none(row)
            yield Document(index, _value(row, field), _tools(row) if field == "messages" else None)
        except UnicodeDecodeError:
            tally.drop("not UTF-8", _place(batch, index))
        except json.JSONDecodeError:
            tally.drop("not JSON", _place(batch, index))
        except RecursionError:
            tally.drop("nested too deep", _place(batch, index))
        except _MalformedError as error:
            tally.drop(str(error), _place(batch, index))


def _place(batch: Batch, index: int) -> str:
    return f"{batch.where}, {'line' if isinstance(batch.rows, list) else 'row'} {batch.numbers[index]}"


def _line_batches(file, opened, field: str, skip: int) -> Iterator[Batch]:
    size = opened.seek(0, io.SEEK_END)
    opened.seek(0)
    lines = enumerate(decompressed(opened, file.name), start=1)
    numbers, rows, held = [], [], 0
    try:
        for number, line in itertools.islice(lines, skip, None):
            if line.isspace():
                continue
            numbers.append(number)
            rows.append(line)
            held += len(line)
            if held >= BATCH_BYTES or len(rows) == _BATCH_ROWS:
                yield Batch(str(file), numbers, rows, opened.tell() / size)
                numbers, rows, held = [], [], 0
    except DAMAGED as error:
        raise UserError(f"{file} is damaged: {error}.") from None
    if rows:
        yield Batch(str(file), numbers, rows, 1.0)


def _parquet_batches(file, opened, field: str, skip: int) -> Iterator[Batch]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(opened)
        names = table.schema_arrow.names
        total, number = table.metadata.num_rows, 0
        for group in range(table.num_row_groups):
            size = table.metadata.row_group(group).num_rows
            if number + size <= skip:
                number += size
                continue
            wanted = [name for name in (field, "tools") if name in names]
            if not wanted:  # every row lacks the field: `parse` counts them
                wanted = names[:1]
            for rows in table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=wanted, use_threads=False):
                for part in _parts(rows):
                    first, number = number, number + part.num_rows
                    late = max(0, skip - first)
                    if late < part.num_rows:
                        numbers = range(first + late + 1, number + 1)
                        yield Batch(str(file), numbers, part.slice(late), number / total)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise UserError(f"{file} is damaged: {str(error).splitlines()[0]}.") from None


def _parts(rows: "pyarrow.RecordBatch") -> "Iterator[pyarrow.RecordBatch]":
    """`rows` in parts of about `BATCH_BYTES`, as far as its rows are of a size."""
    count = max(1, rows.num_rows * BATCH_BYTES // max(rows.nbytes, BATCH_BYTES))
    for first in range(0, rows.num_rows, count):
        yield rows.slice(first, count)


class _MalformedError(Exception):
    """A row that is JSON but no document."""


def _value(row, field: str) -> str | list[dict]:
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
        said = message.get("content")
        if not isinstance(said, str) and not (said is None and message.get("tool_calls")):
            raise _MalformedError("a message whose content is no text")
    return value


def _tools(row: dict) -> list | None:
    tools = row.get("tools")
    if isinstance(tools, str) and tools:
        with contextlib.suppress(json.JSONDecodeError):
            tools = json.loads(tools)
    if tools and not isinstance(tools, list):
        raise _MalformedError("'tools' is no list")
    return tools or None


def _without_none(value):
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


def with_inline_reasoning(messages: list[dict]) -> list[dict]:
    """`messages` with each `reasoning_content` moved to the front of its content, as `<think>...</think>`.

    >>> with_inline_reasoning([{"role": "assistant", "content": "4", "reasoning_content": "2 + 2"}])
    [{'role': 'assistant', 'content': '<think>2 + 2</think>4'}]
    """
    return [
        {
            **{key: value for key, value in message.items() if key not in ("content", "reasoning_content")},
            "content": f"<think>{message['reasoning_content']}</think>{message.get('content') or ''}",
        }
        if message.get("reasoning_content")
        else message
        for message in messages
    ]


def without_reasoning(messages: list[dict]) -> list[dict]:
    """`messages` with each `reasoning_content` left out.

    >>> without_reasoning([{"role": "assistant", "content": "4", "reasoning_content": "2 + 2"}])
    [{'role': 'assistant', 'content': '4'}]
    """
    return [{key: value for key, value in message.items() if key != "reasoning_content"} for message in messages]
