import base64
import csv
import dataclasses
import json
import zlib

import numpy as np
import pytest

from evaluator.report import questions
from evaluator.report.questions import fraction_text, with_answers, write_questions
from evaluator.report.run import question_sheets
from evaluator.results.answers import ANSWERS_FILE, Answer, Question


@pytest.fixture(scope="module")
def sheets(report):
    return question_sheets(report)


def test_first_come_the_questions_on_which_teacher_and_last_milestone_are_furthest_apart(report, sheets):
    for sheet, theirs, mine in zip(sheets, report.row("teacher").result.tasks, report.milestones[-1].result.tasks):
        apart = np.abs(theirs.table.mean(axis=1) - mine.table.mean(axis=1))
        assert [row.spread for row in sheet.rows] == pytest.approx(sorted(apart, reverse=True))
        assert sheet.differing == int((apart > 0).sum())


def test_a_benchmark_of_few_questions_is_shown_whole_and_a_large_one_in_part(sheets, monkeypatch):
    assert len(sheets[0].rows) == len(sheets[0].questions) == 40
    monkeypatch.setattr(questions, "FEW", 39)
    assert len(dataclasses.replace(sheets[0]).rows) == questions.SHOWN


def test_what_is_packed_is_every_score_of_every_checkpoint(report, sheets):
    for place, sheet in enumerate(sheets):
        content = json.loads(zlib.decompress(base64.b64decode(sheet.packed()), -15))
        assert content["questions"] == list(report.rows[0].result.tasks[place].questions)
        for letters, row in zip(content["scores"], report.rows, strict=True):
            scores = [content["levels"][ord(letter) - 35] for letter in letters]
            assert scores == pytest.approx(row.result.tasks[place].table.mean(axis=1), abs=1e-4)


def test_scores_of_very_many_kinds_are_packed_to_hundredths(sheets):
    drawn = np.random.default_rng(1).random(sheets[0].scores.shape)
    content = json.loads(zlib.decompress(base64.b64decode(dataclasses.replace(sheets[0], scores=drawn).packed()), -15))
    scores = [[content["levels"][ord(letter) - 35] for letter in letters] for letters in content["scores"]]
    assert np.abs(np.array(scores).T - drawn).max() <= 0.005 + 1e-9


def test_every_question_has_a_line_in_the_csv_and_every_checkpoint_a_column(report, sheets, tmp_path):
    write_questions(sheets, tmp_path)
    with open(tmp_path / "questions.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == sum(len(sheet.questions) for sheet in sheets)
    for title, row in zip(("Teacher", "Pruned student", "0.2M", "0.4M", "0.8M"), report.rows, strict=True):
        means = [score for task in row.result.tasks for score in task.table.mean(axis=1)]
        assert [float(line[title]) for line in lines] == pytest.approx(means, abs=1e-4)


def test_answers_are_shown_of_a_few_questions_one_right_and_one_wrong_of_each_checkpoint(report, tmp_path):
    task = report.rows[0].result.tasks[0]
    lines = [
        {
            "task": task.task,
            "question": name,
            "prompt": f"What is {name}?",
            "reference": "C",
            "answers": [
                {"text": text, "score": score, "finish_reason": "stop"}
                for text, score in (("so", 1.0), ("so again", 1.0), ("not so" * 400, 0.0), ("no", 0.0))
            ],
        }
        for name in task.questions
    ]
    path = tmp_path / ANSWERS_FILE
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    rows = (dataclasses.replace(report.rows[0], answers=path), *report.rows[1:])
    made = with_answers(question_sheets(dataclasses.replace(report, rows=rows)))
    told = [row for row in made[0].rows if row.answers]
    assert len(told) == questions.WITH_ANSWERS and told == list(made[0].rows[: len(told)])
    assert told[0].prompt == f"What is {told[0].question}?" and told[0].reference == "C"
    assert [(one.by.title, one.score) for one in told[0].answers] == [("Teacher", 1.0), ("Teacher", 0.0)]
    assert "1,800 letters" in told[0].answers[1].text and len(told[0].answers[1].text) < 700
    assert not any(row.answers for sheet in made[1:] for row in sheet.rows)


def test_a_questions_line_begins_where_its_prompt_differs_from_the_others(sheets):
    template = "Answer with a letter. Think first.\n\nWhat is "
    names = [sheets[0].questions[place] for place in sheets[0].shown]

    def kept(prompt: str) -> list:
        answer = Answer(text="A", score=1.0, finish_reason="stop")
        return [(None, Question(task="t", question="q", prompt=prompt, reference="", answers=(answer,)))]

    texts = {name: kept(f"{template}{name}?\n\nA) this") for name in names}
    rows = dataclasses.replace(sheets[0], texts=texts).rows
    assert [row.excerpt.splitlines()[0] for row in rows] == [f"What is {name}?" for name in names]
    alike = dataclasses.replace(sheets[0], texts={name: kept("The same.") for name in names}).rows
    assert {row.excerpt for row in alike} == {"The same."}


@pytest.mark.parametrize(
    ("score", "repeats", "text"), [(0.75, 4, "3/4"), (0.0, 1, "0/1"), (1 / 3, 3, "1/3"), (0.58, 1, "0.58")]
)
def test_a_score_is_right_answers_of_so_many_or_a_mean(score, repeats, text):
    assert fraction_text(score, repeats) == text
