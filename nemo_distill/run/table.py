"""Draws the steps of a run as lines of text, whole at any width, and in as many lines as there are.

    console.print(StatusTable(run))                                    # every step, in order
    Live(get_renderable=Drawing(run).table)                            # what runs first; what is done, in a line

Columns have the widths of what they may hold at most, so that nothing moves but what changes. From 140 columns on a
step's details stand behind it, else below it; under 60 columns the bar is left out.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from nemo_distill.run import gpus
from nemo_distill.run.job import Job
from nemo_distill.run.manifest import Run, State, failure_of, job_of_step, state_of
from nemo_distill.run.progress import Progress
from nemo_distill.run.remaining import Left, Remaining, launched, queued, started
from nemo_distill.run.step import Spec

WIDE, NARROW = 140, 60
"""Columns from which details stand behind a step, and under which there is no bar."""
CLOCK = 9
"""Columns of a duration: `123:45:06`."""
SHORT_NAME = 24
"""Columns that a step's name has at most."""
STYLE = {
    State.DONE: "green",
    State.RUNNING: "cyan",
    State.FAILED: "bold red",
    State.CUT: "yellow",
    State.QUEUED: "blue",
    State.WAITING: "dim",
}
"""How each state is shown."""
_ORDER = (State.RUNNING, State.FAILED, State.CUT, State.QUEUED, State.WAITING)
"""The states in the order of a folded table's rows."""
_GAP = "  "


class Drawing:
    """Draws `run` again and again; `jobs` gives its jobs by step, and at most `parallel` steps run at once."""

    def __init__(self, run: Run, jobs: Callable[[], Mapping[str, Job]], *, parallel: int | None = None):
        self.run, self.jobs = run, jobs
        self.remaining = Remaining(run, parallel=parallel)
        self.begun = launched(run) or time.time()

    def table(self) -> "StatusTable":
        """As the run is now."""
        return StatusTable(
            self.run, self.jobs(), folded=True, remaining=self.remaining, begun=self.begun, now=time.time()
        )


@dataclass(frozen=True)
class Row:
    """One step, as it is shown."""

    name: str
    """Name of the step."""
    state: State
    """Its state."""
    share: float | None
    """How much of it is done, from 0 to 1; None: it does not say."""
    clock: str
    """How long it has run, waited in the queue, or took."""
    left: str
    """How long it still takes."""
    details: tuple[str, ...]
    """Job, GPUs, amount done, tokens/s, loss; or why it failed."""


class StatusTable:
    """The steps of a run: state, progress, time; what runs first, and what is done in a line, if `folded`."""

    def __init__(
        self,
        run: Run,
        jobs: Mapping[str, Job],
        *,
        folded: bool = False,
        remaining: Remaining | None = None,
        begun: float | None = None,
        now: float | None = None,
    ):
        self.run, self.jobs, self.folded = run, jobs, folded
        self.remaining = remaining or Remaining(run)
        self.now = time.time() if now is None else now
        self.states = {name: state_of(spec, jobs.get(name)) for name, spec in run.specs.items()}
        alive = {State.RUNNING, State.QUEUED} & set(self.states.values())
        self.begun = begun or (launched(run) if alive else None)
        self.records = {
            name: Progress.read(spec.folder)
            for name, spec in run.specs.items()
            if self.states[name] not in (State.DONE, State.WAITING)
        }

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        draw = _Lines(options.max_width, self.run.specs, ascii_only=options.ascii_only, now=self.now)
        rows = [self._row(spec) for spec in self.run.specs.values()]
        summary = draw.summary(self._summary())
        if self.folded:
            lines = draw.folded(rows, most=options.size.height - 1 - len(summary))
        else:
            lines = [draw.header(), *(line for row in rows for line in draw.row(row))]
        yield from (*lines, *summary)

    def _row(self, spec: Spec) -> Row:
        state, record = self.states[spec.name], self.records.get(spec.name)
        clock, left, share = "", "", None
        if state == State.DONE:
            took = self.remaining.took(spec)
            clock = "" if took is None else duration(took)
        elif state in (State.RUNNING, State.QUEUED):
            since = started(spec) if state == State.RUNNING else queued(spec)
            clock = duration(max(0.0, self.now - since)) if since else ""
        if record and record["total"]:
            share = record["done"] / record["total"]
            if state == State.RUNNING and record["seconds_left"] is not None:
                left = duration(record["seconds_left"])
        return Row(spec.name, state, share, clock, left, tuple(self._details(spec, record)))

    def _details(self, spec: Spec, record: dict | None) -> Iterator[str]:
        state, job = self.states[spec.name], self.jobs.get(spec.name)
        number = job_of_step(spec).get("job")
        if job or number:
            yield f"job {job or number}"
        if state == State.RUNNING and (where := gpus.in_words(gpus.given(spec.folder))):
            yield where
        if record:
            yield from (amount(record), *pace(record))
        if self.folded and state in (State.FAILED, State.CUT):
            yield failure_of(spec, job).error

    def _summary(self) -> list[str]:
        done = sum(state == State.DONE for state in self.states.values())
        parts = [f"{self.run.name}: {done} of {len(self.states)} steps done"]
        if self.begun is not None:
            parts.append(f"{duration(self.now - self.begun)} so far")
        if State.RUNNING in self.states.values():
            parts += in_words(self.remaining.of(self.states, self.records, now=self.now))
        return parts


