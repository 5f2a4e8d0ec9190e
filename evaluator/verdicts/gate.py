"""Tests blends pair by pair: the Average first, and benchmarks only where it stands.

    contrasts = gated(columns, [Pair("a", "b", "80B", row, other, trainings=2)], failures, scatters)
    contrasts[0].in_answers, contrasts[0].verdict       # of these checkpoints; of the blends, another seed included

The family is all pairs of one kind at one milestone: blend with blend, or blend with teacher. Every pair has its part
of the level, 5 % over the number of pairs, for its Average; where that stands, the same part is the level of Holm's
procedure over the pair's benchmarks. So at most 5 % of pages have even one verdict that chance made, whatever is true
of the other pairs and benchmarks, and a pair's verdicts depend on its own answers, on the number of pairs and on what
is known of another seed alone.
What is not tested, benchmarks behind a gate that is closed and all other milestones, is exploration and has no verdict.

Both verdicts are tested like this, each with its own gate. The one that includes another seed never claims more than
the one in these answers.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from evaluator.results.pairs import difference, difference_needed, difference_p, is_paired
from evaluator.results.run import AVERAGE, Row
from evaluator.results.scores import TaskResult
from evaluator.stats.paired import holm, normal_p
from evaluator.stats.scores import average
from evaluator.stats.variance import Part, half_width, p_of
from evaluator.verdicts.contrasts import LEVEL, AnotherSeed, Contrast, is_suspect
from evaluator.verdicts.seeds import Scatters


@dataclass(frozen=True)
class Pair:
    """Two checkpoints to compare."""

    one: str
    """Name of a blend."""
    other: str
    """Name of a blend, or `teacher`."""
    at: str
    """Title of the milestone."""
    row: Row
    """The one's scores."""
    rival: Row
    """The other's."""
    trainings: float
    """Sum over the two of one over the number of runs that were averaged; the teacher adds none."""


def gated(
    columns: Sequence[tuple[str, str]],
    pairs: Iterable[Pair],
    failures: Mapping[str, Collection[tuple[str, str]]],
    scatters: Scatters,
) -> tuple[Contrast, ...]:
    """Contrasts of all pairs of a family, in every column and on average, the columns in their order."""
    pairs = list(pairs)
    return tuple(contrast for pair in pairs for contrast in _judge(columns, pair, failures, scatters, len(pairs)))


def explored(
    columns: Sequence[tuple[str, str]],
    pairs: Iterable[Pair],
    failures: Mapping[str, Collection[tuple[str, str]]],
) -> tuple[Contrast, ...]:
    """The same contrasts where nobody asked for a verdict: differences, p-values of one test alone."""
    return tuple(contrast for pair in pairs for contrast in _seen(columns, pair, failures))


def _seen(columns: Sequence[tuple[str, str]], pair: Pair, failures: Mapping) -> list[Contrast]:
    """What the answers of a pair show, untested; the average last."""
    ids = ((pair.one, pair.row.title), (pair.other, pair.rival.title))
    found = []
    for (_, title), mine, theirs in zip(columns, pair.row.result.tasks, pair.rival.result.tasks, strict=True):
        seen = difference(mine, theirs)
        suspect = is_suspect(failures, title, *ids)
        found.append(
            Contrast(
                pair.one,
                pair.other,
                pair.at,
                title,
                seen,
                normal_p(seen),
                suspect,
                None,
                is_paired(mine, theirs),
                False,
            )
        )
    whole = average([contrast.difference for contrast in found])
    suspect, paired = any(one.suspect for one in found), all(one.paired for one in found)
    # Over all questions of a suite, which are many.
    found.append(Contrast(pair.one, pair.other, pair.at, AVERAGE, whole, normal_p(whole), suspect, None, paired, False))
    return found


def _judge(
    columns: Sequence[tuple[str, str]], pair: Pair, failures: Mapping, scatters: Scatters, pairs: int
) -> list[Contrast]:
    *benchmarks, whole = _seen(columns, pair, failures)
    tasks = list(zip(pair.row.result.tasks, pair.rival.result.tasks, strict=True))
    exact = [difference_p(*both) for both in tasks]
    answers = [Part(one.difference.stderr**2, _freedom(*both)) for one, both in zip(benchmarks, tasks, strict=True)]
    answers.append(Part(whole.difference.stderr**2))
    seeds = []
    for contrast, part, p_value in zip([*benchmarks, whole], answers, [*exact, whole.p_value], strict=True):
        parts = scatters.of(contrast.column).parts(part, pair.trainings)
        # What these answers do not show, none that are drawn anew would.
        p_seed = max(p_value, p_of(contrast.difference.mean, parts))
        stderr = max(part.variance, sum(one.variance for one in parts)) ** 0.5
        least = max(half_width([part], LEVEL / pairs), half_width(parts, LEVEL / pairs))
        seeds.append(AnotherSeed(stderr, p_seed, least))
    judged, tested = _through_gate([*exact, whole.p_value], pairs, closed=whole.suspect)
    judged_seed, tested_seed = _through_gate([seed.p_value for seed in seeds], pairs, closed=whole.suspect)
    found = []
    for place, contrast in enumerate([*benchmarks, whole]):
        seed = replace(seeds[place], p_value=judged_seed[place], tested=tested_seed[place])
        contrast = replace(contrast, p_value=judged[place], tested=tested[place], another_seed=seed)
        if place < len(tasks) and (not contrast.tested or contrast.p_value >= LEVEL):
            significance = LEVEL / pairs / len(tasks)  # of the first step of Holm's procedure
            contrast = replace(contrast, needed=difference_needed(*tasks[place], significance=significance))
        found.append(contrast)
    return found


def _through_gate(p_values: Sequence[float], pairs: int, *, closed: bool) -> tuple[list[float], list[bool]]:
    """Adjusted p-values of a pair's benchmarks and, last, its average, and which of them are tested.

    The benchmarks' stay as they are behind a gate that is closed: because the average does not stand, or is of a score
    that is not to be believed.
    """
    *benchmarks, whole = p_values
    gate = min(1.0, pairs * whole)
    if closed or gate >= LEVEL:
        return [*benchmarks, gate], [*[False] * len(benchmarks), True]
    return [*(max(gate, min(1.0, pairs * p_value)) for p_value in holm(benchmarks)), gate], [True] * len(p_values)


def _freedom(mine: TaskResult, theirs: TaskResult) -> float:
    """Degrees of freedom of the variance of a difference: independent questions less one."""
    if not is_paired(mine, theirs):
        return float("inf")
    return (len(set(mine.clusters)) if mine.clusters else len(mine.questions)) - 1
