"""Shows a run while it goes on.

On a terminal a live table; elsewhere a line with the time when a step changes, and on each that runs after ten seconds
and ever more rarely. Both are read off the steps' folders, so `nemo-run status` shows the same from another terminal.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from nemo_distill.run.job import NO_JOBS, Job
from nemo_distill.run.manifest import Run, State, failure_of, state_of
from nemo_distill.run.overview import Overall, overall
from nemo_distill.run.progress import Progress
from nemo_distill.run.remaining import Remaining, started
from nemo_distill.run.standstill import Seen, quiet_for, ranks_of, slow_ranks
from nemo_distill.run.step import Spec
from nemo_distill.run.table import Drawing, StatusTable, amount, duration, pace

LINE_SECONDS, LINE_SHARE = 10.0, 0.05
"""Without a terminal, how often a running step says how far it is: that often, or at this share of what it has run."""
QUIET_SECONDS = 60.0
"""From which time without progress on it is said of a step that runs."""
WATCH_SECONDS = 10.0
"""How often the queue is asked about a run that is watched."""


class Display:
    """Shows `run` from a thread of its own until the block ends; on a cluster, `jobs` gives its jobs by step.

    Of the steps at most `parallel` run at once, if given. With `passing`, a terminal's table goes when the block ends.
    """

    def __init__(
        self,
        run: Run,
        console: Console,
        jobs: Callable[[], Mapping[str, Job]] = lambda: NO_JOBS,
        *,
        parallel: int | None = None,
        passing: bool = False,
    ):
        self.run, self.console, self.jobs, self.parallel, self.passing = run, console, jobs, parallel, passing
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live if console.is_terminal else self._lines, daemon=True)

    def __enter__(self) -> "Display":
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._stop.set()
        self._thread.join()

    def _live(self) -> None:
        drawing = Drawing(self.run, self.jobs, parallel=self.parallel)
        with Live(
            console=self.console,
            get_renderable=drawing.table,
            refresh_per_second=2,
            vertical_overflow="crop",
            transient=self.passing,
        ):
            self._stop.wait()

    def _lines(self) -> None:
        states = {name: state_of(spec, self.jobs().get(name)) for name, spec in self.run.specs.items()}
        said: dict[str, float] = {}
        took = Remaining(self.run).took
        while True:
            stopping = self._stop.wait(0.3)
            for name, spec in self.run.specs.items():
                before, states[name] = states[name], state_of(spec, self.jobs().get(name))
                if states[name] != before:
                    said[name] = time.time()
                    self._print_change(spec, states, took(spec))
                elif states[name] == State.RUNNING:
                    ran = time.time() - (started(spec) or time.time())
                    if time.time() - said.get(name, 0) >= max(LINE_SECONDS, LINE_SHARE * ran):
                        said[name] = time.time()
                        self._say(f"{name}: {progress_line(spec)}")
            if stopping:
                return

    def _print_change(self, spec: Spec, states: dict[str, State], seconds: float | None) -> None:
        state = states[spec.name]
        done = sum(one == State.DONE for one in states.values())
        detail = ""
        if state == State.DONE:
            detail = f"{'' if seconds is None else f' in {duration(seconds)}'}, {done} of {len(states)} steps"
        word = "started" if state == State.RUNNING else state.value
        job = self.jobs().get(spec.name)
        if job and state != State.DONE:
            detail = f" as job {job}"
        self._say(f"{spec.name}: {word}{detail}")

    def _say(self, line: str) -> None:
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        self.console.print(f"{when} {line}", highlight=False, markup=False, soft_wrap=True)


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
    """The table of steps, what the failed ones said, and what there is to say of the ranks of those that run."""
    console.print(StatusTable(run, jobs))
    for name, spec in run.specs.items():
        if state_of(spec, jobs.get(name)) in (State.FAILED, State.CUT):
            error = failure_of(spec, jobs.get(name)).error
            console.print(Text.assemble((f"{name}: ", "bold red"), error), soft_wrap=True)
        elif state_of(spec, jobs.get(name)) == State.RUNNING:
            for sentence in about_ranks(ranks_of(spec.folder)):
                console.print(Text.assemble((f"{name}: ", "bold yellow"), sentence), soft_wrap=True)
    if "report" in run.specs and run.specs["report"].done:
        console.print(f"Report: {run.specs['report'].folder / 'report.md'}", highlight=False, soft_wrap=True)


def about_ranks(seen: Sequence[Seen]) -> Iterator[str]:
    """Sentences on the ranks of a step that runs: for how long none got on, and which are slow."""
    if seen and (quiet := quiet_for(seen)) >= QUIET_SECONDS:
        yield f"no progress for {duration(quiet)}."
    for one, times in slow_ranks(seen):
        yield f"{one} takes {one.own:.2f} s of its own in an iteration, {times:.2f} times the median of all ranks."


def progress_line(spec: Spec) -> str:
    """How far a running step is, in a line."""
    record, began = Progress.read(spec.folder), started(spec)
    parts = [f"running for {duration(time.time() - began)}" if began else "starting"]
    if record:
        parts += [amount(record), *pace(record)]
        if record["seconds_left"] is not None:
            parts.append(f"{duration(record['seconds_left'])} left")
    return ", ".join(parts)
