"""Judges the answers of several runs: which blend is better, where to stop, and which scores not to believe.

    judgement = judge({"pre_sft_v1": report, "pt_v1v2": other})         # `evaluator.results.run.Report`s
    contrast = judgement.between[0]
    contrast.at, contrast.column, contrast.one, contrast.other, contrast.verdict    # "0.61M", "Code", ..., WORSE

Checkpoints are compared as in `evaluator.verdicts.contrasts`; all contrasts of one kind (between blends, against the
teacher, within a run) are tested together. What no test here sees is training noise: each blend was distilled once.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from evaluator.results.run import AVERAGE, Report, Row, check_rows
from evaluator.text import change_text, points_text, rate_text
from evaluator.verdicts.contrasts import BETTER, LEVEL, WORSE, Contrast, by_tokens, check_comparable, family, seen_from
from evaluator.verdicts.failures import failure_flags, find_failures
from evaluator.verdicts.finding import Finding, repeated_sources


@dataclass(frozen=True)
class StoppingPoint:
    """Where a run could have been stopped."""

    run: str
    """Name of the run."""
    row: Row
    """The first milestone with no significant difference from the best."""
    best: Row
    """The milestone with the highest average."""
    lead: Contrast | None
    """The best's average less the first's; None where they are one."""
    last: bool
    """It is the last milestone: the run may be rising still."""
    min_learning_rate: float | None
    """Learning rate at the end of the schedule; None where the run does not say it."""
    alone: bool = False
    """It is the run's only milestone."""

    @property
    def ends_above(self) -> tuple[float, float] | None:
        """Learning rate there and at the end of the schedule, where the schedule has not ended there."""
        rate, lowest = self.row.learning_rate, self.min_learning_rate
        if rate is None or lowest is None or rate <= lowest * (1 + 1e-6):
            return None
        return rate, lowest

    @property
    def confounded(self) -> bool:
        """Whether what looks like a plateau may be the learning rate's doing."""
        return self.ends_above is not None

    @property
    def text(self) -> str:
        """Why, in a sentence or two."""
        if self.lead:
            reason = (
                f"The first milestone with no significant difference from the best, {self.best.title} "
                f"({change_text(self.lead.difference)} on average)."
            )
        elif self.alone:
            reason = "It is the only milestone, so nothing says whether the run is rising still."
        else:
            reason = "Every milestone before it is clearly below it in some column."
        if self.last and not self.alone:
            reason += " It is the last one, so the run may be rising still."
        if self.ends_above:
            rate, lowest = self.ends_above
            reason += (
                f" Confounded: its learning rate is {rate_text(rate)}, and a schedule that ends there, at "
                f"{rate_text(lowest)}, would give another score."
            )
        return reason


@dataclass(frozen=True)
class Standing:
    """Who leads in one column at one milestone."""

    column: str
    """Title of the benchmark, or `Average`."""
    leader: str
    """The run with the highest score."""
    above: tuple[Contrast, ...]
    """The leader less each run that it is better than."""
    level: tuple[Contrast, ...]
    """The leader less each run without a significant difference from it, or whose score is not to be believed."""


@dataclass(frozen=True)
class Judgement:
    """All that the answers of some runs show."""

    reports: Mapping[str, Report]
    """Reports of the runs, by the names that the runs go by."""
    between: tuple[Contrast, ...]
    """Every two runs, at every milestone that they share, in every column; a family."""
    teacher: tuple[Contrast, ...]
    """Every run less the teacher, at every milestone, in every column; a family."""
    within: Mapping[str, tuple[Contrast, ...]]
    """Every later milestone less every earlier one of each run, in every column; a family each."""
    stopping: tuple[StoppingPoint, ...]
    """Where each run could have been stopped."""
    flags: tuple[Finding, ...]
    """Suspected failures, degradation, instability, repetition."""

    @cached_property
    def shared(self) -> dict[int, dict[str, Row]]:
        """Rows of each number of tokens by the run's name, fewest tokens first."""
        return by_tokens(self.reports)

    @cached_property
    def last_common(self) -> int:
        """Tokens of the last of the milestones that most runs share."""
        return max(self.shared.items(), key=lambda item: (len(item[1]), item[0]))[0]

    def title(self, tokens: int) -> str:
        """What contrasts call the milestone of so many tokens."""
        return _title(self.shared[tokens])

    def standings(self, at: str) -> Iterator[Standing]:
        """Who leads in each column at the milestone called `at`."""
        contrasts = [contrast for contrast in self.between if contrast.at == at]
        for column in dict.fromkeys(contrast.column for contrast in contrasts):
            found = [contrast for contrast in contrasts if contrast.column == column]
            names = dict.fromkeys(name for contrast in found for name in (contrast.one, contrast.other))
            # The highest is below none; of those that are equal, the first.
            leader = max(names, key=lambda name: min(seen_from(name, c).difference.mean for c in _of(name, found)))
            own = [seen_from(leader, contrast) for contrast in _of(leader, found)]
            above = tuple(contrast for contrast in own if contrast.verdict == BETTER)
            yield Standing(column, leader, above, tuple(contrast for contrast in own if contrast not in above))


