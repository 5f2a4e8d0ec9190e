"""When a score of 0 is a checkpoint's own: chance explains it, or nothing was answered to the end."""

import pytest

from evaluator.harness.sample import Sample
from evaluator.harness.zero import chance_of_zero, check_zero
from evaluator.report.pages import lost_text
from evaluator.results.scores import TaskResult
from evaluator.suites.catalogue import HARNESS, STUDY
from nemo_distill.study.tables import load_study

BY_TITLE = {benchmark.title: benchmark for benchmark in STUDY.benchmarks}


def zero(title: str, *, cut_share: float = 0.0, empty: float | None = None, suite=STUDY) -> TaskResult:
    """What becomes of a zero of which these shares of answers were cut and are empty; None: no answers are kept."""
    benchmark = next(one for one in suite.benchmarks if one.title == title)
    result = TaskResult(benchmark.task, (), (), 100.0, cut_share, empty_share=empty or 0.0)
    texts = [] if empty is None else ["" if place < 1_000 * empty else "so" for place in range(1_000)]
    samples = [Sample(question=str(place), repeat=0, score=0.0, text=text) for place, text in enumerate(texts)]
    return check_zero(benchmark, suite, result, samples)


def test_the_lowest_scores_are_those_of_the_studys_pruned_student():
    pruned = load_study().reference("pruned")
    for title, benchmark in BY_TITLE.items():
        assert benchmark.lowest == pytest.approx(pruned.score(title).estimate.mean), title


def test_the_pruned_students_zeros_in_aime_and_scicode_are_explained_by_chance():
    assert zero("AIME 2025", empty=0.0).zero_chance == pytest.approx(0.0213, abs=1e-4)  # of four in 960
    assert lost_text(zero("AIME 2025", empty=0.0)) == "0 by chance in 2.1% or more"
    assert zero("SciCode", empty=0.0).zero_chance == pytest.approx(0.0669, abs=1e-4)


@pytest.mark.parametrize("title", ["MMLU", "MMLU Pro", "GPQA Diamond", "LCB v6", "MATH-500", "IFEval"])
def test_other_zeros_are_of_failed_evaluations_and_their_probability_is_said(title):
    for empty in (None, 0.0):
        with pytest.raises(ValueError, match=rf"{title} is 0: with the lowest .* has failed"):
            zero(title, empty=empty)


def test_a_checkpoint_that_never_ends_an_answer_has_zero_everywhere():
    for title in BY_TITLE:
        assert zero(title, cut_share=1.0, empty=1.0).zero_chance == 1.0
        assert zero(title, cut_share=1.0).zero_chance == 1.0
    assert zero("LCB v6", cut_share=0.95, empty=0.95).zero_chance == pytest.approx(chance_of_zero(0.014, 91))


def test_answers_that_are_empty_without_having_been_cut_are_of_a_failed_evaluation():
    for title in BY_TITLE:
        with pytest.raises(ValueError, match="all its 1000 answers are empty: it did not work"):
            zero(title, empty=1.0, cut_share=0.1)
    with pytest.raises(ValueError, match="AIME 2025 is 0 and all its"):
        zero("AIME 2025", empty=1.0, suite=HARNESS)


def test_a_suite_in_which_a_zero_is_nothing_special_takes_it_without_a_probability():
    assert zero("AIME 2025", empty=0.2, suite=HARNESS).zero_chance is None
