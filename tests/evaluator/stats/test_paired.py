import numpy as np
import pytest
import scipy.stats

from evaluator.stats.paired import differences, holm, mcnemar, paired_difference, sign_flip
from evaluator.stats.scores import summarize


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


def test_a_paired_difference_over_other_questions_is_refused():
    with pytest.raises(ValueError, match="not 2 and 3"):
        paired_difference([[1], [0]], [[1], [0], [1]])


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


def test_questions_that_share_a_passage_have_the_known_larger_error():
    answers, passages = [[1], [0], [1], [1], [0], [0]], "AABBCC"
    assert summarize(answers).stderr == pytest.approx(0.223607, abs=1e-6)
    assert summarize(answers, passages).stderr == pytest.approx(0.288675, abs=1e-6)
    assert list(differences(answers, np.zeros((6, 1)), passages)) == [1, 2, 0]
