"""Reads what a site writes, as it is written: YAML whose text stays text, with the line of every value.

>>> from nemo_distill.config.written import read
>>> said = read("time: 4:00:00\\ngpus_per_node: 8\\nsteps: {prepare: {qos: no}}\\n")
>>> said.data
{'time': '4:00:00', 'gpus_per_node': 8, 'steps': {'prepare': {'qos': 'no'}}}
>>> said.line(("gpus_per_node",))
2

YAML 1.1 takes `4:00:00` for 14400, `0123` for 83 and `no` for false. Here a value is a number or a truth value only
where it is written just as Python or JSON would write it, so that a field of text has it back to the letter.
"""

import contextlib
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from nemo_distill.errors import UserError

_NOTHING = ("", "~", "null", "Null", "NULL")
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_CORE = "tag:yaml.org,2002:"
_TAGS = ("map", "seq", "str", "null", "bool", "int", "float", "timestamp", "merge", "value")
_INTERPOLATION = "${"


class Unreadable(UserError):
    """What is no YAML, or says a thing twice; the sentence follows a file's name."""

    def __init__(self, sentence: str, *, line: int, column: int | None = None):
        super().__init__(sentence)
        self.at = f"{line}:{column}" if column else str(line)
        """Line and, where it is known, column, from 1."""


@dataclass
class Said:
    """What a text says."""

    data: Any
    """Dicts, lists, text, numbers, truth values and None."""
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)
    """The line of each value, from 1, by what leads to it."""

    def line(self, path: tuple[str, ...]) -> int:
        """The line of the value at `path` or, where that has none of its own, of what it is in."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read(text: str | bytes) -> Said:
    """What `text` says, not resolved. Raises `Unreadable`."""
    text = _decoded(text) if isinstance(text, bytes) else text
    said = Said(None)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        said.data = _data(node, (), said, loader, ()) if node is not None else None
    except yaml.reader.ReaderError as error:
        before = text[: error.position].split("\n")
        raise Unreadable(
            f"the character U+{ord(str(text)[error.position]):04X} cannot stand here.",
            line=len(before),
            column=len(before[-1]) + 1,
        ) from None
    except yaml.MarkedYAMLError as error:
        began = error.context_mark
        within = (
            f", {error.context} that begins at {began.line + 1}:{began.column + 1}" if began and error.context else ""
        )
        raise _unreadable(f"{error.problem}{within}.", error.problem_mark or began) from None
    except RecursionError:
        raise Unreadable("this is too deep.", line=1, column=1) from None
    return said


def resolve(said: Said) -> None:
    """Put what `${oc.env:NAME}` and the like stand for into the data. Raises `UserError`, which names the line."""
    if not _interpolates(said.data):
        return
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        said.data = OmegaConf.to_container(OmegaConf.create(said.data), resolve=True)
    except OmegaConfBaseException as error:
        keys = re.sub(r"\[", ".[", str(error.full_key or "")).split(".")
        sentence = re.sub(r"^\w+ raised while resolving interpolation: ", "", str(error).splitlines()[0])
        raise Unreadable(f"{sentence.strip(chr(34))}.", line=said.line(tuple(keys))) from None


def scalar(text: str) -> Any:
    """Text as it stands unquoted: None, a truth value or a number where it is written like one; else text."""
    if text in _NOTHING:
        return None
    if text in ("true", "false"):
        return text == "true"
    if _WHOLE.fullmatch(text):
        return int(text) if str(int(text)) == text else text
    with contextlib.suppress(ValueError):
        if repr(float(text)) == text and text not in ("inf", "-inf", "nan"):
            return float(text)
    return text


def _data(node: Any, path: tuple[str, ...], said: Said, loader: Any, within: tuple) -> Any:
    if node in within:
        raise _unreadable("this is a part of itself.", node.start_mark)
    said.lines.setdefault(path, node.start_mark.line + 1)
    if node.tag.removeprefix(_CORE) not in _TAGS:
        raise _unreadable(f"the tag {node.tag} means nothing here.", node.start_mark)
    within = (*within, node)
    if isinstance(node, yaml.SequenceNode):
        return [_data(one, (*path, f"[{i}]"), said, loader, within) for i, one in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        return scalar(node.value) if node.style is None else node.value  # unquoted
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _unreadable("a key has to be text.", key.start_mark)
        if key.value in seen:
            raise _unreadable(f"'{key.value}' is said twice, on line {seen[key.value]} too.", key.start_mark)
        seen[key.value] = key.start_mark.line + 1
    loader.flatten_mapping(node)  # what `<<` merges comes first
    data = {}
    for key, value in node.value:
        where = (*path, key.value)
        said.lines[where] = key.start_mark.line + 1
        data[key.value] = _data(value, where, said, loader, within)
    return data


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = text[: error.start].split(b"\n")
        raise Unreadable(
            f"the byte 0x{text[error.start]:02x} is not UTF-8: save the file as UTF-8.",
            line=len(before),
            column=len(before[-1]) + 1,
        ) from None


def _interpolates(data: Any) -> bool:
    if isinstance(data, dict):
        return any(map(_interpolates, data.values()))
    if isinstance(data, list):
        return any(map(_interpolates, data))
    return isinstance(data, str) and _INTERPOLATION in data


def _unreadable(sentence: str, mark: Any) -> Unreadable:
    return Unreadable(sentence, line=mark.line + 1, column=mark.column + 1)
