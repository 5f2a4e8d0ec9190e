"""Decides of two checkpoints, by their answers: better, worse, or no significant difference.

    contrasts = family(columns, [(("pre_sft_v1", "pt_v1v2", "0.61M"), row, other), ...])
    contrasts[0].column, contrasts[0].verdict, contrasts[0].p_value         # "Knowledge", "better", 2.8e-08

A family is what is tested together: with Holm's procedure at most `LEVEL` of families have even one verdict that chance
made. Runs that were not asked the same in the same way are not compared: `check_comparable` says why.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from evaluator.results.pairs import difference, difference_needed, difference_p, is_paired, same_questions
from evaluator.results.run import AVERAGE, Report, Row, check_rows
from evaluator.results.scores import TaskResult
from evaluator.stats.paired import holm, normal_p
from evaluator.stats.power import Needed
from evaluator.stats.scores import Estimate, average

LEVEL = 0.05
"""Chance of a verdict, anywhere in a family, where nothing differs."""
BETTER, WORSE, OPEN = "better", "worse", "no significant difference"
SUSPECT = "suspected failure"
"""Verdict on a score that may be of an evaluation that failed: none."""


@dataclass(frozen=True)
class Contrast:
    """One checkpoint less another, in one column."""

    one: str
    """Name of a run, or title of a milestone within a run."""
    other: str
    """Name of a run, `teacher`, or title of a milestone."""
    at: str
    """Title of the milestone; of the later one within a run."""
    column: str
    """Title of the benchmark, or `Average`."""
    difference: Estimate
    """`one` less `other`, from -1 to 1."""
    p_value: float
    """After Holm's procedure, over the family."""
    suspect: bool = False
    """One of the two scores may be of an evaluation that failed."""
    needed: Needed | None = None
    """What would show a difference as large as was seen; None of an average, and where it is shown or is none."""
    paired: bool = True
    """Taken question by question; of an average, in all its benchmarks."""

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `no significant difference` or `suspected failure`, of `one`."""
        if self.suspect:
            return SUSPECT
        if self.p_value >= LEVEL:
            return OPEN
        return BETTER if self.difference.mean > 0 else WORSE


def seen_from(name: str, contrast: Contrast) -> Contrast:
    """The contrast with `name` as its one."""
    if contrast.one == name:
        return contrast
    turned = Estimate(-contrast.difference.mean, contrast.difference.stderr)
    return replace(contrast, one=contrast.other, other=contrast.one, difference=turned)


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
    failed = {(name, *score) for name, scores in (failures or {}).items() for score in scores}
    found: list[Contrast] = []
    compared: list[tuple[TaskResult, TaskResult] | None] = []
    for (one, other, at), row, rival in pairs:
        ids = ((one, row.title), (other, rival.title))
        estimates = []
        for (_, title), mine, theirs in zip(columns, row.result.tasks, rival.result.tasks, strict=True):
            estimates.append(difference(mine, theirs))
            suspect = any((name, title, checkpoint) in failed for name, checkpoint in ids)
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


def check_comparable(reports: Mapping[str, Report]) -> None:
    """Raise ValueError unless all runs were asked the same, in the same way, as often, and have one teacher."""
    for report in reports.values():
        check_rows(report)
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
        if row.result.seed != other.result.seed:
            raise ValueError(
                f"{both} are not compared: their answers were drawn with two seeds, {row.result.seed} and "
                f"{other.result.seed}."
            )
        teachers = family(mine.columns, [((first, name, "teacher"), mine.row("teacher"), report.row("teacher"))])
        apart = [contrast.column for contrast in teachers if contrast.verdict != OPEN]
        if apart:
            raise ValueError(f"{both} are not compared: their teachers score differently in {', '.join(apart)}.")
    shared = by_tokens(reports)
    for name, report in reports.items():
        if not any(len(rows) > 1 and name in rows for rows in shared.values()):
            titles = ", ".join(row.title for row in report.milestones)
            raise ValueError(f"'{name}' is not compared: no other run has a milestone of as many tokens ({titles}).")


def by_tokens(reports: Mapping[str, Report]) -> dict[int, dict[str, Row]]:
    """Rows of each number of tokens by the run's name, fewest tokens first."""
    found: dict[int, dict[str, Row]] = {}
    for name, report in reports.items():
        for row in report.milestones:
            found.setdefault(row.seen, {})[name] = row
    return dict(sorted(found.items()))


def _titles(report: Report) -> str:
    return ", ".join(title for _, title in report.columns)
