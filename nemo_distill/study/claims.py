"""Holds what the study says of its own numbers against them.

    for claim in study.claims:
        checked = check_claim(claim, study)
        checked.verdict, checked.found          # DISAGREES, "5.79 times"

A claim names one of the functions below and its arguments (published.yaml); each returns a verdict and what it found.
A difference that sampling error may explain supports no claim: its verdict is `OPEN`.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from evaluator.text import fixed, rate_text
from nemo_distill.study.tables import BlendTable, Claim, Difference, Study

AGREES = "agrees"
"""The numbers bear the claim out, by more than sampling error where it is about scores."""
DISAGREES = "disagrees"
"""The numbers are not as claimed."""
OPEN = "within error"
"""The numbers lean as claimed, by no more than sampling error may explain."""
ABSENT = "in no table"
"""It is about numbers that are not published."""


@dataclass(frozen=True)
class Checked:
    """A claim and what became of it."""

    claim: Claim
    """The claim."""
    verdict: str
    """One of the above."""
    found: str
    """What the numbers are, in half a sentence."""


def check_claim(claim: Claim, study: Study) -> Checked:
    """Hold `claim` against the numbers of `study`. Raises KeyError when there is no such check."""
    return Checked(claim, *CHECKS[claim.check](study, **claim.given))


def highest(study: Study, *, blend: str, benchmark: str) -> tuple[str, str]:
    """The blend's best score is above every other blend's."""
    best = {one.name: max(one.evaluated, key=lambda row: row.score(benchmark).points) for one in study.blends}
    own = best.pop(blend)
    name, other = max(best.items(), key=lambda item: item[1].score(benchmark).points)
    difference = own.score(benchmark).minus(other.score(benchmark))
    found = (
        f"{own.score(benchmark).points} at {own.title}; {name} has {other.score(benchmark).points} at {other.title}, "
        f"{_against_error([difference])}"
    )
    return (DISAGREES if difference.points < 0 else _lean([difference])), found


def falls(study: Study, *, benchmark: str, start: str, end: str, blend: str | None = None) -> tuple[str, str]:
    """The score is lower at `end` than at `start`: of one blend, or of every one that has both rows."""
    changes, found = [], []
    for one in study.blends if blend is None else [study.blend(blend)]:
        first, last = one.checkpoint(start), one.checkpoint(end)
        if first and last:
            change = last.score(benchmark).minus(first.score(benchmark))
            changes.append(Difference(-change.points, change.stderr))
            scores = f"from {first.score(benchmark).points} to {last.score(benchmark).points}"
            found.append(f"{scores} in {one.name}, {_against_error([change])}")
    if not changes:
        return ABSENT, f"no blend has both {start} and {end}"
    return (DISAGREES if any(change.points <= 0 for change in changes) else _lean(changes)), "; ".join(found)


def ahead(study: Study, *, blend: str, others: list, benchmarks: list, at: list) -> tuple[str, str]:
    """The blend is above `others` in `benchmarks` at each of the rows `at`."""
    leads = [
        study.blend(blend).at(row).score(benchmark).minus(study.blend(other).at(row).score(benchmark))
        for other in others
        for benchmark in benchmarks
        for row in at
    ]
    points = [lead.points for lead in leads]
    ends = [fixed(end, signed=True) for end in (min(points), max(points))]
    found = f"{sum(p > 0 for p in points)} of {len(points)} comparisons, by {' to '.join(ends)}"
    verdict = DISAGREES if min(points) <= 0 else _lean(leads)
    return verdict, f"{found}, {_against_error(leads)}".replace("-", "−")


def between(study: Study, *, blend: str, benchmark: str, low: float, high: float) -> tuple[str, str]:
    """All scores, rounded to whole points, are from `low` to `high`."""
    points = {row.title: row.score(benchmark).points for row in study.blend(blend).evaluated}
    outside = {title: value for title, value in points.items() if not low <= round(value) <= high}
    found = f"{min(points.values())} to {max(points.values())}"
    if not outside:
        return AGREES, found
    return DISAGREES, found + ": " + ", ".join(f"{value} at {title}" for title, value in outside.items())


def unstable(study: Study, *, blend: str, benchmark: str) -> tuple[str, str]:
    """The score falls from one checkpoint to the next by more than sampling error explains."""
    start, end, change = largest_fall(study.blend(blend), benchmark)
    bounds = f"{fixed(change.stderr.least)} to {fixed(change.stderr.most)}"
    found = f"the largest fall is {fixed(-change.points)} points ({start} to {end}), its standard error {bounds}"
    return (AGREES if change.verdict == "clear" and change.points < 0 else OPEN), found


def largest_fall(blend: BlendTable, benchmark: str) -> tuple[str, str, Difference]:
    """The change between neighbouring checkpoints that is furthest below zero: its ends and the change."""
    rows = blend.evaluated
    changes = [
        (first.title, last.title, last.score(benchmark).minus(first.score(benchmark)))
        for first, last in itertools.pairwise(rows)
    ]
    return min(changes, key=lambda change: change[2].points)


def stands_in_a_table(study: Study, *, benchmark: str, at: str, score: float) -> tuple[str, str]:
    """Some table has that score in that row."""
    rows = {blend.name: blend.checkpoint(at) for blend in study.blends}
    points = {name: row.score(benchmark).points for name, row in rows.items() if row}
    listed = ", ".join(f"{value} ({name})" for name, value in points.items()) or "none"
    return (AGREES if score in points.values() else ABSENT), f"{benchmark} at {at} in the tables: {listed}"


def best_at(study: Study, *, at: list) -> tuple[str, str]:
    """No blend with later rows has a higher average of its columns there than at the best of the rows `at`."""
    found, verdict = [], ABSENT
    for blend in study.blends:
        rows = [row for row in (blend.checkpoint(title) for title in at) if row]
        later = [row for row in blend.evaluated if rows and row.tokens > rows[-1].tokens]
        if later:
            best, rival = (max(some, key=lambda row: row.average.mean) for some in (rows, later))
            changes = [mine.minus(other) for mine, other in zip(rival.scores, best.scores, strict=True)]
            higher = sum(change.points > 0 for change in changes)
            means = [f"{fixed(100 * row.average.mean)} at {row.title}" for row in (rival, best)]
            found.append(
                f"{blend.name} averages {means[0]} and {means[1]}, higher in {higher} of {len(changes)} columns, "
                f"{_against_error(changes)}"
            )
            verdict = DISAGREES if rival.average.mean > best.average.mean or verdict == DISAGREES else OPEN
    return verdict, "; ".join(found) or f"no blend has a row past {at[-1]}"


def possible_scores(study: Study, *, benchmark: str, repeats: int) -> tuple[str, str]:
    """Scores of questions asked so often are whole numbers of answers, up to the rounding of a tenth of a point."""
    scores = [row.score(benchmark) for blend in study.blends for row in blend.evaluated]
    scores = [score for score in scores if score.benchmark.repeats == repeats]
    questions = scores[0].benchmark.questions
    possible = [_fits(score.points, questions * repeats) for score in scores]
    enough = (tried for tried in range(1, 1000) if all(_fits(s.points, questions * tried) for s in scores))
    found = (
        f"{sum(possible)} of {len(scores)} {benchmark} scores are whole numbers of {questions * repeats} answers; "
        f"all are possible with {next(enough)} repeats and no fewer"
    )
    return (AGREES if all(possible) else DISAGREES), found


def epochs(study: Study, *, share: float, tokens_available: float, at: str, stated: str) -> tuple[str, str]:
    """Share of the tokens drawn over the tokens there are."""
    count = study.schedule.tokens(at) * share / 100 / tokens_available
    return _figure(count, stated), f"{share}% of {study.schedule.tokens(at) / 1e9:.4g}B tokens is {count:.3g} epochs"


def learning_rate(study: Study, *, at: str, stated: str) -> tuple[str, str]:
    """The schedule's learning rate at that row."""
    rate = study.schedule.course.learning_rate_after(study.schedule.milestones[at])
    return _figure(rate, stated), f"{rate_text(rate)} after iteration {study.schedule.milestones[at]:,}"


