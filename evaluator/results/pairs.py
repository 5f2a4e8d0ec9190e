"""Compares two checkpoints in a benchmark: paired by question where both kept their answers, else score less score.

    difference(mine, theirs)                      # `evaluator.results.scores.TaskResult`s of one benchmark
    difference_p(mine, theirs)                    # two-sided, before Holm's procedure

Some harnesses keep no answers (`TaskResult.reported`). What two such scores share, that a hard question is hard for
both, cannot be taken out then: their errors add up, as those of independent scores, which is on the safe side.
"""

import math
from collections.abc import Iterable, Sequence

from evaluator.results.scores import TaskResult
from evaluator.stats.paired import differences, normal_p, paired_difference, sign_flip
from evaluator.stats.power import Needed, needed, needed_of_scores
from evaluator.stats.scores import Estimate


def is_paired(mine: TaskResult, theirs: TaskResult) -> bool:
    """Whether the two are compared question by question."""
    return mine.has_answers and theirs.has_answers


def same_questions(mine: TaskResult, theirs: TaskResult) -> bool:
    """Whether both were asked the same, as far as they know it: where one has no ids, their number has to do."""
    if mine.task != theirs.task or mine.summary.questions != theirs.summary.questions:
        return False
    return not is_paired(mine, theirs) or (mine.questions, mine.clusters) == (theirs.questions, theirs.clusters)


def difference(mine: TaskResult, theirs: TaskResult) -> Estimate:
    """How much `mine` is above `theirs`, from -1 to 1."""
    if is_paired(mine, theirs):
        return paired_difference(mine.table, theirs.table, mine.clusters)
    one, other = mine.summary, theirs.summary
    return Estimate(one.mean - other.mean, math.hypot(one.stderr, other.stderr))


def difference_p(mine: TaskResult, theirs: TaskResult) -> float:
    """Two-sided p-value of the difference: exact where it is paired, by the normal distribution where it is not."""
    if is_paired(mine, theirs):
        return sign_flip(differences(mine.table, theirs.table, mine.clusters))
    return normal_p(difference(mine, theirs))


def difference_needed(
    mine: TaskResult, theirs: TaskResult, *, significance: float, power: float = 0.8
) -> Needed | None:
    """What would show a difference as large as was seen (`evaluator.stats.power.needed`); repeats only with answers."""
    if is_paired(mine, theirs):
        return needed(mine.table, theirs.table, mine.clusters, significance=significance, power=power)
    questions = mine.summary.questions
    return needed_of_scores(difference(mine, theirs), questions, significance=significance, power=power)


def without_answers(results: Iterable[Sequence[TaskResult]], columns: Sequence[tuple[str, str]]) -> list[str]:
    """Titles, of the `columns` (task, title), of the benchmarks of which some checkpoint kept no answers."""
    lacking = {task.task for tasks in results for task in tasks if task.asked and not task.has_answers}
    return [title for task, title in columns if task in lacking]
