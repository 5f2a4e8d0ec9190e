"""Says in sentences what compression bought: the teacher's rate and weights against what it cost of the score.

summary(view).sentence          # "80B-fp8 generates 1.44 times the teacher's tokens/s from 47% of its weights, for ..."
terminal_board(view)            # the same, a short table and what is not shown, in at most 15 lines
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

from evaluator.report.advice import Summary
from evaluator.report.board import Line, View, tokens_rate_text
from evaluator.report.terminal import WIDTH, short_names
from evaluator.results.board import Group, Model
from evaluator.results.run import AVERAGE
from evaluator.text import EMPTY, change_text, fixed, joined, score_text, times_text

LINES = 15
"""Lines of a terminal that all takes, the path of the page among them, at 80 columns."""
LEAST_ROWS = 4
"""Rows of its table, however much else there is to say."""
LONGEST = 22
"""Letters of a model's name in it."""
STUDENTS = ("milestone", "quantised")
"""Roles of what compression made."""
NAMED = 3
"""Names of a list that a sentence of the page has room for in a terminal."""


def summary(view: View) -> Summary:
    """What the fastest student bought, what one in the teacher's precision did, and how far that may be compared."""
    return Summary(sentence(view), tuple((name, text) for name, text in _points(view) if text))


@dataclass(frozen=True)
class Bought:
    """What the part of a run's report says."""

    sentence: str
    """What the fastest student bought."""
    notes: tuple[str, ...]
    """What is to know of the figures, and what is not in them."""


def bought(view: View) -> Bought:
    """What a run's report says beside the figures of its models."""
    return Bought(sentence(view), (*axes_texts(view), *missing_texts(view)))


def sentence(view: View) -> str:
    """What the fastest student has of the teacher's rate and weights, and of its score; the first group's."""
    for group in view.board.groups:
        if not group.published and (line := _best(_students(view, group))):
            return bought_text(line)
    if any(not group.published for group in view.board.groups):
        return "No student has a score yet: this is what there is to compare it with."
    return "None of these models has this score."


def bought_text(line: Line) -> str:
    """A student against its teacher, in a sentence."""
    name, benchmark = line.model.name, line.group.benchmark
    what = "on average" if benchmark == AVERAGE else f"in {benchmark}"
    less, rate, size = line.less, line.times_rate, line.times_size
    if less is None:
        return f"{name} scores {score_text(line.model.score(benchmark))}; there is no teacher beside it."
    parts = [f"generates {fixed(rate, 2)} times the teacher's tokens/s"] if rate else []
    if size:
        share = f"{fixed(100 * size, 0)}% of {'its' if rate else 'the teacher' + chr(39) + 's'} weights"
        parts = [f"{parts[0]} from {share}"] if parts else [f"has {share}"]
    error = f" ± {fixed(100 * less.stderr)}"
    lost = f"{fixed(abs(100 * less.mean))}{error} points {'more' if less.mean > 0 else 'less'} {what}"
    if not parts:
        return f"{name} scores {lost} than the teacher; neither rate nor size is known."
    unmeasured = "" if rate else "; its rate was not measured"
    return f"{name} {parts[0]}, for {lost}{unmeasured}."


def _students(view: View, group: Group) -> list[Line]:
    return [
        line
        for line in view.lines
        if line.group is group and line.model.role in STUDENTS and line.model.published == group.published
    ]


def _best(lines: Sequence[Line]) -> Line | None:
    """The one with the highest rate, or else the least weight; of several the one with the highest score."""

    def key(line: Line) -> tuple[float, float, float]:
        size = line.model.gib if line.model.gib is not None else float("inf")
        return line.times_rate or 0.0, -size, line.model.score(line.group.benchmark).mean

    return max(lines, key=key, default=None)


def _points(view: View) -> Iterator[tuple[str, str]]:
    own = [group for group in view.board.groups if not group.published]
    if own:
        first = _best(_students(view, own[0]))
        plain = [one for one in _students(view, own[0]) if one.model.role == "milestone"]
        other = _best(plain)
        if first and other and first.model is not other.model:
            yield "As it was trained", bought_text(other)
    yield "On the Pareto front", " ".join(_fronts(view))
    yield "The study, as published", published_text(view)
    yield "What shares an axis", " ".join(axes_texts(view))
    yield "Not measured", " ".join(missing_texts(view))


