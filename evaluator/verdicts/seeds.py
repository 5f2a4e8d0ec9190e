"""Holds how much training under another seed moves a score: from runs of one blend, or by assumption.

    blends = averaged({"a": reports_of_a, "b": reports_of_b})      # by the blend's name: its runs' reports, by name
    scatter = scatter_between_runs(blends, assumed=None)
    scatter.of("Average").sd, scatter.text

Runs of one blend that differ in their seed only are replicates. They stand on a page as one blend, whose scores are the
means of theirs, and how they differ says what another seed would change, in each column by itself. Without replicates
it is assumed.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from evaluator.results.pairs import difference
from evaluator.results.run import AVERAGE, Report, Row
from evaluator.results.scores import TaskResult
from evaluator.stats.scores import Summary
from evaluator.stats.variance import Part, pooled
from evaluator.text import fixed, joined

SEED_SD = 0.005
"""Standard deviation, from 0 to 1, of a score from one training seed to the next, where nothing else is known.

Nobody has published distillations of this kind that differ in their seed only. What there is are the study's own
curves: from 20B on, the averages of three blends lie 0.22 points (seven values) off the lines between their neighbours,
answers' part included. That is what training moves from one milestone to the next; what it moves a run's milestones
together does not show in it. Half a point is above twice that, for the Average and so for single benchmarks, of which
training moves each by more than their mean."""
_FEW = 4
"""Degrees of freedom below which the assumption finds more than replicates do."""


@dataclass(frozen=True)
class Blend:
    """One blend of a page, with the runs that it was trained in."""

    name: str
    """What the page calls it."""
    runs: Mapping[str, Report]
    """Reports of its runs, by the names that these go by."""

    @cached_property
    def report(self) -> Report:
        """The runs' mean: a report whose milestones average the runs that have them."""
        return average_runs(self.name, list(self.runs.values()))

    @cached_property
    def curve(self) -> Report:
        """The mean of the runs that have most milestones: of milestones that the same runs were averaged for."""
        most = max(len(report.milestones) for report in self.runs.values())
        return average_runs(self.name, [one for one in self.runs.values() if len(one.milestones) == most])

    def at(self, tokens: int) -> dict[str, Row]:
        """Rows of that milestone by the run's name, of the runs that have it."""
        rows = {name: [row for row in report.milestones if row.seen == tokens] for name, report in self.runs.items()}
        return {name: found[0] for name, found in rows.items() if found}


@dataclass(frozen=True)
class Scatter:
    """How much one run's score differs from that of its blend's other runs, in one column."""

    part: Part
    """The variance of a run's score, from one run of the blend to the next."""
    answers: float = 0.0
    """The part of that variance that is of single answers, and not of training; 0 where it was assumed apart."""

    @property
    def sd(self) -> float:
        """Standard deviation, from 0 to 1, of a score from one run to the next."""
        return math.sqrt(self.part.variance)

    def parts(self, answers: Part, trainings: float) -> tuple[Part, Part]:
        """The parts of the variance of a difference of blends.

        Args:
            answers: Its variance in these answers.
            trainings: Sum over the two of one over the number of runs. The teacher is not trained again: it adds none.
        """
        # Where runs were compared, what answers scatter is in their scatter already.
        left = max(0.0, answers.variance - trainings * self.answers)
        return (replace(answers, variance=left), replace(self.part, variance=trainings * self.part.variance))


@dataclass(frozen=True)
class Scatters:
    """How much another seed moves every column of a page."""

    columns: Mapping[str, Scatter]
    """By the column's title, from replicates; empty where there are none."""
    assumed: float | None
    """Standard deviation, from 0 to 1, that was asked for in place of what replicates show."""
    replicates: Mapping[str, int]
    """Number of runs of each blend that has more than one."""
    at: str = ""
    """Title of the milestone at which they were compared."""

    def of(self, column: str) -> Scatter:
        """The column's."""
        if self.assumed is None and column in self.columns:
            return self.columns[column]
        return Scatter(Part((SEED_SD if self.assumed is None else self.assumed) ** 2))

    @property
    def text(self) -> str:
        """What is known of another seed, in a sentence or two."""
        seen = self._seen()
        if seen and self.assumed is None:
            few = " So few tell little; --seed-sd POINTS states an assumption in their place."
            return (
                f"What another training seed changes is taken from blends trained more than once: {seen}."
                f"{few if self.of(AVERAGE).part.freedom < _FEW else ''}"
            )
        assumed = f"{100 * self.of(AVERAGE).sd:g} points (standard deviation; --seed-sd)"
        reason = f"those trained more than once show {seen}" if seen else "no blend here was trained under two seeds"
        return f"Another training seed is assumed to move every score, the Average too, by {assumed}; {reason}."

    @property
    def short(self) -> str:
        """The same in half a sentence."""
        sd = 100 * self.of(AVERAGE).sd
        if self.columns and self.assumed is None:
            freedom = self.of(AVERAGE).part.freedom
            return f"as seeds are seen to move {fixed(sd)} ({freedom:.0f} degree{'s' * (freedom != 1)} of freedom)"
        return f"at --seed-sd {sd:g} (assumed)"

    def _seen(self) -> str:
        """What replicates show of the average; empty where there are none."""
        whole = self.columns.get(AVERAGE)
        if whole is None:
            return ""
        counts = joined([f"{name} {count} times" for name, count in self.replicates.items()])
        freedom = f"{whole.part.freedom:.0f} degree{'s' * (whole.part.freedom != 1)} of freedom"
        return (
            f"Averages at {self.at} that differ by {fixed(100 * whole.sd)} points from run to run (standard deviation, "
            f"{freedom}: {counts}), of which answers alone account for {fixed(100 * math.sqrt(whole.answers))}"
        )


