"""Says in sentences what a comparison of runs comes to: which blend to take, where to stop, what is open.

advice(judgement)[0]                    # "Take 30pre_70post_v3 or 30pre_70post_v1v3. Stop at 60B: ..."
standing_text(standing)                 # "pt_v1v2 is better than pre_sft_v1 (+9.2 ± 2.6)."
"""

from collections.abc import Sequence

from evaluator.results.run import AVERAGE
from evaluator.stats.variance import Part, half_width
from evaluator.text import change_text, joined, p_text
from evaluator.verdicts.contrasts import LEVEL, OPEN, SUSPECT, Contrast
from evaluator.verdicts.judge import Judgement, Standing


def advice(judgement: Judgement) -> list[str]:
    """Which blend to take, another seed included, and where to stop it, in a sentence; then what is behind it."""
    first = judgement.first
    leader = first.leader
    doubtful = [one.other for one in first.level if one.verdict == SUSPECT]
    level = [one.other for one in (*first.equal, *first.above_in_answers, *first.level) if one.other not in doubtful]
    above = [one.other for one in first.above]
    if above:
        take = f"Take {joined([leader, *level], 'or')}{', which are not told apart' if level else ''}"
    else:
        take = f"No blend is shown to be better than another; {leader} has the highest Average"
    said = [f"{take}. {stop_text(judgement, leader)}"]
    if above:
        others = f"; from {joined(level)} it shows no significant difference" if level else ""
        said.append(f"{leader} has the highest Average, above {joined(above)}, another seed included{others}.")
    elif level:
        said.append(f"Another seed included, none is significantly below {leader}.")
    if first.above_in_answers:
        also = joined([one.other for one in first.above_in_answers])
        said.append(f"In these answers alone {leader} is better than {also}: another seed may undo that.")
    if doubtful:
        said.append(f"Nothing is said of {joined(doubtful)}: a score there may be of an evaluation that failed.")
    return said


def rests_text(judgement: Judgement) -> str:
    """What the verdict that includes another seed rests on, and which differences could have stood."""
    at = judgement.title(judgement.last_common)
    pairs = [one for one in judgement.between if one.at == at and one.column == AVERAGE and one.another_seed]
    least = sorted(one.another_seed.least for one in pairs if one.another_seed)
    answers = sorted(half_width([Part(one.difference.stderr**2)], LEVEL / len(pairs)) for one in pairs)
    middle = len(pairs) // 2
    return (
        f"{judgement.scatters.text} Two Averages differ significantly here from about {100 * least[middle]:.1f} points "
        f"on; in these answers alone, from {100 * answers[middle]:.1f}."
    )


def stop_text(judgement: Judgement, name: str) -> str:
    """Where to stop a blend, in a sentence."""
    stop = judgement.stop(name)
    if stop.alone:
        return f"{name} has one milestone only, {stop.row.title}."
    margin = f"{100 * stop.margin:g} point{'s' * (100 * stop.margin != 1)}"
    if stop.shown:
        return (
            f"Stop {name} at {stop.row.title}: less than {margin} is lost, {100 * stop.saved:.0f}% of the tokens saved."
        )
    return f"Train {name} to {stop.row.title}: nothing earlier is shown to be within {margin} of it."


def place_text(judgement: Judgement, name: str) -> str:
    """What a blend's tile says of its Average: how it stands to the highest."""
    first = judgement.first
    if name in first.leaders:
        return "highest" if first.above or first.above_in_answers else "highest, by less than error"
    for words, contrasts in (("lower", first.above), ("lower in these answers only", first.above_in_answers)):
        if name in [one.other for one in contrasts]:
            return words
    if name not in [one.other for one in first.level]:
        return ""
    contrast = next(one for one in first.level if one.other == name)
    return contrast.verdict if contrast.verdict == SUSPECT else OPEN


def standing_text(standing: Standing, *, others: bool = True) -> str:
    """Who leads, whom it is better than, in which sense, and the `others`."""
    parts = []
    if standing.equal:
        parts.append(f"is equal to {joined([one.other for one in standing.equal])}")
    if standing.above:
        parts.append(f"is better than {_listed(standing.above)}")
    if standing.above_in_answers:
        parts.append(f"in these answers only is better than {_listed(standing.above_in_answers)}")
    if standing.level and others:
        parts.append(f"shows no significant difference from {_listed(standing.level, needed=True)}")
    if standing.untested and others:
        parts.append(f"was not tested against {joined([one.other for one in standing.untested])}")
    return f"{standing.leader} {'; '.join(parts)}."


def needed_text(contrast: Contrast, before: str = "") -> str:
    """What would show the difference, from one a standard error larger to one as much smaller than was seen.

    `330 to 7,900 questions or 9 repeats and more needed`; nothing where it is not worth asking.
    """
    if contrast.verdict == SUSPECT:
        return f"{before}{SUSPECT}"
    more = contrast.needed
    if more is None:
        return ""
    ways = [f"{_range(*more.questions_range)} questions"]
    fewest, most = more.repeats_range
    if fewest:
        ways.append(f"{_range(fewest, most)} repeats" if most else f"{_rounded(fewest)} repeats and more")
    return f"{before}{' or '.join(ways)} needed"


def both_text(contrast: Contrast) -> str:
    """Both verdicts with their p-values, for whoever points at a difference."""
    seed = contrast.another_seed
    if seed is None:
        return f"{contrast.in_answers}; one test alone: {p_text(contrast.p_value)}"
    return (
        f"in these answers: {contrast.in_answers}, {p_text(contrast.p_value)}; another seed included: "
        f"{contrast.verdict}, ± {100 * seed.stderr:.1f}, {p_text(seed.p_value)}"
    )


def _listed(contrasts: Sequence[Contrast], *, needed: bool = False) -> str:
    return ", ".join(
        f"{one.other} ({change_text(one.difference)}{needed_text(one, before='; ') if needed else ''})"
        for one in contrasts
    )


def _range(fewest: int, most: int) -> str:
    ends = [_rounded(fewest), _rounded(most)]
    return " to ".join(dict.fromkeys(ends))


def _rounded(count: int) -> str:
    """In two digits, rounded up: it is no more exact than that."""
    step = 10 ** max(0, len(str(count)) - 2)
    return f"{-(-count // step) * step:,}"
