"""Finds scores that may be of an evaluation that failed, and not of a bad model.

    failures = find_failures(reports)           # by the run's name: (column, title of the row) -> what speaks for it
    flags = failure_flags(reports, failures)    # `evaluator.verdicts.finding.Finding`s

A worse model loses hard questions first; an evaluation that failed loses easy ones as often. So what is looked at are
the questions that a neighbour is sure of, answering them rightly four times in five or more: how many of these does the
checkpoint get? Neighbours are the milestones before and after it, the other runs at the same tokens, and the teacher
where there is neither. As many as it gets in its other benchmarks, give or take, where only one evaluation failed; that
a whole checkpoint is bad, or has not learnt anything yet, is therefore no reason to suspect one.

Nothing is concluded from a suspected score: `evaluator.verdicts.contrasts.family` gives it no verdict.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluator.results.pairs import difference_p
from evaluator.results.run import Report, Row
from evaluator.results.scores import TaskResult
from evaluator.stats.scores import stderr_of_mean, wilson
from evaluator.text import fixed
from evaluator.verdicts.finding import Finding

SURE = 0.8
"""Share of right answers, over its repeats, from which on a checkpoint is sure of a question."""
FEWEST = 5
"""Sure questions below which only the two scores are compared."""
KEPT = 0.7
"""A benchmark that keeps less than this share of what the checkpoint keeps in others is suspected."""
LOWER = 0.8
"""Whole score, over a neighbour's, from which on nothing is suspected: of a hard benchmark that is asked once, what was
answered rightly was luck in part."""
LEARNT = 0.7
"""A checkpoint that keeps less than this in the others, too, is still learning beside that neighbour, which says
nothing then."""
ERRORS = 2.0
"""Standard errors by which it has to be less."""
ALIKE, ALL_OR_NONE = 0.87, 0.25
"""Scatter of repeats, see `_Kept.scatter`, from which on answers were lost by chance, and up to which questions were.
Of worse models it lies between: 0.45 to 0.8 in what was drawn and in the debug scale's checkpoints."""
COLLAPSE = 0.2
"""A score below this share of the milestone's before it, or of the other repeats', is a collapse if it is clear."""
CLEAR = 1e-4
"""p-value of a collapse that is clear."""


@dataclass(frozen=True)
class Suspicion:
    """What speaks for a failed evaluation."""

    text: str
    """The numbers, in a sentence."""
    rule: str
    """How it was decided."""


Failures = dict[tuple[str, str], Suspicion]
"""Scores of a run that are not to be believed, by the benchmark's title and the row's."""


@dataclass(frozen=True)
class _Kept:
    """What a checkpoint gets, in one benchmark, of what a neighbour is sure of."""

    share: float
    """Share of right answers there; where too little is known of questions, one score over the other."""
    error: float
    """Its standard error."""
    questions: int
    """Questions that the neighbour is sure of; 0 where scores are compared."""
    score: float
    """The whole score over the neighbour's."""
    by: str
    """What the neighbour is called."""
    usual: float = 1.0
    """What the checkpoint gets in three of four of its other benchmarks, compared alike."""
    scatter: float | None = None
    """Variance between a question's repeats, over that which it would have if all questions were alike; None where
    questions were asked once."""

    @property
    def limit(self) -> float:
        """The share below which it is suspected."""
        return KEPT * self.usual

    @property
    def is_low(self) -> bool:
        """Whether it is far less than in the other benchmarks, and the whole score is lower, too."""
        return self.share < self.limit and self.score < LOWER

    @property
    def is_clear(self) -> bool:
        """Whether it is so by more than error."""
        return self.share + ERRORS * self.error < self.limit

    @property
    def is_by_chance(self) -> bool:
        """Whether what is lost is lost whatever the question: single answers of all, or some questions altogether.

        Of a worse model some questions are easy still, and others hard, and most lie between.
        """
        return self.scatter is None or self.scatter >= ALIKE or self.scatter <= ALL_OR_NONE


