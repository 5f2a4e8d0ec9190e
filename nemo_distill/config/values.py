"""The one door for values: a command's text, a site file's data and a recipe's, as the type of the field they are for.

>>> from typing import Annotated
>>> from nemo_distill.config.rules import at_least
>>> from nemo_distill.config.values import value_of, word_of
>>> word_of(("distill", "milestones"), "25,0.4M", tuple[int | str, ...])
(25, '0.4M')
>>> value_of(("requeues",), -1, Annotated[int, at_least(0)])
Traceback (most recent call last):
    ...
nemo_distill.config.values.Misfit: requeues=-1 cannot be: it has to be at least 0.

What a field can hold is its type and, within `Annotated`, its rules (`nemo_distill.config.rules`). Where text is
`written`, in a file or on a command line, it may stand for a number or a truth value, and a number for text; in a
recipe, which is Python, it may not.
"""

import ast
import dataclasses
import functools
import math
import os
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from nemo_distill.config.rules import HIDDEN, Elsewhere, Keeps, PartOf, Rule
from nemo_distill.errors import UserError, nearest, slip_of

Path = tuple[str, ...]
"""What leads to a value: names, and `[0]` for a place in a list."""
NOTHING = ("null", "none")
"""Words for None on a command line."""
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_WANTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_LISTED = 24
"""Names that are listed where none is near."""
_MOST = 60
"""Characters of a value that a sentence shows."""


class Misfit(UserError):
    """What a field cannot hold."""

    def __init__(self, path: Path, sentence: str):
        super().__init__(sentence)
        self.path = path
        """What leads to it."""


def named(path: Path) -> str:
    """The path as a command has it, dotted."""
    return re.sub(r"\.\[", "[", ".".join(path))


@functools.cache
def hints_of(kind: type) -> dict[str, Any]:
    """The types of the fields that `kind`, a dataclass, is made of, with their rules."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def settable(kind: type) -> list[str]:
    """The fields of `kind` that a user may set."""
    return [name for name, hint in hints_of(kind).items() if not any(isinstance(r, Elsewhere) for r in _rules(hint))]


def plain_type(hint: Any) -> Any:
    """`hint` without its rules and without None; the dataclass or `PartOf` that it is made of where there is one."""
    part = next((rule for rule in _rules(hint) if isinstance(rule, PartOf)), None)
    if part:
        return part
    hint = _bare(hint)
    kinds = [kind for kind in _kinds(hint) if kind is not types.NoneType]
    return plain_type(kinds[0]) if len(kinds) == 1 and kinds[0] is not hint else hint


def dict_in(kind: Any) -> Any:
    """The dict that a union may be, where it may be one; else `kind`."""
    dicts = [one for one in _kinds(kind) if typing.get_origin(one) is dict] if not isinstance(kind, PartOf) else []
    return dicts[0] if dicts else kind


def value_of(path: Path, given: Any, hint: Any, *, written: bool = False) -> Any:
    """`given` as the type `hint`. Raises `Misfit`, in a sentence that names it by `path`."""
    rules = _rules(hint)
    for rule in rules:
        if isinstance(rule, Elsewhere) and given is not None:
            raise Misfit(path, f"{named(path)} cannot be set: {rule.say}.")
        if isinstance(rule, PartOf) and isinstance(given, Mapping):
            return fields_of(path, given, rule.kind)
    value = _typed(path, given, _bare(hint), written)
    for rule in rules:
        if isinstance(rule, Rule) and value is not None and not rule.fits(value):
            if rule.choices:
                raise Misfit(path, f"{named(path)} cannot be '{value}'. {nearest(value, rule.choices)}")
            raise _misfit(path, given, rule.wanted, written)
    return value


def key_of(path: Path, key: Any, hint: Any) -> Any:
    """A key of the dict at `path` as the type `hint`. Raises `Misfit`."""
    try:
        return value_of((), key, hint, written=True)
    except Misfit as misfit:
        wanted = str(misfit).partition("it has to be ")[2]
        shown = str(key).partition("=")[0] if _hides(path) else key
        raise Misfit((*path, str(key)), f"{named(path)} has the key '{shown}', which has to be {wanted}") from None


def word_of(path: Path, text: str, hint: Any) -> Any:
    """The word `text` of a command line as the type `hint`. Raises `Misfit`.

    A list is `[A, B]` or `A,B`, a dict `{A: B}`; Python's own `(A, B)` and `{'A': B}` are taken, too.
    """
    return value_of(path, data_of(path, text, hint), hint, written=True)


def data_of(path: Path, text: str, hint: Any) -> Any:
    """What `text` says where a `hint` is wanted, its parts not yet of their types. Raises `Misfit`."""
    kinds, word = _kinds(hint), text.strip()
    keeps = [word for rule in _rules(hint) if isinstance(rule, Keeps) for word in rule.words]
    if types.NoneType in kinds and word in NOTHING and word not in keeps:
        return None
    origins = {typing.get_origin(kind) or kind for kind in kinds}
    several = bool(origins & {list, tuple})
    if word[:1] in ("[", "{", "(") and (several or origins & {dict, Any, object} or any(map(_made_of_fields, kinds))):
        return _literal(path, word, hint)
    if several:
        parts = [part.strip() for part in word.split(",")]
        return parts if parts[-1] else parts[:-1]
    if origins & {Any, object}:
        from nemo_distill.config.written import scalar

        return scalar(text)
    return text


def fields_of(path: Path, given: Mapping[Any, Any], kind: type) -> dict[str, Any]:
    """Values of fields of `kind` by name; a field that cannot be None is left out where None is given."""
    hints, values = hints_of(kind), {}
    for key, value in given.items():
        if key not in hints:
            there, unknown = settable(kind), named((*path, str(key)))
            near = slip_of(str(key), there)
            shown = [named((*path, name)) for name in ([near] if near else there)]
            listed = f" {nearest('', shown, most=_LISTED)}" if len(shown) <= _LISTED else ""
            hint = f" Did you mean '{shown[0]}'?" if near else listed
            raise Misfit((*path, str(key)), f"there is no setting '{unknown}'.{hint}")
        if value is not None or types.NoneType in _kinds(hints[key]):
            values[key] = value_of((*path, key), value, hints[key], written=True)
    return values


def build(path: Path, kind: type, given: Mapping[Any, Any]) -> Any:
    """The dataclass `kind` of what is `given`. Raises `Misfit`."""
    values = fields_of(path, given, kind)
    needed = [
        field.name
        for field in dataclasses.fields(kind)
        if field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    for name in needed:
        if values.get(name) is None:
            raise Misfit(path, f"{named(path)} has {', '.join(map(str, given)) or 'nothing'} but no {name}.")
    return made(path, lambda: kind(**values))


def made(path: Path, make: Callable[[], Any]) -> Any:
    """What `make` gives; a ValueError of it, which begins with a field's name, is a `Misfit` of that field."""
    try:
        return make()
    except UserError:
        raise
    except ValueError as error:
        name = re.match(r"\w*", str(error))
        assert name
        raise Misfit((*path, name.group()), named((*path, str(error)))) from None


