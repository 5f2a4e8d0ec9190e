"""The family of a page: the Average first, benchmarks behind it; nothing else on the page changes a verdict."""

import numpy as np
import pytest

from evaluator.verdicts.contrasts import BETTER, EXPLORED, LEVEL, OPEN, WORSE
from evaluator.verdicts.gate import _through_gate
from evaluator.verdicts.judge import judge
from tests.evaluator.verdicts.pages import report


def of(judgement, one: str, other: str, at: str) -> dict:
    """The contrasts of a pair, by column."""
    pairs = ({one, other} == {c.one, c.other} and c.at == at for c in judgement.between)
    return {c.column: c for c, wanted in zip(judgement.between, pairs, strict=True) if wanted}


@pytest.fixture(scope="module")
def page():
    """Three blends at two milestones: high is better by the first benchmark; mixed as much better as worse."""
    drawn = np.random.default_rng(3)
    low = report("low", [[0.5] * 5, [0.5] * 5], drawn)
    high = report("high", [[0.5] * 5, [0.9, 0.55, 0.5, 0.5, 0.5]], drawn, base=low)
    mixed = report("mixed", [[0.7] * 5, [0.8, 0.2, 0.5, 0.5, 0.5]], drawn, base=low)
    return {"low": low, "high": high, "mixed": mixed}


def test_benchmarks_are_tested_only_where_the_average_stands(page):
    judgement = judge(page)
    gate = of(judgement, "low", "high", "2B")
    knowledge = next(iter(gate))
    assert gate["Average"].in_answers == gate["Average"].verdict == gate[knowledge].verdict == WORSE
    closed = of(judgement, "low", "mixed", "2B")
    assert closed["Average"].verdict == closed["Average"].in_answers == OPEN
    assert abs(closed[knowledge].difference.mean) > 0.2 and closed[knowledge].p_value < 1e-6
    assert {contrast.verdict for column, contrast in closed.items() if column != "Average"} == {EXPLORED}
    assert {contrast.verdict for contrast in of(judgement, "low", "mixed", "1B").values()} == {EXPLORED}


def test_a_verdict_on_a_pair_depends_on_no_other_milestone_and_on_the_number_of_pairs_only(page):
    def last(names, milestones=2):
        reports = {name: page[name] for name in names}
        if milestones == 1:
            keep = {name: (*one.rows[:2], one.rows[-1]) for name, one in reports.items()}
            reports = {name: type(one)(one.title, one.suite, keep[name]) for name, one in reports.items()}
        return of(judge(reports), "low", "high", "2B")

    two, alone = last(("low", "high")), last(("low", "high"), milestones=1)
    assert two == alone
    three = last(("low", "high", "mixed"))
    for column, contrast in two.items():
        assert three[column].difference == contrast.difference
        assert three[column].p_value == pytest.approx(min(1, 3 * contrast.p_value), rel=1e-9)


def test_another_seed_included_never_claims_more_and_without_training_noise_claims_the_same_of_averages(page):
    for seed_sd in (0.0, 0.005, 0.05):
        for contrast in judge(page, seed_sd=seed_sd).between:
            if contrast.at == "2B":
                seed = contrast.another_seed
                assert seed.stderr >= contrast.difference.stderr - 1e-12
                assert contrast.verdict not in (BETTER, WORSE) or contrast.in_answers == contrast.verdict
                assert contrast.column != "Average" or seed.p_value >= contrast.p_value
                if seed_sd == 0 and contrast.column == "Average":
                    assert seed.p_value == pytest.approx(contrast.p_value)
    # 40 points on one of five benchmarks are eight of the Average, which trainings that differ by five leave open.
    assert of(judge(page, seed_sd=0.05), "low", "high", "2B")["Average"].verdict == OPEN


def test_at_most_one_page_in_twenty_has_a_false_verdict_however_many_true_differences_stand_beside():
    """Five blends, eight benchmarks; of `true` pairs the Average differs for sure, by one benchmark of the eight."""
    drawn, pages = np.random.default_rng(8), 1000
    for true in (0, 5, 10):
        wrong = 0
        for _ in range(pages):
            p_values = drawn.random((10, 9))
            p_values[:true, [0, 8]] = 0.0
            for pair, own in enumerate(p_values):
                adjusted, tested = _through_gate(list(own), 10, closed=False)
                claimed = [shown and p < LEVEL for p, shown in zip(adjusted, tested, strict=True)]
                if any(claimed[1:8]) or (pair >= true and any(claimed)):
                    wrong += 1
                    break
        assert wrong / pages <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / pages)
        assert true < 10 or wrong / pages > LEVEL / 2  # and no more cautious than it has to be
