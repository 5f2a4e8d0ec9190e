import math

import numpy as np
import pytest
import scipy.stats

from evaluator.stats.paired import differences, sign_flip
from evaluator.stats.power import WORTHWHILE, detectable_difference, needed, needed_of_scores
from evaluator.stats.scores import Estimate


@pytest.mark.parametrize(("questions", "repeats", "difference"), [(198, 1, 0.1327), (198, 10, 0.0757), (30, 32, 0.178)])
def test_the_detectable_difference_is_the_one_worked_out_by_hand(questions, repeats, difference):
    found = detectable_difference(questions, repeats, between=1 / 9, within=1 / 6)
    assert found == pytest.approx(difference, abs=5e-4)


def test_a_difference_that_is_called_detectable_is_found_four_times_in_five():
    rng = np.random.default_rng(0)
    questions, repeats, between, runs = 300, 4, 0.02, 2_000
    # Chances evenly spread between 1/4 and 3/4 and their differences: p(1 - p) is 1/4 less their variances, on average.
    within = 1 / 4 - 1 / 48 - between / 4
    gap = detectable_difference(questions, repeats, between=between, within=within)
    middle = rng.uniform(0.25, 0.75, (runs, questions))
    apart = rng.uniform(-1, 1, (runs, questions)) * np.sqrt(3 * between) + gap
    scores = [rng.binomial(repeats, np.clip(middle + side * apart / 2, 0, 1)) / repeats for side in (1, -1)]
    found = scipy.stats.ttest_rel(*scores, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)


def test_asking_without_end_leaves_what_questions_differ_by():
    assert detectable_difference(198, math.inf, within=1 / 6) == detectable_difference(198, 1, within=0)


@pytest.mark.parametrize(("questions", "repeats"), [(1, 8), (30, 0)])
def test_what_tells_nothing_apart_is_refused(questions, repeats):
    with pytest.raises(ValueError, match="can show no difference"):
        detectable_difference(questions, repeats)


def test_with_the_questions_said_to_be_needed_the_difference_is_found_four_times_in_five():
    rng = np.random.default_rng(6)

    def answers(questions: int, runs: int) -> list:
        middle = rng.uniform(0.3, 0.7, (runs, questions, 1))
        return [rng.binomial(1, np.broadcast_to(middle + by, (runs, questions, 4))) for by in (0.03, -0.03)]

    more = needed(*(table[0] for table in answers(5_000, 1)))
    found = scipy.stats.ttest_rel(*(table.mean(axis=2) for table in answers(more.questions, 1_000)), axis=1)
    assert np.mean(found.pvalue < 0.05) == pytest.approx(0.8, abs=0.08)


def test_with_the_few_questions_that_are_needed_the_exact_test_finds_the_difference_four_times_in_five():
    rng = np.random.default_rng(3)

    def answers(questions: int) -> list:  # about 22 of 30, asked 32 times, as AIME; 10 points apart
        hardness, own = rng.normal(0, 2.5, (questions, 1)), rng.normal(0, 0.7, (2, questions, 1))
        chances = 1 / (1 + np.exp(hardness - np.array([[[2.2]], [[1.3]]]) - own))
        return list((rng.random((2, questions, 32)) < chances).astype(float))

    seen = [pair for pair in (answers(30) for _ in range(1_500)) if abs(differences(*pair).mean() - 0.1) < 0.01]
    more = [needed(*pair, significance=0.05 / 9) for pair in seen]
    assert len(more) > 100 and not any(one.questions_range[0] > one.questions for one in more)
    found = [sign_flip(differences(*answers(one.questions))) < 0.05 / 9 for one in more for _ in range(3)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.07)


def test_asking_again_helps_only_where_answers_scatter_and_is_unknown_where_all_was_asked_once():
    questions = np.arange(200)
    always = np.repeat((questions % 5 < 3)[:, None], 4, axis=1)
    other = np.repeat((questions % 10 < 5)[:, None], 4, axis=1)  # 10 points lower, on other questions
    assert needed(always, other).repeats is None
    assert needed(always[:, :1], other[:, :1]).repeats is None
    one, two = (np.random.default_rng(1).random((2, 200, 4)) < np.array([0.55, 0.5])[:, None, None]).astype(float)
    assert needed(one, two).repeats > 4


def test_what_is_needed_is_a_range_from_a_larger_to_a_smaller_difference():
    more = needed_of_scores(Estimate(0.03, 0.02), 500, significance=0.05)
    assert more.questions == pytest.approx(500 * (2.8 * 0.02 / 0.03) ** 2, rel=0.01)
    ends = [500 * (2.8 * 0.02 / size) ** 2 for size in (0.05, 0.01)]
    assert more.questions_range == pytest.approx(ends, rel=0.02)
    # No smaller than what is worth asking for, which bounds the range.
    widest = needed_of_scores(Estimate(0.02, 0.02), 500, significance=0.05).questions_range[1]
    assert widest == pytest.approx(500 * (2.8 * 0.02 / WORTHWHILE) ** 2, rel=0.02)


def test_nothing_is_needed_where_scores_are_equal_or_no_difference_is_worth_it():
    rng = np.random.default_rng(0)
    tables = ((rng.random((500, 5)) < 0.9).astype(float) for _ in range(200_000))
    one = next(tables)
    # As many right answers, and yet means of fifths that do not cancel to the last digit.
    other = next(two for two in tables if two.sum() == one.sum() and differences(one, two).mean() != 0)
    assert needed(one, other) is None and needed(one, one) is None
    assert needed_of_scores(Estimate(0.02, 0.021), 500, significance=0.05) is None
    assert needed_of_scores(Estimate(0.004, 0.002), 14_042, significance=1e-4) is None
