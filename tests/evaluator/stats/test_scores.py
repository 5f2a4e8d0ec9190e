import math

import numpy as np
import pytest
import scipy.stats

from evaluator.stats.scores import Estimate, average, binomial_stderr, summarize, wilson

THREE_QUESTIONS = [[1, 0, 1, 0], [1, 1, 0, 0], [0, 1, 1, 1]]


def test_the_worked_example_has_the_known_mean_error_and_rerun_noise():
    summary = summarize(THREE_QUESTIONS)
    assert summary.mean == pytest.approx(7 / 12)
    assert summary.stderr == pytest.approx(0.083333, abs=1e-6)
    assert summary.rerun_sd == pytest.approx(0.166667, abs=1e-6)
    assert (summary.questions, summary.repeats) == (3, 4)


def test_the_standard_error_is_scipys_over_the_questions_means():
    table = np.random.default_rng(0).random((37, 5))
    assert summarize(table).stderr == pytest.approx(scipy.stats.sem(table.mean(axis=1)))


def test_the_standard_error_is_the_spread_of_resampled_suites():
    rng = np.random.default_rng(0)
    table = (rng.random((200, 4)) < rng.random((200, 1))).astype(float)
    resampled = scipy.stats.bootstrap((table.mean(axis=1),), np.mean, n_resamples=4000, rng=rng)
    assert summarize(table).stderr == pytest.approx(resampled.standard_error, rel=0.05)


def test_asking_once_leaves_rerun_noise_unknown_rather_than_zero():
    assert summarize([[1], [0], [1]]).rerun_sd is None


def test_the_suite_average_weighs_benchmarks_alike_and_adds_their_errors_in_squares():
    both = average([Estimate(mean=0.2, stderr=0.03), Estimate(mean=0.6, stderr=0.04)])
    assert both.mean == pytest.approx(0.4)
    assert both.stderr == pytest.approx(0.025)


@pytest.mark.parametrize("table", [[[1, 0]], [1, 0, 1], [[1, math.nan], [0, 1]], np.zeros((3, 0))])
def test_a_table_with_one_question_or_a_gap_is_refused(table):
    with pytest.raises(ValueError, match=r"table|gap"):
        summarize(table)


def test_the_error_of_a_published_share_is_least_when_questions_are_alike_and_most_when_repeats_say_nothing():
    rng = np.random.default_rng(3)
    chances = {"alike": np.full(50, 0.3), "decided": (np.arange(50) < 15).astype(float)}
    bounds = binomial_stderr(0.3, questions=50, repeats=8)
    for kind, bound in (("alike", bounds.least), ("decided", bounds.most)):
        means = [rng.binomial(8, rng.choice(chances[kind], 50)).mean() / 8 for _ in range(4000)]
        assert np.std(means) == pytest.approx(bound, rel=0.05), kind


@pytest.mark.parametrize(("mean", "questions", "repeats"), [(1.1, 10, 1), (math.nan, 10, 1), (0.5, 0, 1), (0.5, 10, 0)])
def test_a_share_that_cannot_be_is_refused(mean, questions, repeats):
    with pytest.raises(ValueError, match="no share of right answers"):
        binomial_stderr(mean, questions=questions, repeats=repeats)


@pytest.mark.parametrize(("right", "questions"), [(22, 30), (0, 40), (40, 40)])
def test_at_the_ends_of_wilsons_interval_what_was_seen_is_1_96_standard_errors_away(right, questions):
    low, high = wilson(right, questions)
    for end in {low, high} - {0.0, 1.0}:
        assert abs(right / questions - end) == pytest.approx(1.96 * math.sqrt(end * (1 - end) / questions), rel=1e-4)
    assert low <= right / questions <= high and (low == 0) == (right == 0) and (high == 1) == (right == questions)


@pytest.mark.parametrize(("right", "questions"), [(-1, 30), (31, 30), (0, 0)])
def test_a_share_of_more_than_all_is_refused(right, questions):
    with pytest.raises(ValueError, match="no share of right answers"):
        wilson(right, questions)