class _Lines:
    """Lines of a table of `width` columns for steps of these names."""

    def __init__(self, width: int, names: Iterable[str], *, ascii_only: bool, now: float):
        self.width, self.now = width, now
        self.full, self.empty = ("#", "-") if ascii_only else ("━", "─")
        self.more = "..." if ascii_only else "…"
        self.name = min(max(map(len, names), default=4), SHORT_NAME, max(4, width - 2 * len(_GAP) - 7 - CLOCK))
        others = self.name + 7 + 4 + 2 * CLOCK + 5 * len(_GAP)
        self.bar = 0 if width < NARROW else min(20, max(6, width - others - 1))

    def header(self) -> Text:
        """Names of the columns."""
        cells = [("step", self.name, "<"), ("state", 7, "<")]
        if self.bar:
            cells += [("progress", self.bar + len(_GAP) + 4, "<")]
        cells += [("time", CLOCK, ">")]
        if self.bar:
            cells += [("left", CLOCK, ">")]
        return self._cut(Text(_GAP.join(f"{word:{side}{wide}}" for word, wide, side in cells).rstrip(), style="bold"))

    def row(self, row: Row, *, details: bool = True) -> list[Text]:
        """One step, its details behind or below it."""
        line = Text()
        line.append(self._short(row.name, self.name).ljust(self.name) + _GAP)
        line.append(row.state.value.ljust(7), style=STYLE[row.state])
        if self.bar:
            line.append(_GAP)
            line.append_text(self._bar(row))
            share = "" if row.share is None or row.state == State.DONE else f"{100 * row.share:.0f}%"
            line.append(f"{_GAP}{share:>4}")
        line.append(f"{_GAP}{row.clock:>{CLOCK}}")
        said = list(row.details)
        if self.bar:
            line.append(f"{_GAP}{row.left:>{CLOCK}}")
        elif row.left:
            said.insert(1, f"{row.left} left")
        if self.width >= WIDE:
            line.append(f"{_GAP}{', '.join(said)}", style="dim" if row.state == State.DONE else "")
            said = []
        line.rstrip()
        lines = [self._cut(line)]
        if details and row.state not in (State.DONE, State.WAITING):
            lines += self._packed(said)
        return lines

    def folded(self, rows: list[Row], *, most: int) -> list[Text]:
        """What runs, what failed and what is queued, then as much of what waits as fits, and in a line what is done."""
        done = [f"{row.name} {row.clock}".rstrip() for row in reversed(rows) if row.state == State.DONE]
        shown = sorted((row for row in rows if row.state != State.DONE), key=lambda row: _ORDER.index(row.state))
        below = [self._listed(f"{len(done)} done: ", done)] if done else []
        if not shown:
            return below[:most]
        for details in (True, False):
            drawn = [self.row(row, details=details) for row in shown]
            room = most - 1 - len(below)
            if sum(map(len, drawn)) <= room:
                break
            busy = [lines for row, lines in zip(shown, drawn, strict=True) if row.state == State.RUNNING]
            if sum(map(len, busy)) < room:
                break
        kept, used = 0, 0
        for number, lines in enumerate(drawn):
            reserved = 1 if number + 1 < len(drawn) else 0  # for the line on those that are left out
            if used + len(lines) + reserved > room:
                break
            kept, used = number + 1, used + len(lines)
        out = [row.name for row in shown[kept:]]
        rest = [self._listed(f"{len(out)} more: ", out)] if out else []
        lines = [self.header(), *(line for part in drawn[:kept] for line in part), *rest, *below]
        return lines[: max(1, most)]

    def summary(self, parts: list[str]) -> list[Text]:
        """The run as a whole, in as few lines as it takes."""
        return [Text(line.plain.strip(), style="bold") for line in self._packed(parts, indent="")]

    def _bar(self, row: Row) -> Text:
        if row.state == State.DONE or (row.share is None and row.state != State.RUNNING):
            return Text(" " * self.bar)
        if row.share is None:  # it runs and does not say how far it is: something moves
            span = self.bar - 3
            at = abs(int(2 * self.now) % (2 * span) - span)
            return Text.assemble(
                (self.empty * at, "bright_black"), (self.full * 3, "cyan"), (self.empty * (span - at), "bright_black")
            )
        filled = min(self.bar, int(self.bar * row.share))
        return Text.assemble((self.full * filled, STYLE[row.state]), (self.empty * (self.bar - filled), "bright_black"))

    def _packed(self, parts: list[str], indent: str = _GAP) -> list[Text]:
        """The parts, with commas between them, in as many lines as they need; a part that is too long is cut."""
        lines: list[str] = []
        for part in parts:
            if lines and len(lines[-1]) + 2 + len(part) + 1 <= self.width:
                lines[-1] += f", {part}"
            else:
                if lines:
                    lines[-1] += ","
                lines.append(indent + part)
        return [self._cut(Text(line, style="dim")) for line in lines]

    def _listed(self, head: str, names: list[str]) -> Text:
        """`head`, then as many of the names as fit into the line, and how many there are beside them."""
        for kept in range(len(names), 0, -1):
            more = f", +{len(names) - kept}" if kept < len(names) else ""
            line = head + ", ".join(names[:kept]) + more
            if len(line) <= self.width:
                return Text(line, style="dim")
        return self._cut(Text(head + ", ".join(names), style="dim"))

    def _short(self, name: str, most: int) -> str:
        return name if len(name) <= most else name[: most - len(self.more)] + self.more

    def _cut(self, line: Text) -> Text:
        cut = Text(no_wrap=True, overflow="crop", end="\n")
        if len(line) > self.width:
            line.truncate(self.width - len(self.more))
            line.append(self.more)
        cut.append_text(line)
        cut.style = line.style
        return cut


def in_words(left: Left) -> list[str]:
    """`about 2:10 left`, `over 2:10 left` where something is not counted, or nothing where most is not.

    >>> in_words(Left(130, steps=3, unknown=0)), in_words(Left(130, steps=3, unknown=1)), in_words(Left(9, 3, 2))
    (['about 2:10 left'], ['over 2:10 left'], [])
    """
    if left.seconds < 1 or 2 * left.unknown > left.steps:  # it takes longer than expected, or who knows
        return []
    return [f"{'over' if left.unknown else 'about'} {duration(left.seconds)} left"]


def amount(record: dict) -> str:
    """`4.5 of 9.1 MB`, `34 of 50 iterations`."""
    return f"{_number(record['done'], record['total'])} of {_number(record['total'], record['total'])} {record['unit']}"


def pace(record: dict) -> list[str]:
    """Tokens/s and what the step notes, its loss, where it has them."""
    speed = [f"{record['tokens_per_second']:,.0f} tokens/s"] if record.get("tokens_per_second") else []
    return speed + ([record["note"]] if record.get("note") else [])


def _number(value: float, total: float) -> str:
    return f"{value:,.0f}" if float(total).is_integer() else f"{value:,.1f}"


def duration(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