def scatter_between_runs(
    blends: Iterable[Blend],
    tokens: Sequence[int],
    failures: Mapping[str, Collection[tuple[str, str]]],
    *,
    assumed: float | None = None,
) -> Scatters:
    """How much another seed moves each column.

    Args:
        blends: All of the page.
        tokens: Milestones, the one to judge first: replicates are compared at the first that two runs of a blend have.
        failures: By the run's name, (column, title of the row) of scores that are not to be believed.
        assumed: Standard deviation to assume, from 0 to 1, whatever replicates show; None: `SEED_SD` where there are
            none.
    """
    blends = list(blends)
    for place in tokens:
        groups = {blend.name: blend.at(place) for blend in blends}
        groups = {name: rows for name, rows in groups.items() if len(rows) > 1}
        if groups:
            title = next(iter(next(iter(groups.values())).values())).title
            counts = {name: len(rows) for name, rows in groups.items()}
            columns = _scatters(blends[0].report.columns, list(groups.values()), failures)
            return Scatters(columns, assumed, counts, title)
    return Scatters({}, assumed, {})


def average_runs(name: str, reports: Sequence[Report]) -> Report:
    """One report of several runs of a blend, whose milestones are the means of theirs; of one run it is its own."""
    if len(reports) == 1:
        return reports[0]
    longest = max(reports, key=lambda report: len(report.milestones))
    by_tokens: dict[int, list[Row]] = {}
    for report in reports:
        for row in report.milestones:
            by_tokens.setdefault(row.seen, []).append(row)
    rows = [row for row in longest.rows if row.role != "milestone"]
    rows += [_average_rows(by_tokens[tokens]) for tokens in sorted(by_tokens)]
    return replace(longest, title=name, rows=tuple(rows))


def _average_rows(rows: Sequence[Row]) -> Row:
    if len(rows) == 1:
        return rows[0]
    tasks = tuple(_average_tasks(same) for same in zip(*(row.result.tasks for row in rows), strict=True))
    return replace(rows[0], result=replace(rows[0].result, tasks=tasks), folder="", checkpoint="", answers=None)


def _average_tasks(tasks: Sequence[TaskResult]) -> TaskResult:
    """All answers of several runs to one benchmark, as of one that was asked more often."""
    first = replace(
        tasks[0],
        mean_tokens=float(np.mean([one.mean_tokens for one in tasks])),
        cut_share=float(np.mean([one.cut_share for one in tasks])),
        empty_share=float(np.mean([one.empty_share for one in tasks])),
        unasked_share=float(np.mean([one.unasked_share for one in tasks])),
        failed_requests=sum(one.failed_requests for one in tasks),
    )
    if all(task.has_answers for task in tasks):
        scores = tuple(map(tuple, np.hstack([task.table for task in tasks]).tolist()))
        return replace(first, scores=scores)
    summaries = [task.summary for task in tasks]
    # Over the same questions the errors go together, how closely is not known: they are taken to be one.
    reported = Summary(
        mean=float(np.mean([one.mean for one in summaries])),
        stderr=float(np.mean([one.stderr for one in summaries])),
        rerun_sd=None,
        questions=summaries[0].questions,
        repeats=sum(one.repeats for one in summaries),
    )
    return replace(first, questions=(), scores=(), clusters=(), reported=reported)


def _scatters(
    columns: Sequence[tuple[str, str]], groups: Sequence[Mapping[str, Row]], failures: Mapping
) -> dict[str, Scatter]:
    """By the column, from rows of each blend by the run's name; without those in which the scores may be of an
    evaluation that failed. A column of which two runs are left nowhere is not in it."""

    def sound(rows: Mapping[str, Row], titles: Sequence[str]) -> list[Row]:
        failed = {
            name for name, row in rows.items() for title in titles if (title, row.title) in failures.get(name, ())
        }
        return [row for name, row in rows.items() if name not in failed]

    found = {}
    titles = [title for _, title in columns]
    for place, title in enumerate(titles):
        kept = [sound(rows, [title]) for rows in groups]
        if any(len(rows) > 1 for rows in kept):
            part = pooled([[row.result.tasks[place].summary.mean for row in rows] for rows in kept])
            found[title] = Scatter(part, float(np.mean(_answers(kept, place))))
    kept = [sound(rows, titles) for rows in groups]
    if any(len(rows) > 1 for rows in kept):
        part = pooled([[row.average.mean for row in rows] for rows in kept])
        answers = np.sum([_answers(kept, place) for place in range(len(titles))], axis=0) / len(titles) ** 2
        found[AVERAGE] = Scatter(part, float(np.mean(answers)))
    return found


def _answers(groups: Sequence[Sequence[Row]], place: int) -> list[float]:
    """For every two runs of a blend, the variance of one's score that is of single answers."""
    pairs = [pair for rows in groups for pair in itertools.combinations(rows, 2)]
    tasks = [(one.result.tasks[place], other.result.tasks[place]) for one, other in pairs]
    return [difference(one, other).stderr ** 2 / 2 for one, other in tasks]
