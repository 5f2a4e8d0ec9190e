"""What every setting means, takes and has by default, read off the settings themselves, for `nemo-run RECIPE --help`.

    for group in groups(settings): print(group.title, [entry.key for entry in group.entries])
    console.print(manual(groups()))

The meaning is the docstring under the field. A value is the recipe's own, if it gives one, else that of each scale.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group as Lines
from rich.padding import Padding
from rich.text import Text

from nemo_distill.config.scale import SCALES
from nemo_distill.config.settings import Settings

_WORDS = {int: "whole number", float: "number", bool: "true|false", str: "text", Path: "path"}
_REFERENCE = re.compile(r",? ?\(`(?:nemo_distill|evaluator|docs)[^)]*`\)")
"""Where a docstring sends a reader of the code."""


@dataclass(frozen=True)
class Entry:
    """One setting."""

    key: str
    """What the command line calls it."""
    kind: str
    """What its value is, in words."""
    default: str
    """What holds where nothing is said."""
    meaning: str
    """What it decides."""


@dataclass(frozen=True)
class Group:
    """Settings of one kind."""

    name: str
    """First part of their keys; empty: they have one part only."""
    title: str
    """What they are of."""
    entries: tuple[Entry, ...]
    """The settings."""


def groups(own: Settings | None = None) -> list[Group]:
    """Every setting by group; `own` are those of the recipe."""
    told, alone, found = _meanings(Settings), [], []
    hints = typing.get_type_hints(Settings, include_extras=True)
    for field in dataclasses.fields(Settings):
        given = getattr(own, field.name) if own else None
        if field.name == "blend":
            shares = ", ".join(f"{name} {share:g}" for name, share in given.shares.items()) if given else ""
            entry = Entry("blend.shares.SOURCE", "number", shares, "Percent of the tokens; they sum to 100.")
            found.append(Group("blend", _plain(told["blend"]), (entry,)))
        elif dataclasses.is_dataclass(field.default):
            kind = type(field.default)
            entries = tuple(_entries(kind, f"{field.name}.", field.default, given, by_scale=field.name))
            found.append(Group(field.name, _plain(inspect.getdoc(kind) or ""), entries))
        else:
            value = field.default if given is None else given
            shown = _shown(value) or ("full on slurm, debug on local" if field.name == "scale" else "")
            alone.append(Entry(field.name, kind_of(hints[field.name]), shown, _plain(told[field.name])))
    return [*found, Group("", "The run as a whole.", tuple(alone))]


def of_executor(name: str, kind: type) -> Group:
    """The settings of an executor, a dataclass."""
    title = f"Site settings of --executor {name}, from executors/{name}.yaml or the command line."
    return Group("executor", title, tuple(_entries(kind, "executor.", None, None)))


def manual(found: Iterable[Group]) -> Lines:
    """The groups as a terminal shows them, at any width."""
    shown: list[Any] = []
    for group in found:
        shown += ["", Text.assemble((group.name or "run", "bold"), f": {group.title}")]
        for entry in group.entries:
            default = f"  [{entry.default}]" if entry.default else ""
            head = Text.assemble((entry.key, "bold cyan"), "=", (entry.kind, "yellow"), (default, "green"))
            shown += [Padding(head, (0, 0, 0, 2), expand=False)]
            shown += [Padding(Text(entry.meaning), (0, 0, 0, 6), expand=False)] if entry.meaning else []
    return Lines(*shown)


def kind_of(hint: Any) -> str:
    """A type in words.

    >>> kind_of(float | None), kind_of(tuple[str, ...]), kind_of(dict[str, int])
    ('number', 'text,text,...', "{'name': whole number}")
    """
    if typing.get_origin(hint) is typing.Annotated:
        return kind_of(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return "|".join(dict.fromkeys(kind_of(one) for one in typing.get_args(hint) if one is not type(None)))
    if typing.get_origin(hint) in (tuple, list):
        inner = kind_of((*typing.get_args(hint), str)[0])
        return f"{inner},{inner},..."
    if typing.get_origin(hint) in (dict, Mapping):
        return f"{{'name': {kind_of((*typing.get_args(hint), str, str)[1])}}}"
    return _WORDS.get(hint, "of a recipe")


def _entries(kind: type, prefix: str, default: Any, given: Any, *, by_scale: str = "") -> Iterator[Entry]:
    told, hints = _meanings(kind), typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if not field.init or field.name.startswith("_"):
            continue
        value = getattr(default, field.name) if default is not None else _default(field)
        here = getattr(given, field.name, None)
        if given is not None and here != value:
            shown = f"{_shown(here)} in this recipe"
        elif value is None and by_scale:
            shown = _at_scales(by_scale, field.name)
        else:
            shown = _shown(value)
        yield Entry(prefix + field.name, kind_of(hints[field.name]), shown, _plain(told.get(field.name, "")))


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default in (dataclasses.MISSING, "???") else field.default


def _at_scales(part: str, name: str) -> str:
    """The value at each scale, or the one that all have; empty where none has any."""
    values = {scale.name: _shown(getattr(getattr(scale, part, None), name, None)) for scale in SCALES.values()}
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return "; ".join(f"{scale}: {value or 'none'}" for scale, value in values.items())


def _shown(value: Any) -> str:
    """A value as it would be typed; empty for none.

    >>> _shown((400, 800)), _shown(True), _shown(7.0e9), _shown(None), _shown(0.0001)
    ('400,800', 'true', '7e+09', '', '0.0001')
    """
    if value is None or value == "" or (isinstance(value, (tuple, list, dict)) and not value):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return ",".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(text: str) -> str:
    """A docstring as one paragraph, without what is for readers of the code."""
    return _REFERENCE.sub("", " ".join(text.split()))


@functools.cache
def _meanings(kind: type) -> dict[str, str]:
    """The docstring under each field of a dataclass and of those that it extends."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__[:-1]):
        body = next((node.body for node in _classes(inspect.getsourcefile(one) or "") if node.name == one.__name__), [])
        for field, said in itertools.pairwise(body):
            if not (isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant)):
                continue
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                found[field.target.id] = str(said.value.value)
    return found


@functools.cache
def _classes(path: str) -> list[ast.ClassDef]:
    tree = ast.parse(Path(path).read_text(encoding="utf-8")) if path else ast.Module([], [])
    return [node for node in tree.body if isinstance(node, ast.ClassDef)]
