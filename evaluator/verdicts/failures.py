"""Finds scores that may be of an evaluation that failed, and not of a bad model.

    failures = find_failures(reports, within)           # by the run's name: (column, title of the row) -> what it shows
    flags = failure_flags(reports, failures)            # `evaluator.verdicts.finding.Finding`s

Nothing is concluded from such a score: `evaluator.verdicts.contrasts.family` gives it no verdict.
"""

import itertools
from collections.abc import Iterator, Mapping

from evaluator.results.run import Report
from evaluator.stats.scores import wilson
from evaluator.verdicts.contrasts import WORSE, Contrast
from evaluator.verdicts.finding import Finding

COLLAPSE = 0.2
"""A score below this share of the milestone's before it is a collapse, if the fall is clear, too."""

Failures = Mapping[tuple[str, str], str]
"""By column and milestone's title of a score that is not to be believed: the milestone that it fell from."""


def find_failures(reports: Mapping[str, Report], within: Mapping[str, tuple[Contrast, ...]]) -> dict[str, Failures]:
    """Scores not to be believed, by the run's name, from the reports and the contrasts within each run."""
    return {name: _collapses(report, within[name]) for name, report in reports.items()}


def failure_flags(reports: Mapping[str, Report], failures: Mapping[str, Failures]) -> Iterator[Finding]:
    """What to say of the scores that `find_failures` found, and of scores of 0, run by run."""
    for name, report in reports.items():
        yield from _failed(name, report, failures[name])


def _collapses(report: Report, within: tuple[Contrast, ...]) -> Failures:
    """Column and milestone of every score that fell to next to nothing, with the milestone that it fell from."""
    falls = {(c.column, c.other, c.at) for c in within if c.verdict == WORSE}
    found = {}
    for (before, after), (task, title) in itertools.product(itertools.pairwise(report.milestones), report.columns):
        low, high = (row.summaries[task].mean for row in (after, before))
        if low < COLLAPSE * high and (title, before.title, after.title) in falls:
            found[title, after.title] = before.title
    return found


def _failed(name: str, report: Report, failures: Failures) -> Iterator[Finding]:
    """Scores that may be of an evaluation that failed, and not of a bad model."""
    for (column, at), before in failures.items():
        row, healthy = (next(one for one in report.milestones if one.title == title) for title in (at, before))
        task = next(task for task, title in report.columns if title == column)
        yield Finding(
            f"{column} of {name} at {at} may be a failed evaluation.",
            f"It falls to {100 * row.summaries[task].mean:.1f} from {100 * healthy.summaries[task].mean:.1f} at "
            f"{before}. Nothing is concluded from it: evaluate the checkpoint again.",
            f"below {COLLAPSE:.0%} of the milestone before, by more than error",
        )
    for task, column in report.columns:
        zero = [row for row in report.milestones if row.summaries[task].mean == 0]
        unseen = [row.title for row in zero if (column, row.title) not in failures]
        if unseen:
            summary = zero[0].summaries[task]
            yield Finding(
                f"{column} of {name} is 0 at {', '.join(unseen)}.",
                f"Not one of {summary.questions * summary.repeats} answers is right, which a model that gets up to "
                f"{100 * wilson(0, summary.questions)[1]:.1f} could do; or the evaluation failed.",
                "all answers of a milestone are wrong; the end of Wilson's 95% interval, over questions",
            )
