"""Gives every blend a colour, a symbol and a dash that are its own on every page, and the pages their palette.

    numbers = numbers_of(["pt_v1v2", "30pre_70post_v3"])        # {"pt_v1v2": 2, "30pre_70post_v3": 4}
    look = look_of(2)                                           # colour blend2, symbol ▲, its dash

A number follows from the name, not from the order in which blends are named: the study's five have theirs, any other
name has the one that its hash asks for, or the next that is free on the page. Every two of the eight colours, and every
colour and that of the references, are 18 apart or more (CIEDE2000), on light and on dark paper, for those who see all
colours and under protanopia, deuteranopia and tritanopia; `benchmarks/palette.py` found them. Symbol and dash tell them
apart, too.
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
    "blend1": "#3c0047", "blend2": "#745507", "blend3": "#d8016f", "blend4": "#0000fb", "blend5": "#244d40",
    "blend6": "#059c98", "blend7": "#9275ff", "blend8": "#869300", "teacher": "#000000", "pruned": "#000000",
}  # fmt: skip
"""Colours by their names in the page, on light paper."""
DARK = {
    "blend1": "#a79ca4", "blend2": "#ffde00", "blend3": "#e86600", "blend4": "#6286ff", "blend5": "#a9c492",
    "blend6": "#47d6fd", "blend7": "#9e5890", "blend8": "#6b7464", "teacher": "#ffffff", "pruned": "#ffffff",
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
        around = [(wanted[name] - 1 + step) % MOST + 1 for step in range(MOST)]
        found[name] = next((number for number in around if number not in taken), len(found) + 1)
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
    return KNOWN.index(known) + 1 if known else 1 + zlib.crc32(_key(name).encode()) % MOST
