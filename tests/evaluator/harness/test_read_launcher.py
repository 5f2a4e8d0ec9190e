"""What the study's containers leave is read in each harness's own form: its scale, its split, its repeats."""

import logging
from dataclasses import replace

import pytest

from evaluator.harness.read import read_launcher
from evaluator.results.pairs import difference_p, is_paired
from evaluator.stats.scores import summarize
from evaluator.suites.catalogue import STUDY
from tests.evaluator.harness.left_for_tests import DATA, SMALL, edit_json, edit_line, edit_yaml, left_behind

GPQA, IFEVAL, SCICODE = "ns_gpqa.2/artifacts", "ns_ifeval.6/artifacts", "ns_scicode.7/artifacts"


@pytest.fixture
def left(tmp_path):
    return left_behind(tmp_path / "nemo_evaluator")


def read(folder, suite=SMALL, **more) -> dict:
    """Readings by title."""
    readings = read_launcher(folder, suite, model_id="80B", started=0, **more)
    return dict(zip((benchmark.title for benchmark in suite.benchmarks), readings, strict=True))


def only(title: str):
    """The small suite with one benchmark; its job is number 0 then."""
    return replace(SMALL, benchmarks=tuple(one for one in SMALL.benchmarks if one.title == title))


def alone(left, job: str):
    """The folder of an invocation that holds this job alone."""
    task = job.partition("/")[0].rpartition(".")[0]
    (left.parent / "alone").mkdir()
    (left / job).parent.rename(left.parent / "alone" / f"{task}.0")
    return left.parent / "alone"


def test_every_benchmark_is_read_from_its_answers_whatever_scale_its_score_is_written_on(left):
    readings = read(left)
    assert {title: round(one.result.summary.mean, 6) for title, one in readings.items()} == {
        "MMLU": 0.75,
        "MMLU Pro": 0.75,
        "GPQA Diamond": 0.666667,
        "LCB v6": 0.75,
        "AIME 2025": 0.5,
        "MATH-500": 0.5,
        "IFEval": 0.6,
        "SciCode": 0.5,
    }
    assert all(one.result.has_answers for one in readings.values())
    shapes = [one.result.table.shape for one in readings.values()]
    assert shapes == [(benchmark.questions, benchmark.repeats) for benchmark in SMALL.benchmarks]


def test_where_answers_say_that_a_score_is_on_the_other_scale_they_decide(left):
    def rescaled(factor):
        def change(record):
            for metrics in record["results"]["groups"].values():
                for metric in metrics["metrics"].values():
                    for score in metric["scores"].values():
                        score["value"] *= factor

        return change

    before = {title: one.result for title, one in read(left).items()}
    for job in left.iterdir():
        if job.name.startswith("ns_"):
            edit_yaml(job / "artifacts" / "results.yml", rescaled(0.01))
    edit_yaml(left / "lm-evaluation-harness.mmlu.0/artifacts/results.yml", rescaled(100))
    assert {title: one.result for title, one in read(left).items()} == before


def test_a_percentage_that_was_rounded_is_the_score_and_one_that_is_an_answer_off_is_not(left):
    def says(value):
        def change(record):
            metric = record["results"]["groups"]["gpqa"]["metrics"]["pass@1[avg-of-2]"]
            metric["scores"]["symbolic_correct"]["value"] = value

        edit_yaml(left / GPQA / "results.yml", change)
        return read(left)["GPQA Diamond"].result.summary.mean

    assert says(66.67) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="checkpoint '80B': results.yml says gpqa_.* is 66.6, its answers 0.666667"):
        says(66.6)


