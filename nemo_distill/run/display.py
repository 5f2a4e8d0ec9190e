"""Shows a run: its steps while they run, and why one failed.

On a terminal a live table; elsewhere a line when a step changes and, every ten seconds, a line on each that runs.
Both are read off the steps' folders, so `nemo-run status` shows the same from another terminal.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nemo_distill.run.job import NO_JOBS, Job
from nemo_distill.run.manifest import Run, State, failure_of, job_log, job_of_step, last_lines, script_lines, state_of
from nemo_distill.run.overview import Overall, overall
from nemo_distill.run.progress import Progress
from nemo_distill.run.step import LOG_FILE, SUCCESS, Spec

LINE_SECONDS = 10.0
"""Without a terminal, how often a running step says how far it is."""
WATCH_SECONDS = 10.0
"""How often the queue is asked about a run that is watched."""

_STYLE = {
    State.DONE: "green",
    State.RUNNING: "cyan",
    State.FAILED: "bold red",
    State.CUT: "yellow",
    State.QUEUED: "blue",
    State.WAITING: "dim",
}


class Display:
    """Shows `run` from a thread of its own until the block ends; on a cluster, `jobs` gives its jobs by step.

    With `passing`, a terminal's table goes when the block ends.
    """

    def __init__(
        self,
        run: Run,
        console: Console,
        jobs: Callable[[], Mapping[str, Job]] = lambda: NO_JOBS,
        *,
        passing: bool = False,
    ):
        self.run, self.console, self.jobs, self.passing = run, console, jobs, passing
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live if console.is_terminal else self._lines, daemon=True)

    def __enter__(self) -> "Display":
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._stop.set()
        self._thread.join()

    def _live(self) -> None:
        def table() -> Group:
            return status_table(self.run, self.jobs())

        with Live(console=self.console, get_renderable=table, refresh_per_second=2, transient=self.passing):
            self._stop.wait()

    def _lines(self) -> None:
        states = {name: state_of(spec, self.jobs().get(name)) for name, spec in self.run.specs.items()}
        said: dict[str, float] = {}
        while True:
            stopping = self._stop.wait(0.3)
            for name, spec in self.run.specs.items():
                before, states[name] = states[name], state_of(spec, self.jobs().get(name))
                if states[name] != before:
                    said[name] = time.monotonic()
                    self._print_change(spec, states)
                elif states[name] == State.RUNNING and time.monotonic() - said.get(name, 0) >= LINE_SECONDS:
                    said[name] = time.monotonic()
                    self.console.print(f"{name}: {progress_line(spec)}", highlight=False, soft_wrap=True)
            if stopping:
                return

    def _print_change(self, spec: Spec, states: dict[str, State]) -> None:
        state = states[spec.name]
        done = sum(one == State.DONE for one in states.values())
        detail = f" in {took(spec)}, {done} of {len(states)} steps" if state == State.DONE else ""
        word = "started" if state == State.RUNNING else state.value
        job = self.jobs().get(spec.name)
        if job and state != State.DONE:
            detail = f" as job {job}"
        self.console.print(f"{spec.name}: {word}{detail}", highlight=False, soft_wrap=True)


def status_table(run: Run, jobs: Mapping[str, Job] = NO_JOBS) -> Group:
    """The steps of a run with their state, job, how far they are, tokens/s, and the time left or taken."""
    numbers = {name: job_of_step(spec).get("job", "") for name, spec in run.specs.items()}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("step", "state", *(["job"] if any(numbers.values()) else []), "progress", "", "tokens/s", "time"):
        table.add_column(column, justify="right" if column in ("tokens/s", "time") else "left", no_wrap=True)
    states = {name: state_of(spec, jobs.get(name)) for name, spec in run.specs.items()}
    for name, spec in run.specs.items():
        job = [str(jobs.get(name, numbers[name]))] if any(numbers.values()) else []
        bar: ProgressBar | str = ""
        words = speed = left = ""
        if states[name] == State.DONE:
            left = took(spec)
        elif states[name] != State.WAITING and (record := Progress.read(spec.folder)):
            bar = ProgressBar(total=record["total"], completed=record["done"], width=20)
            words = f"{record['done']:g}/{record['total']:g} {record['unit']}"
            speed = f"{record['tokens_per_second']:,.0f}" if record["tokens_per_second"] else ""
            if record["seconds_left"] is not None and states[name] == State.RUNNING:
                left = f"{duration(record['seconds_left'])} left"
        table.add_row(name, Text(states[name].value, style=_STYLE[states[name]]), *job, bar, words, speed, left)
    done = sum(state == State.DONE for state in states.values())
    return Group(table, Text(f"{run.name}: {done} of {len(states)} steps done"))


def watched(run: Run, console: Console, jobs: Callable[[], Mapping[str, Job]] = lambda: NO_JOBS) -> None:
    """Show the run, as `Display` does, for as long as anything is at work on it, or Ctrl-C."""
    said, asked = jobs(), time.monotonic()

    def seldom() -> Mapping[str, Job]:
        nonlocal said, asked
        if time.monotonic() - asked > WATCH_SECONDS:
            asked = time.monotonic()
            said = jobs()
        return said

    with contextlib.suppress(KeyboardInterrupt), Display(run, console, seldom, passing=True):
        while overall(run, seldom()) in (Overall.RUNNING, Overall.QUEUED):
            time.sleep(1)


def print_status(run: Run, console: Console, jobs: Mapping[str, Job] = NO_JOBS) -> None:
    """The table of steps, and what the failed ones said."""
    console.print(status_table(run, jobs))
    for name, spec in run.specs.items():
        if state_of(spec, jobs.get(name)) in (State.FAILED, State.CUT):
            error = failure_of(spec, jobs.get(name)).error
            console.print(Text.assemble((f"{name}: ", "bold red"), error), soft_wrap=True)
    if "report" in run.specs and run.specs["report"].done:
        console.print(f"Report: {run.specs['report'].folder / 'report.md'}", highlight=False, soft_wrap=True)


def progress_line(spec: Spec) -> str:
    """How far a running step is, in a line."""
    record = Progress.read(spec.folder)
    if record is None:
        return "running"
    parts = [f"{record['done']:g} of {record['total']:g} {record['unit']}"]
    if record["tokens_per_second"]:
        parts.append(f"{record['tokens_per_second']:,.0f} tokens/s")
    if record["seconds_left"] is not None:
        parts.append(f"{duration(record['seconds_left'])} left")
    if record["note"]:
        parts.append(record["note"])
    return ", ".join(parts)


def took(spec: Spec) -> str:
    """How long a finished step took."""
    return duration(json.loads((spec.folder / SUCCESS).read_text(encoding="utf-8"))["seconds"])


def duration(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def print_failure(
    run: Run,
    console: Console,
    *,
    failed_before_log: Mapping[str, Path | None] = MappingProxyType({}),
    jobs: Mapping[str, Job] = NO_JOBS,
) -> None:
    """Say which steps failed and why, with the end of their logs, and what was not started for it.

    `failed_before_log` are steps whose process ended before there was a log in their folder, with the log there is
    instead, if any; `jobs`, on a cluster, are the jobs by step.
    """
    states = {name: state_of(spec, jobs.get(name)) for name, spec in run.specs.items()}
    ended = [name for name, state in states.items() if state in (State.FAILED, State.CUT) or name in failed_before_log]
    failures = {name: failure_of(run.specs[name], jobs.get(name)) for name in ended}
    at_fault = [name for name, failure in failures.items() if not failure.refused] or ended
    for name in at_fault:
        own = run.specs[name].folder / LOG_FILE
        log = failed_before_log.get(name) or (own if own.exists() else job_log(run.specs[name])) or own
        console.print(Text.assemble((f"\n{name} failed: ", "bold red"), failures[name].error), soft_wrap=True)
        unexplained = states[name] == State.CUT and name in jobs
        for line in last_lines(log) + (script_lines(run.specs[name]) if unexplained else []):
            console.print(Text(f"  {line}", style="dim"), soft_wrap=True)
        console.print(Text(f"  all of it: {log}"), soft_wrap=True)
    waiting = [name for name, spec in run.specs.items() if not spec.done and name not in at_fault]
    if waiting:
        console.print(f"Not started: {', '.join(waiting)}.", highlight=False, soft_wrap=True)
    if any(failures[name].lasting for name in at_fault):
        console.print("As it is, it would end alike: that has to be mended first. What is done stays done.")
    else:
        console.print("The same command goes on from here.", highlight=False)


def print_nothing_to_do(run: Run, console: Console) -> None:
    """Say that every step is done."""
    console.print(f"Nothing to do: all {len(run.specs)} steps of {run.name} are done.", highlight=False)
