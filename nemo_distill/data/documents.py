"""Rows of a source's files, one after another, and the document that each one holds.

A file is a `Path` or a file of a source (`nemo_distill.data.files`): a .jsonl, compressed or not, or a .parquet. A row
that cannot be used is counted by its reason and dropped; `Tally.check` fails when too many were.

    tally = Tally()
    for messages in rows([Path("corpora/math.jsonl")], field="messages", tally=tally):
        conversation = with_inline_reasoning(messages)
    tally.check(allowed=0.01, where="math")

Reading comes in two parts, so that a process can read while others parse: `batches` cuts a file into batches of rows
without looking into them, `parse` turns a batch into documents. A row that is no document in any way is that row's
affair alone: whatever it makes Python raise, the next one is read.
"""

import contextlib
import io
import itertools
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_distill.data import chats
from nemo_distill.data.chats import MalformedError
from nemo_distill.data.files import DAMAGED, ENDINGS, SourceFile, decompressed
from nemo_distill.data.tally import Tally
from nemo_distill.errors import UserError

if TYPE_CHECKING:
    import pyarrow

READING = 2
"""Declared version of how a row becomes a document. 1 is that of versions 0.1 and 0.2, in which the catalogue's sources
stay, so that what was made of them is found again: a chat is `messages` with `content` as text, its reasoning is
`reasoning_content`. 2 reads any schema of `chats`, and drops a text that is empty before it has tokens."""
BATCH_BYTES = 1 << 20
"""A batch is closed when its rows have reached this size."""
_BATCH_ROWS = 1_000
"""A batch has no more rows than this."""


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
    names: tuple[str, ...] = ()
    """All columns of a .parquet, of which the rows have those that are read."""

    def head(self, count: int) -> "Batch":
        """The first `count` rows."""
        return Batch(self.where, self.numbers[:count], self.rows[:count], self.read, self.names)

    def place(self, index: int) -> str:
        """Where the row at `index` stands, for messages."""
        return f"{self.where}, {'line' if isinstance(self.rows, list) else 'row'} {self.numbers[index]}"

    def parsed(self) -> Iterator[dict | MalformedError]:
        """Each row, or what is wrong with it."""
        if isinstance(self.rows, list):
            yield from map(_object, self.rows)
            return
        try:
            yield from self.rows.to_pylist()
        except Exception:  # of a column that Python cannot hold; which row it is is found one by one
            for index in range(self.rows.num_rows):
                try:
                    yield self.rows.slice(index, 1).to_pylist()[0]
                except Exception as error:
                    yield MalformedError(reason(error))


@dataclass(frozen=True)
class Document:
    """What a row holds."""

    index: int
    """Place of its row in the batch, from 0."""
    value: str | list[dict]
    """The text, or the messages."""
    tools: list | None = None
    """Tools that the messages may call, where the row names some."""
    reading: int = 1
    """Version of the reading that it is of; from 2 on messages are as `chats` leaves them."""


def rows(
    files: Iterable[Path | SourceFile],
    *,
    field: str,
    tally: Tally,
    column: str | None = None,
    reading: int = READING,
    say: Callable[[Path | SourceFile, float], None] | None = None,
) -> Generator[str | list[dict], None, None]:
    """The `field` of every row of `files`: a text, or a list of messages.

    Args:
        files: In the order in which they are read.
        field: `text` or `messages`.
        tally: Counts the rows that cannot be used.
        column: The column that holds it; None: the one that is called so, or any schema of a chat.
        reading: Version of the reading.
        say: Called with the file and the share of it that has been read, from time to time.

    Raises `UserError` for a file that is missing, of another kind, or damaged.
    """
    for file in files:
        for batch in batches(file, field=field, column=column, reading=reading):
            found = parse(batch, field=field, tally=tally, column=column, reading=reading)
            yield from (document.value for document in found)
            if say:
                say(file, batch.read)


def batches(
    file: Path | SourceFile,
    *,
    field: str | None,
    skip: int = 0,
    column: str | None = None,
    reading: int = READING,
) -> Iterator[Batch]:
    """The rows of `file` after number `skip`, in batches.

    Of a .parquet only the columns are read in which `field` may stand; all of them where it is None.

    Raises `UserError` for a file that is missing, of another kind, or damaged.
    """
    if not file.name.endswith(ENDINGS):
        raise UserError(f"{file} is none of {', '.join(ENDINGS)}.")
    columns = None if field is None else _columns(field, column, reading)
    try:
        with file.open("rb") as opened:
            if file.name.endswith(".parquet"):
                yield from _parquet_batches(file, opened, columns, skip)
            else:
                yield from _line_batches(file, opened, skip)
    except FileNotFoundError:
        raise UserError(f"there is no file {file}.") from None


def parse(
    batch: Batch, *, field: str, tally: Tally, column: str | None = None, reading: int = READING
) -> Iterator[Document]:
    """The documents of `batch`; rows that hold none are counted in `tally` with where they stand."""
    for index, row in enumerate(batch.parsed()):
        tally.rows += 1
        try:
            document = _document(index, row, field, column, reading, batch.names)
        except MemoryError:
            raise
        except Exception as error:
            tally.drop(reason(error), batch.place(index))
        else:
            yield document


