"""Checks what a recipe hands to a declaration, `Source(...)` or `Questions(...)`, before the dataclass is made."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from nemo_distill.errors import UserError, nearest


def check_arguments(cls: type, what: str, given: Mapping[str, object], *, name: str) -> None:
    """Raise `UserError` for an argument that `cls` does not have, with the nearest, and where `name` is not given.

    `what` is what sentences call it: `source`, `benchmark`.
    """
    known = [field.name for field in dataclasses.fields(cls)]
    for argument in given:
        if argument not in known:
            raise UserError(f"a {what} has no argument {argument!r}. {nearest(argument, known)}")
    if given and name not in given:
        first, value = next(iter(given.items()))
        raise UserError(f"the {what} {first}={value!r} has no {name}: give it {name}=.")


def check_count(declared: Any, what: str, name: str) -> None:
    """Raise `UserError` unless the field called `name` is None or a whole number above 0; `what` is whose it is."""
    value = getattr(declared, name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not value > 0):
        raise UserError(f"{what}: {name}={value!r} has to be a whole number above 0.")
