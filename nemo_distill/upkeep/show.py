"""Prints a list of runs, what `nemo-run clean` found and removed, and what `nemo-run push` sends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nemo_distill.outcome.files import AVERAGE, points_of
from nemo_distill.run.naming import suffix
from nemo_distill.run.overview import Overall
from nemo_distill.upkeep.listing import Listed

if TYPE_CHECKING:
    from nemo_distill.upkeep.clean import Found, Removable
    from nemo_distill.upkeep.push import Parcel

UNITS = ("B", "kB", "MB", "GB", "TB")
WIDE = 120
"""Columns from which recipe and settings have columns of their own."""
STYLE = {
    Overall.DONE: "green",
    Overall.RUNNING: "cyan",
    Overall.QUEUED: "blue",
    Overall.FAILED: "bold red",
    Overall.CUT: "yellow",
}
"""Colours of a run's state."""


def print_runs(listed: Sequence[Listed], unreadable: Sequence[Path], console: Console) -> None:
    """A row per run, by name, and what looks like a run's file and is none.

    Where there is no room for recipe and settings, they stand below a name that does not say them.
    """
    wide = console.width >= WIDE
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("run", overflow="fold", no_wrap=wide)
    for column in ("recipe", "scale", "settings") if wide else ():
        table.add_column(column, overflow="fold")
    table.add_column("state", no_wrap=True)
    for column in ("steps", "Average", "disk", "own", "age") if wide else ("steps", "Average", "disk", "age"):
        table.add_column(column, justify="right", no_wrap=True)
    for run in listed:
        settings = ", ".join(f"{key}={value}" for key, value in run.changed.items())
        state = Text(run.state.value, style=STYLE.get(run.state, ""))
        average = points_of(run.scores[AVERAGE]) if AVERAGE in run.scores else ""
        sizes = [size_text(run.size), *([size_text(run.own_size)] if wide else [])]
        told = wide or run.name == f"{run.recipe}-{run.scale}{suffix(run.changed)}"
        about_it = ", ".join(filter(None, (run.recipe, run.scale, settings)))
        name = Text(run.name) if told else Text.assemble(run.name, (f"\n  {about_it}", "dim"))
        about: list[str | Text] = [run.recipe, run.scale, Text(settings, style="dim")] if wide else []
        table.add_row(name, *about, state, f"{run.done}/{run.steps}", average, *sizes, age_text(run.age))
    console.print(table)
    for path in unreadable:
        console.print(f"{path.name} is no run's file.", style="yellow", highlight=False, soft_wrap=True)


def age_text(seconds: float) -> str:
    """Time since something in its largest unit: `5 min`, `3 h`, `12 d`."""
    for unit, size in (("d", 86_400), ("h", 3_600)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0) // 60:.0f} min"


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
