import math

import numpy as np
import pytest
import scipy.stats

from evaluator.stats.power import detectable_difference, needed


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


def test_what_is_alike_needs_nothing_and_asking_again_helps_only_where_answers_scatter():
    same = [[1, 0], [0, 1], [1, 1]]
    assert needed(same, same) is None
    always, other = np.repeat([[1], [0], [1], [0], [1]], 4, axis=1), np.repeat([[0], [0], [1], [1], [0]], 4, axis=1)
    assert needed(always, other).repeats is None
    assert needed(always[:, :1], other[:, :1]).repeats is None
