"""Writes numbers as words, alike in every report, table and finding.

>>> tokens_text(2.5e9), points_text(0.124), span_text(200), p_text(0.0123)
('2.5B', '+12.4', '3 min 20 s', 'p = 0.012')

Figures are rounded by one rule, `fixed`: pages, their scripts, tables and the terminal.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Protocol

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet computes."""
_UNITS = (("B", 1e9), ("M", 1e6), ("K", 1e3))
_SURROGATES = re.compile("[\ud800-\udfff]")


class Measured(Protocol):
    """A value and its standard error, on one scale."""

    @property
    def mean(self) -> float:
        """The value."""

    @property
    def stderr(self) -> float:
        """Its standard error."""


def cells(line: Iterable[object]) -> list[object]:
    """A line of a table, in which no text begins as a spreadsheet's formula does.

    >>> cells(["=HYPERLINK(1)", "-0.5", 3, "@a", "A1"])
    ["'=HYPERLINK(1)", '-0.5', 3, "'@a", 'A1']
    """
    return [f"'{one}" if isinstance(one, str) and _computed(one) else one for one in line]


def _computed(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.startswith(_FORMULA)
    return False


EMPTY = "–"
"""Stands where there is nothing to say."""
TIE = 2e-5
"""Share of the last digit by which a value may lie below the middle between two and still be in it: what sums and
differences, and the six digits that a page's script is given, lose."""


def fixed(value: float, digits: int = 1, *, signed: bool = False) -> str:
    """A number with so many digits after its point. From the middle between two it goes away from zero, as a reader of
    the decimal figure would have it; the page's script does the same sum (`draw.js`).

    >>> fixed(61.25), fixed(100 * 0.6135), fixed(-0.15), fixed(-0.04), fixed(0.125, 2), fixed(12.5, 0)
    ('61.3', '61.4', '-0.2', '0.0', '0.13', '13')
    """
    if not math.isfinite(value):
        return f"{value:.{digits}f}"
    whole = math.floor(abs(value) * 10**digits + 0.5 + TIE)
    sign = "-" if value < 0 and whole else "+" if signed else ""
    return f"{sign}{whole / 10**digits:.{digits}f}"


def significant(value: float, digits: int) -> str:
    """A number in so many digits, by the same rule, without zeros at its end.

    >>> significant(0.03125, 3), significant(12.5, 2), significant(2.0, 3), significant(100.7, 2), significant(0, 3)
    ('0.0313', '13', '2', '100', '0')
    """
    if not value or not math.isfinite(value):
        return f"{value:g}"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    if places <= 0:
        return fixed(float(fixed(value / 10**-places, 0)) * 10**-places, 0)
    return fixed(value, places).rstrip("0").rstrip(".")


def score_text(value: Measured) -> str:
    """A score from 0 to 100 with its standard error: `61.3 ± 2.1`; a dash for one of nan."""
    if math.isnan(value.mean):
        return EMPTY
    return f"{fixed(100 * value.mean)} ± {fixed(100 * value.stderr)}"


def points_text(difference: float) -> str:
    """A difference from 0 to 1 in points, with its sign: `+12.4`."""
    return fixed(100 * difference, signed=True).replace("-", "−")


def change_text(value: Measured) -> str:
    """A difference in points with its standard error: `+12.4 ± 3.0`; a dash for one of nan."""
    if math.isnan(value.mean):
        return EMPTY
    return f"{points_text(value.mean)} ± {fixed(100 * value.stderr)}"


def tokens_text(tokens: float) -> str:
    """A number of tokens in three digits: `0.4M`, `2.5B`."""
    for unit, size in _UNITS:
        if tokens >= 0.1 * size:
            return f"{tokens / size:.3g}{unit}"
    return f"{tokens:.0f}"


def tokens_texts(values: Sequence[float]) -> list[str]:
    """Numbers of tokens of one column: in three digits each, all in the unit of the largest.

    >>> tokens_texts([226_000, 30_700, 0])
    ['0.226M', '0.0307M', '0M']
    """
    unit, size = next(((unit, size) for unit, size in _UNITS if max(values, default=0) >= 0.1 * size), ("", 1.0))
    return [f"{value / size:.3g}{unit}" for value in values]


def rate_text(rate: float) -> str:
    """A learning rate in three digits: `1.87e-5`."""
    return f"{rate:.3g}".replace("e-0", "e-")


def span_text(seconds: float | None) -> str:
    """A time span: `42 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    return f"{whole // 60} min {whole % 60:02} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} min"


def p_text(p_value: float) -> str:
    """A p-value in two digits, and none below 0.001."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def valid_unicode(text: str) -> str:
    """`text` as UTF-8 can write it: half a surrogate pair, which JSON may hold, is replaced by U+FFFD.

    >>> valid_unicode("so \\ud83d, done") == "so \ufffd, done"
    True
    """
    return _SURROGATES.sub("\ufffd", text)


def joined(names: Sequence[str], word: str = "and") -> str:
    """Names as a sentence has them: `a`, `a and b`, `a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} {word} {last}" if others else last


def times_text(times: float | None) -> str:
    """A multiple in three digits, with its sign; a dash where it is not known."""
    return EMPTY if times is None else f"{fixed(times, 2)} ×"


def share_text(share: float) -> str:
    """A share from 0 to 1 in percent: `3.2%`, `<0.1%`."""
    return "<0.1%" if 0 < share < 0.0005 else f"{fixed(100 * share)}%"
