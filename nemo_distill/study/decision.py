"""Says first what the study's own numbers can and cannot show, and lays its blends out beside each other.

summary(study).sentence             # "These numbers cannot say which blend is best: 29 of 174 differences ..."
matrix(study, "80B").lines[0].name  # the blend with the highest average of the columns that all share
"""

import math
from collections.abc import Mapping, Sequence

from evaluator.report.advice import Summary
from evaluator.report.colours import numbers_of
from evaluator.report.files import Table
from evaluator.report.matrix import Entry, Line, Matrix, make_matrix
from evaluator.results.run import recovered
from evaluator.stats.scores import ErrorRange, Estimate, average
from evaluator.suites.suite import Benchmark
from evaluator.text import fixed, joined
from nemo_distill.study.findings import Pair, pairs
from nemo_distill.study.tables import CLEAR_ERRORS, Checkpoint, Difference, Score, Study

BY_CHANCE = math.erfc(CLEAR_ERRORS / math.sqrt(2))
"""Share of differences that are clear where nothing differs."""
SCORES, DIFFERENCES = "scores.csv", "differences.csv"
NOTHING = Estimate(math.nan, math.nan)


def summary(study: Study) -> Summary:
    """What the numbers can show, what they cannot, and what would decide more."""
    found = [difference for pair in pairs(study) for difference in pair.differences if difference]
    clear = [difference for difference in found if difference.verdict == "clear"]
    sentence = (
        f"These numbers cannot say which blend is best: {len(clear)} of {len(found)} differences are more than "
        f"sampling error explains, where chance makes about {BY_CHANCE * len(found):.0f}, and no blend was trained "
        f"twice."
    )
    points = (
        ("What they can show", _shown(study)),
        ("What they cannot show", _hidden(study)),
        (
            "What this rests on",
            f"No answer to a single question was published, so a standard error is known within bounds, of which the "
            f"larger is taken. A difference is clear where it is more than {CLEAR_ERRORS} of them.",
        ),
        (
            "What would decide more",
            "The single answers, which pair two blends question by question, and a second training of each finalist. "
            "A run of your own has the first: nemo-run report RUN RUN.",
        ),
    )
    return Summary(sentence, points)


def _shown(study: Study) -> str:
    """Which blends are clearly below another, in a benchmark after two numbers of tokens at least; and the teacher."""
    below: dict[str, dict[str, set[str]]] = {}
    for pair in pairs(study):
        for column, difference in zip(study.blends[0].columns, pair.differences, strict=True):
            if difference and difference.verdict == "clear":
                lower = pair.one if difference.points < 0 else pair.other
                below.setdefault(column.title, {}).setdefault(lower, set()).add(pair.tokens)
    said = []
    for title, blends in below.items():
        often = [
            f"{name} at {joined(sorted(tokens, key=lambda text: float(text[:-1])))}"
            for name, tokens in blends.items()
            if len(tokens) > 1
        ]
        if often:
            said.append(f"{title}: clearly below another blend are {'; '.join(often)}")
    means = {role: study.reference(role).average.mean for role in ("teacher", "pruned")}
    for blend in study.comparable:
        share = recovered(means | {"milestone": blend.last.average.mean})
        if share is not None:
            said.append(
                f"{blend.name} at {blend.last.title} has recovered {fixed(100 * share, 0)}% of the gap to the teacher"
            )
    return f"{'. '.join(said)}."


def _hidden(study: Study) -> str:
    said = ["Which blend is best: another seed is in none of the errors, and no two blends are paired"]
    split = list(dict.fromkeys(column.title for column in study.columns if study.is_split(column.title)))
    if split:
        others = joined([blend.name for blend in study.comparable])
        said.append(f"How {others} compares in {joined(split)}, which the others were asked once only")
    lone = [blend for blend in study.blends if not any(blend.name in (p.one, p.other) for p in pairs(study))]
    for blend in lone:
        rows = joined([row.title for row in blend.evaluated])
        said.append(f"How {blend.name} compares at all: it was read at {rows}, where no other was")
    return f"{'. '.join(said)}."


