"""What a run costs in all, and what is left of it."""

import dataclasses
import re

import pytest

from nemo_distill.config.resolved import Evaluation
from nemo_distill.errors import UserError
from nemo_distill.outcome.suites import ask
from nemo_distill.plan.calibration import LEGEND
from nemo_distill.plan.estimate import Estimate, left_of
from nemo_distill.plan.figures import BENCH, FIGURES, STUDY, TWO_COPIES, TWO_GPUS
from nemo_distill.plan.gpus import GPUS
from nemo_distill.plan.tables import MEASURED_HERE, cost_remarks, cost_table, detectable_table, duration_in_words

SUITE = ask(Evaluation(suite="study")).loads


def estimate(**changes) -> Estimate:
    known = {"job": STUDY, "student_from": "as pruned", "segments": {"2.5B": 400, "80B": 12_400}, "loads": SUITE}
    return Estimate(**(known | changes))


def cells(table) -> dict[str, list[str]]:
    """The rows of a table by their first cell."""
    columns = [list(column.cells) for column in table.columns]
    return {row[0]: list(row[1:]) for row in zip(*columns, strict=True)}


def test_the_segments_add_up_to_the_run():
    whole = estimate()
    hours = sum(whole.segment_gpu_hours(label) for label in whole.segments)
    assert hours == pytest.approx(STUDY.gpu_hours(12_800))
    assert whole.segment_hours("2.5B") == pytest.approx(whole.segment_gpu_hours("2.5B") / 768)


def test_what_the_same_gpus_could_do_it_in_is_said_with_the_settings_for_it():
    lean = dataclasses.replace(STUDY, fused_loss=True, lean_activation=True)
    (sentence,) = [words for words, _ in cost_remarks(estimate(job=lean)) if "for the same GPUs: " in words]
    hours = [
        int(number.replace(",", "")) for number in re.findall(r"[\d,]+(?= GPU-hours ○ as asked| ○ with )", sentence)
    ]
    # as asked, bf16, teacher in FP8, both, in which nothing is unaligned, and gradients in bf16
    assert hours == sorted(hours, reverse=True) and len(hours) == 5
    assert sentence.count("layout.tensor_parallel=4") == 1 and sentence.count("distill.fp8=both") == 2
    assert sentence.endswith(
        "layout.tensor_parallel=2 distill.micro_batch_size=2 distill.fp8=both distill.gradients=bfloat16 (59 GiB)."
    )
    smallest = dataclasses.replace(lean, tensor_parallel=2, micro_batch_size=2, fp8="both", gradient_bytes=2)
    assert hours[-1] == round(smallest.gpu_hours(12_800))
    assert not any("for the same GPUs" in words for words, _ in cost_remarks(estimate(job=smallest)))


def test_what_is_done_is_not_left_to_be_spent():
    before, after = (cells(cost_table(estimate(done=frozenset(done)))) for done in ((), ("prune", "distill-2.5B")))
    assert before["distil"][:2] == ["7,679", "7,679"]
    assert after["distil"][:2] == ["7,679", "7,439"]
    assert after["prune"][:2] == ["8.0", "0"]


def test_small_figures_are_minutes_and_never_zero_unless_nothing_is_left():
    small = dataclasses.replace(STUDY, nodes=1, gpus_per_node=8, global_batch_size=8)
    table = cells(cost_table(estimate(job=small, segments={"0.1M": 1}, done=frozenset(["prune"]))))
    assert table["distil"][0].endswith((" s", " min")) and table["prune"][1] == "0"
    assert "GPU-hours as asked" not in " ".join(
        words for words, _ in cost_remarks(estimate(job=small, segments={"a": 1}))
    )


def test_what_is_left_is_of_the_steps_that_are_asked_for():
    whole = estimate(done=frozenset(["distill-2.5B"]))
    assert left_of(whole, ["prune", "world"]) == whole.parts[0][1]["prune"]
    assert left_of(whole, ["distill-2.5B"]) == 0
    everything = [step for _, steps in whole.parts for step in steps]
    assert left_of(whole, everything) == pytest.approx(
        sum(hours for _, steps in whole.parts for hours in steps.values()) - whole.segment_gpu_hours("2.5B")
    )


def test_teacher_pruned_student_and_every_milestone_are_evaluated():
    what, steps = estimate(asked_quantised=("evaluate-80B-fp8",), format="fp8").parts[-1]
    assert set(steps) == {f"evaluate-{label}" for label in ("teacher", "pruned", "2.5B", "80B", "80B-fp8")}
    assert "5 checkpoints" in what
    # The pruned student is taken to end no answer; FP8 has a rate of its own.
    assert steps["evaluate-pruned"] > steps["evaluate-teacher"] > steps["evaluate-80B"] > steps["evaluate-80B-fp8"]


