import numpy as np
import pytest
from scipy import stats

from evaluator.results.clusters import clusters_of
from evaluator.results.pairs import difference_p
from evaluator.results.run import Row
from evaluator.results.scores import CheckpointResult, TaskResult
from evaluator.stats.paired import differences, mcnemar, paired_difference
from evaluator.stats.power import needed
from evaluator.stats.scores import summarize
from evaluator.verdicts.judge import family

STEPS = tuple(f"{problem}.{step}" for problem in range(1, 21) for step in range(1, 6))
DRAWN = np.random.default_rng(3)
SCORES, OTHERS = (
    (DRAWN.random((20, 1)) + 0.3 * DRAWN.random((20, 5)) > 0.6).reshape(-1, 1).astype(float) for _ in range(2)
)
"""A problem's steps are right or wrong together, for the most part."""


def result(label: str, scores) -> CheckpointResult:
    tasks = (TaskResult("scicode", STEPS, tuple(map(tuple, scores.tolist())), 1.0, 0.0),)
    return CheckpointResult(label, "x", 0, 1.0, (), tasks)


@pytest.mark.parametrize(
    ("task", "questions", "clusters"),
    [
        ("scicode", ("12.1", "12.2", "13.1"), ("12", "12", "13")),
        ("ns_scicode", ("problem-7.3", "problem-7.4"), ("7", "7")),
        ("scicode", ("1.1", "2.1"), ()),
        ("ns_scicode", ("a", "b"), ()),
        ("lm-evaluation-harness.mmlu", ("mmlu-1.1", "mmlu-1.2"), ()),
    ],
)
def test_sub_steps_of_one_problem_are_one_cluster_and_nothing_else_is(task, questions, clusters):
    assert clusters_of(task, questions) == clusters


def test_a_question_that_does_not_say_its_problem_is_refused():
    with pytest.raises(ValueError, match="question 'x' of scicode does not say which problem"):
        clusters_of("scicode", ("1.1", "1.2", "x"))


def test_results_that_were_saved_without_clusters_have_them_when_they_are_read(tmp_path):
    result("x", SCORES).save(tmp_path)
    task = CheckpointResult.load(tmp_path).tasks[0]
    assert len(set(task.clusters)) == 20
    # All clusters have one size, so the error is that of the problems' means.
    problems = SCORES.reshape(20, 5).mean(axis=1)
    assert task.summary.stderr == pytest.approx(stats.sem(problems))
    assert task.summary.stderr > 1.5 * summarize(SCORES).stderr


def test_verdicts_rest_on_problems_and_not_on_their_steps(tmp_path):
    rows = []
    for label, scores in (("one", SCORES), ("other", OTHERS)):
        (tmp_path / label).mkdir()
        result(label, scores).save(tmp_path / label)
        rows.append(Row("milestone", CheckpointResult.load(tmp_path / label), tokens=1))
    contrast = family([("scicode", "SciCode")], [(("one", "other", "x"), *rows)])[0]
    clusters = rows[0].result.tasks[0].clusters
    assert contrast.difference == paired_difference(SCORES, OTHERS, clusters)
    by_problem = differences(SCORES, OTHERS, clusters).reshape(-1)
    assert len(by_problem) == 20
    assert contrast.difference.stderr == pytest.approx(stats.sem(by_problem / 5))


def test_a_lead_in_five_problems_counts_five_times_and_not_once_for_each_of_their_steps():
    right = np.zeros((2, 20, 5))
    right[0, :5] = right[1, 5] = 1
    mine, theirs = (
        TaskResult("scicode", STEPS, tuple(zip(scores.flatten().tolist())), 1.0, 0.0, clusters_of("scicode", STEPS))
        for scores in right
    )
    assert difference_p(mine, theirs) == pytest.approx(mcnemar(5, 1)) == 0.21875
    assert mcnemar(25, 5) < 0.001


def test_more_questions_are_needed_where_they_come_in_problems():
    clusters = clusters_of("scicode", STEPS)
    worse = OTHERS.copy()
    worse[: 8 * 5] = 0  # eight problems lost
    alone, together = needed(SCORES, worse), needed(SCORES, worse, clusters)
    shares = [paired_difference(SCORES, worse, groups).stderr ** 2 for groups in ((), clusters)]
    # A little more yet, for so few problems show a difference less often than so many questions.
    assert shares[1] / shares[0] < together.questions / alone.questions < 1.3 * shares[1] / shares[0]
    assert together.questions > 2 * alone.questions