def _document(index: int, row, field: str, column: str | None, reading: int, names: tuple[str, ...]) -> Document:
    if isinstance(row, MalformedError):
        raise row
    if not isinstance(row, dict):
        raise MalformedError(f"a {type(row).__name__} and no object")
    if names:
        # What a column of structs does not hold is None there: as good as not said.
        row = {key: value if value is None else _without_none(value) for key, value in row.items()}
    if field == "text":
        return Document(index, _text(row, column or "text"), reading=reading)
    if reading == 1:
        return Document(index, _messages(row), _tools(row))
    return Document(index, chats.chat_of(row, column=column, names=names), _tools(row), reading)


def reason(error: Exception) -> str:
    """What is wrong with a row that made `error`."""
    if isinstance(error, MalformedError):
        return str(error)
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return "not JSON"
    if isinstance(error, RecursionError):
        return "nested too deep"
    if isinstance(error, ValueError) and "integer string conversion" in str(error):
        return "an integer of too many digits"
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + said[0][:80] if said else ''}"


def _object(line: bytes):
    try:
        return json.loads(line)
    except MemoryError:
        raise
    except Exception as error:
        return MalformedError(reason(error))


def _columns(field: str, column: str | None, reading: int) -> tuple[str, ...]:
    if field == "text":
        return (column or "text",)
    if reading == 1:
        return ("messages", "tools")
    return (column, "system", "tools") if column else chats.COLUMNS


def _line_batches(file, opened, skip: int) -> Iterator[Batch]:
    size = opened.seek(0, io.SEEK_END)
    opened.seek(0)
    numbers, rows, held, number = [], [], 0, 0
    try:
        lines = enumerate(decompressed(opened, file.name), start=1)
        for number, line in itertools.islice(lines, skip, None):
            if line.isspace():
                continue
            numbers.append(number)
            rows.append(line)
            held += len(line)
            if held >= BATCH_BYTES or len(rows) == _BATCH_ROWS:
                yield Batch(str(file), numbers, rows, min(1.0, opened.tell() / size))
                numbers, rows, held = [], [], 0
    except Exception as error:
        of_the_machine = isinstance(error, OSError) and error.errno is not None
        if of_the_machine or not isinstance(error, (OSError, *DAMAGED)):
            raise
        raise UserError(f"{file} is damaged behind line {number:,}: {error}.") from None
    if rows:
        yield Batch(str(file), numbers, rows, 1.0)


def _parquet_batches(file, opened, columns: Sequence[str] | None, skip: int) -> Iterator[Batch]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(opened)
        names = tuple(table.schema_arrow.names)
        total, number = table.metadata.num_rows, 0
        for group in range(table.num_row_groups):
            size = table.metadata.row_group(group).num_rows
            if number + size <= skip:
                number += size
                continue
            wanted = None if columns is None else [name for name in columns if name in names] or names[:1]
            for rows in table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=wanted, use_threads=False):
                for part in _parts(rows):
                    first, number = number, number + part.num_rows
                    late = max(0, skip - first)
                    if late < part.num_rows:
                        numbers = range(first + late + 1, number + 1)
                        yield Batch(str(file), numbers, part.slice(late), number / total, names)
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"{file} is damaged: {str(error).splitlines()[0]}.") from None


def _parts(rows: "pyarrow.RecordBatch") -> "Iterator[pyarrow.RecordBatch]":
    """`rows` in parts of about `BATCH_BYTES`, as far as its rows are of a size."""
    try:
        held = rows.nbytes
    except TypeError:  # of a column of views, whose bytes lie anywhere
        held = rows.get_total_buffer_size()
    count = max(1, rows.num_rows * BATCH_BYTES // max(held, BATCH_BYTES))
    for first in range(0, rows.num_rows, count):
        yield rows.slice(first, count)


def _text(row: dict, column: str) -> str:
    if column not in row:
        raise MalformedError(f"no field {column!r}")
    if row[column] is None:
        raise MalformedError(f"{column!r} is null")
    if not isinstance(row[column], str):
        raise MalformedError(f"{column!r} is no text")
    return row[column]


def _messages(row: dict) -> list[dict]:
    """As reading 1 takes them."""
    if "messages" not in row:
        raise MalformedError("no field 'messages'")
    value = row["messages"]
    if not isinstance(value, list) or not value:
        raise MalformedError("'messages' is no list of messages")
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise MalformedError("a message without a role")
        said = message.get("content")
        if not isinstance(said, str) and not (said is None and message.get("tool_calls")):
            raise MalformedError("a message whose content is no text")
    return value


def _tools(row: dict) -> list | None:
    tools = row.get("tools")
    if isinstance(tools, str) and tools:
        with contextlib.suppress(json.JSONDecodeError):
            tools = json.loads(tools)
    if tools and not isinstance(tools, list):
        raise MalformedError("'tools' is no list")
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