def remarks(job) -> str:
    return " ".join(sentence for sentence, _ in cost_remarks(estimate(job=job)))


@pytest.mark.parametrize(
    "job",
    [
        STUDY,
        dataclasses.replace(STUDY, tensor_parallel=4, micro_batch_size=2),
        dataclasses.replace(TWO_COPIES, nodes=2),
        dataclasses.replace(TWO_GPUS, gpu=GPUS["H100"]),
    ],
)
def test_no_error_is_stated_over_a_layout_of_a_kind_that_never_ran_but_a_range(job):
    said = remarks(job)
    assert re.search(r"○ Such a layout has (never run|run in the study, with its own code, and never) ", said)
    assert "Largest errors" not in said and "●" not in said.replace(LEGEND, "") and "◐" not in said.replace(LEGEND, "")
    assert MEASURED_HERE in said
    assert cells(cost_table(estimate(job=job)))["distil"][-1] == "○"


def test_where_the_kind_ran_the_error_is_that_of_its_own_figures():
    alone = dataclasses.replace(BENCH, global_batch_size=16)
    assert "◐ Largest errors on figures of such layouts, on one GPU, that nothing was fitted to: 1% (time), 1% (" in (
        remarks(alone)
    )
    assert "Over several GPUs" not in remarks(alone)
    both = dataclasses.replace(TWO_GPUS, fp8="both")
    assert "◐ Largest errors on figures of such layouts, on 2 GPUs, that nothing was fitted to: 8% (time), 1% (" in (
        remarks(both)
    )
    eight = dataclasses.replace(TWO_COPIES, gpus_per_node=8, global_batch_size=64)
    said = "◐ Largest errors on figures of such layouts, on 2 GPUs and no more, that nothing was fitted to: 3% (time)"
    assert said in remarks(eight)
    assert "● Largest errors" in remarks(TWO_GPUS) and "● Largest errors" in remarks(TWO_COPIES)
    marks = {name: row[-1] for name, row in cells(cost_table(estimate(job=TWO_GPUS))).items()}
    assert (marks["distil"], marks["prune"]) == ("●", "○"), "the training ran; pruning at this size did not"
    assert marks["evaluate 4 checkpoints"] != "●"


def test_of_a_gpu_that_never_ran_its_abilities_and_its_rates_as_stated_are_said():
    l40s = remarks(dataclasses.replace(STUDY, gpu=GPUS["L40S"], nodes=1, fused_kernels=False))
    assert "The L40S has compute capability 8.9: FP8 can run and our kernels cannot run, in whose place" in l40s
    assert "0.37 and its memory is 0.26 times as fast as an H100's" in l40s
    a100 = remarks(dataclasses.replace(STUDY, gpu=GPUS["A100"]))
    assert "FP8 cannot run" in a100 and "distill.fp8" not in a100
    assert "compute capability" not in remarks(STUDY)


def test_what_is_said_of_the_two_gpus_that_ran_is_what_the_model_says_of_them():
    copies, modelled, shared = (int(number.replace(",", "")) for number in re.findall(r"\d+,\d+", MEASURED_HERE))
    seconds = {figure.job: figure.measured / 1e3 for figure in FIGURES if figure.measured in (5_971, 4_912)}
    assert copies == pytest.approx(131_072 / seconds[TWO_COPIES] / 2, rel=1e-3)
    assert shared == pytest.approx(65_536 / seconds[TWO_GPUS] / 2, rel=1e-3)
    assert modelled == round(TWO_COPIES.tokens_per_second)


def test_a_gap_of_two_points_takes_the_questions_that_make_it_detectable():
    from evaluator.stats.power import detectable_difference

    rows = cells(detectable_table(SUITE))
    assert rows["AIME 2025"][:4] == ["30", "32x", "17.8", "17.0"]
    enough = int(rows["AIME 2025"][4].replace(",", ""))
    assert detectable_difference(enough, 32) <= 0.02 < detectable_difference(enough - 1, 32)


@pytest.mark.parametrize(("hours", "words"), [(0.3125, "19 min"), (2.5, "2.5 h"), (60, "2.5 days")])
def test_durations_are_in_the_unit_that_reads_best(hours, words):
    assert duration_in_words(hours) == words


def test_a_suite_asked_more_often_has_more_answers_and_shows_smaller_differences():
    once, often = (
        ask(Evaluation(suite="offline", repeats=1)).loads[0],
        ask(Evaluation(suite="offline", repeats=16)).loads[0],
    )
    assert (once.answers, often.answers) == (40, 640)
    assert once.detectable > often.detectable > often.detectable_at_best == once.detectable_at_best
    with pytest.raises(UserError, match="offline"):
        ask(Evaluation(suite="ofline"))