def check_fields(instance: Any, *path: str) -> None:
    """Have every field of a recipe's `instance`, a frozen dataclass, as its type. Raises `Misfit`."""
    kind: type = type(instance)
    for name, hint in hints_of(kind).items():
        object.__setattr__(instance, name, value_of((*path, name), getattr(instance, name), hint))


def _rules(hint: Any) -> tuple:
    return hint.__metadata__ if typing.get_origin(hint) is Annotated else ()


def _bare(hint: Any) -> Any:
    return hint.__origin__ if typing.get_origin(hint) is Annotated else hint


def _kinds(hint: Any) -> tuple:
    """The types that a union is of, each without its rules; else the type itself."""
    hint = _bare(hint)
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return tuple(_bare(kind) for kind in typing.get_args(hint)) if union else (hint,)


def _made_of_fields(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind)


def _misfit(path: Path, given: Any, wanted: str, written: bool) -> Misfit:
    shown = str(given) if written and not isinstance(given, (list, tuple, Mapping)) else repr(given)
    if isinstance(given, bool) and written:
        shown = shown.lower()
    if given is None:
        shown = "null" if written else "None"
    shown = shown if len(shown) <= _MOST else f"{shown[:_MOST]}..."
    shown = "***" if _hides(path) and given is not None else shown
    return Misfit(path, f"{named(path)}={shown} cannot be: it has to be {wanted}.")


def _typed(path: Path, given: Any, hint: Any, written: bool) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return _one_type_of(path, given, hint, written)
    origin = typing.get_origin(hint) or hint
    if hint in (Any, object):
        return given
    if origin in (list, tuple) and isinstance(given, (list, tuple)):
        return origin(_items(path, given, hint, written))
    if origin is dict and isinstance(given, Mapping):
        of_key, of_value = typing.get_args(hint) or (Any, Any)
        return {
            key_of(path, key, of_key): value_of((*path, str(key)), value, of_value, written=written)
            for key, value in given.items()
        }
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and written and isinstance(given, Mapping):
        return build(path, hint, given)
    try:
        return _scalar(given, hint, written)
    except (ValueError, OverflowError):
        endless = hint is float and re.fullmatch(r"[+-]?(inf|infinity|nan)", str(given).strip().lower())
        raise _misfit(path, given, "a finite number" if endless else _wanted(hint, written), written) from None


