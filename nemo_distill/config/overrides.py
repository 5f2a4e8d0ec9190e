"""Settings given on the command line, `key.sub=value`, checked against the types of what they change.

>>> from nemo_distill.config.settings import Distill
>>> from nemo_distill.config.overrides import override
>>> override({"distill": Distill(), "seed": 1}, ["distill.learning_rate=2e-3", "seed=7"])["distill"].learning_rate
0.002
>>> override({"distill": Distill()}, ["distil.learning_rate=2e-3"])
Traceback (most recent call last):
    ...
nemo_distill.errors.UserError: there is no setting 'distil.learning_rate'. Did you mean 'distill.learning_rate'?

What a value can be is a matter of `nemo_distill.config.values`, which site files and recipes go by as well. NeMo-Run's
own parser is not used: it builds a changed dataclass from the class's defaults and so loses what the recipe had set on
the instance, and it knows neither tuples nor `X | None`.
"""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from nemo_distill.config import values
from nemo_distill.config.hints import hint_for
from nemo_distill.config.rules import PartOf
from nemo_distill.errors import UserError


def override(
    defaults: Mapping[str, Any], words: Iterable[str], *, kinds: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """`defaults` with every `key=value` of `words` applied; all changes to one dataclass at once.

    Args:
        defaults: The settings by name: dataclasses, which are changed by field, dicts, by key, or plain values.
        words: `key=value` or `key.sub=value`; a group of settings also as `key={sub: value}`.
        kinds: Types of settings by name, where a default does not say it.

    Raises:
        UserError: For a word without `=`, an unknown key, a value of the wrong type, and for whatever a dataclass
            refuses when it is built anew.
    """
    changes: dict = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            hint = f"Give {word}=value." if word in names(defaults) else hint_for(word, names(defaults))
            raise UserError(f"'{word}' is no setting: settings look like key=value. {hint}".rstrip())
        place = _placed(defaults, key, kinds)
        if place is None:
            raise UserError(f"there is no setting '{key}'. {hint_for(key, names(defaults))}".rstrip())
        path, kind = place
        branch = changes
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
            if isinstance(branch, _Leaf):
                raise UserError(f"'{word}' changes a part of what another setting replaces.")
        if _is_group(kind):
            given = values.data_of(path, text, kind)
            if not isinstance(given, Mapping):
                said = f"there is no setting '{key}': it has parts, {key}.NAME=value."
                raise UserError(f"{said} {hint_for(key, names(defaults))}".rstrip())
            branch = branch.setdefault(path[-1], {})
            branch.update({name: _Leaf(value) for name, value in values.fields_of(path, given, kind).items()})
        else:
            branch[path[-1]] = _Leaf(values.word_of(path, text, kind))
    changed = {
        name: _rebuilt(defaults[name], type(defaults[name]), change, (name,)) for name, change in changes.items()
    }
    return {**defaults, **changed}


def names(defaults: Mapping[str, object]) -> list[str]:
    """Every key that `override` knows, dotted."""
    found = []
    for name, value in defaults.items():
        if dataclasses.is_dataclass(value):
            found += [f"{name}.{inner}" for inner in _names_in(type(value), value)]
        elif isinstance(value, Mapping):
            found += [f"{name}.{key}" for key in value]
        else:
            found.append(name)
    return found


@dataclasses.dataclass(frozen=True)
class _Leaf:
    value: object


def _names_in(kind: Any, value: object) -> Iterable[str]:
    hints = values.hints_of(kind)
    for name in values.settable(kind):
        inner, held = values.plain_type(hints[name]), getattr(value, name, None)
        if _is_group(inner):
            yield from (f"{name}.{part}" for part in _names_in(inner, held))
        elif isinstance(held, Mapping) and held and inner is values.dict_in(inner):
            yield from (f"{name}.{key}" for key in held)
        else:
            yield name


def _is_group(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) and isinstance(kind, type)


def _placed(defaults: Mapping[str, object], key: str, kinds: Mapping[str, Any]) -> tuple[tuple[str, ...], Any] | None:
    """What leads to the setting called `key`, and its type with its rules; None when there is no such setting."""
    name, *rest = key.split(".")
    if name not in defaults:
        return None
    path, hint = [name], kinds.get(name, object if defaults[name] is None else type(defaults[name]))
    while rest:
        kind = values.dict_in(values.plain_type(hint))
        if isinstance(kind, PartOf):
            kind = kind.kind
        if _is_group(kind):
            part, *rest = rest
            if part not in values.hints_of(kind):
                return None
            hint = values.hints_of(kind)[part]
        elif (typing.get_origin(kind) or kind) is dict:
            of_key, hint = typing.get_args(kind) or (str, object)
            # A key may have dots in it: distill-2.5B. What holds no parts is what the last word is of.
            inner = values.plain_type(hint)
            deep = isinstance(inner, PartOf) or _is_group(inner) or (typing.get_origin(inner) or inner) is dict
            several = len(rest) - 1 if deep and len(rest) > 1 else len(rest)
            part, rest = ".".join(rest[:several]), rest[several:]
            if not part:
                return None
            values.key_of(tuple(path), part, of_key)
        else:
            return None
        path.append(part)
    return tuple(path), hint


def _rebuilt(value: Any, hint: Any, change: Any, path: tuple[str, ...]) -> Any:
    if isinstance(change, _Leaf):
        return change.value
    kind = values.dict_in(values.plain_type(hint))
    if _is_group(kind):
        hints = values.hints_of(kind)
        inner = {
            name: _rebuilt(getattr(value, name, None), hints[name], part, (*path, name))
            for name, part in change.items()
        }
        if value is None:
            return values.build(path, kind, inner)
        return values.made(path, lambda: dataclasses.replace(value, **inner))
    inner_hint = object if isinstance(kind, PartOf) else (typing.get_args(kind) or (str, object))[1]
    held = value if isinstance(value, Mapping) else {}
    new = {key: _rebuilt(held.get(key), inner_hint, part, (*path, key)) for key, part in change.items()}
    return {**held, **new}
