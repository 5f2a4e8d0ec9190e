"""Concludes what the study's tables show and do not show, where no single answer was published.

    for finding in findings(study, parts):
        finding.title, finding.text, finding.rule

Every finding is computed from the tables by the rule that it states; none is written down as a result. The standard
error of a score lies between two bounds (`evaluator.stats.scores.ErrorRange`): the larger one decides what is clear.
What no rule here can see is training noise: each blend was distilled once.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from evaluator.results.run import BlendPart
from evaluator.suites.suite import Benchmark
from evaluator.text import fixed, rate_text
from evaluator.verdicts.finding import Finding, repeated_sources
from nemo_distill.study.claims import largest_fall
from nemo_distill.study.tables import CLEAR_ERRORS, Difference, Score, Study


@dataclass(frozen=True)
class Pair:
    """Two blends after the same tokens."""

    tokens: str
    """Tokens of both rows, as published."""
    one: str
    """Name of the first blend."""
    other: str
    """Name of the second blend."""
    differences: tuple[Difference | None, ...]
    """`one` less `other` in each benchmark; None where the two were collected in two protocols."""


def findings(study: Study, parts: Mapping[str, tuple[BlendPart, ...]]) -> list[Finding]:
    """All of them, for the blends' compositions `parts` as far as they are known."""
    return [
        chance(study),
        *indistinct(study),
        *distances(study),
        *degradations(study),
        *swings(study),
        *plateaus(study),
        *schedules(study),
        *protocols(study),
        *repetition(study, parts),
        *gaps(study),
    ]


def pairs(study: Study) -> list[Pair]:
    """Every two blends that have a row of the same tokens, most tokens first."""
    titles = {row.title: row.tokens for blend in study.blends for row in blend.evaluated}
    found = []
    for title in sorted(titles, key=lambda title: titles[title], reverse=True):
        rows = [(blend, row) for blend in reversed(study.blends) if (row := blend.checkpoint(title))]
        for (one, mine), (other, theirs) in itertools.combinations(rows, 2):
            differences = (
                score.minus(rival) if score.benchmark.repeats == rival.benchmark.repeats else None
                for score, rival in zip(mine.scores, theirs.scores, strict=True)
            )
            found.append(Pair(title, one.name, other.name, tuple(differences)))
    return found


def distances(study: Study) -> Iterator[Finding]:
    """Where a blend that may be compared with the teacher is still clearly below it."""
    teacher = study.reference("teacher")
    for blend in study.comparable:
        row = blend.last
        changes = {score.benchmark.title: score.minus(teacher.score(score.benchmark.title)) for score in row.scores}
        below = {title: d for title, d in changes.items() if d.points < 0 and d.verdict == "clear"}
        lost = ", ".join(f"{title} {fixed(-d.points)} ± {fixed(d.stderr.most)} below" for title, d in below.items())
        yield Finding(
            f"In {len(below)} of {len(changes)} columns {blend.name} at {row.title} is clearly below the teacher.",
            f"{lost + '; the others' if below else 'All'} differ from the teacher's by no more than sampling error.",
            f"more than {CLEAR_ERRORS} standard errors of the difference",
        )


def degradations(study: Study) -> Iterator[Finding]:
    """Scores that fall with training by more than sampling error explains."""
    rule = f"a later row is lower than an earlier one of its blend by more than {CLEAR_ERRORS} standard errors"
    for blend in study.blends:
        for column in blend.columns:
            falls = [
                (first, last, last.score(column.title).minus(first.score(column.title)))
                for first, last in itertools.combinations(blend.evaluated, 2)
            ]
            clear = [fall for fall in falls if fall[2].points < 0 and fall[2].verdict == "clear"]
            if not clear:
                continue
            first, last, change = min(clear, key=lambda fall: fall[2].points)
            ends = f"{first.score(column.title).points} at {first.title} to {last.score(column.title).points}"
            text = f"From {ends} at {last.title}: {fixed(-change.points)} points ± {fixed(change.stderr.most)}."
            pruned = study.reference("pruned").score(column.title)
            if pruned.benchmark.repeats == column.repeats:
                low = [r.title for r in blend.evaluated if r.score(column.title).minus(pruned).verdict != "clear"]
                if low:
                    text += (
                        f" At {' and '.join(low)} it is no clearly better than before distillation ({pruned.points})."
                    )
            yield Finding(f"{column.title} degrades in {blend.name}.", text, rule)


def swings(study: Study) -> Iterator[Finding]:
    """Scores that go down between neighbouring checkpoints, within what sampling error explains."""
    lines = []
    for column in study.columns:
        blends = [blend for blend in study.blends if column in blend.columns and len(blend.evaluated) > 1]
        fall, blend = min(
            ((largest_fall(blend, column.title), blend) for blend in blends), key=lambda f: f[0][2].points
        )
        start, end, change = fall
        if change.points < 0 and change.verdict != "clear":
            bounds = f"± {fixed(change.stderr.most)}"
            if change.stderr.least < change.stderr.most:
                bounds = f"± {fixed(change.stderr.least)} to {fixed(change.stderr.most)}"
            name = study.column_title(column)
            lines.append(f"{name} {fixed(-change.points)} {bounds} ({blend.name}, {start} to {end})")
    if lines:
        yield Finding(
            f"The dips of {len(lines)} columns may be sampling error: they show no instability.",
            f"The largest fall between neighbouring rows in {'; '.join(lines)}.",
            f"the largest fall between neighbouring rows is within {CLEAR_ERRORS} standard errors of a difference",
        )