def gpu_hours(study: Study, *, hours_per_1000_iterations: float, at: str, stated: str) -> tuple[str, str]:
    """Iterations at that row by the hours that they take."""
    iterations = study.schedule.milestones[at]
    hours = hours_per_1000_iterations * iterations / 1000
    return _figure(hours, stated), f"{iterations:,} iterations take {hours:,.0f}"


CHECKS: dict[str, Callable[..., tuple[str, str]]] = {
    function.__name__: function
    for function in (
        highest, falls, ahead, between, unstable, stands_in_a_table, best_at, possible_scores, epochs, learning_rate,
        gpu_hours,
    )
}  # fmt: skip
"""The checks by the name that published.yaml has for them."""


def _lean(differences: Iterable[Difference]) -> str:
    return AGREES if all(one.verdict == "clear" for one in differences) else OPEN


def _against_error(differences: list[Difference]) -> str:
    clear = sum(one.verdict == "clear" for one in differences)
    if len(differences) == 1:
        return "more than sampling error explains" if clear else "within sampling error"
    return f"{clear or 'none'} of them more than sampling error explains"


def _figure(value: float, stated: str) -> str:
    """Whether `stated` is `value`, rounded or cut: they differ by less than one of the last digit that is stated."""
    exponent = Decimal(stated).normalize().as_tuple().exponent
    assert isinstance(exponent, int), stated
    unit = Decimal(1).scaleb(exponent)
    return AGREES if abs(Decimal(value) - Decimal(stated)) < unit else DISAGREES


def _fits(points: float, answers: int) -> bool:
    """Whether some number of right answers of `answers` gives `points`, which are rounded to a tenth."""
    return abs(points - 100 / answers * round(points / 100 * answers)) <= 0.05 + 1e-9
