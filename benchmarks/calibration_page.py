"""Writes what `benchmarks/calibration.py` counted as a page: goals beside figures, then table by table."""

import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from calibration_measures import LEVEL_TOLD, SHARES, WHERE, failure_name
from made_up_answers import OWN, STUDY, TITLES

from evaluator.verdicts.failures import KEPT


@dataclass(frozen=True)
class Goal:
    """One line of the table."""

    what: str
    """What is counted."""
    goal: str
    """What it should be."""
    measured: str
    """What it is."""
    holds: bool
    """Whether it is as it should be."""


class Counted:
    """Rates of what was counted."""

    def __init__(self, counts: Mapping[str, Counter]) -> None:
        self.counts = counts

    def names(self, part: str) -> list[str]:
        """Measures of a part that were counted."""
        return [name.partition(": ")[2] for name in self.counts if name.startswith(f"{part}: ")]

    def rate(self, part: str, name: str, key: str, of: str = "pages") -> float:
        """How often, of all pages."""
        counts = self.counts[f"{part}: {name}"]
        return counts[key] / counts[of] if counts[of] else math.nan

    def pages(self, part: str, name: str) -> int:
        """Pages that were drawn."""
        return self.counts[f"{part}: {name}"]["pages"]

    def within_one(self, name: str) -> float:
        """How often a run on a flat curve stops within a milestone of where its plateau begins."""
        labels, at = list(STUDY), name.rpartition(" ")[2]
        place = labels.index(at)
        return sum(self.rate("stopping", name, label) for label in labels[max(0, place - 1) : place + 2])

    def cells(self, share: float) -> list[float]:
        """Rates of flags of all cells in which so much was lost, alone and beside another run."""
        names = [failure_name(title, where, share) for title in TITLES for where in WHERE]
        return [self.rate("failures", name, kind) for name in names for kind in ("alone", "beside")]


def goals(counted: Counted) -> Iterator[Goal]:
    """The table: goals beside figures."""

    def at_most(what: str, limit: float, values: list[float]) -> Goal:
        return Goal(what, f"at most {percent(limit)}", percent(max(values)), max(values) <= limit)

    for name in counted.names("null"):
        for kind, words in (("in_answers", "in these answers"), ("verdict", "another seed included")):
            rate = counted.rate("null", name, kind)
            yield at_most(f"any false verdict {words}: {name} ({counted.pages('null', name):,} pages)", 0.05, [rate])
    if counted.names("power"):
        rate = counted.rate("power", "5 blends, all 2 points better", "in_answers")
        yield Goal("2 points of Average found over five blends", "more than 23% (0.1)", percent(rate), rate > 0.23)
    if counted.names("stopping"):
        lost = counted.rate("stopping", "the study's table", "lost")
        yield Goal("points lost by stopping, the study's table", "at most 0.3", f"{lost:.2f}", lost <= 0.3)
        for name in counted.names("stopping")[1:]:
            rate = counted.within_one(name)
            yield Goal(f"stops within a milestone of the plateau, {name}", "at least 80%", percent(rate), rate >= 0.8)
    if counted.names("failures"):
        for share in SHARES:
            least, limit = min(counted.cells(share)), 0.8 if share == 0.5 else 0.95
            yield Goal(
                f"{share:.0%} of a benchmark's answers lost: flagged, least of {len(counted.cells(share))} cells",
                f"at least {percent(limit)}", percent(least), least >= limit,
            )  # fmt: skip
    if counted.names("sound"):
        rates = [counted.rate("sound", name, "failed") for name in counted.names("sound")]
        yield at_most("failed evaluation flagged where none failed, most of five kinds of page", 0.01, rates)
    for name in counted.names("seeds"):
        yield at_most(f"false better, another seed included: {name}", 0.05, [counted.rate("seeds", name, "verdict")])
    if counted.names("told"):
        rates = [counted.rate("told", name, "found", of="asked") for name in counted.names("told")]
        inside = all(0.75 <= rate <= 0.85 for rate in rates)
        measured = f"{min(rates):.2f} to {max(rates):.2f}"
        yield Goal(f"power with what is said to be needed, {len(rates)} situations", "0.75 to 0.85", measured, inside)
    for name in counted.names("teachers"):
        yield at_most(f"refused: {name}", 0.05, [counted.rate("teachers", name, "refused")])


def page_of(counted: Counted, whole: bool, command: str, seconds: tuple[float, float]) -> str:
    """The page, as Markdown."""
    lines = [
        "# How often the report is right",
        "",
        f"    {command}",
        "",
        *paragraph(
            f"""Blends whose truth is known, with the study's benchmarks, questions and repeats and scores like the
            study's, were drawn and judged by the code that judges real ones; then it was counted what was said of them.
            This page is written by the command, in two processes that took {seconds[1]:.0f} s of a processor, so that
            two idle cores take {seconds[1] / 2:.0f} s; here it took {seconds[0]:.0f} s by the clock. Questions differ
            as real ones do (standard deviation 2 to 3 logits), each checkpoint has difficulties of its own ({OWN}
            logits), SciCode's sub-steps share their problem's. A rate of 40 pages is known to about 3 points, one of
            200 to 2, one of 800 to 1."""
        ),
        "",
        *table(
            ("", "goal", "measured", ""),
            [
                (goal.what, goal.goal, goal.measured, "" if goal.holds or not whole else "**missed**")
                for goal in goals(counted)
            ],
        ),
    ]
    for part, write in {
        "power": power_lines, "stopping": stopping_lines, "failures": failure_lines, "sound": sound_lines,
        "seeds": seed_lines, "told": told_lines,
    }.items():  # fmt: skip
        if counted.names(part):
            lines += ["", *write(counted)]
    if not whole:
        lines += ["", "A few pages only, which show that it runs and not much more."]
    return "\n".join(lines) + "\n"


