"""Lays out what every model scores against what it costs to serve: figures, a table, and its rows as CSV.

    shown = view(Board(models=..., setting=(32_768, 1_024)))
    shown.figures[0].scatters                   # `evaluator.report.scatter`, against tokens/s and against GiB
    shown.lines                                 # the rows of the table

What it comes to is `evaluator.report.bought`'s to say; the page is `evaluator.report.board_page`'s, and a part of a
run's report.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from evaluator.report.addresses import REPRODUCE, Origin, together
from evaluator.report.colours import PAPER, look_of, numbers_of
from evaluator.report.files import Table
from evaluator.report.scatter import Point, Scatter, mark_svg
from evaluator.results.board import Board, Conditions, Group, Model, Place, Rate, Setting
from evaluator.results.run import ROLE_TITLES
from evaluator.stats.scores import Estimate
from evaluator.text import EMPTY, fixed, score_text

CSV = "board.csv"
COLUMNS = (
    *("model", "blend", "role", "format", "published", "benchmark", "score", "stderr"),
    *("less_teacher", "less_teacher_stderr"),
    *("tokens_per_second", "measurements", "rate_of", "gpu", "engine", "load", "prompt_tokens", "answer_tokens"),
    *("times_teacher_rate", "gib", "gib_from", "times_teacher_gib", "front_tokens_per_second", "front_gib"),
    *("protocol", "checkpoint"),
)
SMALL = 0.1
"""GiB from which sizes are shown in GiB; smaller ones are in MiB."""
COLORS = {"teacher": "teacher", "pruned": "pruned", "larger": "muted"}
"""Names of the colours of models that are no blend's."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of the table: a model, with its rate under one set of conditions."""

    group: Group
    """With what it is compared."""
    model: Model
    """The model."""
    conditions: Conditions | None
    """Of its rate; None where that was not measured."""
    by_rate: Place | None
    """Its place in the figure of its rate."""
    by_size: Place | None
    """Its place in the figure of its size."""

    @property
    def of(self) -> tuple[int, Conditions | None]:
        """What a row of the CSV is of."""
        return (id(self.model), self.conditions)

    @cached_property
    def reference(self) -> "Model | None":
        """The teacher that it is compared with: a published model's is the published one."""
        if not self.model.published:
            return self.group.teacher
        beside = (*self.group.beside, *self.group.models)
        return next((one for one in beside if one.published and one.role == "teacher"), None)

    @property
    def less(self) -> Estimate | None:
        """What it scores above the teacher, from -1 to 1; None of the teacher itself."""
        if self.reference is None or self.model is self.reference:
            return None
        return self.model.above(self.reference, self.group.benchmark)

    @property
    def rate(self) -> Rate | None:
        """What was measured."""
        return self.by_rate.rate if self.by_rate else None

    @property
    def times_rate(self) -> float | None:
        """Its rate as a multiple of the teacher's, measured alike."""
        if self.rate is None or self.reference is None:
            return None
        other = self.reference.rate(self.rate.setting, self.rate.conditions)
        return self.rate.mean / other.mean if other else None

    @property
    def times_size(self) -> float | None:
        """Its size as a multiple of the teacher's."""
        if self.model.gib is None or self.reference is None or not self.reference.gib:
            return None
        return self.model.gib / self.reference.gib

    @property
    def rate_text(self) -> str:
        """Its tokens per second, of several measurements with the lowest and the highest."""
        if self.rate is None:
            return EMPTY
        low, high = self.rate.ends
        ends = f" ({tokens_rate_text(low)} to {tokens_rate_text(high)})" if self.rate.times > 1 else ""
        return f"{tokens_rate_text(self.rate.mean)}{ends}"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures of one group."""

    title: str
    """What the group is, where there are several."""
    scatters: tuple[Scatter, ...]
    """Against tokens/s, one of each set of conditions, then against size."""
    legend: tuple[tuple[str, str, str, bool, str | None], ...]
    """Words, colour, symbol, whether hollow, format in a ring: of every kind of symbol."""
    fronts: tuple[bool, ...]
    """Whether hollow, of every line of a front."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A board as it is read."""

    board: Board
    """What is shown."""
    numbers: Mapping[str, int]
    """Number of each blend, by its name, which decides colour and symbol."""
    of: str = ""
    """What the page is of: folders of runs, or names of runs."""
    command: str = ""
    """The command that makes the page again; empty where it is a part of a report."""

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """All models with a score, group by group."""
        return tuple(line for group in self.board.groups for line in self._lines(group))

    def _lines(self, group: Group) -> Iterator[Line]:
        places = {conditions: group.places(conditions) for conditions in (None, *group.conditions)}
        found = {c: {id(p.model): p for p in placed} for c, placed in places.items()}
        for model in (*group.models, *group.beside):
            rated: list[tuple[Conditions | None, Place | None]]
            rated = [(one, found[one][id(model)]) for one in group.conditions if id(model) in found[one]]
            if not rated and (alone := next((one for one in model.rates if one.setting == group.setting), None)):
                # a published rate that shares no axis with those of the group
                rated = [(None, Place(model, alone.mean, model.score(group.benchmark), alone, False))]
            by_size = found[None].get(id(model))
            for conditions, by_rate in rated or [(None, None)]:
                yield Line(group=group, model=model, conditions=conditions, by_rate=by_rate, by_size=by_size)

    @cached_property
    def unit(self) -> tuple[str, float]:
        """Unit of the sizes of the page, and how many of them a GiB is."""
        most = max((model.gib or 0.0 for model in self.board.own), default=0.0)
        most = most or max((model.gib or 0.0 for model in self.board.models), default=0.0)
        return ("GiB", 1.0) if most >= SMALL else ("MiB", 1024.0)

    def size_text(self, model: Model) -> str:
        """Its weights in the page's unit."""
        if model.gib is None:
            return EMPTY
        return fixed(model.gib * self.unit[1])

    @property
    def has_figures(self) -> bool:
        """Whether any model of a run is in a figure."""
        return any((line.by_rate or line.by_size) and not line.model.published for line in self.lines)

    @property
    def setting(self) -> str:
        """Tokens in and out."""
        return setting_text(self.board.setting)

    @cached_property
    def figures(self) -> tuple[Figures, ...]:
        """What is drawn, group by group; nothing of a group of which neither rates nor sizes are known."""
        made = (self._figures(group) for group in self.board.groups)
        return tuple(one for one in made if one.scatters)

    def _figures(self, group: Group) -> Figures:
        scatters = []
        for conditions in (*group.conditions, None):
            if placed := group.places(conditions):
                scatters.append(self._scatter(group, conditions, placed))
        shown = {id(p.model): p.model for c in (*group.conditions, None) for p in group.places(c)}.values()
        legend = {self._legend(model): None for model in shown}
        ringed = dict.fromkeys(model.format for model in shown if self._ring(model) is not None)
        rings = [(f"in {name}", "ink", "", False, name) for name in ringed]
        fronts = dict.fromkeys(p.model.published for c in (*group.conditions, None) for p in group.places(c))
        title = self.title_of(group) if len(self.board.groups) > 1 else ""
        return Figures(title=title, scatters=tuple(scatters), legend=(*legend, *rings), fronts=tuple(fronts))

    def title_of(self, group: Group) -> str:
        """What a group is called where there are several."""
        if group.published:
            return "The study, as published"
        blends = list(dict.fromkeys(model.blend for model in group.models if model.blend))
        return f"Protocol {group.protocol or 'not recorded'}{': ' if blends else ''}{', '.join(blends)}"

    def _scatter(self, group: Group, conditions: Conditions | None, placed: Sequence[Place]) -> Scatter:
        unit, times = self.unit
        shown = {id(place.model) for place in placed}
        lines = (
            line
            for line in self.lines
            if line.group is group and id(line.model) in shown and conditions in (None, line.conditions)
        )
        origin = Origin(together(self.table.rows(*line.of) for line in lines), REPRODUCE)
        points = tuple(self._point(group, place, times if conditions is None else 1.0) for place in placed)
        if conditions is None:
            return Scatter(f"{group.benchmark} against size", f"weights in {unit}", points, fewer=True, origin=origin)
        return Scatter(
            f"{group.benchmark} against tokens/s",
            "tokens/s generated per GPU",
            points,
            foot=f"at {self.setting} on {conditions.text}",
            origin=origin,
        )

    def _point(self, group: Group, place: Place, times: float) -> Point:
        model = place.model
        _, color, mark, hollow, _ = self._legend(model)
        return Point(
            label=self._label(model),
            said=self._said(group, place),
            across=place.at * times,
            score=100 * place.score.mean,
            error=100 * place.score.stderr,
            ends=place.rate.ends if place.rate and place.rate.times > 1 else None,
            color=color,
            mark=mark,
            hollow=hollow,
            ring=self._ring(model),
            on_front=place.on_front,
            reference=model.role in ("pruned", "larger"),
        )

    def _label(self, model: Model) -> str:
        return model.title.lower() if model.title in ROLE_TITLES.values() else model.title

    def _ring(self, model: Model) -> str | None:
        return model.format if model.role == "quantised" else None

    def _legend(self, model: Model) -> tuple[str, str, str, bool, str | None]:
        """Words, colour, symbol and whether it is hollow; rings have an entry of their own."""
        if model.role in COLORS:
            words, color, mark = self._label(model), COLORS[model.role], model.role
        else:
            look = look_of(self.numbers[model.blend])
            words, color, mark = model.blend or "distilled student", look.color, look.symbol
        return (f"{words}, published" if model.published else words, color, mark, model.published, None)

    def _said(self, group: Group, place: Place) -> str:
        model = place.model
        parts = [f"{self.named(model)}: {group.benchmark} {score_text(place.score)}"]
        if place.rate:
            parts.append(
                f"{tokens_rate_text(place.at)} tokens/s{f', measured of {place.rate.of}' if place.rate.of else ''}"
            )
        if model.gib is not None:
            parts.append(f"{self.size_text(model)} {self.unit[0]}")
        if place.on_front:
            parts.append("on the front")
        return ", ".join(parts)

    def mark(self, model: Model) -> str:
        """Its symbol as SVG, as in the figures."""
        _, color, mark, hollow, _ = self._legend(model)
        return mark_svg(color, mark, hollow=hollow, ring=self._ring(model))

    def front_text(self, line: Line) -> str:
        """In which of the two figures a model is on the front."""
        by_rate, by_size = (bool(place and place.on_front) for place in (line.by_rate, line.by_size))
        return "both" if by_rate and by_size else "tokens/s" if by_rate else self.unit[0] if by_size else ""

    @property
    def has_rates(self) -> bool:
        """Whether the table has any rate."""
        return any(line.rate for line in self.lines)

    @property
    def has_spread(self) -> bool:
        """Whether any rate was measured more than once."""
        return any(line.rate and line.rate.times > 1 for line in self.lines)

    @property
    def has_published(self) -> bool:
        """Whether published models are shown."""
        return any(line.model.published for line in self.lines)

    @property
    def has_rings(self) -> bool:
        """Whether quantised models are shown."""
        return any(self._ring(line.model) is not None for line in self.lines)

    @property
    def paper(self) -> dict[str, str]:
        """Colours of a figure that leaves the page."""
        return PAPER

    def named(self, model: Model) -> str:
        """What tables call it: published ones are marked as such, and have the study's own blends."""
        return f"{model.name}{', published' if model.published else ''}"

    @cached_property
    def table(self) -> Table:
        """board.csv, every model, also those without a score."""
        lines: list[tuple[Hashable, list]] = [(line.of, self._cells(line)) for line in self.lines]
        for model in self.board.models:
            if not model.is_scored(self.board.benchmark):
                rate = next((one for one in model.rates if one.setting == self.board.setting), None)
                cells = [model.title, model.blend, model.role, model.format, _yes(model.published), *[""] * 5]
                cells += [*(self._rate_cells(rate) if rate else [""] * 8), ""]
                cells += [*_size_cells(model), *[""] * 3, model.protocol, model.checkpoint]
                lines.append(((id(model), None), cells))
        return Table(CSV, COLUMNS, lines, "every model: score, tokens/s, GiB, front")

    def _cells(self, line: Line) -> list:
        model, score, less = line.model, line.model.score(line.group.benchmark), line.less
        return [
            *(model.title, model.blend, model.role, model.format, _yes(model.published), line.group.benchmark),
            *(f"{score.mean:.6f}", f"{score.stderr:.6f}"),
            *(("", "") if less is None else (f"{less.mean:.6f}", f"{less.stderr:.6f}")),
            *(self._rate_cells(line.rate) if line.rate else [""] * 8),
            _times(line.times_rate),
            *(*_size_cells(model), _times(line.times_size)),
            *(_yes(line.by_rate.on_front) if line.by_rate else "", _yes(line.by_size.on_front) if line.by_size else ""),
            *(model.protocol, model.checkpoint),
        ]

    @staticmethod
    def _rate_cells(rate: Rate) -> list:
        c = rate.conditions
        return [f"{rate.mean:.6g}", rate.times, rate.of, c.gpu, c.engine, c.load, *rate.setting]


def view(board: Board, *, number: int | None = None, of: str = "", command: str = "") -> View:
    """The board as it is read; `number` is that of the one blend of a report, which has no name here."""
    numbers = numbers_of(model.blend for model in board.models if model.role not in COLORS)
    numbers |= {"": number} if number else {}
    return View(board=board, numbers=numbers, of=of, command=command)


def tokens_rate_text(rate: float) -> str:
    """Tokens per second, whole: `1,147`."""
    return f"{int(fixed(rate, 0)):,}"


def setting_text(setting: Setting) -> str:
    """Tokens of a prompt and of its answer: `32,768/1,024`."""
    return "/".join(f"{tokens:,}" for tokens in setting)


def _times(times: float | None) -> str:
    return "" if times is None else f"{times:.4f}"


def _yes(is_it: bool) -> str:
    return "yes" if is_it else "no"


def _size_cells(model: Model) -> tuple[str, str]:
    return "" if model.gib is None else f"{model.gib:.6g}", model.gib_from
