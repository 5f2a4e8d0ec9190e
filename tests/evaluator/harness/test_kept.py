"""Evaluations of which vLLM, or its stand-in, answers the questions: through the step, cut and gone on with."""

import dataclasses
import json
import threading
import time
from pathlib import Path

import pytest
import requests

from evaluator.harness import direct
from evaluator.harness.kept import KEPT, Answers, keeping, key_of
from evaluator.results.answers import ANSWERS_FILE, load_answers
from evaluator.results.scores import CheckpointResult
from evaluator.results.spent import load_spent
from evaluator.serve.processes import ProgramFailed
from evaluator.serve.server import Server
from evaluator.serve.vllm import find_vllm
from evaluator.suites.catalogue import OFFLINE
from nemo_distill.config.resolved import Evaluation
from nemo_distill.errors import PassingError, UserError
from nemo_distill.outcome.suites import ask, engine_of
from nemo_distill.run.facts import Beside
from nemo_distill.run.step import Spec
from nemo_distill.steps import evaluate
from tests.evaluator.conftest import TEACHER
from tests.evaluator.endpoints import Reply, replying, said
from tests.evaluator.serve.vllm_for_tests import installed

TASK = dataclasses.replace(OFFLINE, benchmarks=OFFLINE.benchmarks[2:3]).with_repeats(2)


@pytest.fixture
def environment(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr("evaluator.suites.catalogue._SUITES", {"offline": TASK})
    return installed(tmp_path / "venv")


@pytest.fixture
def spec(environment, tmp_path) -> Spec:
    """The step that evaluates the debug world's teacher by the stand-in."""
    engine = engine_of(find_vllm(str(environment)), TASK)
    config = {"checkpoint": str(TEACHER), "label": "tiny", "suite": "offline", "repeats": 2, "seed": 0, "threads": 1}
    folder = tmp_path / "evaluate-tiny" / "0123456789ab"
    folder.mkdir(parents=True)
    made = Spec(
        "evaluate-tiny", "nemo_distill.steps.evaluate", {**config, "engine": engine}, folder, {}, "0123456789ab"
    )
    made.save(Beside(vllm=str(environment)))
    return made


def kept(spec: Spec) -> list[dict]:
    """The answers in the step's folder."""
    return [json.loads(line) for line in (spec.folder / KEPT).read_text().splitlines()[1:]]


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_costs_what_was_in_flight_and_another_model_does_not_go_on(spec, monkeypatch):
    monkeypatch.setenv("STAND_IN_DIES", "30")
    with pytest.raises(
        PassingError, match=r"serving .* ended with 1; the end of its log:\n(.*\n)*EngineCore encounter"
    ):
        evaluate.main(spec)
    before = kept(spec)
    assert 0 < len(before) <= 30 and not (spec.folder / "results.json").exists()
    (first,) = {json.loads(one["reply"])["choices"][0]["message"]["content"].partition(":")[0] for one in before}

    with open(spec.folder / KEPT, "a") as file:  # as a process leaves it that is killed while it writes
        file.write(json.dumps(before[0])[:40])
    cut = (spec.folder / KEPT).read_bytes()
    monkeypatch.setenv("STAND_IN_SHIFT", "0.2")
    with pytest.raises(
        UserError, match=r"are kept are another model's: .* differ by 0.200 nats .*; remove '.*kept.jsonl'"
    ):
        evaluate.main(spec)
    assert (spec.folder / KEPT).read_bytes() == cut and not list(spec.folder.glob("attempt-*/asked_for.yml"))

    monkeypatch.setenv("STAND_IN_SHIFT", "0.01")
    monkeypatch.setenv("STAND_IN_DIES", str(80 - len(before)))  # no more than what is missing can be asked
    evaluate.main(spec)
    result = CheckpointResult.load(spec.folder)
    texts = [answer.text for question in load_answers(spec.folder / ANSWERS_FILE) for answer in question.answers]
    assert [task.table.shape for task in result.tasks] == [(40, 2)] and len(texts) == 80
    assert sum(text.startswith(first) for text in texts) == len(before)
    assert not (spec.folder / KEPT).exists() and not list(spec.folder.glob("attempt-*"))
    assert json.loads((spec.folder / "progress.json").read_text())["done"] == 80
    took = load_spent(spec.folder)
    assert (took.engine, took.gpus, took.in_flight, took.together) == ("vllm", 1, 128, True)
    assert took.version == find_vllm(spec.beside.vllm).version and took.model["model_type"] == "nemotron_h"
    assert [(one.questions, one.repeats, one.once) for one in took.benchmarks] == [(40, 2, False)], "it went on"


@pytest.mark.slow
def test_a_reply_in_another_models_name_ends_the_evaluation(spec, monkeypatch):
    monkeypatch.setenv("STAND_IN_SAYS", "another")
    with pytest.raises(PassingError, match=r"refused: 421 .*answers as 'another', not as 'tiny-0123456789ab'"):
        evaluate.main(spec)
    assert kept(spec) == [] and not (spec.folder / "results.json").exists()


def test_what_the_evaluation_was_asked_with_is_what_serves(spec, tmp_path, monkeypatch):
    spec.save(Beside(vllm=str(installed(tmp_path / "other", version="0.24.0"))))
    with pytest.raises(UserError, match=r"is vLLM 0.24.0 .*, and this evaluation is by 0.23.0 with --dtype bfloat16"):
        evaluate.main(spec)
    spec.save(Beside(vllm=str(tmp_path / "gone")))
    with pytest.raises(UserError, match="there is no such file or folder"):
        evaluate.main(spec)
    spec.save(Beside(vllm=str(tmp_path / "venv")))
    monkeypatch.setenv("STAND_IN", "memory")
    with pytest.raises(PassingError, match="ran out of GPU memory"):
        evaluate.main(spec)
    assert {path.name for path in spec.folder.glob("*.json*")} == {"spec.json"}


def test_version_and_options_are_in_the_protocol_and_where_it_lies_is_not(environment, tmp_path):
    def asked(**settings):
        return ask(Evaluation(suite="offline", **settings))

    one = asked(engine="vllm", vllm=str(environment))
    assert one.engine["version"] == "0.23.0" and one.engine["request"] == {"skip_special_tokens": False}
    assert "--no-enable-prefix-caching" in one.engine["options"]
    assert asked(engine="vllm", vllm=str(installed(tmp_path / "moved"))).protocol == one.protocol
    newer = asked(engine="vllm", vllm=str(installed(tmp_path / "newer", version="0.24.0")))
    assert len({one.protocol, newer.protocol, asked().protocol}) == 3
    assert asked().engine is None and asked().protocol == asked(engine="transformers").protocol
    assert "vLLM 0.23.0" in one.remarks[0] and asked().remarks == ()


def test_what_has_no_part_for_vllm_is_refused(environment, monkeypatch):
    with pytest.raises(UserError, match="evaluate.vllm=x says where vLLM is.*say evaluate.engine=vllm as well"):
        ask(Evaluation(suite="offline", vllm="x"))
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"'study' is asked in containers .*take evaluate.suite=study_here"):
        ask(Evaluation(suite="study", engine="vllm", vllm=str(environment)))
    with pytest.raises(UserError, match="MMLU asks for completions, which vLLM answers and our own server does not"):
        ask(Evaluation(suite="study_here"))


