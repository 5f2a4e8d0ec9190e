"""Says in sentences what a comparison of runs comes to: which blend to take, where to stop, what is open.

summary(judgement).sentence             # "Take 30pre_70post_v3 or 30pre_70post_v1v3, not distinguishable; stop at 80B."
place_text(judgement, "pt_v1v2")        # "lower"

A run by itself, `run_summary`, and the published study have a `Summary` of the same parts: page, Markdown and terminal
begin with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluator.results.run import AVERAGE, Report
from evaluator.stats.variance import Part, half_width
from evaluator.text import change_text, fixed, joined, p_text, score_text
from evaluator.verdicts.contrasts import LEVEL, OPEN, SUSPECT, Contrast
from evaluator.verdicts.judge import Judgement, Standing
from evaluator.verdicts.needed import runs_needed
from evaluator.verdicts.seeds import SEED_SD
from evaluator.verdicts.stopping import StoppingPoint

TIED = "not distinguishable"
"""What blends are that show no significant difference, in few words."""
NOTHING = "Nothing to decide by: every score is 0."
"""What there is to say where no answer is right."""
RESTS, OPEN_POINT = "What this rests on", "What would decide more"
"""Names of points of a summary."""


@dataclass(frozen=True)
class Summary:
    """What a page says first."""

    sentence: str
    """What to do, in a sentence."""
    points: tuple[tuple[str, str], ...]
    """Name and text of each thing that the sentence rests on, and of what is open."""


def summary(judgement: Judgement) -> Summary:
    """Which blend to take and where to stop it; both verdicts, what they rest on, and what would close what is open."""
    if _all_zero(judgement):
        text = "Every answer of every blend is wrong there: look at the evaluations first."
        return Summary(NOTHING, (("In these answers alone", text),))
    points = [
        ("Another seed included", _seed_text(judgement)),
        ("In these answers alone", _answers_text(judgement)),
        (RESTS, rests_text(judgement)),
        (OPEN_POINT, open_text(judgement)),
    ]
    return Summary(sentence(judgement), tuple((name, text) for name, text in points if text))


def run_summary(report: Report, stop: StoppingPoint) -> Summary:
    """Where to stop a run by itself, what came of it, and what one run cannot say."""
    last, share = report.milestones[-1], report.recovered(stop.row)
    won = f"{fixed(100 * share, 0)}% of the gap to the teacher is recovered there" if share is not None else ""
    title = stop.row.title
    nothing = not any(row.average.mean for row in report.milestones)
    if nothing:
        said, won = NOTHING.rstrip("."), ""
    elif stop.alone:
        said = f"{title} is the only milestone"
    elif stop.shown:
        said = f"Stop at {title}: less than {margin_text(stop.margin)} is lost by it"
    else:
        said = f"Train to {title}: nothing earlier is shown to be as good"
    error = (last.average.stderr**2 + SEED_SD**2) ** 0.5
    points = (
        ("In these answers alone", f"At {last.title} tokens the student has {score_text(last.average)} on average."),
        (
            "Another seed included",
            f"{fixed(100 * last.average.mean)} ± {fixed(100 * error)}: another training seed is assumed to move it by "
            f"{100 * SEED_SD:g} points (standard deviation), for this is one run.",
        ),
        ("Where to stop", "" if nothing else stop.text),
        (
            OPEN_POINT,
            "Whether the blend is a good one, only another blend beside it can say: nemo-run report RUN OTHER.",
        ),
    )
    return Summary("; ".join(filter(None, (said, won))) + ".", tuple(one for one in points if one[1]))


def sentence(judgement: Judgement) -> str:
    """Which blend to take, another seed included, and where to stop it."""
    if _all_zero(judgement):
        return NOTHING
    taken = to_take(judgement)
    stops = stops_text(judgement, taken)
    if judgement.first.above:
        return f"Take {joined(taken, 'or')}{f', {TIED}' if len(taken) > 1 else ''}; {stops}."
    return f"No blend is shown to be better than another: take {joined(taken, 'or')}; {stops}."


def _all_zero(judgement: Judgement) -> bool:
    """Whether no blend has a right answer where all is summed up."""
    return not any(row.average.mean for row in judgement.shared[judgement.last_common].values())


def to_take(judgement: Judgement) -> list[str]:
    """The blend with the highest Average and those that are not significantly below it, another seed included."""
    first = judgement.first
    return [first.leader, *(one.other for one in _level(first))]


def _level(first: Standing) -> list[Contrast]:
    """Differences from the blends that the leader is not significantly above, without those not to be believed."""
    found = [one for one in (*first.equal, *first.above_in_answers, *first.level) if one.verdict != SUSPECT]
    return sorted(found, key=lambda one: one.difference.mean)


def _seed_text(judgement: Judgement) -> str:
    first = judgement.first
    level, parts = _level(first), []
    if first.equal:
        parts.append(f"equals {joined([one.other for one in first.equal])}")
    if first.above:
        parts.append(f"is better than {_listed(first.above)}")
    if level := [one for one in level if one not in first.equal]:
        parts.append(f"shows no significant difference from {_listed(level)}")
    text = f"{first.leader}, which has the highest Average, {joined(parts)}." if parts else ""
    if doubtful := [one.other for one in first.level if one.verdict == SUSPECT]:
        text += f" Nothing is said of {joined(doubtful)}: a score there may be of an evaluation that failed."
    return text


def _answers_text(judgement: Judgement) -> str:
    first = judgement.first
    if first.above_in_answers:
        return f"{first.leader} is also better than {_listed(first.above_in_answers)}: another seed may undo that."
    if first.above:
        return "No other blend is shown to be lower."
    return "Nothing more is shown."


def rests_text(judgement: Judgement) -> str:
    """What the verdict that includes another seed rests on, and which differences could have stood."""
    seed, answers = least_points(judgement)
    return (
        f"{judgement.scatters.text} Two Averages differ significantly here from about {fixed(seed)} points on; in "
        f"these answers alone, from {fixed(answers)}."
    )


def least_points(judgement: Judgement) -> tuple[float, float]:
    """Points from which half the pairs' Averages would differ significantly: another seed included, and without."""
    pairs = _pairs(judgement)
    least = sorted(one.another_seed.least for one in pairs if one.another_seed)
    answers = sorted(half_width([Part(one.difference.stderr**2)], LEVEL / len(pairs)) for one in pairs)
    return 100 * least[len(pairs) // 2], 100 * answers[len(pairs) // 2]


def open_text(judgement: Judgement) -> str:
    """What it would take to decide between the leader and those that are not significantly below it."""
    wanted, tiny = wanted_runs(judgement)
    leader, said = judgement.first.leader, []
    if wanted:
        listed = joined([f"{range_text(*runs)} for {one.other}" for one, runs in wanted])
        said.append(
            f"If a difference from {leader} is real, it is found four times in five by at least so many runs of each "
            f"of the two, under seeds of their own: {listed}."
        )
    if tiny:
        said.append(f"The difference from {joined(tiny)} is too small to ask more about: take the cheaper one.")
    return " ".join(said)


def wanted_runs(judgement: Judgement) -> tuple[list[tuple[Contrast, tuple[int, int]]], list[str]]:
    """Differences that are open with the runs that would decide them, fewest and most; and blends too near for that."""
    pairs, wanted, tiny = len(_pairs(judgement)), [], []
    for one in _level(judgement.first):
        runs = None if one.is_tie else runs_needed(one, judgement.scatters, pairs=pairs)
        if runs:
            wanted.append((one, (runs.fewest, runs.most)))
        else:
            tiny.append(one.other)
    return wanted, tiny


def end_text(stop: StoppingPoint) -> str:
    """Where a blend ends, in three words."""
    if stop.alone:
        return f"{stop.row.title} is the only milestone"
    return f"stop at {stop.row.title}" if stop.shown else f"train to {stop.row.title}"


def stop_reason(stop: StoppingPoint) -> str:
    """Why a blend is stopped where it is, in a table beside the numbers."""
    said = []
    if stop.alone:
        said.append("the only milestone")
    elif stop.shown:
        said.append(f"first shown to be within {margin_text(stop.margin)}")
    else:
        said.append(f"nothing earlier shown to be within {margin_text(stop.margin)}")
    if fallen := [one.row.title for one in stop.candidates if one.fallen]:
        said.append(f"after it the Average falls ({', '.join(fallen)})")
    if stop.last and not stop.alone:
        said.append("it may be rising still")
    return "; ".join(said)


def margin_text(margin: float) -> str:
    """A margin in points: `1 point`, `0.5 points`."""
    return f"{100 * margin:g} point{'s' * (round(100 * margin, 9) != 1)}"


def stops_text(judgement: Judgement, names: Sequence[str]) -> str:
    """Where to stop so many blends, in half a sentence: the first, and the others where they end elsewhere."""
    first, *others = (end_text(judgement.stop(name)) for name in names)
    if set(others) <= {first}:
        return first
    rest = "the second" if len(others) == 1 else "the others"
    apart = [name for name, end in zip(names[1:], others, strict=True) if end != first]
    if len(apart) == 1 < len(others):
        return f"{first}, but {_of(apart[0], end_text(judgement.stop(apart[0])))}"
    if len(set(others)) > 1:
        return f"{_of('the first', first)}, {rest} as said below"
    return f"{_of('the first', first)}, {_of(rest, others[0])}"


def _of(whom: str, end: str) -> str:
    """`end_text` of somebody: `stop the first at 80B`."""
    verb, rest = end.split(" ", 1)
    return f"{verb} {whom} {rest}" if verb in ("stop", "train") else f"{whom}: {end}"


def _pairs(judgement: Judgement) -> list[Contrast]:
    """Differences of the Averages that are tested."""
    at = judgement.title(judgement.last_common)
    return [one for one in judgement.between if one.at == at and one.column == AVERAGE and one.another_seed]


def place_text(judgement: Judgement, name: str) -> str:
    """What a blend's tile says of its Average: how it stands to the highest, another seed included."""
    if _all_zero(judgement):
        return "nothing right"
    first = judgement.first
    if name in first.leaders:
        return "highest" if len(first.leaders) == 1 else "highest, equal"
    for words, contrasts in (("lower", first.above), ("lower in these answers only", first.above_in_answers)):
        if name in [one.other for one in contrasts]:
            return words
    if name not in [one.other for one in first.level]:
        return ""
    contrast = next(one for one in first.level if one.other == name)
    return contrast.verdict if contrast.verdict == SUSPECT else OPEN


def needed_text(contrast: Contrast, before: str = "") -> str:
    """What would show the difference, from one a standard error larger to one as much smaller than was seen.

    `330 to 7,900 questions or 9 repeats and more needed`; nothing where it is not worth asking.
    """
    if contrast.verdict == SUSPECT:
        return f"{before}{SUSPECT}"
    more = contrast.needed
    if more is None:
        return ""
    ways = [f"{range_text(*more.questions_range)} questions"]
    fewest, most = more.repeats_range
    if fewest:
        ways.append(f"{range_text(fewest, most)} repeats" if most else f"{_rounded(fewest)} repeats and more")
    return f"{before}{' or '.join(ways)} needed"


def both_text(contrast: Contrast) -> str:
    """Both verdicts with their p-values, for whoever points at a difference."""
    seed = contrast.another_seed
    if seed is None:
        return f"{contrast.in_answers}; one test alone: {p_text(contrast.p_value)}"
    return (
        f"in these answers: {contrast.in_answers}, {p_text(contrast.p_value)}; another seed included: "
        f"{contrast.verdict}, ± {fixed(100 * seed.stderr)}, {p_text(seed.p_value)}"
    )


def _listed(contrasts: Sequence[Contrast]) -> str:
    return joined([f"{one.other} ({change_text(one.difference)})" for one in contrasts])


def range_text(fewest: int, most: int) -> str:
    ends = [_rounded(fewest), _rounded(most)]
    return " to ".join(dict.fromkeys(ends))


def _rounded(count: int) -> str:
    """In two digits, rounded up: it is no more exact than that."""
    step = 10 ** max(0, len(str(count)) - 2)
    return f"{-(-count // step) * step:,}"