def test_a_score_without_answers_is_on_the_scale_that_its_benchmark_says(left, caplog):
    for job in ("ns_ifeval.6", "ns_livecodebench.3", "ns_scicode.7"):
        for file in (left / job).rglob("output*.jsonl"):
            file.unlink()
    edit_json(left / SCICODE / "eval_factory_metrics.json", lambda record: record["response_stats"].update(
        count=12, successful_count=12, finish_reason={"stop": 9, "length": 3}
    ))  # fmt: skip
    with caplog.at_level(logging.WARNING):
        readings = read(left)
    assert "IFEval: no answers were kept" in caplog.text
    ifeval, livecodebench, scicode = (readings[title].result for title in ("IFEval", "LCB v6", "SciCode"))
    assert not ifeval.has_answers and (ifeval.summary.mean, ifeval.summary.questions) == (0.6, 3)
    assert ifeval.summary.stderr == pytest.approx((0.24 / 3) ** 0.5)
    assert livecodebench.summary.mean == 0.75
    assert scicode.summary.stderr == pytest.approx((0.25 / 2) ** 0.5)  # over its problems
    assert scicode.cut_share == 0.25


def test_the_form_of_nemo_skills_before_july_2025_says_the_same(left):
    now = read(left)["GPQA Diamond"].result
    then = read(DATA / "nemo_skills_before_july_2025", only("GPQA Diamond"))["GPQA Diamond"].result
    assert (then.scores, then.questions, then.cut_share) == (now.scores, now.questions, now.cut_share)


def test_cut_and_empty_answers_are_counted_as_the_harness_says(left):
    gpqa = read(left)["GPQA Diamond"].result
    assert (gpqa.cut_share, gpqa.empty_share) == (pytest.approx(1 / 6), pytest.approx(1 / 6))
    assert gpqa.mean_tokens == pytest.approx((4086 + 8192 + 2255 + 3008 + 2332 + 1200) / 6)


def test_ifeval_is_paired_by_prompts_whose_mean_is_the_mean_of_its_four_accuracies(left):
    ifeval = read(left)["IFEval"].result
    file = left / IFEVAL / "eval-results/ifeval/output.jsonl"

    def better(record):
        for kind in ("strict_eval", "loose_eval"):
            record[kind] |= {"follow_all_instructions": True, "follow_instruction_list": [True]}

    edit_line(file, 2, better)
    strict, loose = (1 + 1) / 3, (1 + 1) / 3  # prompts of which all is followed
    value = 25 * (strict + loose + 4 / 5 + 4 / 5)
    edit_yaml(left / IFEVAL / "results.yml", lambda record: record["results"]["groups"]["ifeval"]["metrics"]["pass@1"][
        "scores"]["average_score"].update(value=value))  # fmt: skip
    other = read(left)["IFEval"].result
    assert other.summary.mean == pytest.approx(value / 100)
    assert is_paired(ifeval, other) and ifeval.questions == other.questions == ("1000", "1001", "1012")
    # The harness's own accuracies: a prompt with three instructions counts for three of five.
    assert [row[0] for row in other.scores] == pytest.approx([0.6, 0.8, 0.8])
    assert 0 < difference_p(other, ifeval) <= 1


def test_scicodes_questions_are_its_sub_steps_and_its_error_is_over_its_problems(left):
    reading = read(left)["SciCode"]
    result = reading.result
    assert result.clusters == ("4", "4", "4", "76", "76", "76")
    assert result.summary.stderr == summarize(result.table, result.clusters).stderr
    question = next(question for question in reading.questions if question.question == "4.1")
    assert question.prompt == "Simulate 4." and "def f_4_1" in question.answers[0].text


def test_a_sub_step_that_did_not_fit_the_context_is_wrong_and_empty_and_its_request_is_not_missed(left):
    result = read(left)["SciCode"].result
    assert dict(zip(result.questions, result.scores, strict=True))["4.3"] == (1.0, 0.0)
    assert result.empty_share == pytest.approx(2 / 12)
    folder = left / SCICODE / "eval-results/scicode"
    first, second = folder / "output-rs0.jsonl", folder / "output-rs1.jsonl"
    texts = first.read_text(), second.read_text()
    first.write_text(texts[1])
    second.write_text(texts[0])
    with pytest.raises(ValueError, match="is 50.0, its answers 0.6"):  # over the five sub-steps of the first repeat
        read(left)
    edit_yaml(left / SCICODE / "results.yml", lambda record: record["results"]["groups"]["scicode"]["metrics"][
        "pass@1[avg-of-2]"]["scores"]["subtask_accuracy"].update(value=60.0))  # fmt: skip
    assert read(left)["SciCode"].result.summary.mean == 0.5


