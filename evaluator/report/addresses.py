"""Addresses of rows within the CSVs beside a page (RFC 7111), and where figures are from by them.

together(["scores.csv#row=5", "scores.csv#row=6", "scores.csv#row=14-16"])      # "scores.csv#row=5-6;14-16"
Origin("scores.csv#row=5", "from-evaluate-80B-0123456789ab")
"""

from collections.abc import Iterable
from dataclasses import dataclass

REPRODUCE = "reproduce"
"""Id of a page's table of commands that give its numbers again."""


@dataclass(frozen=True)
class Origin:
    """Where a figure is from."""

    rows: str = ""
    """Address of the rows that hold it; empty where there are none."""
    anchor: str = ""
    """Id, on the page, of the line with the command behind it; empty where that is not known."""


def together(addresses: Iterable[str]) -> str:
    """One address of the rows of all of these, which are of one file; empty where there are none."""
    name, rows = "", set[int]()
    for address in filter(None, addresses):
        name, _, named = address.partition("#row=")
        for span in named.split(";"):
            first, _, last = span.partition("-")
            rows |= set(range(int(first), int(last or first) + 1))
    starts = sorted(row for row in rows if row - 1 not in rows)
    ends = sorted(row for row in rows if row + 1 not in rows)
    spans = [f"{one}" if one == end else f"{one}-{end}" for one, end in zip(starts, ends, strict=True)]
    return f"{name}#row={';'.join(spans)}" if spans else ""


def origin_of(origins: Iterable[Origin]) -> Origin:
    """Where several figures are from: the rows of all, and their command, or all commands where they have several."""
    found = list(origins)
    anchors = {one.anchor for one in found if one.anchor}
    anchor = anchors.pop() if len(anchors) == 1 else REPRODUCE if anchors else ""
    return Origin(together(one.rows for one in found), anchor)