def power_lines(counted: Counted) -> Iterator[str]:
    """How often a better blend is found."""
    yield from ("## A blend that is better in all benchmarks", "")
    yield from ("How often its Average is found better than that of one given other.", "")
    rows = [
        (name, *(percent(counted.rate("power", name, kind)) for kind in ("in_answers", "verdict")))
        for name in counted.names("power")
    ]
    yield from table(("", "in these answers", "another seed included, 0.5 points assumed"), rows)


def stopping_lines(counted: Counted) -> Iterator[str]:
    """Where runs stop."""
    yield from ("## Where to stop", "", "Share of runs that are said to be able to stop there.", "")
    rows = [
        (name, *(percent(counted.rate("stopping", name, label)) for label in STUDY),
         f"{counted.rate('stopping', name, 'lost'):.2f}")
        for name in counted.names("stopping")
    ]  # fmt: skip
    yield from table(("truth", *STUDY, "points lost"), rows)


def failure_lines(counted: Counted) -> Iterator[str]:
    """How often a failed evaluation is flagged, cell by cell."""
    yield from (
        "## Failed evaluations",
        "",
        *paragraph(
            """How often it is flagged that so many of one benchmark's answers were lost, and counted as wrong, at one
            milestone of five, or at the only one: in the run alone / beside another run."""
        ),
        "",
    )
    rows = []
    for title in TITLES:
        for share in SHARES:
            names = [failure_name(title, where, share) for where in WHERE]
            cells = (
                " / ".join(f"{100 * counted.rate('failures', name, kind):.0f}" for kind in ("alone", "beside"))
                for name in names
            )
            rows.append((title, percent(share), *cells))
    yield from table(("benchmark", "lost", *(f"{where}, %" for where in WHERE)), rows)
    others = np.mean([counted.rate("failures", name, "others") for name in counted.names("failures")])
    yield ""
    yield from paragraph(
        f"""On {percent(float(others))} of these pages another score was flagged as well. A loss cannot be told from a
        bad model where the checkpoint's neighbours are sure of fewer than five questions, as of AIME's 30 below a score
        of about 20, or of SciCode below 5: there only a fall to a fifth of the milestone before, and a 0, are seen. Of
        benchmarks that are asked once (MMLU, MMLU Pro, IFEval) nothing shows whether answers or abilities were lost: a
        model that gets less than {KEPT:.0%} there of what it gets elsewhere is flagged, too."""
    )


def sound_lines(counted: Counted) -> Iterator[str]:
    """How often sound pages have flags."""
    yield from ("## Flags on pages of which nothing failed", "")
    kinds = ("failed", "degrades", "unstable")
    rows = [
        (name, f"{counted.pages('sound', name):,}", *(percent(counted.rate("sound", name, kind)) for kind in kinds))
        for name in counted.names("sound")
    ]
    yield from table(("", "pages", *kinds), rows)
    yield from ("", "Of the published blends some do degrade and swing, in truth.")


def seed_lines(counted: Counted) -> Iterator[str]:
    """How often two trainings of equally good blends are called different."""
    yield from ("## Another seed", "", "Pages of two equally good blends on which one is called better.", "")
    rows = [
        (name, *(percent(counted.rate("seeds", name, kind)) for kind in ("in_answers", "verdict")))
        for name in counted.names("seeds")
    ]
    yield from table(("training moves scores by", "in these answers", "another seed included"), rows)
    yield from ("", "In these answers the checkpoints do differ: training made them so.")


def told_lines(counted: Counted) -> Iterator[str]:
    """What asking as much as is said to be needed gives."""
    yield from (
        "## What is needed",
        "",
        *paragraph(
            f"""Two checkpoints differ by so many points, and are seen to; what is named is asked of two such
            checkpoints: how often does the exact test, at {LEVEL_TOLD:.4f}, find their difference?"""
        ),
        "",
    )
    rows = []
    for name in counted.names("told"):
        counts = counted.counts[f"told: {name}"]
        named = counts["named"] / max(1, counts["pages"] - counts["silent"])
        rows.append(
            (
                name,
                f"{named:,.0f}",
                percent(counts["silent"] / counts["pages"]),
                f"{counted.rate('told', name, 'found', 'asked'):.2f}",
            )
        )
    yield from table(("truth, and what is asked", "named, on average", "none named", "found"), rows)


def paragraph(text: str) -> list[str]:
    """Its lines."""
    return textwrap.wrap(" ".join(text.split()), 120)


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield f"| {' | '.join(heads)} |"
    yield f"|---|{'---:|' * (len(heads) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def percent(share: float) -> str:
    """In percent, with a digit after the point where it is small."""
    return f"{100 * share:.1f}%" if 0 < share < 0.1 and round(1000 * share) % 10 else f"{100 * share:.0f}%"