def test_a_server_that_answers_nothing_is_noticed_and_one_that_has_nothing_to_answer_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(direct, "SILENT_SECONDS", 0.1)
    with replying(lambda _: Reply(said("yes", model="m"), after=0.6)) as url:
        server = Server(root=url.removesuffix("/v1"), process=None, token="t")
        with keeping(server, tmp_path / KEPT, model_id="m", by={"request": {"x": 1}}, probed=[[-1.0]]) as front:
            direct.check_answering(front)
            words = {"json": {"seed": 1}, "headers": front.headers}
            asked = threading.Thread(target=requests.post, args=(front.url,), kwargs=words)
            asked.start()
            with pytest.raises(ProgramFailed, match="vLLM has questions and has answered none for"):
                for _ in range(300):
                    direct.check_answering(front)
                    time.sleep(0.02)
            asked.join()
            direct.check_answering(front)
            assert direct.answered(front) == 1
            assert requests.post(front.url, json={"seed": 1}).status_code == 401


def test_answers_are_given_out_once_each_and_what_is_none_is_not_kept(tmp_path):
    file, key = tmp_path / KEPT, key_of("/v1/chat/completions", b'{"seed": 1}')
    replies = [json.dumps({"choices": [{"message": {"content": text}}]}) for text in ("a", "b")]
    first = Answers(file)
    first.begin({"model": "m"})
    for reply in (*replies, '{"choices": []}'):
        first.keep(key, reply)
    assert first.take(key) is None  # what comes now is for who asked
    first.close()
    with open(file, "ab") as cut:
        cut.write(b'{"key": "cut')
    second = Answers(file)
    assert (second.head, second.left) == ({"model": "m"}, 2)
    second.begin({"model": "m"})
    second.keep("other", replies[0])
    assert [second.take(key) for _ in range(3)] == [*replies, None]
    second.close()
    third = Answers(file)
    assert third.left == 3
    third.close()


def test_answers_whose_head_is_lost_are_nobodys(tmp_path):
    file = tmp_path / KEPT
    file.write_text('{"key": "k", "reply": "{\\"choices\\": [{\\"text\\": \\"a\\"}]}"}\n')
    answers = Answers(file)
    assert answers.left == 1
    answers.begin({"model": "m"})
    answers.close()
    assert file.read_text() == '{"head": {"model": "m"}}\n' and answers.left == 0