def indistinct(study: Study) -> Iterator[Finding]:
    """Columns in which no two blends differ clearly after the same tokens."""
    lines = []
    for column in study.columns:
        differences = _differences(study, column)
        if differences and not any(difference.verdict == "clear" for difference in differences):
            widest = max(differences, key=lambda difference: abs(difference.points))
            lines.append(
                f"{study.column_title(column)} ({column.independent:,} questions, at most {fixed(abs(widest.points))} "
                f"± {fixed(widest.stderr.most)} points)"
            )
    if lines:
        yield Finding(
            f"{len(lines)} of {len(study.columns)} columns show no clear difference between any two blends.",
            f"The largest difference after the same tokens in {'; '.join(lines)}.",
            f"no difference after the same tokens is more than {CLEAR_ERRORS} standard errors",
        )


def chance(study: Study) -> Finding:
    """How many differences there are, how many are clear, and how many would be by chance."""
    differences = [d for pair in pairs(study) for d in pair.differences if d]
    clear = [difference for difference in differences if difference.verdict == "clear"]
    return Finding(
        f"Of {len(differences)} differences between blends after the same tokens, {len(clear)} are more than sampling "
        f"error explains.",
        f"Chance alone would make about {0.0455 * len(differences):.0f} look so.",
        f"more than {CLEAR_ERRORS} standard errors",
    )


def plateaus(study: Study) -> Iterator[Finding]:
    """Blends whose last two rows do not differ clearly."""
    flat = []
    for blend in study.blends:
        if len(blend.evaluated) > 1:
            before, last = blend.evaluated[-2:]
            changes = [mine.minus(theirs) for mine, theirs in zip(last.scores, before.scores, strict=True)]
            if not any(change.verdict == "clear" for change in changes):
                up = sum(change.points > 0 for change in changes)
                flat.append(f"{blend.name} {before.title} to {last.title} ({up} of {len(changes)} columns up)")
    if flat:
        yield Finding(
            f"Whether {len(flat)} of {len(study.blends)} blends still rise at their end is unknown.",
            f"Nothing changes clearly between the last two rows of {'; '.join(flat)}.",
            f"no column of the last two rows differs by more than {CLEAR_ERRORS} standard errors",
        )


def schedules(study: Study) -> Iterator[Finding]:
    """Blends last read before the learning rate has come down."""
    course = study.schedule.course
    ends = [(blend, blend.last.iteration) for blend in study.blends if blend.last.iteration is not None]
    early = [(blend, iteration) for blend, iteration in ends if iteration < course.max_iterations]
    if early:
        rates = [
            f"{blend.name} at {blend.last.title}, iteration {iteration:,} of {course.max_iterations:,}, "
            f"learning rate {rate_text(course.learning_rate_after(iteration))}"
            for blend, iteration in early
        ]
        unknown = [blend.name for blend in study.blends if blend.last.iteration is None]
        yield Finding(
            f"Plateau and schedule are confounded in {len(early)} of {len(study.blends)} blends.",
            f"Read before the schedule ends at {rate_text(course.min_learning_rate)}: {'; '.join(rates)}."
            + (f" The iterations of {', '.join(unknown)} are not published." if unknown else ""),
            "the last row's iteration lies before the schedule's last",
        )


def protocols(study: Study) -> Iterator[Finding]:
    """Benchmarks collected in two ways."""
    split = list(dict.fromkeys(column.title for column in study.columns if study.is_split(column.title)))
    if split:
        others = [blend.name for blend in study.blends if blend not in study.comparable]
        same = [blend.name for blend in study.comparable]
        yield Finding(
            f"In {' and '.join(split)}, {', '.join(same)} cannot be compared with the other blends.",
            f"{', '.join(others)} are published as single shot; {', '.join(same)}, teacher and pruned student as "
            f"averages. No curve, column or difference here joins the two.",
            "two scores are compared only when their questions were asked equally often, as published",
        )


def gaps(study: Study) -> Iterator[Finding]:
    """Rows that were not evaluated."""
    empty = [f"{row.title} of {blend.name}" for blend in study.blends for row in blend.rows if not row.scores]
    if empty:
        yield Finding(
            "A row of the tables is empty." if len(empty) == 1 else f"{len(empty)} rows of the tables are empty.",
            f"Not evaluated: {', '.join(empty)}. The curve joins the rows beside it.",
            "the published row has no scores",
        )


def repetition(study: Study, parts: Mapping[str, tuple[BlendPart, ...]]) -> Iterator[Finding]:
    """Sources that a blend repeats for many epochs by its last row."""
    yield from repeated_sources({f"{b.name} at {b.last.title}": parts.get(b.name, ()) for b in study.blends})


def detectable(column: Benchmark, points: float) -> float:
    """The difference, in points, from which two scores of about `points` differ clearly."""
    error = Score(points, column).stderr
    return CLEAR_ERRORS * error.with_other(error).most


def _differences(study: Study, column: Benchmark) -> list[Difference]:
    """Differences of every two blends that have the column, at each of their common rows."""
    blends = [blend for blend in study.blends if column in blend.columns]
    return [
        row.score(column.title).minus(rival.score(column.title))
        for one, other in itertools.combinations(blends, 2)
        for row in one.evaluated
        if (rival := other.checkpoint(row.title))
    ]
