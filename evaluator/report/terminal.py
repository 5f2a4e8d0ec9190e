"""Says in ten lines of a terminal, for up to five blends, what the page of several runs begins with.

    rich.print(terminal_summary(comparison))
    short_names(["distill_a_with_a_long_warmup", "distill_b_with_a_long_warmup"])   # what parts them: …a…, …b…

Lines are counted at 80 columns: what is longer is said shorter, and whole on the page.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from textwrap import wrap

from evaluator.report.advice import (
    NOTHING,
    TIED,
    least_points,
    place_text,
    range_text,
    sentence,
    stops_text,
    to_take,
    wanted_runs,
)
from evaluator.report.compared import Comparison
from evaluator.text import change_text, fixed, score_text
from evaluator.verdicts.contrasts import OPEN, seen_from
from evaluator.verdicts.judge import Judgement
from evaluator.verdicts.stopping import StoppingPoint

WIDTH = 80
"""Columns that all has to fit."""
LINES = 10
"""Lines of all, where there are no more blends than `MANY`; each of the others adds one."""
MANY = 5
LONGEST = 26
"""Letters of a name that leave a row of the table within `WIDTH`."""
_SHORT = {OPEN: TIED, "lower in these answers only": "lower, answers only"}
"""What has to be short in a terminal."""


def terminal_summary(comparison: Comparison):
    """What the page begins with, as a rich renderable: what to take, the blends' Averages, what the verdict rests on,
    and what is open."""
    from rich.console import Group
    from rich.table import Table as Grid
    from rich.text import Text

    judgement, first = comparison.judgement, comparison.judgement.first
    names = short_names(comparison.reports)
    # Without its edge and padding a row of the study's names fits 80 columns.
    grid = Grid(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    grid.add_column(f"At {comparison.at}", no_wrap=True)
    for title in ("Average", "to highest"):
        grid.add_column(title, justify="right", no_wrap=True)
    grid.add_column("another seed in", no_wrap=True)
    grid.add_column("stop at", no_wrap=True)
    below = [*first.above, *first.above_in_answers, *first.level, *first.equal]
    changes = {one.other: change_text(seen_from(one.other, one).difference) for one in below}
    for name, row in comparison.finals.items():
        place = place_text(judgement, name)
        grid.add_row(
            names[name], score_text(row.average), changes.get(name, ""), _SHORT.get(place, place),
            _end(judgement.stop(name)),
        )  # fmt: skip
    references = ", ".join(f"{row.title.lower()} {score_text(row.average)}" for row in comparison.references)
    twice = f"; to look at twice: {len(judgement.flags)}" if judgement.flags else ""
    beside = f"{references[:1].upper()}{references[1:]}{twice}."
    if sentence(judgement) == NOTHING:
        return Group(Text(NOTHING, style="bold"), grid, Text(beside, style="dim"))
    rests = _rests(judgement)
    left = LINES - 1 - min(MANY, len(comparison.finals)) - _height(beside) - _height(rests)
    open_ones = _open(judgement, names, most=left - 1)
    taken = _sentence(judgement, names, most=left - _height(open_ones))
    below_it = (Text(text) for text in (rests, open_ones) if text)
    return Group(Text(taken, style="bold"), grid, Text(beside, style="dim"), *below_it)


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Every name, where any is longer than `LONGEST` without the words that all begin and end with, or else its
    beginning and its end.

    >>> list(short_names(["distill_v1_with_a_long_warmup", "distill_v2_with_a_long_warmup", "distill_b"]).values())
    ['…v1_with_a_long_warmup', '…v2_with_a_long_warmup', '…b']
    """
    names = list(names)
    if max(map(len, names)) <= LONGEST or len(names) < 2:
        return {name: name for name in names}
    parts = {name: re.findall(r"[^_\-. ]*[_\-. ]*", name)[:-1] for name in names}
    head = _alike(parts.values())
    tail = _alike([list(reversed(one[head:])) for one in parts.values()])
    found = {}
    for name, words in parts.items():
        middle = "".join(words[head : len(words) - tail]).strip("_-. ")
        found[name] = _cut(f"{'…' if head else ''}{middle}{'…' if tail else ''}")
    return found if len(set(found.values())) == len(names) else {name: name for name in names}


def _alike(lists: Iterable[Sequence[str]]) -> int:
    """How many words all lists begin with, of which each keeps one at least."""
    lists = list(lists)
    same = takewhile(lambda words: len(set(words)) == 1, zip(*lists, strict=False))
    return max(0, min(len(list(same)), min(map(len, lists)) - 1))


def _cut(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    half = LONGEST // 2
    return f"{name[: LONGEST - half - 1]}…{name[-half:]}"


def _height(text: str) -> int:
    return len(wrap(text, WIDTH))


def _end(stop: StoppingPoint) -> str:
    """Where a blend ends; with a plus for its last milestone, where nothing earlier is shown to be as good."""
    return f"{stop.row.title}{' only' if stop.alone else '' if stop.shown else '+'}"


def _sentence(judgement: Judgement, names: Mapping[str, str], most: int) -> str:
    """The page's first sentence, or one of as many lines that leaves to the table who else may be taken."""
    whole = _renamed(sentence(judgement), names)
    if _height(whole) <= most:
        return whole
    first, *others = to_take(judgement)
    stops = stops_text(judgement, [first, *others])
    short = names[first], *(names[name] for name in others)
    rest = f"one of the {len(others)}" if len(others) > 1 else "the one"
    shorter = (
        f"Take {short[0]} or {rest} {TIED} from it; {stops}.",
        f"Take {', '.join(short[:-1])} or {short[-1]}, {TIED}.",
        f"Take {short[0]} or {rest} {TIED} from it, below.",
    )
    return next((one for one in shorter if _height(one) <= most), shorter[-1])


def _rests(judgement: Judgement) -> str:
    """What the verdict that includes another seed rests on, and from how many points on Averages differ."""
    seed, answers = least_points(judgement)
    return f"Significant from {fixed(seed)} points (in these answers {fixed(answers)}), {judgement.scatters.short}."


def _open(judgement: Judgement, names: Mapping[str, str], most: int) -> str:
    """What would decide more, in as many lines; empty where nothing is open."""
    wanted, tiny = wanted_runs(judgement)
    listed = [f"{range_text(*runs)} runs of each for {names[one.other]}" for one, runs in wanted]
    if tiny:
        listed.append(f"too small to ask for {' and '.join(names[name] for name in tiny)}")
    for count in range(len(listed), 0, -1):
        more = f"; {len(listed) - count} more on the page" if count < len(listed) else ""
        text = f"To decide more: {'; '.join(listed[:count])}{more}."
        if _height(text) <= most:
            return text
    return text if listed else ""


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """`text` with the short names."""
    for name in sorted(names, key=len, reverse=True):
        if names[name] != name:
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", names[name], text)
    return text
