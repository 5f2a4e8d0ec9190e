"""Settings given on the command line, `key.sub=value`, checked against the types of what they change.

>>> from nemo_distill.config.settings import Distill
>>> from nemo_distill.config.overrides import override
>>> override({"distill": Distill(), "seed": 1}, ["distill.learning_rate=2e-3", "seed=7"])["distill"].learning_rate
0.002
>>> override({"distill": Distill()}, ["distil.learning_rate=2e-3"])
Traceback (most recent call last):
    ...
nemo_distill.errors.UserError: there is no setting 'distil.learning_rate'. Did you mean 'distill.learning_rate'?

NeMo-Run's own parser is not used for settings: it builds a changed dataclass from the class's defaults and so loses
what the recipe had set on the instance, and it knows neither tuples nor `X | None`.
"""

import ast
import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nemo_distill.errors import UserError, nearest

_PLAINLY = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def override(defaults: Mapping[str, Any], words: Iterable[str]) -> dict[str, Any]:
    """`defaults` with every `key=value` of `words` applied; all changes to one dataclass at once.

    Args:
        defaults: The settings by name: dataclasses, which are changed by field, dicts, by key, or plain values.
        words: `key=value` or `key.sub=value`. Values are Python literals; anything else is taken as text.

    Raises:
        UserError: For a word without `=`, an unknown key, a value of the wrong type, and for whatever a dataclass
            refuses when it is built anew.
    """
    changes: dict = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            hint = f"Give {word}=value." if word in names(defaults) else nearest(word, names(defaults))
            raise UserError(f"'{word}' is no setting: settings look like key=value. {hint}")
        path = key.split(".")
        hint = _hint(defaults, path)
        if hint is None:
            raise UserError(f"there is no setting '{key}'. {nearest(key, names(defaults))}")
        branch = changes
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
            if isinstance(branch, _Leaf):
                raise UserError(f"'{word}' changes a part of what another setting replaces.")
        branch[path[-1]] = _Leaf(_convert(key, text, hint))
    changed = {name: _rebuilt(defaults[name], change, name) for name, change in changes.items()}
    return {**defaults, **changed}


def names(defaults: Mapping[str, object]) -> list[str]:
    """Every key that `override` knows, dotted."""
    found = []
    for name, value in defaults.items():
        if dataclasses.is_dataclass(value):
            found += [f"{name}.{inner}" for inner in names(_fields(value))]
        elif isinstance(value, Mapping):
            found += [f"{name}.{key}" for key in value]
        else:
            found.append(name)
    return found


@dataclasses.dataclass(frozen=True)
class _Leaf:
    value: object


def _fields(value) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}


def _hint(defaults: Mapping[str, object], path: list[str]):
    """The type of the setting at `path`; None when there is no such setting."""
    name, *rest = path
    if name not in defaults:
        return None
    owner, hint = defaults[name], type(defaults[name])
    for part in rest:
        if dataclasses.is_dataclass(owner):
            hints = typing.get_type_hints(type(owner))
            if part not in hints:
                return None
            owner, hint = getattr(owner, part), hints[part]
        elif isinstance(owner, Mapping) and part:
            arguments = typing.get_args(hint)
            owner, hint = owner.get(part), arguments[1] if len(arguments) == 2 else object
        else:
            return None
    return None if dataclasses.is_dataclass(owner) else hint


def _convert(key: str, text: str, hint):
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = None if text in ("null", "none") else text
    if isinstance(value, str) and any(typing.get_origin(kind) is tuple for kind in (hint, *typing.get_args(hint))):
        value = tuple(part.strip() for part in text.split(","))
    if hint is str or (value is not None and str in typing.get_args(hint) and float not in typing.get_args(hint)):
        value = text
    try:
        return TypeAdapter(hint, config={"arbitrary_types_allowed": True}).validate_python(value)
    except ValidationError as error:
        wanted = [_PLAINLY[kind] for kind in (hint, *typing.get_args(hint)) if kind in _PLAINLY]
        reason = f"it has to be {wanted[0]}" if wanted else error.errors()[0]["msg"]
        raise UserError(f"{key}={text} cannot be: {reason}.") from None


def _rebuilt(value, change, where: str):
    if isinstance(change, _Leaf):
        return change.value
    if isinstance(value, Mapping):
        return {**value, **{key: _rebuilt(value.get(key), inner, f"{where}.{key}") for key, inner in change.items()}}
    inner = {name: _rebuilt(getattr(value, name), part, f"{where}.{name}") for name, part in change.items()}
    try:
        return dataclasses.replace(value, **inner)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