def _items(path: Path, given: Sequence, hint: Any, written: bool) -> list:
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and inner and inner[-1] is not Ellipsis:
        if len(inner) != len(given):
            raise _misfit(path, given, f"a list of {len(inner)}", written)
        hints = list(inner)
    else:
        hints = [inner[0] if inner else Any] * len(given)
    pairs = zip(given, hints, strict=True)
    return [value_of((*path, f"[{i}]"), one, kind, written=written) for i, (one, kind) in enumerate(pairs)]


def _scalar(given: Any, kind: Any, written: bool) -> Any:
    """`given` as a plain value. Raises ValueError."""
    if kind is bool and isinstance(given, bool):
        return given
    if kind is bool and written and str(given).strip().lower() in _TRUTH:
        return _TRUTH[str(given).strip().lower()]
    numeric = isinstance(given, (int, float)) or (written and isinstance(given, str))
    if kind in (int, float) and numeric and not isinstance(given, bool):
        return _number(given, kind)
    if kind is str:
        if written and isinstance(given, (bool, int, float)):
            given = str(given).lower() if isinstance(given, bool) else repr(given)
        if isinstance(given, os.PathLike):
            given = os.fspath(given)
        if isinstance(given, str) and "\0" not in given:
            given.encode()  # a word of a command that is no UTF-8 has surrogates: UnicodeEncodeError, a ValueError
            return given
    if kind not in _WANTED and isinstance(kind, type) and isinstance(given, kind):
        return given
    raise ValueError


def _number(given: int | float | str, kind: type) -> int | float:
    if kind is float or isinstance(given, float):
        number = float(given)
    else:
        try:
            return int(given)
        except ValueError:
            number = float(given)  # 1e3
    if not math.isfinite(number) or (kind is int and number != int(number)):
        raise ValueError
    return kind(number)


def _one_type_of(path: Path, given: Any, hint: Any, written: bool) -> Any:
    """`given` as the first type of a union that takes it, text last."""
    kinds = typing.get_args(hint)
    if given is None and types.NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not types.NoneType]
    if len(others) == 1 and types.NoneType in kinds and _nothing_in(given, others[0]):
        fields_of(path, given, others[0])
        return None
    fitting = [kind for kind in others if _shape(kind) is _shape_of(given)]
    refused = None
    for kind in sorted(fitting, key=lambda kind: _bare(kind) is str):
        try:
            return value_of(path, given, kind, written=written)
        except Misfit as misfit:
            refused = misfit
    if refused and len(fitting) == 1:
        raise refused
    raise _misfit(path, given, _wanted(hint, written), written)


def _shape(kind: Any) -> type:
    """What a value of a type looks like: a dict, a list, or neither (object)."""
    origin = typing.get_origin(_bare(kind)) or _bare(kind)
    if origin in (list, tuple):
        return list
    return dict if origin is dict or _made_of_fields(origin) else object


def _shape_of(given: Any) -> type:
    if isinstance(given, (list, tuple)):
        return list
    return dict if isinstance(given, Mapping) or _made_of_fields(type(given)) else object


def _nothing_in(given: Any, kind: Any) -> bool:
    """Whether these are a dataclass's fields, and none is filled in."""
    fields = _made_of_fields(_bare(kind)) and isinstance(given, Mapping)
    return fields and all(value is None for value in given.values())


def _hides(path: Path) -> bool:
    """Whether what is at `path` is nobody's to read, not in a refusal either."""
    return not {*path}.isdisjoint(HIDDEN)


def _wanted(hint: Any, written: bool) -> str:
    hint = _bare(hint)
    kinds = [kind for kind in _kinds(hint) if kind is not types.NoneType]
    if len(kinds) > 1:
        return " or ".join(dict.fromkeys(_wanted(kind, written) for kind in kinds))
    kind = kinds[0]
    origin = typing.get_origin(kind) or kind
    if origin in (list, tuple):
        return "a list, [A, B]"
    if origin is dict:
        return "KEY: VALUE pairs, {KEY: VALUE}"
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return f"{{KEY: VALUE}} of {', '.join(settable(kind))}" if written and _of_words(kind) else f"a {kind.__name__}"
    return _WANTED.get(kind, f"a {getattr(kind, '__name__', kind)}")


def _of_words(kind: type) -> bool:
    """Whether a command can say all fields of a dataclass."""
    return all(set(_kinds(hint)) <= {*_WANTED, types.NoneType} for hint in hints_of(kind).values())


def _literal(path: Path, word: str, hint: Any) -> Any:
    """The list or dict that `word` is, as a site's file has it or, with round brackets, as Python does."""
    from nemo_distill.config.written import Unreadable, read

    try:
        return ast.literal_eval(word) if "(" in word else read(word).data
    except (Unreadable, ValueError, SyntaxError, MemoryError, RecursionError):
        raise _misfit(path, word, _wanted(hint, written=True), written=True) from None
