import math

import numpy as np
import pytest
import scipy.stats

from evaluator.stats.paired import differences, holm, mcnemar, paired_difference, sign_flip
from evaluator.stats.power import detectable_difference, needed
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


def test_a_paired_difference_is_scipys_paired_t_statistic():
    rng = np.random.default_rng(1)
    one, other = rng.random((30, 4)), rng.random((30, 4))
    difference = paired_difference(one, other)
    expected = scipy.stats.ttest_rel(one.mean(axis=1), other.mean(axis=1)).statistic
    assert difference.mean / difference.stderr == pytest.approx(expected)


def test_pairing_takes_out_what_makes_a_question_hard_for_both():
    hardness = np.linspace(0, 1, 50)[:, None]
    difference = paired_difference(hardness + 0.1, hardness)
    assert difference.mean == pytest.approx(0.1)
    assert difference.stderr == pytest.approx(0, abs=1e-12)


def test_the_suite_average_weighs_benchmarks_alike_and_adds_their_errors_in_squares():
    both = average([Estimate(mean=0.2, stderr=0.03), Estimate(mean=0.6, stderr=0.04)])
    assert both.mean == pytest.approx(0.4)
    assert both.stderr == pytest.approx(0.025)


@pytest.mark.parametrize("table", [[[1, 0]], [1, 0, 1], [[1, math.nan], [0, 1]], np.zeros((3, 0))])
def test_a_table_with_one_question_or_a_gap_is_refused(table):
    with pytest.raises(ValueError, match=r"table|gap"):
        summarize(table)


def test_a_paired_difference_over_other_questions_is_refused():
    with pytest.raises(ValueError, match="not 2 and 3"):
        paired_difference([[1], [0]], [[1], [0], [1]])


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


def test_holms_p_values_are_the_known_ones_in_the_order_given():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(("right", "wrong"), [(8, 2), (2, 8), (5, 5), (0, 0), (30, 11)])
def test_mcnemars_test_is_scipys_binomial_test_and_the_sign_flip_test_of_questions_asked_once(right, wrong):
    expected = scipy.stats.binomtest(right, right + wrong).pvalue if right + wrong else 1.0
    assert mcnemar(right, wrong) == pytest.approx(expected)
    assert sign_flip([1] * right + [-1] * wrong + [0] * 7) == pytest.approx(expected)


def test_the_sign_flip_test_is_scipys_permutation_test_over_every_swap():
    rng = np.random.default_rng(4)
    for repeats in (1, 3, 8):
        one, other = (rng.integers(0, repeats + 1, 12) / repeats for _ in range(2))
        swapped = scipy.stats.permutation_test(
            (one - other,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
        )
        assert sign_flip(one - other) == pytest.approx(swapped.pvalue)


def test_the_sign_flip_test_finds_a_difference_where_there_is_none_no_oftener_than_it_says():
    rng = np.random.default_rng(5)
    chances = rng.random((400, 30))
    one, other = (rng.binomial(4, chances) / 4 for _ in range(2))
    found = np.mean([sign_flip(row) < 0.05 for row in one - other])
    assert 0.02 < found < 0.08


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


def test_questions_that_share_a_passage_have_the_known_larger_error():
    answers, passages = [[1], [0], [1], [1], [0], [0]], "AABBCC"
    assert summarize(answers).stderr == pytest.approx(0.223607, abs=1e-6)
    assert summarize(answers, passages).stderr == pytest.approx(0.288675, abs=1e-6)
    assert list(differences(answers, np.zeros((6, 1)), passages)) == [1, 2, 0]


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
