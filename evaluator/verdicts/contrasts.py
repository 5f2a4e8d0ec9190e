"""Compares two checkpoints, by their answers: better, worse, or no significant difference.

    contrasts = family(columns, [(("pre_sft_v1", "pt_v1v2", "0.61M"), row, other), ...])
    contrasts[0].column, contrasts[0].verdict, contrasts[0].p_value         # "Knowledge", "better", 2.8e-08

A family is what is tested together: at most `LEVEL` of families have even one verdict that chance made. Here that is
Holm's procedure; blends are compared by `evaluator.verdicts.gate`. Runs that were not asked the same in the same way
are not compared: `check_comparable` says why.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

from evaluator.results.pairs import difference, difference_needed, difference_p, is_paired, same_questions
from evaluator.results.run import AVERAGE, Report, Row, check_rows
from evaluator.results.scores import TaskResult
from evaluator.stats.paired import holm, normal_p
from evaluator.stats.power import Needed
from evaluator.stats.scores import Estimate, average
from evaluator.text import change_text, p_text

LEVEL = 0.05
"""Chance of a verdict, anywhere in a family, where nothing differs."""
TEACHERS_LEVEL = 0.01
"""Chance that runs are refused for their teachers' scores although these were asked alike."""
TIE = 1e-9
"""Difference, from 0 to 1, up to which two scores are equal: what sums of fractions are off by."""
BETTER, WORSE, OPEN = "better", "worse", "no significant difference"
SUSPECT = "suspected failure"
"""Verdict on a score that may be of an evaluation that failed: none."""
EXPLORED = "exploration"
"""Verdict on a difference that is not in a family, so that it was not tested: none."""


@dataclass(frozen=True)
class AnotherSeed:
    """What a difference says of both blends trained again, under other seeds."""

    stderr: float
    """Standard error of the difference, that of training included, from 0 to 1."""
    p_value: float
    """After the family's procedure; of this test alone where it is not in the family."""
    least: float
    """The smallest difference, from 0 to 1, that would stand with this standard error at its part of the level."""
    tested: bool = True
    """It is in a family; else exploration."""


@dataclass(frozen=True)
class Contrast:
    """One checkpoint less another, in one column."""

    one: str
    """Name of a blend, or title of a milestone within a run."""
    other: str
    """Name of a blend, `teacher`, or title of a milestone."""
    at: str
    """Title of the milestone; of the later one within a run."""
    column: str
    """Title of the benchmark, or `Average`."""
    difference: Estimate
    """`one` less `other` in these answers, from -1 to 1."""
    p_value: float
    """In these answers, after the family's procedure; of this test alone where it is not in the family."""
    suspect: bool = False
    """One of the two scores may be of an evaluation that failed."""
    needed: Needed | None = None
    """What would show a difference as large as was seen; None of an average, and where it is shown or is none."""
    paired: bool = True
    """Taken question by question; of an average, in all its benchmarks."""
    tested: bool = True
    """In these answers it is in a family; else exploration."""
    another_seed: AnotherSeed | None = None
    """The same with training's part; None within a run, and at milestones that are explored only."""

    @property
    def in_answers(self) -> str:
        """`better`, `worse`, `no significant difference`, `suspected failure` or `exploration`, of these
        checkpoints."""
        return self._verdict(self.tested, self.p_value)

    @property
    def verdict(self) -> str:
        """The same of the blends, another seed included, where that is known; else of these checkpoints."""
        seed = self.another_seed
        return self._verdict(seed.tested, seed.p_value) if seed else self.in_answers

    @property
    def is_tie(self) -> bool:
        """Whether the two scores are equal."""
        return abs(self.difference.mean) < TIE

    def _verdict(self, tested: bool, p_value: float) -> str:
        if self.suspect:
            return SUSPECT
        if not tested:
            return EXPLORED
        if p_value >= LEVEL:
            return OPEN
        return BETTER if self.difference.mean > 0 else WORSE


def seen_from(name: str, contrast: Contrast) -> Contrast:
    """The contrast with `name` as its one."""
    if contrast.one == name:
        return contrast
    turned = Estimate(-contrast.difference.mean, contrast.difference.stderr)
    return replace(contrast, one=contrast.other, other=contrast.one, difference=turned)


def is_suspect(failures: Mapping[str, Collection[tuple[str, str]]], column: str, *scores: tuple[str, str]) -> bool:
    """Whether one of `scores`, a run's name and a row's title each, is not to be believed in the column."""
    return any((column, title) in failures.get(name, ()) for name, title in scores)