def find_failures(reports: Mapping[str, Report]) -> dict[str, Failures]:
    """Scores of milestones that are not to be believed, by the run's name."""
    found: dict[str, Failures] = {}
    for name, report in reports.items():
        found[name] = {}
        for place, row in enumerate(report.milestones):
            others = [
                (f"{other} at {theirs.title}", theirs)
                for other, rival in reports.items()
                if other != name
                for theirs in rival.milestones
                if theirs.seen == row.seen
            ]
            near = [(one.title, one) for one in report.milestones[max(0, place - 1) : place + 2] if one is not row]
            before = report.milestones[place - 1] if place else None
            suspected = _lost(report, row, near, others) | _lost_repeats(report, row) | _collapsed(report, row, before)
            found[name] |= {(title, row.title): suspicion for title, suspicion in suspected.items()}
    return found


def failure_flags(reports: Mapping[str, Report], failures: Mapping[str, Failures]) -> Iterator[Finding]:
    """What to say of the scores that `find_failures` found, and of scores of 0, run by run."""
    for name, report in reports.items():
        for (column, at), suspicion in failures[name].items():
            yield Finding(
                f"{column} of {name} at {at} may be a failed evaluation.",
                f"{suspicion.text} Nothing is concluded from it: evaluate the checkpoint again.",
                suspicion.rule,
            )
        yield from _zeros(name, report, failures[name])


def _lost(
    report: Report, row: Row, near: Sequence[tuple[str, Row]], others: Sequence[tuple[str, Row]]
) -> dict[str, Suspicion]:
    """Benchmarks in which the checkpoint does not get what its neighbours are sure of, though it does in others."""
    if not near and not others:
        near = [("the teacher", report.row("teacher"))]
    compared = [[_compare(row, other, name) for name, other in rows] for rows in (near, others)]
    found = {}
    for place, (_, title) in enumerate(report.columns):
        # Neighbouring milestones must agree; of the other runs, which may have failed themselves, half.
        groups = [[kept for one in group if (kept := one[place])] for group in compared]
        low = [[kept for kept in group if kept.is_low] for group in groups]
        agree = len(low[0]) == len(groups[0]) and 2 * len(low[1]) >= len(groups[1])
        best = max((kept for group in low for kept in group), key=lambda kept: kept.questions, default=None)
        if agree and best and best.is_by_chance and any(kept.is_clear for group in low for kept in group):
            found[title] = _suspicion(best, row.result.tasks[place])
    return found


def _compare(row: Row, other: Row, name: str) -> list[_Kept | None]:
    """By benchmark, what the row's checkpoint gets of what the other is sure of; None where that shows nothing."""
    pairs = list(zip(row.result.tasks, other.result.tasks, strict=True))
    by_score = [_by_score(mine, theirs, name) for mine, theirs in pairs]
    by_question = [_by_question(mine, theirs, name) for mine, theirs in pairs]
    found: list[_Kept | None] = []
    for place, kept in enumerate(one or two for one, two in zip(by_question, by_score, strict=True)):
        usual = _usual(by_question if kept and kept.questions else by_score, place)
        found.append(replace(kept, usual=usual) if kept and usual >= LEARNT else None)
    return found


def _by_question(mine: TaskResult, theirs: TaskResult, name: str) -> _Kept | None:
    if not mine.has_answers or not theirs.has_answers:
        return None
    sure = theirs.by_question >= SURE
    if sure.sum() < FEWEST:
        return None
    values = mine.by_question[sure]
    clusters = [one for one, is_sure in zip(mine.clusters, sure, strict=False) if is_sure]
    error = stderr_of_mean(values, clusters if len(set(clusters)) > 1 else ())
    score = mine.summary.mean / theirs.summary.mean
    return _Kept(float(values.mean()), error, len(values), score, name, scatter=_scatter(mine.table[sure]))


def _scatter(table: np.ndarray) -> float | None:
    mean = float(table.mean())
    if table.shape[1] < 2 or not 0 < mean < 1:
        return None
    return float(table.var(axis=1, ddof=1).mean()) / (mean * (1 - mean))


