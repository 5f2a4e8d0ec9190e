"""Gives every blend a colour, a symbol and a dash that are its own on every page, and the pages their palette.

    numbers = numbers_of(["pt_v1v2", "30pre_70post_v3"])        # {"pt_v1v2": 2, "30pre_70post_v3": 4}
    look = look_of(2)                                           # colour blend2, symbol ▲, its dash

A number follows from the name, not from the order in which blends are named: the study's five have theirs, any other
name has the one of the first five that its hash asks for, or the next that is free on the page. Every two of these
five, every colour and the one that follows, and every colour and those of the references are 15 apart or more
(CIEDE2000), on light and on dark paper, for those who see all colours and under protanopia, deuteranopia and
tritanopia; any two of the eight are 12 apart, in the dark 15. Symbol and dash tell them apart, too.
"""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

KNOWN = ("pre_sft_v1", "pt_v1v2", "30pre_70post_v1v2", "30pre_70post_v3", "30pre_70post_v1v3")
"""The study's blends, whose numbers are their places."""
SYMBOLS = ("■", "▲", "◆", "▼", "●", "✚", "✖", "★")
"""A blend's symbol as a letter, by its number."""
MARKERS = ("s", "^", "D", "v", "o", "P", "X", "*")
"""The same by matplotlib's names."""
DASHES = ((), (7, 3), (2, 2.5), (9, 3, 2, 3), (14, 3), (4, 3), (9, 3, 2, 3, 2, 3), (3, 3, 9, 3))
"""Lengths of a blend's dashes and gaps, by its number; none is a whole line."""
MOST = len(SYMBOLS)
"""Blends that a page tells apart."""
REFERENCES = {"teacher": (5, 3), "pruned": (1.5, 2.5)}
"""Dashes of the lines across at which the reference models stand."""
LIGHT = {
    "blend1": "#49069a", "blend2": "#717303", "blend3": "#ad506d", "blend4": "#0b6fcc", "blend5": "#642a01",
    "blend6": "#67975b", "blend7": "#25613d", "blend8": "#7f7f9d", "teacher": "#273434", "pruned": "#342727",
}  # fmt: skip
"""Colours by their names in the page, on light paper."""
DARK = {
    "blend1": "#fdd1fd", "blend2": "#c6fd6e", "blend3": "#b0849a", "blend4": "#2c8ffd", "blend5": "#e76e0b",
    "blend6": "#017f61", "blend7": "#8ba979", "blend8": "#b5439d", "teacher": "#d1d1c6", "pruned": "#e7e7dc",
}  # fmt: skip
"""The same on dark paper."""
PAPER = LIGHT | {"ink": "#23272f", "muted": "#5f6772", "rule": "#e3e5e9", "card": "#ffffff"}
"""Colours of a drawing that leaves the page: always on light paper."""


@dataclass(frozen=True)
class Look:
    """How a curve is told from others."""

    color: str
    """Name of its colour."""
    symbol: str
    """Its symbol, a letter."""
    marker: str
    """The same by matplotlib's name."""
    dash: tuple[float, ...]
    """Lengths of its dashes and gaps."""


def look_of(number: int) -> Look:
    """The look of a number from 1. Beyond `MOST` colours come again, with other symbols and dashes.

    >>> look_of(2).color, look_of(2).symbol, look_of(10).color, look_of(10).symbol
    ('blend2', '▲', 'blend2', '◆')
    """
    place, again = (number - 1) % MOST, (number - 1) // MOST
    shape = (place + again) % MOST
    return Look(f"blend{place + 1}", SYMBOLS[shape], MARKERS[shape], DASHES[shape])


def numbers_of(names: Iterable[str]) -> dict[str, int]:
    """Number of each blend, from 1, by its name: the same in whatever order, and no two alike up to `MOST` names.

    >>> numbers_of(["distill_30pre_70post_v1v3", "pre_sft_v1"])
    {'distill_30pre_70post_v1v3': 5, 'pre_sft_v1': 1}
    """
    names = list(dict.fromkeys(names))
    wanted = {name: _wanted(name) for name in names}
    found: dict[str, int] = {}
    # Where two want one number the study's blend has it, then the one that is first by its name.
    for name in sorted(names, key=lambda name: (_key(name) not in KNOWN, not _known(name), name)):
        taken = set(found.values())
        around = [(wanted[name] - 1 + step) % len(KNOWN) + 1 for step in range(len(KNOWN))]
        choices = [*around, *range(len(KNOWN) + 1, MOST + 1)]
        found[name] = next((number for number in choices if number not in taken), len(found) + 1)
    return {name: found[name] for name in names}


def palette_css() -> str:
    """The palette as CSS: variables in light and dark, and a class per blend that sets `--blend`."""
    light, dark = (" ".join(f"--{name}: {color};" for name, color in one.items()) for one in (LIGHT, DARK))
    classes = " ".join(f".blend{number} {{ --blend: var(--blend{number}); }}" for number in range(1, MOST + 1))
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{classes}"


def _key(name: str) -> str:
    """What a blend is called on every page: its scale, or seed, in brackets is left out."""
    return name.partition(" (")[0]


def _known(name: str) -> str | None:
    """The study's blend that is named in `name`, if one is."""
    return next((one for one in KNOWN if re.search(rf"(?<![A-Za-z0-9]){one}(?![A-Za-z0-9])", _key(name))), None)


def _wanted(name: str) -> int:
    known = _known(name)
    return KNOWN.index(known) + 1 if known else 1 + zlib.crc32(_key(name).encode()) % len(KNOWN)