def judge(reports: Mapping[str, Report]) -> Judgement:
    """Compare runs, by the names that they go by. Raises ValueError, in a sentence, when they cannot be compared."""
    check_comparable(reports)
    columns = next(iter(reports.values())).columns
    within = {name: _within(report) for name, report in reports.items()}
    failures = find_failures(reports)
    shared = by_tokens(reports)
    between = family(
        columns,
        (
            ((one, other, _title(rows)), rows[one], rows[other])
            for rows in shared.values()
            for one, other in itertools.combinations(rows, 2)
        ),
        failures,
    )
    teacher = family(
        columns,
        (
            ((name, "teacher", _title(rows)), row, reports[name].row("teacher"))
            for rows in shared.values()
            for name, row in rows.items()
        ),
        failures,
    )
    return Judgement(
        reports=reports,
        between=between,
        teacher=teacher,
        within=within,
        stopping=tuple(_stopping(name, report, within[name], failures[name]) for name, report in reports.items()),
        flags=tuple(_flags(reports, within, failures)),
    )


def judge_alone(name: str, report: Report) -> tuple[StoppingPoint, tuple[Finding, ...]]:
    """Where one run could have been stopped, and what to look at twice in it, by the name that it goes by."""
    check_rows(report)
    reports, within = {name: report}, {name: _within(report)}
    failures = find_failures(reports)
    return _stopping(name, report, within[name], failures[name]), tuple(_flags(reports, within, failures))


def _within(report: Report) -> tuple[Contrast, ...]:
    """Every later milestone less every earlier one, a family."""
    pairs = itertools.combinations(report.milestones, 2)
    return family(report.columns, (((late.title, early.title, late.title), late, early) for early, late in pairs))


def _stopping(name: str, report: Report, within: tuple[Contrast, ...], failures: Mapping) -> StoppingPoint:
    failed = {at for _, at in failures}
    rows = [row for row in report.milestones if row.title not in failed] or list(report.milestones)
    best = max(rows, key=lambda row: row.average.mean)
    apart = {(c.other, c.at) for c in within if c.verdict == BETTER} | {
        (c.at, c.other) for c in within if c.verdict == WORSE
    }
    row = next(row for row in rows if (row.title, best.title) not in apart)
    ends = {row.title, best.title}
    lead = next((c for c in within if {c.at, c.other} == ends and c.column == AVERAGE), None) if row != best else None
    return StoppingPoint(
        run=name,
        row=row,
        best=best,
        lead=seen_from(best.title, lead) if lead else None,
        last=row == report.milestones[-1],
        min_learning_rate=report.min_learning_rate,
        alone=len(report.milestones) == 1,
    )


def _flags(reports: Mapping[str, Report], within: Mapping, failures: Mapping[str, Mapping]) -> Iterator[Finding]:
    yield from failure_flags(reports, failures)
    for name, report in reports.items():
        yield from _unsteady(name, report, within[name], failures[name])
    yield from repeated_sources(
        {f"{name} at {report.milestones[-1].title}": report.blend for name, report in reports.items()}
    )


def _unsteady(name: str, report: Report, within: tuple[Contrast, ...], failures: Mapping) -> Iterator[Finding]:
    """Benchmarks that end below an earlier milestone, or go down and come back, by more than error."""
    neighbours = [(early.title, late.title) for early, late in itertools.pairwise(report.milestones)]
    rule = f"the paired difference stands at {LEVEL:.0%} among all of this run's"
    for _, column in report.columns:
        falls = [
            contrast
            for contrast in within
            if contrast.column == column
            and contrast.verdict == WORSE
            and not {(column, contrast.at), (column, contrast.other)} & set(failures)
        ]
        ending = [contrast for contrast in falls if contrast.at == report.milestones[-1].title]
        dips = [contrast for contrast in falls if (contrast.other, contrast.at) in neighbours]
        if ending:
            worst = min(ending, key=lambda contrast: contrast.difference.mean)
            yield Finding(f"{column} degrades in {name}.", f"{_fall_text(worst)}.", f"it ends lower; {rule}")
        elif dips:
            yield Finding(
                f"{column} is unstable in {name}.",
                f"{'; '.join(_fall_text(dip) for dip in dips)}; its end is not clearly lower.",
                f"it falls between neighbouring milestones; {rule}",
            )


def _fall_text(contrast: Contrast) -> str:
    size = f"{points_text(contrast.difference.mean)} ± {100 * contrast.difference.stderr:.1f}"
    return f"From {contrast.other} to {contrast.at} it changes by {size} points"


def _title(rows: Mapping[str, Row]) -> str:
    return next(iter(rows.values())).title


def _of(name: str, contrasts: list[Contrast]) -> list[Contrast]:
    return [contrast for contrast in contrasts if name in (contrast.one, contrast.other)]
