"""Judges the answers of several runs: which blend is better, where to stop, and which scores not to believe.

    judgement = judge({"pre_sft_v1": report, "pt_v1v2": other})         # `evaluator.results.run.Report`s
    contrast = judgement.between[0]
    contrast.at, contrast.column, contrast.one, contrast.other          # "0.61M", "Code", ...
    contrast.in_answers, contrast.verdict                               # WORSE, OPEN

Two verdicts stand side by side: `in_answers`, of these checkpoints, and `verdict`, of the blends if both were trained
again under another seed, which is the one to decide by. What is tested is the last milestone that most blends share
(`evaluator.verdicts.gate`); everything else is exploration. Runs of one blend under several seeds are averaged
(`evaluator.verdicts.seeds`), and a stopping point has to be shown (`evaluator.verdicts.stopping`).
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from evaluator.results.run import AVERAGE, Report, Row, check_rows
from evaluator.text import fixed, points_text
from evaluator.verdicts.contrasts import (
    BETTER,
    EXPLORED,
    LEVEL,
    WORSE,
    Contrast,
    by_tokens,
    check_comparable,
    family,
    seen_from,
)
from evaluator.verdicts.failures import Failures, failure_flags, find_failures
from evaluator.verdicts.finding import Finding, repeated_sources
from evaluator.verdicts.gate import Pair, explored, gated
from evaluator.verdicts.seeds import Blend, Scatters, scatter_between_runs
from evaluator.verdicts.stopping import MARGIN, StoppingPoint, stopping_point


@dataclass(frozen=True)
class Standing:
    """Who leads in one column at one milestone."""

    column: str
    """Title of the benchmark, or `Average`."""
    leader: str
    """The blend with the highest score, the first of those that have it."""
    above: tuple[Contrast, ...]
    """The leader less each blend that it is better than, another seed included."""
    above_in_answers: tuple[Contrast, ...]
    """The leader less each blend that it is better than in these answers only."""
    level: tuple[Contrast, ...]
    """The leader less each without a significant difference from it, or whose score is not to be believed."""
    equal: tuple[Contrast, ...]
    """The leader less each with the same score, which lead as well."""
    untested: tuple[Contrast, ...]
    """The leader less each that it was not tested against, since their Averages do not differ significantly."""

    @property
    def leaders(self) -> list[str]:
        """Blends with the highest score."""
        return [self.leader, *(contrast.other for contrast in self.equal)]


@dataclass(frozen=True)
class Judgement:
    """All that the answers of some runs show."""

    blends: Mapping[str, Blend]
    """The blends, each with its runs, by the names that they go by."""
    between: tuple[Contrast, ...]
    """Every two blends, at every milestone that they share, in every column; those at the last are a family."""
    teacher: tuple[Contrast, ...]
    """Every blend less the teacher, at every milestone, in every column; those at the last are a family."""
    within: Mapping[str, tuple[Contrast, ...]]
    """Milestones of each run less the one before, and the last less each, in every column; a family each."""
    stopping: tuple[StoppingPoint, ...]
    """Where each blend could have been stopped."""
    flags: tuple[Finding, ...]
    """Suspected failures, degradation, instability, repetition."""
    scatters: Scatters
    """How much another training seed moves each column."""

    @property
    def reports(self) -> Mapping[str, Report]:
        """A report of each blend, of several runs their mean."""
        return {name: blend.report for name, blend in self.blends.items()}

    @cached_property
    def shared(self) -> dict[int, dict[str, Row]]:
        """Rows of each number of tokens by the blend's name, fewest tokens first."""
        return by_tokens(self.reports)

    @property
    def last_common(self) -> int:
        """Tokens of the last of the milestones that most blends share."""
        return _last_common(self.shared)

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
            kinds: dict[str, list[Contrast]] = {kind: [] for kind in _KINDS}
            for one in own:
                kinds[_kind(one)].append(one)
            yield Standing(column, leader, **{kind: tuple(found) for kind, found in kinds.items()})

    @cached_property
    def first(self) -> Standing:
        """Who leads on average where all is summed up."""
        return next(one for one in self.standings(self.title(self.last_common)) if one.column == AVERAGE)

    def stop(self, name: str) -> StoppingPoint:
        """Where the blend could have been stopped."""
        return next(stop for stop in self.stopping if stop.run == name)


