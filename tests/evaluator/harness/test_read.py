import dataclasses
import json
import time
from pathlib import Path

import pytest
import yaml

from evaluator.harness.read import read_direct
from evaluator.suites.catalogue import OFFLINE

SUITE = dataclasses.replace(OFFLINE, benchmarks=(dataclasses.replace(OFFLINE.benchmarks[2], questions=3, repeats=2),))
SCORES = {"a": [1.0, 0.0], "b": [1.0, 1.0], "c": [0.0, 0.0]}


def read(folder, suite, *, model_id):
    return [reading.result for reading in read_direct(folder, suite, model_id=model_id, started=0)]


@pytest.fixture
def folder(tmp_path):
    """What nemo-evaluator and our runner leave of a sound evaluation."""
    scores = {"symbolic_correct": {"value": 0.5, "stats": {"count": 6}}}
    record = {
        "target": {"api_endpoint": {"model_id": "pruned"}},
        "results": {"tasks": {"offline_math": {"metrics": {"pass_at_1_avg-of-2": {"scores": scores}}}}},
    }
    write_yaml(tmp_path, record)
    stats = {"response_stats": {"count": 6, "successful_count": 6}}
    (tmp_path / "eval_factory_metrics.json").write_text(json.dumps(stats))
    write_samples(tmp_path, SCORES)
    return tmp_path


def write_yaml(folder, record):
    (folder / "results.yml").write_text(yaml.safe_dump(record))


def write_samples(folder, scores):
    lines = [
        json.dumps(
            {
                "task": "offline_math",
                "id": question,
                "repeat": repeat,
                "score": score,
                "prompt": "",
                "reference": "",
                "response": f"answer {question}{repeat}",
                "tokens": 10,
                "finish_reason": finish,
            }
        )
        for question, row in scores.items()
        for repeat, score in enumerate(row)
        for finish in ["length" if (question, repeat) == ("c", 1) else "stop"]
    ]
    (folder / "samples.jsonl").write_text("\n".join(lines) + "\n")


def test_a_sound_evaluation_is_a_table_of_question_by_repeat(folder):
    (result,) = read(folder, SUITE, model_id="pruned")
    assert result.questions == ("a", "b", "c")
    assert result.scores == ((1.0, 0.0), (1.0, 1.0), (0.0, 0.0))
    assert result.summary.mean == 0.5
    assert result.mean_tokens == 10
    assert result.cut_share == pytest.approx(1 / 6)


def test_another_models_answers_are_refused(folder):
    with pytest.raises(ValueError, match="about the model 'pruned', not 'teacher'"):
        read(folder, SUITE, model_id="teacher")


def test_success_without_results_is_refused(folder):
    (folder / "results.yml").unlink()
    with pytest.raises(ValueError, match=r"left no results.yml"):
        read(folder, SUITE, model_id="pruned")


@pytest.mark.parametrize(("count", "successful"), [(6, 5), (7, 7), (4, 4), (0, 0)])
def test_requests_that_failed_or_were_not_made_are_refused(folder, count, successful):
    stats = {"response_stats": {"count": count, "successful_count": successful}}
    (folder / "eval_factory_metrics.json").write_text(json.dumps(stats))
    with pytest.raises(ValueError, match=f"made {count} requests, {successful} of them answered"):
        read(folder, SUITE, model_id="pruned")


def test_a_request_that_failed_and_was_made_again_is_mentioned_and_does_no_harm(folder, caplog):
    stats = {"response_stats": {"count": 7, "successful_count": 6}}
    (folder / "eval_factory_metrics.json").write_text(json.dumps(stats))
    (result,) = read(folder, SUITE, model_id="pruned")
    assert (result.summary.mean, result.failed_requests) == (0.5, 1)
    assert "Math: 1 of 7 requests failed" in caplog.text
    stats = {"response_stats": {"count": 6, "successful_count": 6}, "asking": {"asked_again": {"503": 2, "429": 1}}}
    (folder / "eval_factory_metrics.json").write_text(json.dumps(stats))
    (result,) = read(folder, SUITE, model_id="pruned")
    assert result.failed_requests == 3


def test_a_wrong_number_of_repeats_is_refused(folder):
    with pytest.raises(ValueError, match="its questions x repeats are 12"):
        read(folder, SUITE.with_repeats(4), model_id="pruned")


def test_a_lost_answer_is_refused(folder):
    write_samples(folder, SCORES | {"b": [1.0]})
    with pytest.raises(ValueError, match="not the whole table"):
        read(folder, SUITE, model_id="pruned")


def test_a_score_that_its_answers_do_not_give_is_refused(folder):
    write_samples(folder, SCORES | {"c": [1.0, 1.0]})
    with pytest.raises(ValueError, match=r"symbolic_correct is 0.5, its answers 0.83"):
        read(folder, SUITE, model_id="pruned")


def test_a_score_under_another_name_is_refused(folder):
    record = yaml.safe_load((folder / "results.yml").read_text())
    metrics = record["results"]["tasks"]["offline_math"]["metrics"]
    metrics["pass_at_1"] = metrics.pop("pass_at_1_avg-of-2")
    write_yaml(folder, record)
    with pytest.raises(ValueError, match="no score offline_math_pass_at_1_avg-of-2_symbolic_correct"):
        read(folder, SUITE, model_id="pruned")