def matrix(study: Study, tokens: str, scores: Table) -> Matrix:
    """The blends that have a row of so many tokens, beside the one with the highest average of the columns that they
    and the teacher share."""
    blends = {blend.name: _scores(row, study) for blend in study.blends if (row := blend.checkpoint(tokens))}
    references = {role: _scores(study.reference(role), study) for role in ("teacher", "pruned")}
    common = [
        column for column in study.columns if all(column in own for own in (*blends.values(), *references.values()))
    ]

    def whole(own: Mapping[Benchmark, Score]) -> Estimate:
        return average([own[column].estimate for column in common])

    def entries(own: Mapping[Benchmark, Score], changes: Mapping[Benchmark, Difference]) -> tuple[Entry, ...]:
        first = _entry(whole(own), _mean([changes[column] for column in common]) if changes else None)
        found = (_entry(own[c].estimate if c in own else NOTHING, changes.get(c)) for c in study.columns)
        return (first, *found)

    names = sorted(blends, key=lambda name: -whole(blends[name]).mean)
    best, numbers = blends[names[0]], numbers_of(one.name for one in study.blends)
    lines = []
    for name in names:
        own = blends[name]
        changes = {} if own is best else {column: own[column].minus(best[column]) for column in own if column in best}
        lines.append(
            Line(
                name,
                entries(own, changes),
                said="highest of these" if own is best else "",
                number=numbers[name],
                rows=scores.rows(name, tokens),
                anchor="again",
            )
        )
    for role, own in references.items():
        title = study.reference(role).title
        lines.append(Line(title, entries(own, {}), role, rows=scores.rows("", title), anchor="again"))
    return make_matrix([f"Average of {len(common)}", *map(study.column_title, study.columns)], lines)


def _scores(row: Checkpoint, study: Study) -> dict[Benchmark, Score]:
    """The row's scores by their columns, a column in two protocols being two."""
    return {c: score for c in study.columns for score in row.scores if _is_of(score, c)}


def _is_of(score: Score, column: Benchmark) -> bool:
    return (score.benchmark.title, score.benchmark.repeats) == (column.title, column.repeats)


def _entry(score: Estimate, change: Difference | None) -> Entry:
    if change is None:
        return Entry(score)
    clear = change.verdict == "clear"
    return Entry(
        score,
        change=Estimate(change.points / 100, change.stderr.most / 100),
        half=CLEAR_ERRORS * change.stderr.most / 100,
        look="sure" if clear else "unsure",
        words=f"{'' if clear else 'not '}more than {CLEAR_ERRORS} standard errors, at most",
    )


def _mean(changes: Sequence[Difference]) -> Difference:
    """The mean of differences in columns that were answered by themselves."""
    points = sum(one.points for one in changes) / len(changes)
    least, most = (
        math.hypot(*(getattr(one.stderr, end) for one in changes)) / len(changes) for end in ("least", "most")
    )
    return Difference(points, ErrorRange(least, most))


def tables(study: Study, found: Sequence[Pair]) -> tuple[Table, ...]:
    """scores.csv, as published, and differences.csv, every two blends after the same tokens."""
    rows = [("", row) for row in study.references]
    rows += [(blend.name, row) for blend in study.blends for row in blend.evaluated]
    scores = [
        (
            (name, row.title),
            (
                name,
                row.title,
                row.role,
                score.benchmark.title,
                score.benchmark.repeats,
                score.points,
                *_ends(score.stderr),
            ),
        )
        for name, row in rows
        for score in row.scores
    ]
    differences = [
        (
            (pair.tokens, pair.one, pair.other),
            (pair.tokens, pair.one, pair.other, column.title, fixed(d.points), *_ends(d.stderr), d.verdict),
        )
        for pair in found
        for column, d in zip(study.blends[0].columns, pair.differences, strict=True)
        if d
    ]
    errors = ("stderr_least", "stderr_most")
    return (
        Table(
            SCORES, ("blend", "row", "role", "benchmark", "repeats", "points", *errors), scores, "every published score"
        ),
        Table(
            DIFFERENCES,
            ("tokens", "one", "other", "benchmark", "difference", *errors, "verdict"),
            differences,
            "every two blends after the same tokens",
        ),
    )


def _ends(error) -> tuple[str, str]:
    return fixed(error.least, 2), fixed(error.most, 2)