def judge(
    reports: Mapping[str, Report],
    *,
    replicates: Mapping[str, Sequence[str]] | None = None,
    seed_sd: float | None = None,
    margin: float = MARGIN,
) -> Judgement:
    """Compare runs. Raises ValueError, in a sentence, when they cannot be compared.

    Args:
        reports: Of the runs, by the names that they go by.
        replicates: By the blend's name, names of its runs, which differ in their seed only; None: each run is a blend.
        seed_sd: What another training seed is assumed to move a score (standard deviation, from 0 to 1), even where
            there are replicates; None: what replicates show, else `evaluator.verdicts.seeds.SEED_SD`.
        margin: What stopping early may cost of the Average, from 0 to 1.
    """
    groups = replicates or {name: [name] for name in reports}
    check_comparable(reports, groups)
    columns = next(iter(reports.values())).columns
    blends = {name: Blend(name, {run: reports[run] for run in runs}) for name, runs in groups.items()}
    within = {name: changes_within(report) for name, report in reports.items()}
    failed_runs = find_failures(reports)
    failures = {name: {score for run in runs for score in failed_runs[run]} for name, runs in groups.items()}
    shared = by_tokens({name: blend.report for name, blend in blends.items()})
    last = _last_common(shared)
    scatters = scatter_between_runs(
        blends.values(),
        [last, *(tokens for tokens in reversed(shared) if tokens != last)],
        failed_runs,
        assumed=seed_sd,
    )

    def contrasts(pairs) -> tuple[Contrast, ...]:
        return tuple(
            contrast
            for tokens, rows in shared.items()
            for contrast in (
                gated(columns, pairs(tokens, rows), failures, scatters)
                if tokens == last
                else explored(columns, pairs(tokens, rows), failures)
            )
        )

    def trainings(name: str, tokens: int) -> float:
        return 1 / len(blends[name].at(tokens))

    def rivals(tokens: int, rows: Mapping[str, Row]) -> Iterator[Pair]:
        for one, other in itertools.combinations(rows, 2):
            both = trainings(one, tokens) + trainings(other, tokens)
            yield Pair(one, other, _title(rows), rows[one], rows[other], both)

    def against_teacher(tokens: int, rows: Mapping[str, Row]) -> Iterator[Pair]:
        for name, row in rows.items():
            teacher = blends[name].report.row("teacher")
            yield Pair(name, "teacher", _title(rows), row, teacher, trainings(name, tokens))

    return Judgement(
        blends=blends,
        between=contrasts(rivals),
        teacher=contrasts(against_teacher),
        within=within,
        stopping=tuple(
            stopping_point(name, blend.curve, {at for _, at in failures[name]}, margin=margin)
            for name, blend in blends.items()
        ),
        flags=tuple(_flags(reports, within, failed_runs)),
        scatters=scatters,
    )


def judge_alone(name: str, report: Report, *, margin: float = MARGIN) -> tuple[StoppingPoint, tuple[Finding, ...]]:
    """Where one run could have been stopped, and what to look at twice in it, by the name that it goes by."""
    check_rows(report)
    reports, within = {name: report}, {name: changes_within(report)}
    failures = find_failures(reports)
    stop = stopping_point(name, report, {at for _, at in failures[name]}, margin=margin)
    return stop, tuple(_flags(reports, within, failures))


def changes_within(report: Report) -> tuple[Contrast, ...]:
    """Every milestone less the one before it, and the last less every earlier one: a family."""
    marks = report.milestones
    pairs = dict.fromkeys(
        (*itertools.pairwise(range(len(marks))), *((early, len(marks) - 1) for early in range(len(marks) - 1)))
    )
    rows = ((marks[early], marks[late]) for early, late in pairs)
    return family(report.columns, (((late.title, early.title, late.title), late, early) for early, late in rows))


_KINDS = ("above", "above_in_answers", "level", "equal", "untested")


def _kind(contrast: Contrast) -> str:
    """Field of a `Standing`, of `_KINDS`, that a contrast of its leader belongs to."""
    if contrast.is_tie and not contrast.suspect:
        return "equal"
    if contrast.verdict == BETTER:
        return "above"
    if contrast.in_answers == BETTER:
        return "above_in_answers"
    return "untested" if contrast.in_answers == EXPLORED else "level"


def _last_common(shared: Mapping[int, Mapping[str, Row]]) -> int:
    return max(shared.items(), key=lambda item: (len(item[1]), item[0]))[0]


def _flags(reports: Mapping[str, Report], within: Mapping, failures: Mapping[str, Failures]) -> Iterator[Finding]:
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
    size = f"{points_text(contrast.difference.mean)} ± {fixed(100 * contrast.difference.stderr)}"
    return f"From {contrast.other} to {contrast.at} it changes by {size} points"


def _title(rows: Mapping[str, Row]) -> str:
    return next(iter(rows.values())).title


def _of(name: str, contrasts: list[Contrast]) -> list[Contrast]:
    return [contrast for contrast in contrasts if name in (contrast.one, contrast.other)]
