"""What another training seed changes: taken from replicates, else assumed; and how often a page then is wrong."""

import dataclasses

import numpy as np
import pytest

from evaluator.stats.variance import Part
from evaluator.verdicts.contrasts import BETTER, SUSPECT, WORSE
from evaluator.verdicts.judge import judge
from evaluator.verdicts.seeds import SEED_SD, Blend, Scatter, average_runs, scatter_between_runs
from tests.evaluator.verdicts.pages import report

CLAIMS = (BETTER, WORSE)


def runs(drawn, sd: float, names=("a1", "a2", "b1", "b2"), milestones=1, chance=0.6) -> dict:
    """Runs that differ by their training only, which moves each benchmark by `sd`."""
    base = report("base", [], drawn)
    return {
        name: report(name, [drawn.normal(chance, sd, 5) for _ in range(milestones)], drawn, base=base) for name in names
    }


@pytest.mark.parametrize("together", [False, True], ids=["each-benchmark", "all-alike"])
def test_blends_that_differ_by_training_noise_only_are_rarely_called_better_with_two_replicates(together):
    """Training moves scores by as much as, and twice as much as, answers do; 2 and 1 points at the study's sizes."""
    drawn, pages = np.random.default_rng(11), 80
    wrong = answers = 0
    for page in range(pages):
        sd = (0.025, 0.05)[page % 2]
        found = runs(drawn, sd)
        if together:
            base = next(iter(found.values()))
            found = {name: report(name, [[drawn.normal(0.6, sd)] * 5], drawn, base=base) for name in found}
        judgement = judge(found, replicates={"a": ["a1", "a2"], "b": ["b1", "b2"]})
        wrong += any(contrast.verdict in CLAIMS for contrast in judgement.between)
        answers += any(contrast.in_answers in CLAIMS for contrast in judgement.between)
    assert wrong / pages <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / pages)
    assert answers / pages > (0.4 if together else 0.1)  # what is claimed of the checkpoints is true of them only


def test_replicates_are_one_blend_whose_scores_are_the_means_of_theirs():
    found = runs(np.random.default_rng(2), 0.05, milestones=2)
    judgement = judge(found, replicates={"a": ["a1", "a2"], "b": ["b1", "b2"]})
    assert list(judgement.reports) == ["a", "b"] and list(judgement.within) == list(found)
    one, other, mean = (r.milestones[1] for r in (found["a1"], found["a2"], judgement.reports["a"]))
    for mine, theirs, both in zip(one.result.tasks, other.result.tasks, mean.result.tasks, strict=True):
        assert both.summary.mean == pytest.approx((mine.summary.mean + theirs.summary.mean) / 2)
        assert both.table.shape == (400, 2)
    assert mean.average.mean == pytest.approx((one.average.mean + other.average.mean) / 2)
    assert average_runs("a1", [found["a1"]]) is found["a1"]


def test_scatter_is_pooled_over_blends_in_each_column_with_its_degrees_of_freedom():
    found = runs(np.random.default_rng(4), 0.1, names=("a1", "a2", "a3", "b1", "b2", "c1"))
    blends = [Blend(name, {run: found[run] for run in found if run[0] == name}) for name in "abc"]
    scatters = scatter_between_runs(blends, [10**9], {})
    scores = {name: found[name].milestones[0].average.mean for name in found}
    squares = sum(
        (scores[run] - np.mean([scores[other] for other in scores if other[0] == run[0]])) ** 2 for run in scores
    )
    whole = scatters.of("Average")
    assert whole.part.freedom == 3 and whole.part.variance == pytest.approx(squares / 3)
    assert scatters.replicates == {"a": 3, "b": 2} and "3 degrees of freedom" in scatters.text
    # Binomial: what answers alone scatter, a run's part of the difference of two.
    knowledge = scatters.of(found["a1"].columns[0][1])
    chances = [found[name].milestones[0].result.tasks[0].summary.mean for name in ("a1", "a2", "a3", "b1", "b2")]
    assert knowledge.answers == pytest.approx(np.mean([p * (1 - p) for p in chances]) / 400, rel=0.15)
    # A run whose evaluation may have failed says nothing of training in that column, nor of the Average.
    without = scatter_between_runs(blends, [10**9], {"a3": {(found["a1"].columns[0][1], "1B")}})
    assert without.of("Average").part.freedom == without.of(found["a1"].columns[0][1]).part.freedom == 2
    assert without.of(found["a1"].columns[1][1]).part.freedom == 3


def test_what_answers_scatter_is_not_counted_twice():
    scatter = Scatter(Part(0.5, 2), answers=0.3)
    answers, training = scatter.parts(Part(0.7, 100), trainings=2)
    assert (answers.variance, training.variance, training.freedom) == (pytest.approx(0.1), 1.0, 2)
    assert Scatter(Part(0.25)).parts(Part(0.7, 100), trainings=2)[0].variance == 0.7


def test_without_replicates_half_a_point_is_assumed_and_what_is_asked_for_goes_before_replicates():
    found = runs(np.random.default_rng(5), 0.05)
    alone = judge({"a": found["a1"], "b": found["b1"]}).scatters
    assert alone.of("Average").sd == SEED_SD == 0.005
    assert "assumed to move every score, the Average too, by 0.5 points" in alone.text
    asked = judge(found, replicates={"a": ["a1", "a2"], "b": ["b1", "b2"]}, seed_sd=0.01).scatters
    assert asked.of("Average").sd == 0.01 and "2 degrees of freedom" in asked.text


def test_a_replicate_that_went_less_far_tells_of_training_where_it_ends_and_is_in_no_later_mean():
    found = runs(np.random.default_rng(6), 0.05, milestones=3)
    found["a2"] = dataclasses.replace(found["a2"], rows=found["a2"].rows[:3])
    judgement = judge(found, replicates={"a": ["a1", "a2"], "b": ["b1"], "c": ["b2"]})
    assert judgement.scatters.at == "1B" and judgement.title(judgement.last_common) == "3B"
    last = [row.result.tasks[0].summary.repeats for row in judgement.reports["a"].milestones]
    assert last == [2, 1, 1]
    assert [one.row.result.tasks[0].summary.repeats for one in judgement.stop("a").candidates] == [1, 1, 1]


def test_a_failed_evaluation_of_one_replicate_leaves_its_blend_without_a_verdict():
    drawn = np.random.default_rng(7)
    found = runs(drawn, 0.0, milestones=2)
    lost = [[0.6] * 5, [0.02, 0.6, 0.6, 0.6, 0.6]]
    found["a2"] = report("a2", lost, drawn, base=found["a1"])
    judgement = judge(found, replicates={"a": ["a1", "a2"], "b": ["b1", "b2"]})
    at_the_end = {c.column: c.verdict for c in judgement.between if c.at == "2B"}
    assert at_the_end["Average"] == at_the_end[found["a1"].columns[0][1]] == SUSPECT
    assert any("of a2 at 2B may be a failed evaluation" in flag.title for flag in judgement.flags)