def family(
    columns: list[tuple[str, str]],
    pairs: Iterable[tuple[tuple[str, str, str], Row, Row]],
    failures: Mapping[str, Collection[tuple[str, str]]] | None = None,
) -> tuple[Contrast, ...]:
    """Contrasts of checkpoints in every column and on average, tested together.

    Args:
        columns: Task and title of each benchmark.
        pairs: Names of the two checkpoints and of their milestone, as `Contrast` has them, and their rows.
        failures: By the run's name, (column, title of the row) of scores that are not to be believed.
    """
    found: list[Contrast] = []
    compared: list[tuple[TaskResult, TaskResult] | None] = []
    for (one, other, at), row, rival in pairs:
        ids = ((one, row.title), (other, rival.title))
        estimates = []
        for (_, title), mine, theirs in zip(columns, row.result.tasks, rival.result.tasks, strict=True):
            estimates.append(difference(mine, theirs))
            suspect = is_suspect(failures or {}, title, *ids)
            p_value, paired = difference_p(mine, theirs), is_paired(mine, theirs)
            found.append(Contrast(one, other, at, title, estimates[-1], p_value, suspect, paired=paired))
            compared.append((mine, theirs))
        whole = average(estimates)
        parts = found[-len(columns) :]
        suspect, paired = any(contrast.suspect for contrast in parts), all(contrast.paired for contrast in parts)
        # Over all questions of a suite, which are many.
        found.append(Contrast(one, other, at, AVERAGE, whole, normal_p(whole), suspect, paired=paired))
        compared.append(None)
    adjusted = holm([contrast.p_value for contrast in found])
    # Holm asks of the smallest p-value that does not stand yet that it be below this.
    significance = LEVEL / max(1, sum(p_value >= LEVEL for p_value in adjusted))
    judged = []
    for contrast, p_value, pair in zip(found, adjusted, compared, strict=True):
        more = difference_needed(*pair, significance=significance) if pair and p_value >= LEVEL else None
        judged.append(replace(contrast, p_value=p_value, needed=more))
    return tuple(judged)


def check_comparable(reports: Mapping[str, Report], blends: Mapping[str, Collection[str]] | None = None) -> None:
    """Raise ValueError unless all runs were asked the same, in the same way, as often, and have one teacher.

    `blends` are names of runs by their blend's: runs of one were trained, and asked, under seeds of their own.
    """
    for report in reports.values():
        check_rows(report)
    _check_seeds(reports, blends or {name: [name] for name in reports})
    (first, mine), *others = reports.items()
    for name, report in others:
        both, row, other = f"'{first}' and '{name}'", mine.rows[0], report.rows[0]
        if (mine.suite.name, mine.columns) != (report.suite.name, report.columns):
            raise ValueError(
                f"{both} are not compared: they were scored with two suites, '{mine.suite.name}' ({_titles(mine)}) and "
                f"'{report.suite.name}' ({_titles(report)})."
            )
        for task, theirs, (_, title) in zip(row.result.tasks, other.result.tasks, mine.columns, strict=True):
            repeats = [one.summary.repeats for one in (task, theirs)]
            if repeats[0] != repeats[1]:
                raise ValueError(
                    f"{both} are not compared: {title} was asked {repeats[0]} and {repeats[1]} times a question, and "
                    f"single shots and averages of several never meet; set evaluate.repeats alike."
                )
            if not same_questions(task, theirs):
                raise ValueError(f"{both} are not compared: they were asked other questions in {title}.")
        if mine.protocol != report.protocol:
            raise ValueError(
                f"{both} are not compared: questions, prompts, sampling or scoring changed between them (protocols "
                f"{mine.protocol or 'unknown'} and {report.protocol or 'unknown'}); evaluate both again."
            )
    _check_teachers(reports)
    shared = by_tokens(reports)
    for name, report in reports.items():
        if not any(len(rows) > 1 and name in rows for rows in shared.values()):
            titles = ", ".join(row.title for row in report.milestones)
            raise ValueError(f"'{name}' is not compared: no other run has a milestone of as many tokens ({titles}).")


def _check_teachers(reports: Mapping[str, Report]) -> None:
    """Raise ValueError where teachers that were evaluated more than once score differently by more than chance.

    All pairs of evaluations are one family: runs that share one add nothing to it, and five of five teachers are as
    rarely refused by chance as two.
    """
    columns = next(iter(reports.values())).columns
    distinct: dict[str, Row] = {}
    for name, report in reports.items():
        teacher = report.row("teacher")
        if all(teacher.summaries != other.summaries for other in distinct.values()):
            distinct[name] = teacher
    pairs = (((one, other, "teacher"), distinct[one], distinct[other]) for one, other in combinations(distinct, 2))
    for contrast in family(columns, pairs):
        if contrast.p_value < TEACHERS_LEVEL:
            raise ValueError(
                f"'{contrast.one}' and '{contrast.other}' are not compared: their teachers score differently in "
                f"{contrast.column} ({change_text(contrast.difference)}, {p_text(contrast.p_value)}); evaluate both "
                f"again in one folder of runs, where they share their teacher's evaluation, or leave one of them out."
            )


def _check_seeds(reports: Mapping[str, Report], blends: Mapping[str, Collection[str]]) -> None:
    """Raise ValueError where two blends have no seed in common."""
    seeds = {blend: [reports[run].rows[0].result.seed for run in runs] for blend, runs in blends.items()}
    (first, mine), *others = seeds.items()
    for name, theirs in others:
        if not set(mine) & set(theirs):
            raise ValueError(
                f"'{first}' and '{name}' are not compared: their answers were drawn with two seeds, {mine[0]} and "
                f"{theirs[0]}."
            )


def by_tokens(reports: Mapping[str, Report]) -> dict[int, dict[str, Row]]:
    """Rows of each number of tokens by the run's name, fewest tokens first."""
    found: dict[int, dict[str, Row]] = {}
    for name, report in reports.items():
        for row in report.milestones:
            found.setdefault(row.seen, {})[name] = row
    return dict(sorted(found.items()))


def _titles(report: Report) -> str:
    return ", ".join(title for _, title in report.columns)
