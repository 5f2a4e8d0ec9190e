"""Plain JSON data, as configs are made of: what stands for it in every process, and paths inside this package in it.

>>> from nemo_distill.config.plain import fingerprint
>>> fingerprint({"b": 1, "a": [2.0, None]}) == fingerprint({"a": (2.0, None), "b": 1})
True
"""

import hashlib
import json
from pathlib import Path

from nemo_distill.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of this package, `nemo_distill`."""
PACKAGE_PREFIX = "package:"
"""A config value `package:debug/teacher` reaches the step as an absolute path inside this package; fingerprints
keep the short form, so that they do not depend on where the package is installed."""


def fingerprint(value) -> str:
    """Twelve hex digits that stand for `value`, plain JSON data, in every process and on every machine.

    Raises `UserError` for anything without a stable form (objects, sets, NaN, keys that are no strings), by its path.
    """
    _check_plain(value, "config")
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _check_plain(value, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                raise UserError(f"{where} has the key {key!r} of type {type(key).__name__}; keys are strings.")
            _check_plain(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    elif type(value) is float and not (-float("inf") < value < float("inf")):
        raise UserError(f"{where} is {value}, which has no stable form.")
    elif value is not None and type(value) not in (str, int, float, bool):
        raise UserError(f"{where} is of type {type(value).__name__}, which has no stable form; use plain JSON data.")


def resolve_package_paths(value):
    """`value` with every string `package:PATH` in it turned into the absolute path of PATH inside this package."""
    if isinstance(value, dict):
        return {key: resolve_package_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolve_package_paths(item) for item in value]
    if isinstance(value, str) and value.startswith(PACKAGE_PREFIX):
        return str(PACKAGE / value.removeprefix(PACKAGE_PREFIX))
    return value