def _by_score(mine: TaskResult, theirs: TaskResult, name: str) -> _Kept | None:
    one, other = mine.summary, theirs.summary
    if other.mean <= 4 * other.stderr:
        return None
    share = one.mean / other.mean
    return _Kept(share, math.hypot(one.stderr, share * other.stderr) / other.mean, 0, share, name)


def _usual(compared: Sequence[_Kept | None], place: int) -> float:
    """What three of four of the other benchmarks keep; 0 where there are no two others."""
    others = [min(1.0, kept.share) for number, kept in enumerate(compared) if kept and number != place]
    return float(np.quantile(others, 0.25)) if len(others) > 1 else 0.0


def _suspicion(kept: _Kept, result: TaskResult) -> Suspicion:
    if kept.questions:
        text = f"Of {kept.questions:,} questions that {kept.by} is sure of, it answers {kept.share:.0%} rightly"
    else:
        text = f"It gets {kept.share:.0%} of the score of {kept.by}"
    unread = (("empty", result.empty_share), ("cut", result.cut_share))
    shares = "".join(f"; {share:.0%} of its answers are {what}" for what, share in unread if share >= 0.01)
    return Suspicion(
        f"{text}, and {kept.usual:.0%} or more in three of four other benchmarks{shares}.",
        f"below {KEPT:.0%} of what it keeps in others, by {ERRORS:.0f} standard errors, as all neighbours show; a "
        f"checkpoint is sure of what it answers rightly in {SURE:.0%} of repeats",
    )


def _lost_repeats(report: Report, row: Row) -> dict[str, Suspicion]:
    """Benchmarks of which one repeat scores next to nothing and the others do not: repeats differ by chance alone."""
    found = {}
    for result, (_, title) in zip(row.result.tasks, report.columns, strict=True):
        if not result.has_answers or result.table.shape[1] < 2:
            continue
        means = result.table.mean(axis=0)
        worst = int(means.argmin())
        rest = np.delete(result.table, worst, axis=1).mean(axis=1)
        # How far a repeat may be off: each question is right or wrong by its chance, taken not to be quite 0 or 1.
        spread = math.sqrt(float((rest * (1 - rest)).sum() + 1)) / len(rest)
        if means[worst] < COLLAPSE * rest.mean() and rest.mean() - means[worst] > 5 * spread:
            found[title] = Suspicion(
                f"One of its {len(means)} repeats scores {fixed(100 * means[worst])}, the others "
                f"{fixed(100 * rest.mean())}.",
                f"a repeat below {COLLAPSE:.0%} of the others, by five standard deviations between repeats",
            )
    return found


def _collapsed(report: Report, row: Row, before: Row | None) -> dict[str, Suspicion]:
    """Benchmarks that fell to next to nothing."""
    found: dict[str, Suspicion] = {}
    if before is None:
        return found
    for (_, title), low, high in zip(report.columns, row.result.tasks, before.result.tasks, strict=True):
        if low.summary.mean < COLLAPSE * high.summary.mean and difference_p(low, high) < CLEAR:
            found[title] = Suspicion(
                f"It falls to {fixed(100 * low.summary.mean)} from {fixed(100 * high.summary.mean)} at {before.title}.",
                f"below {COLLAPSE:.0%} of the milestone before, by more than error",
            )
    return found


def _zeros(name: str, report: Report, failures: Failures) -> Iterator[Finding]:
    for task, column in report.columns:
        zero = [row for row in report.milestones if row.summaries[task].mean == 0]
        unseen = [row.title for row in zero if (column, row.title) not in failures]
        if unseen:
            summary = zero[0].summaries[task]
            yield Finding(
                f"{column} of {name} is 0 at {', '.join(unseen)}.",
                f"Not one of {summary.questions * summary.repeats} answers is right, which a model that gets up to "
                f"{fixed(100 * wilson(0, summary.questions)[1])} could do; or the evaluation failed.",
                "all answers of a milestone are wrong; the end of Wilson's 95% interval, over questions",
            )
