"""Where to stop: what is shown, what is not, and how good the place is on curves whose truth is known."""

import dataclasses

import numpy as np
import pytest

from evaluator.results.pairs import difference
from evaluator.stats.scores import average
from evaluator.verdicts.judge import judge_alone
from evaluator.verdicts.stopping import MARGIN, averages, compare, stopping_point
from tests.evaluator.verdicts.pages import report

STUDY = np.array([59.8, 63.5, 64.1, 64.4, 65.1]) / 100
"""Averages of the study's 30pre_70post_v1v3 at 2.5B, 20B, 40B, 60B and 80B."""
SD = 0.0033
"""Standard deviation of a milestone's average with the study's questions, of what milestones do not share."""


def places(truth: np.ndarray, draws: int = 400) -> np.ndarray:
    """Where it is said that runs with these averages could stop, by the milestone's number."""
    drawn, covariance = np.random.default_rng(9), np.diag([SD**2] * len(truth))
    found = []
    for _ in range(draws):
        end, losses = compare(truth + drawn.normal(0, SD, len(truth)), covariance)
        found.append(next(place for place, (_, most) in enumerate(losses) if place == end or most < MARGIN))
    return np.array(found)


def test_on_the_studys_own_curve_it_costs_a_third_of_a_point_at_most():
    lost = 100 * (STUDY.max() - STUDY[places(STUDY)]).mean()
    assert lost <= 0.3


@pytest.mark.parametrize("flat", [1, 2, 3], ids=["20B", "40B", "60B"])
def test_on_a_plateau_it_stops_within_a_milestone_of_where_that_begins(flat):
    truth = np.minimum(STUDY, STUDY[flat])
    assert (abs(places(truth) - flat) <= 1).mean() >= 0.8


def test_a_milestone_that_loses_the_margin_passes_no_oftener_than_one_time_in_ten():
    truth = np.array([0.60, 0.641, 0.651, 0.651, 0.651])
    assert (places(truth, 1500) <= 1).mean() <= 0.1 + 2 * np.sqrt(0.09 / 1500)


def test_a_peak_in_the_middle_is_not_hidden_by_the_fall_after_it():
    truth = np.array([0.60, 0.635, 0.645, 0.655, 0.625])
    assert (truth.max() - truth[places(truth)]).mean() <= 0.004
    assert set(places(truth)) <= {2, 3}


@pytest.fixture(scope="module")
def curve():
    """A run that rises, and then stays."""
    drawn = np.random.default_rng(2)
    return report("run", [[0.3] * 5, [0.6] * 5, [0.6] * 5, [0.6] * 5], drawn)


def test_errors_of_contrasts_are_those_of_paired_differences(curve):
    _, covariance = averages(curve.milestones)
    for one, other in ((0, 3), (1, 2)):
        paired = average(list(map(difference, *(curve.milestones[place].result.tasks for place in (one, other)))))
        weights = np.zeros(4)
        weights[[one, other]] = 1, -1
        assert np.sqrt(weights @ covariance @ weights) == pytest.approx(paired.stderr)
    # A benchmark whose harness kept no answers counts as independent.
    rows = []
    for row in curve.milestones:
        first = row.result.tasks[0]
        bare = dataclasses.replace(first, questions=(), scores=(), reported=first.summary)
        rows.append(
            dataclasses.replace(row, result=dataclasses.replace(row.result, tasks=(bare, *row.result.tasks[1:])))
        )
    _, unpaired = averages(rows)
    own = rows[0].result.tasks[0].summary.stderr ** 2 / 25
    assert unpaired[0, 0] == pytest.approx(covariance[0, 0]) and unpaired[0, 0] > own


def test_it_says_what_it_has_shown_and_what_it_has_not(curve):
    stop = stopping_point("run", curve, margin=0.05)
    assert (stop.row.title, stop.shown, stop.last, stop.saved) == ("2B", True, False, 0.5)
    assert stop.text.startswith(
        "The first milestone shown to be within 5 points of what follows, which is above it by "
    )
    assert stop.chosen.at_most < 0.05 <= stop.candidates[0].at_most
    strict = stopping_point("run", curve, margin=0.001)
    assert (strict.row.title, strict.shown, strict.last) == ("4B", False, True)
    assert "No earlier milestone is shown to be within 0.1 points of it" in strict.text
    assert strict.text.endswith("It is the last one, so the run may be rising still.")
    assert stopping_point("run", curve, failed={"2B"}, margin=0.05).row.title == "3B"


def test_milestones_after_a_clear_fall_are_no_place_to_stop():
    falling = report("run", [[0.3] * 5, [0.7] * 5, [0.5] * 5], np.random.default_rng(3))
    stop, _ = judge_alone("run", falling)
    assert (stop.row.title, [one.fallen for one in stop.candidates]) == ("2B", [False, False, True])
    assert "After 2B the Average clearly falls (3B)." in stop.text and not stop.last