def _fronts(view: View) -> Iterator[str]:
    for group in (one for one in view.board.groups if not one.published):
        of = f" ({view.title_of(group)})" if len(view.board.groups) > 1 else ""
        for conditions in group.conditions:
            names = _on_front(view, group, lambda line, c=conditions: line.conditions == c and line.by_rate)
            yield f"By tokens/s on {conditions.text}{of}: {joined(names)}."
        if names := _on_front(view, group, lambda line: line.by_size):
            yield f"By weights{of}: {joined(names)}."
    if view.has_figures:
        yield "Nothing else shown is better in one and as good in the other, by scores as measured: two within their"
        yield "standard errors are not told apart."


def _on_front(view: View, group: Group, place: Callable) -> list[str]:
    lines = (line for line in view.lines if line.group is group and not line.model.published)
    found = [line.model for line in lines if (there := place(line)) and there.on_front]
    return list(dict.fromkeys(view.named(model) for model in found))


def published_text(view: View) -> str:
    """What the study's own student bought, and what is published of it without a score."""
    lines = [line for line in view.lines if line.model.published and line.model.role in STUDENTS]
    best = max(lines, key=lambda line: line.model.score(line.group.benchmark).mean, default=None)
    if best is None:
        return ""
    said = bought_text(best)
    teacher = best.reference
    for model in view.board.models:
        if model.published and not model.is_scored(view.board.benchmark) and model.rates and teacher:
            rate, other = model.rates[0], teacher.rate(model.rates[0].setting, model.rates[0].conditions)
            if other and rate.setting == view.board.setting and model.gib and teacher.gib:
                said += (
                    f" {model.title}: {fixed(rate.mean / other.mean, 2)} times the teacher's tokens/s from "
                    f"{fixed(100 * model.gib / teacher.gib, 0)}% of its weights; no score is published."
                )
    return said


def axes_texts(view: View) -> Iterator[str]:
    """What is drawn apart, and what stands on one axis although it was not measured alike."""
    groups = view.board.groups
    own = [group for group in groups if not group.published]
    if len(own) > 1:
        listed = joined([view.title_of(group) for group in own])
        yield f"Scores are of {len(own)} protocols, each with figures of its own: {listed}."
    for group in own:
        if len(group.conditions) > 1:
            listed = joined([conditions.text for conditions in group.conditions])
            yield f"Rates were measured on {listed}: a figure for each; only sizes share one."
            break
    beside = next((group for group in own if group.beside), None)
    if beside:
        joined_rates = any(line.conditions and line.model.published for line in view.lines)
        published_rates = any(line.rate and line.model.published for line in view.lines)
        rates = "its rates are of a vLLM whose version it does not name, " if joined_rates else ""
        yield (
            f"The study's points, hollow, are of its own protocol, {rates}and its sizes as vLLM loads them: they are "
            "there to look at, not to test against, and have a front of their own."
        )
        if published_rates and not joined_rates:
            gpus = joined(
                sorted({line.rate.conditions.gpu for line in view.lines if line.rate and line.model.published})
            )
            yield f"Its rates, of the {gpus}, share no axis with these and stand in the table alone."
    elif own and len(groups) > len(own):
        yield "The study's points have figures of their own: it asked other benchmarks than these runs."
    if any(line.rate and line.rate.of for line in view.lines):
        yield (
            "A rate measured of one checkpoint stands for all of its shape and format, since lengths are forced; the "
            "table says of which."
        )


def missing_texts(view: View) -> Iterator[str]:
    """Which models are not drawn, and why."""
    unmeasured = view.board.not_measured
    if unmeasured and len(unmeasured) == len([m for g in view.board.groups for m in g.models if not m.published]):
        yield f"No rate was measured at {view.setting}: {view.board.measure}."
    elif unmeasured:
        listed = _names(view, unmeasured)
        yield f"The rate at {view.setting} of {listed}, in no figure of tokens/s: {view.board.measure}."
    if models := view.board.not_scored:
        yield f"{view.board.benchmark} of {_names(view, models)}, in no figure."
    if weightless := [one for one in view.board.own if one.gib is None and one.is_scored(view.board.benchmark)]:
        yield f"The size of {_names(view, weightless)}: the checkpoint is not where it was."


