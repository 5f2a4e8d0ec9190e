"""The examples in docstrings give what they say, in every module that has one."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SKIPPED: dict[str, str] = {}
"""Module to the reason why its examples are not run here."""


def modules_with_examples() -> list[str]:
    """Dotted names of the modules of both packages that hold a `>>>`."""
    found = []
    for path in sorted(path for package in ("nemo_distill", "evaluator") for path in (ROOT / package).rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found.append(name.replace("evaluator.core_evals.", "core_evals."))
    return found


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_give_what_they_say(name):
    if name in SKIPPED:
        pytest.skip(SKIPPED[name])
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0 and result.failed == 0


def test_what_is_skipped_is_there_and_has_examples():
    assert set(SKIPPED) <= set(modules_with_examples())
