"""What a field can hold beyond its type, within `Annotated`: looked at by `nemo_distill.config.values`.

requeues: Annotated[int, at_least(0)] = 3
nodes: Annotated[int, Elsewhere("say layout.nodes")] = 1
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

HIDDEN = ("env_vars", "setup_lines")
"""Settings of an executor whose values, and all below them, are secret: shown, recorded and logged nowhere."""


@dataclass(frozen=True)
class Rule:
    """What a value has to be, beyond its type."""

    fits: Callable[[Any], bool]
    """Whether it is so."""
    wanted: str
    """What it has to be, as the end of a sentence."""
    choices: tuple[str, ...] = ()
    """All that it can be, where that is a few words."""


@dataclass(frozen=True)
class Elsewhere:
    """A field that no user sets."""

    say: str
    """What to say in its place."""


@dataclass(frozen=True)
class PartOf:
    """A dict of some of the fields of a dataclass."""

    kind: type
    """The dataclass."""


@dataclass(frozen=True)
class Keeps:
    """Text that stands for itself, though it is a word for None elsewhere."""

    words: tuple[str, ...]
    """The words."""


def at_least(least: float) -> Rule:
    """A number that is not below `least`."""
    return Rule(lambda value: value >= least, f"at least {least:g}")


def at_most(most: float) -> Rule:
    """A number that is not above `most`; what is too small is said otherwise."""
    return Rule(lambda value: value <= most, f"at most {most:g}")


def between(least: float, most: float) -> Rule:
    """A number from `least` to `most`."""
    return Rule(lambda value: least <= value <= most, f"from {least:g} to {most:g}")


def one_of(*choices: str) -> Rule:
    """One of a few words."""
    return Rule(lambda value: not isinstance(value, str) or value in choices, " or ".join(choices), choices)


Variable = Annotated[str, Rule(lambda name: bool(re.fullmatch(r"[A-Za-z_]\w*", name)), "the name of a variable")]
"""An environment variable."""
FILE = Rule(lambda path: os.path.isfile(os.path.expanduser(path)), "a file that is there")
WORD = Rule(lambda text: bool(re.fullmatch(r"[^\s\"'`$\\-][^\s\"'`$\\]*", text)), "one word, without spaces and quotes")
"""What stands on a line of a job script."""
NOT_EMPTY = Rule(lambda text: bool(text.strip()), "text, and not empty")