def test_scicode_of_another_split_is_refused(left):
    small = only("SciCode")
    study = replace(small, benchmarks=(replace(STUDY.benchmarks[-1], repeats=2),))
    with pytest.raises(ValueError, match="10 of them answered; its questions x repeats are 674, but for 2"):
        read(alone(left, SCICODE), study)


def test_mmlu_is_read_from_the_files_of_its_subjects(left):
    reading = read(left)["MMLU"]
    question = next(one for one in reading.questions if one.question == "high_school_biology/1")
    assert question.prompt == "high_school_biology 1?\nA. x\nB. y\nC. z\nD. w"
    assert (question.reference, question.answers[0].text, question.answers[0].score) == ("B", "B", 1.0)


def test_requests_that_failed_and_were_made_again_are_mentioned_and_do_no_harm(left, caplog):
    with caplog.at_level(logging.WARNING):
        gpqa = read(left)["GPQA Diamond"].result
    assert gpqa.failed_requests == 1
    assert "GPQA Diamond: 1 of 7 requests failed" in caplog.text


def test_a_job_that_met_its_time_limit_and_went_on_is_believed_where_its_table_is_whole(left):
    def resumed(record):
        record["evaluation"]["total_runs"] = 2
        record["response_stats"] |= {"count": 9, "successful_count": 8}  # two were under way when it was cut

    edit_json(left / GPQA / "eval_factory_metrics.json", resumed)
    assert read(left)["GPQA Diamond"].result.has_answers
    edit_json(
        left / GPQA / "eval_factory_metrics.json", lambda record: record["response_stats"].update(successful_count=5)
    )
    with pytest.raises(ValueError, match="5 of them answered; its questions x repeats are 6"):
        read(left)


def test_where_an_executor_leaves_no_exit_code_the_launchers_state_counts(left):
    states = dict.fromkeys(range(len(SMALL.benchmarks)), "success")
    (left / "ns_ifeval.6/logs/stage.exit").unlink()
    assert len(read(left, states=states)) == 8
    with pytest.raises(ValueError, match="ns_ifeval is 'killed'"):
        read(left, states=states | {6: "killed"})
    with pytest.raises(ValueError, match="ns_ifeval has not ended"):
        read(left)


@pytest.mark.parametrize(("written", "error"), [(20.0, 0.2), (0.2, (0.24 / 3) ** 0.5), (2000.0, (0.24 / 3) ** 0.5)])
def test_an_error_is_on_the_scale_of_its_score_and_the_largest_where_it_cannot_be(left, written, error):
    (left / IFEVAL / "eval-results/ifeval/output.jsonl").unlink()
    edit_yaml(left / IFEVAL / "results.yml", lambda record: record["results"]["groups"]["ifeval"]["metrics"]["pass@1"][
        "scores"]["average_score"].update(stats={"stderr": written}))  # fmt: skip
    summary = read(left)["IFEval"].result.summary
    assert (summary.mean, summary.stderr) == (0.6, pytest.approx(error))


def test_an_error_over_runs_is_not_taken_for_one_over_questions(left):
    for file in (left / "ns_livecodebench.3").rglob("output*.jsonl"):
        file.unlink()

    def with_error(record):
        metric = record["results"]["groups"]["livecodebench"]["metrics"]["pass@1[avg-of-2]"]
        metric["scores"]["accuracy"]["stats"] = {"stderr": 1.0}

    edit_yaml(left / "ns_livecodebench.3/artifacts/results.yml", with_error)
    stderr = read(left)["LCB v6"].result.summary.stderr
    assert stderr == pytest.approx((0.75 * 0.25 / 2) ** 0.5)