def test_an_evaluation_in_a_folder_of_an_earlier_one_is_refused(folder):
    with pytest.raises(ValueError, match="is from before this evaluation began: the folder had been used"):
        read_direct(folder, SUITE, model_id="pruned", started=time.time() + 10)
    metrics = json.loads((folder / "eval_factory_metrics.json").read_text())
    (folder / "eval_factory_metrics.json").write_text(json.dumps(metrics | {"evaluation": {"total_runs": 2}}))
    with pytest.raises(ValueError, match="was used for 2 evaluations"):
        read(folder, SUITE, model_id="pruned")


def test_a_question_that_could_not_be_asked_is_wrong_empty_and_counted_up_to_a_bound(folder, caplog):
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    why = "400 over the model's context"
    lines[-1] |= {"finish_reason": "unasked", "unasked": why, "response": "", "empty": True, "tokens": 0}
    lines[1] |= {"empty": True}  # cut while thinking: there is text, and no answer in it
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    stats = {"response_stats": {"count": 6, "successful_count": 5}}
    (folder / "eval_factory_metrics.json").write_text(json.dumps(stats))
    (result,) = read(folder, dataclasses.replace(SUITE, max_unasked=1 / 6), model_id="pruned")
    assert (result.scores[2], result.empty_share) == ((0.0, 0.0), pytest.approx(2 / 6))
    assert result.unasked_share == 1 / 6
    assert "Math: 1 of 6 answers could not be asked for" in caplog.text
    with pytest.raises(
        ValueError, match=r"1 of the 6 answers to Math .*\(400 over the model's context\).*unasked=0.05"
    ):
        read(folder, SUITE, model_id="pruned")


def test_a_zero_is_believed_where_something_was_answered_and_not_where_all_answers_are_empty(folder):
    wrong = {question: [0.0, 0.0] for question in SCORES}
    write_samples(folder, wrong)
    record = yaml.safe_load((folder / "results.yml").read_text())
    metrics = record["results"]["tasks"]["offline_math"]["metrics"]
    metrics["pass_at_1_avg-of-2"]["scores"]["symbolic_correct"]["value"] = 0.0
    write_yaml(folder, record)
    (result,) = read(folder, SUITE, model_id="pruned")
    assert result.summary.mean == 0
    with pytest.raises(ValueError, match="Math is 0: of the suite 'offline' that is a failed evaluation"):
        read(folder, dataclasses.replace(SUITE, may_score_zero=False), model_id="pruned")
    lines = [json.loads(line) | {"response": ""} for line in (folder / "samples.jsonl").read_text().splitlines()]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match="Math is 0 and all its 6 answers are empty: it did not work"):
        read(folder, SUITE, model_id="pruned")


def test_scicode_against_a_dead_endpoint_ends_well_with_a_zero_and_is_refused():
    scicode = dataclasses.replace(
        SUITE.benchmarks[0], task="scicode", metric="steps_pass@1", score="steps_pass@1", repeats=1, harness=""
    )
    suite = dataclasses.replace(SUITE, benchmarks=(scicode,))
    recorded = Path(__file__).parents[1] / "data" / "scicode_dead_endpoint"
    written = yaml.safe_load((recorded / "results.yml").read_text())["results"]["tasks"]["scicode"]["metrics"]
    assert written["steps_pass@1"]["scores"]["steps_pass@1"]["value"] == 0
    with pytest.raises(ValueError, match="made 0 requests, 0 of them answered; its questions x repeats are 3"):
        read(recorded, suite, model_id="debug")


def test_where_each_repeat_has_a_right_answer_of_its_own_all_are_named_and_whose_question_is_shown(folder):
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    for line in lines:
        line["reference"] = "AC"[line["repeat"]] if line["id"] == "a" else "B"
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (reading,) = read_direct(folder, SUITE, model_id="pruned", started=0)
    assert [question.reference for question in reading.questions] == [
        "A / C, by repeat; the question shown is that of the first", "B", "B",
    ]  # fmt: skip


def test_what_the_adapter_could_not_ask_is_counted_alike(folder):
    stats = {"count": 6, "successful_count": 6, "finish_reason": {"stop": 5, "unasked": 1}}
    asking = {"asked_again": {}, "unasked": 1, "why": ["413 too large"]}
    metrics = {"response_stats": stats, "asking": asking}
    (folder / "eval_factory_metrics.json").write_text(json.dumps(metrics))
    (result,) = read(folder, dataclasses.replace(SUITE, max_unasked=0.2), model_id="pruned")
    assert result.unasked_share == 1 / 6
    with pytest.raises(ValueError, match=r"1 of the 6 answers .*\(413 too large\)"):
        read(folder, SUITE, model_id="pruned")


def test_our_own_tasks_may_have_been_sent_more_replies_than_they_took(folder):
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    lines[2] |= {"not_taken": 2}  # without choices, say
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for successful in (6, 7, 8):
        stats = {"response_stats": {"count": 9, "successful_count": successful}}
        (folder / "eval_factory_metrics.json").write_text(json.dumps(stats))
        (result,) = read(folder, SUITE, model_id="pruned")
        assert (result.summary.mean, result.failed_requests) == (0.5, 9 - successful)
    (folder / "eval_factory_metrics.json").write_text(
        json.dumps({"response_stats": {"count": 9, "successful_count": 9}})
    )
    with pytest.raises(ValueError, match="made 9 requests, 9 of them answered"):
        read(folder, SUITE, model_id="pruned")
