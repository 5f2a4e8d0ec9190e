"""Reads benchmark questions: those of our own offline tasks, and of any folder of JSONL or parquet files.

    questions_in(Path("benchmarks"))    # [{"benchmark": "gpqa", "file": ".../gpqa.jsonl", "field": "Question", ...}]
    read_questions(Path("benchmarks/gpqa.jsonl"), field="Question")     # [Question("1", "A spin-half ..."), ...]

An entry is plain data for the config of a step, with a hash of its file: other questions make another step.
"""

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.data.chats import MalformedError, text_of
from nemo_distill.data.documents import batches
from nemo_distill.data.files import ENDINGS
from nemo_distill.errors import UserError, nearest

FIELDS = ("question", "Question", "problem", "prompt", "question_content", "messages", "conversations", "text")
"""What the field of a folder's files may be called; the first of them that a file has is taken."""
OFFLINE = "core_evals:"
"""A file `core_evals:NAME` is one of our own tasks', wherever they are installed."""


@dataclass(frozen=True)
class Question:
    """One question of a benchmark."""

    identity: str
    """Its `id`, or else its line in the file."""
    text: str
    """All that is asked."""


def questions_for(asked: Mapping[str, Path | None], folder: str | None) -> list[dict]:
    """An entry for each benchmark whose questions there are: of those that are asked, and of a folder.

    `asked` are benchmarks by name, each with the file of a recipe's own questions, or None for an offline task of ours.
    Raises `UserError` for a folder that holds none, and for two of one name.
    """
    own = [_offline_entry(name) if path is None else _own_entry(name, path) for name, path in sorted(asked.items())]
    entries = own + (questions_in(Path(folder)) if folder else [])
    check_names(entries)
    return entries


def offline_questions() -> list[dict]:
    """An entry for each of our offline tasks."""
    return [_offline_entry(path.stem) for path in sorted(_offline_folder().glob("*.jsonl"))]


def questions_in(folder: Path) -> list[dict]:
    """An entry for each file of questions in `folder`, called like the file.

    Raises `UserError` when there is none, two are called alike, or a file has no field of `FIELDS`.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder} of benchmark questions.")
    files = sorted(path for path in folder.iterdir() if path.name.endswith(ENDINGS))
    if not files:
        raise UserError(f"{folder} holds no benchmark questions: no file in it ends in {', '.join(ENDINGS)}.")
    entries = [_entry(path.resolve(), file=str(path.resolve()), field=_field_of(path)) for path in files]
    check_names(entries)
    return entries


def check_names(entries: list[dict]) -> None:
    """Raise `UserError` when two entries are of one name."""
    seen: dict[str, str] = {}
    for entry in entries:
        name = entry["benchmark"]
        if name in seen:
            raise UserError(f"the benchmark {name!r} is there twice: {seen[name]} and {entry['file']}.")
        seen[name] = entry["file"]


def offline_path(file: str) -> Path | None:
    """The path of a file `core_evals:NAME`; None for any other. Raises `UserError` when there is no such task."""
    if not file.startswith(OFFLINE):
        return None
    path = _offline_folder() / file.removeprefix(OFFLINE)
    if not path.is_file():
        names = (other.name for other in path.parent.glob("*.jsonl"))
        raise UserError(f"no offline task has the file {path.name!r}. {nearest(path.name, names)}")
    return path


def read_questions(path: Path, *, field: str) -> list[Question]:
    """The questions of a file: `field` of every row is a text, a list of texts, or a list of messages.

    Raises `UserError`, with file and line, for a row without it, and for a file that is missing, damaged or empty.
    """
    questions = []
    for where, row in _rows(path):
        if field not in row:
            raise UserError(f"{where}: no field {field!r}. {nearest(field, row)}")
        text = _text(row[field])
        if text is None:
            raise UserError(f"{where}: {field!r} is no text, list of texts or list of messages: {row[field]!r:.80}.")
        questions.append(Question(str(row.get("id", where.rpartition(" ")[2])), text))
    if not questions:
        raise UserError(f"{path} has no questions.")
    return questions


def _offline_folder() -> Path:
    # By path: nothing here may import the evaluator.
    found = importlib.util.find_spec("core_evals.nemo_distill")
    assert found and found.origin, "the package of our offline tasks is not installed"
    return Path(found.origin).parent / "data"


def _offline_entry(task: str) -> dict:
    path = _offline_folder() / f"{task}.jsonl"
    return _entry(path, file=OFFLINE + path.name, field="messages")


def _own_entry(name: str, path: Path) -> dict:
    return _entry(path, file=str(path), field=_field_of(path), name=name)


def _entry(path: Path, *, file: str, field: str, name: str = "") -> dict:
    named = name or path.name.removesuffix(next(ending for ending in ENDINGS if path.name.endswith(ending)))
    return {
        "benchmark": named,
        "file": file,
        "field": field,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def _field_of(path: Path) -> str:
    for where, row in _rows(path):
        known = [name for name in FIELDS if name in row]
        if not known:
            raise UserError(f"{where}: none of the fields {', '.join(FIELDS)}; it has {', '.join(map(str, row))}.")
        return known[0]
    raise UserError(f"{path} has no questions.")


def _text(value) -> str | None:
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        return None
    try:
        texts = [text_of(part.get("content", part.get("value")) if _is_message(part) else part) for part in value]
    except MalformedError:
        return None
    return None if None in texts else "\n".join(text for text in texts if text is not None)


def _is_message(part) -> bool:
    return isinstance(part, dict) and bool({"role", "from"} & part.keys())


def _rows(path: Path) -> Iterator[tuple[str, dict]]:
    """The rows of a file, each with where it stands. Raises `UserError` for a file or a row that cannot be read."""
    for batch in batches(path, field=None):
        for index, row in enumerate(batch.parsed()):
            where = batch.place(index)
            if isinstance(row, MalformedError):
                raise UserError(f"{where}: {row}.")
            if not isinstance(row, dict):
                raise UserError(f"{where}: a {type(row).__name__} and no object.")
            yield where, row
