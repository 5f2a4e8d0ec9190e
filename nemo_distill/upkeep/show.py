"""Prints what `nemo-run clean` found and removed, and what `nemo-run push` sends."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from nemo_distill.upkeep.clean import Found, Removable
from nemo_distill.upkeep.push import Parcel

UNITS = ("B", "kB", "MB", "GB", "TB")


def print_found(found: Found, runs: Path, console: Console, *, delete: bool) -> None:
    """What can go, what stays though a rule names it, and how to remove it."""
    if found.removable:
        table = Table("rule", "folder", "why", box=None, pad_edge=False)
        table.add_column("frees", justify="right")
        for item in found.removable:
            table.add_row(item.rule, str(item.folder.relative_to(runs)), item.why, size_text(item.size))
        console.print(table)
    else:
        console.print(f"{runs} holds nothing that can go.", highlight=False, soft_wrap=True)
    for path, why in found.kept:
        console.print(f"kept: {path.relative_to(runs)} {why}.", style="dim", highlight=False, soft_wrap=True)
    if found.removable and not delete:
        line = f"{size_text(found.size)} in all; nothing is removed without --delete."
        console.print(line, highlight=False, soft_wrap=True)


def print_removed(item: Removable, console: Console) -> None:
    """A line on what is gone."""
    what = "the optimizer's state of " if item.rule == "optimizer" else ""
    line = f"removed {what}{item.folder.parent.name}/{item.folder.name}, {size_text(item.size)}"
    console.print(line, highlight=False, soft_wrap=True)


def print_parcel(parcel: Parcel, repository: str, console: Console, *, dryrun: bool) -> None:
    """What goes where, and how much it is."""
    table = Table("file", box=None, pad_edge=False)
    table.add_column("size", justify="right")
    for name, size in parcel.sizes.items():
        table.add_row(name, size_text(size))
    console.print(table)
    what = "would be sent" if dryrun else "is sent"
    line = f"{parcel.title}: {size_text(sum(parcel.sizes.values()))} {what} to {repository}"
    console.print(line, highlight=False, soft_wrap=True)


def size_text(size: float) -> str:
    """Bytes in words: `97.6 GB`."""
    for unit in UNITS:
        if size < 1000 or unit == UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == UNITS[0] else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError
