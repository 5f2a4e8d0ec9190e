from decimal import ROUND_HALF_UP, Decimal

import pytest

from evaluator.stats.scores import Estimate
from evaluator.text import change_text, fixed, p_text, points_text, rate_text, score_text, span_text, tokens_text


@pytest.mark.parametrize(
    ("tokens", "text"), [(400_000, "0.4M"), (1_638_400, "1.64M"), (2.5e9, "2.5B"), (80e9, "80B"), (49_152, "49.2K")]
)
def test_tokens_read_as_in_the_study(tokens, text):
    assert tokens_text(tokens) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.21, "4.2 s"), (42.3, "42 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (None, "")]
)
def test_time_spans_read_as_people_write_them(seconds, text):
    assert span_text(seconds) == text


def test_scores_are_in_points_with_their_standard_error_and_differences_have_a_sign():
    assert score_text(Estimate(0.613, 0.0212)) == "61.3 ± 2.1"
    assert change_text(Estimate(-0.124, 0.03)) == "−12.4 ± 3.0"
    assert points_text(0.0) == "+0.0"


def test_a_figure_is_rounded_as_its_decimal_digits_are_from_the_middle_away_from_zero():
    for questions in (8, 30, 40, 160, 198, 500, 10_000, 14_042):
        for right in range(0, questions + 1, max(1, questions // 400)):
            exact = 100 * Decimal(right) / questions
            for share in (right / questions, 1 - (questions - right) / questions):  # sums and differences are not exact
                for digits in (0, 1, 2):
                    wanted = exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
                    assert fixed(100 * share, digits) == str(wanted) and fixed(-100 * share, digits) in (
                        f"-{wanted}",
                        str(wanted) * (not wanted),
                    )


@pytest.mark.parametrize(("p_value", "text"), [(0.0009, "p < 0.001"), (0.001, "p = 0.001"), (0.0456, "p = 0.046")])
def test_a_p_value_has_two_digits_and_none_below_a_thousandth(p_value, text):
    assert p_text(p_value) == text


def test_a_learning_rate_has_three_digits():
    assert rate_text(1.8712e-5) == "1.87e-5"
