import dataclasses
import json

from evaluator.results.answers import (
    ANSWERS_FILE,
    CUT,
    KEPT_ANSWER,
    KEPT_PROMPT,
    Answer,
    Question,
    load_answers,
    save_answers,
)

QUESTION = Question(
    task="offline_math",
    question="offline_math-000",
    prompt="What is 2 + 2?",
    reference="4",
    answers=(Answer(text="4", score=1.0, finish_reason="stop"), Answer(text="5", score=0.0, finish_reason="length")),
)


def test_answers_read_back_as_they_were_saved_and_are_one_object_per_line(tmp_path):
    save_answers(tmp_path, [QUESTION, QUESTION])
    assert list(load_answers(tmp_path / ANSWERS_FILE)) == [QUESTION, QUESTION]
    line = json.loads((tmp_path / "answers.jsonl").read_text().splitlines()[0])
    assert set(line) == {"task", "question", "prompt", "reference", "answers"}
    assert line["answers"][1] == {"text": "5", "score": 0.0, "finish_reason": "length"}


def test_long_texts_keep_the_beginning_of_the_question_and_the_end_of_the_answer(tmp_path):
    answer = Answer(text="x" * 10_000 + "the end", score=1.0, finish_reason="stop")
    prompt = "beginning" + "y" * 10_000
    long = Question(task="t", question="q", prompt=prompt, reference="", answers=(answer,))
    save_answers(tmp_path, [long])
    (kept,) = load_answers(tmp_path / ANSWERS_FILE)
    assert kept.prompt.startswith("beginning") and kept.prompt.endswith(CUT)
    assert kept.answers[0].text.startswith(CUT) and kept.answers[0].text.endswith("the end")
    assert len(kept.prompt) < KEPT_PROMPT + 10 and len(kept.answers[0].text) < KEPT_ANSWER + 10


def test_of_many_answers_those_that_are_wanted_are_read(tmp_path):
    others = [dataclasses.replace(QUESTION, question="q"), dataclasses.replace(QUESTION, task="t")]
    save_answers(tmp_path, [QUESTION, *others])
    path = tmp_path / ANSWERS_FILE
    assert list(load_answers(path, {"offline_math": {"offline_math-000"}})) == [QUESTION]
    assert list(load_answers(path, {"t": {"offline_math-000", "q"}, "offline_math": ()})) == [others[1]]
    assert list(load_answers(path, {})) == []
