import dataclasses
import json
import tracemalloc

import pytest

from evaluator.results import files
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


def test_half_a_surrogate_pair_is_replaced_wherever_it_stands(tmp_path):
    half = "so \ud83d"
    answer = Answer(text=half, score=1.0, finish_reason="stop")
    save_answers(tmp_path, [Question(task="t", question=half, prompt=half, reference=half, answers=(answer,))])
    (kept,) = load_answers(tmp_path / ANSWERS_FILE)
    assert {kept.question, kept.prompt, kept.reference, kept.answers[0].text} == {"so \ufffd"}


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


def test_of_the_others_only_the_beginning_is_looked_at_however_large_the_file_is(tmp_path, monkeypatch):
    path = tmp_path / ANSWERS_FILE
    names = [f"q{number}" for number in range(2_000)]
    escaped = 'ids "of" others\n é'
    text = "x" * (KEPT_ANSWER - 1)
    answers = tuple(Answer(text=text, score=1.0, finish_reason="stop") for _ in range(8))
    save_answers(
        tmp_path, (dataclasses.replace(QUESTION, question=name, answers=answers) for name in [*names, escaped])
    )
    parsed = []
    monkeypatch.setattr(json, "loads", lambda line, load=json.loads, **more: parsed.append(line) or load(line, **more))
    tracemalloc.start()
    try:
        (found, other) = load_answers(path, {"offline_math": {"q1999", escaped}})
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found.question, other.question) == ("q1999", escaped) and len(parsed) == 2
    assert path.stat().st_size > 30e6 and most < 1e6


def test_a_line_without_end_and_one_cut_short_are_refused_though_others_were_asked_for(tmp_path, monkeypatch):
    save_answers(tmp_path, [QUESTION, QUESTION])
    path = tmp_path / ANSWERS_FILE
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"answers.jsonl', line 2, is no whole JSON"):
        list(load_answers(path, {"t": {"q"}}))
    monkeypatch.setattr(files, "LONGEST_LINE", 100)
    with pytest.raises(ValueError, match=r"answers.jsonl', line 1, .* goes on for 100 bytes"):
        list(load_answers(path, {"t": {"q"}}))
