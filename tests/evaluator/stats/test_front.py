import numpy as np
import pytest

from evaluator.stats.front import front


@pytest.mark.parametrize(
    ("points", "on_it"),
    [
        ([(794, 66.1), (963, 65.1), (1147, 64.8)], [True, True, True]),
        ([(794, 66.1), (963, 65.1), (963, 64.0), (900, 65.0)], [True, True, False, False]),  # dominated
        ([(794, 66.1), (963, 66.1)], [False, True]),  # as good, and faster
        ([(963, 65.1), (963, 65.1), (794, 60.0)], [True, True, False]),  # a tie is on it together
        ([(963, 65.1)], [True]),
        ([], []),
    ],
)
def test_the_front_is_what_nothing_else_is_better_than(points, on_it):
    assert front(points) == on_it


def test_the_front_is_that_of_all_pairs():
    rng = np.random.default_rng(7)
    for _ in range(50):
        points = [tuple(map(float, pair)) for pair in rng.integers(0, 6, (rng.integers(1, 12), 2))]
        beaten = [any(a >= x and b >= y and (a, b) != (x, y) for a, b in points) for x, y in points]
        assert front(points) == [not one for one in beaten]
