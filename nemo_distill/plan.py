"""The preview of a run: its blend, its milestones, and what each step would do. Shown before anything is spent.

    print_preview(run, console, blend=blend, schedule=schedule, milestones=milestones)

It reads the runs folder and writes nothing.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nemo_distill.blend import Blend
from nemo_distill.manifest import Run, State, state_of
from nemo_distill.schedule import Milestone, Schedule, format_tokens
from nemo_distill.sources import find

_STYLE = {"skip": "dim", "run": "bold cyan", "resume": "bold yellow", "wait": "", "busy": "yellow"}


def print_preview(
    run: Run, console: Console, *, blend: Blend, schedule: Schedule, milestones: tuple[Milestone, ...]
) -> None:
    """All three tables, and where the run lies."""
    facts = run.facts
    console.print(f"[bold]{run.name}[/]: {facts['scale']} scale, executor {facts['executor']}, seed {facts['seed']}")
    console.print(f"in {run.runs}", style="dim", highlight=False, soft_wrap=True)
    tables = (
        blend_table(blend, milestones[-1], available=tokens_available(run)),
        milestone_table(schedule, milestones),
        step_table(run),
    )
    for table in tables:
        console.print()
        console.print(table)
    console.print()


def blend_table(blend: Blend, last: Milestone, *, available: dict[str, int] | None) -> Table:
    """Share, tokens drawn and passes of each source at the last milestone.

    Args:
        blend: The blend.
        last: The milestone at which tokens and epochs are counted.
        available: Tokens that each source holds; None while they have not been counted.
    """
    table = _table(f"Blend {blend.name}", "source", ">share %", f">tokens at {last.label}", ">epochs")
    drawn = blend.tokens_drawn(last.tokens)
    epochs = blend.epochs(last.tokens, available) if available else None
    for source, share in sorted(blend.shares.items(), key=lambda item: -item[1]):
        passes = f"{epochs[source]:.2f}" if epochs else "once prepared"
        table.add_row(source, f"{share:g}", format_tokens(drawn[source], digits=3), passes)
    return table


def milestone_table(schedule: Schedule, milestones: Iterable[Milestone]) -> Table:
    """Iteration, tokens and learning rate at each milestone."""
    table = _table("Milestones", "milestone", ">iteration", ">tokens", ">learning rate")
    for milestone in milestones:
        rate = schedule.learning_rate_after(milestone.iteration)
        table.add_row(milestone.label, f"{milestone.iteration:,}", f"{milestone.tokens:,}", f"{rate:.3g}")
    return table


def step_table(run: Run) -> Table:
    """What each step would do, and why."""
    table = _table("Steps", "step", "does", "because", "fingerprint")
    for name, spec in run.specs.items():
        action, reason = decide(run, name)
        table.add_row(name, Text(action, style=_STYLE[action]), reason, Text(spec.fingerprint, style="dim"))
    return table


def decide(run: Run, name: str) -> tuple[str, str]:
    """(`skip`, `run`, `resume`, `wait` or `busy`, the reason) of the step `name`."""
    spec = run.specs[name]
    state = state_of(spec)
    missing = [upstream for upstream in spec.upstream if not run.specs[upstream].done]
    if state == State.DONE:
        return "skip", "done"
    if state == State.RUNNING:
        return "busy", "another process is at it"
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return "wait", f"for {missing[0]}{others}"
    if state == State.FAILED:
        return "resume", "failed before"
    if state == State.CUT:
        return "resume", "was cut"
    elsewhere = spec.folder.parent.is_dir() and any(path.is_dir() for path in spec.folder.parent.iterdir())
    return "run", "new settings" if elsewhere else "not done yet"


def tokens_available(run: Run) -> dict[str, int] | None:
    """Tokens that each source holds: counted, once they are prepared, or the catalogue's at full scale."""
    prepare = run.specs["prepare"]
    names = [source["name"] for source in prepare.config["sources"]]
    if prepare.done:
        counted = json.loads(Path(prepare.folder, "sources.json").read_text(encoding="utf-8"))
        return {name: counted[name]["tokens"] for name in names}
    return None if run.facts["scale"] != "full" else {name: find(name).tokens for name in names}


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left", no_wrap=True)
    return table