def _names(view: View, models: Sequence[Model]) -> str:
    return joined([f"{view.named(one)}{f' ({one.remark})' if one.remark else ''}" for one in models])


def terminal_board(view: View, *, lines: int = LINES - 1):
    """The sentence, a short table, and what is drawn apart or not at all, as a rich renderable of at most so many
    lines at 80 columns."""
    from rich.console import Group as Stack
    from rich.table import Table as Grid
    from rich.text import Text

    names = short_names(dict.fromkeys(model.blend for model in view.board.models if model.blend) or [""])

    def named(model: Model) -> str:
        return _fitted(names.get(model.blend, ""), f"{model.title}*" if model.published else model.title)

    said, rows = sentence(view), sorted(view.lines, key=_rank)
    notes = [*_short_axes(view), *_short_missing(view, named)]
    least = min(LEAST_ROWS, len(rows))
    while notes and lines - _height(said) - 1 - sum(map(_height, notes)) < least:
        notes.pop()
    left = lines - _height(said) - 1 - sum(map(_height, notes))
    shown = rows if len(rows) <= left else rows[: left - 1]
    grid = Grid(box=None, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    grid.add_column("Model", no_wrap=True)
    rates = any(line.rate for line in shown)
    titles = [_fitted("", view.board.benchmark, 12), "to teacher", *(["tokens/s"] if rates else [])]
    for title in (*titles, view.unit[0]):
        grid.add_column(title, justify="right", no_wrap=True)
    grid.add_column("front", no_wrap=True)
    for line in sorted(shown, key=lambda one: view.lines.index(one)):
        cells = [score_text(line.model.score(line.group.benchmark)), change_text(line.less) if line.less else ""]
        if rates:
            cells.append(_with_times(tokens_rate_text(line.rate.mean) if line.rate else EMPTY, line.times_rate))
        cells += [_with_times(view.size_text(line.model), line.times_size), view.front_text(line)]
        grid.add_row(named(line.model), *cells, style="dim" if line.model.published else None)
    more = len(rows) - len(shown)
    below = [Text(f"{more} more on the page.", style="dim")] if more else []
    return Stack(Text(said, style="bold"), grid, *below, *(Text(note) for note in notes))


def _fitted(blend: str, title: str, most: int = LONGEST) -> str:
    """A model's name in so many letters: the end of its blend's, where that is too long."""
    name = f"{blend} {title}".strip()
    return name if len(name) <= most else f"…{name[-(most - 1) :]}"


def _rank(line: Line) -> tuple:
    """Teacher first, then own models, those of a front first, the highest score first."""
    model = line.model
    on_it = any(place and place.on_front for place in (line.by_rate, line.by_size))
    score = model.score(line.group.benchmark).mean
    return model.published, model.role != "teacher", model.role == "pruned", not on_it, -score


def _with_times(text: str, times: float | None) -> str:
    return f"{text} {times_text(times).replace(' ', '')}" if times is not None else text


def _short_axes(view: View) -> Iterator[str]:
    """What `axes_texts` says, in a line each."""
    own = [group for group in view.board.groups if not group.published]
    if len(own) > 1:
        yield f"Scores are of {len(own)} protocols, drawn apart: compare within one only."
    texts = {conditions.text for group in own for conditions in group.conditions}
    if len(texts) > 1:
        yield f"Rates are of {len(texts)} kinds of GPU or versions of vLLM, drawn apart."
    elif texts:
        yield f"tokens/s: generated per GPU at {view.setting}, {texts.pop()}."
    if any(line.model.published for line in view.lines):
        yield "Published (*): the study's protocol and vLLM, to look at, not to test against."


def _short_missing(view: View, named: Callable[[Model], str]) -> Iterator[str]:
    """What `missing_texts` says, names left out where there are many."""
    for models, what in ((view.board.not_measured, f"tokens/s at {view.setting}"), (view.board.not_scored, "score")):
        names = [named(model) for model in models]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        if names:
            yield f"No {what}: {', '.join(names[:NAMED])}{more}."


def _height(text: str) -> int:
    return len(wrap(text, WIDTH))
