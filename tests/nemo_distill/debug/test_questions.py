"""The shipped question files: made by this code, complete, and without the answers' reasoning."""

import json
from importlib import resources

import pytest

from nemo_distill.debug import questions


@pytest.fixture(scope="module")
def data():
    folder = resources.files("core_evals.nemo_distill") / "data"
    return {task: (folder / f"{task}.jsonl").read_text(encoding="utf-8") for task in questions.TASKS}


def test_the_shipped_files_are_what_the_code_writes(data, tmp_path):
    questions.write(tmp_path)
    for task, text in data.items():
        written = (tmp_path / f"{task}.jsonl").read_text(encoding="utf-8")
        assert written == text, f"{task}: run python -m nemo_distill.debug.questions"


def test_every_task_asks_forty_different_questions(data):
    for task, text in data.items():
        rows = [json.loads(line) for line in text.splitlines()]
        assert len({row["messages"][0]["content"] for row in rows}) == len({row["id"] for row in rows}) == 40, task


def test_a_guess_at_one_letter_gains_about_a_quarter(data):
    for task in ("offline_knowledge", "offline_science"):
        letters = [json.loads(line)["answer"] for line in data[task].splitlines()]
        assert all(4 <= letters.count(letter) <= 18 for letter in "ABCD"), task
