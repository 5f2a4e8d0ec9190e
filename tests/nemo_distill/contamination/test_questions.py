"""Question files: what they become, and what is said of one that cannot be read."""

import gzip
import json

import pytest

from nemo_distill.contamination.questions import (
    Question,
    offline_path,
    offline_questions,
    questions_for,
    questions_in,
    read_questions,
)
from nemo_distill.debug import questions as debug_questions
from nemo_distill.errors import UserError


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_our_offline_tasks_are_at_hand_wherever_they_are_installed():
    entries = offline_questions()
    assert entries == questions_for(dict.fromkeys(debug_questions.TASKS), None)
    assert {entry["benchmark"] for entry in entries} == set(debug_questions.TASKS)
    for entry in entries:
        questions = read_questions(offline_path(entry["file"]), field=entry["field"])
        exercises = debug_questions.exercises(entry["benchmark"])
        assert [question.text for question in questions] == [exercise.prompt for exercise in exercises]
        assert questions[7].identity == f"{entry['benchmark']}-007"


def test_questions_of_a_recipes_own_are_searched_for_by_the_name_of_their_benchmark(tmp_path):
    own = write(tmp_path / "quiz.jsonl", {"question": "Which?", "answer": "A"})
    folder = tmp_path / "more"
    folder.mkdir()
    write(folder / "exam.jsonl", {"question": "Where?"})
    entries = questions_for({"offline_math": None, "my_quiz": own}, str(folder))
    assert [entry["benchmark"] for entry in entries] == ["my_quiz", "offline_math", "exam"]
    assert read_questions(own, field=entries[0]["field"]) == [Question("1", "Which?")]
    write(folder / "my_quiz.jsonl", {"question": "Where?"})
    with pytest.raises(UserError, match="'my_quiz' is there twice"):
        questions_for({"my_quiz": own}, str(folder))


def test_a_folder_has_a_benchmark_per_file_whatever_its_field_is_called(tmp_path):
    import pyarrow
    import pyarrow.parquet

    write(tmp_path / "aime25.jsonl", {"problem": "How many?", "answer": 3})
    (tmp_path / "gpqa.jsonl.gz").write_bytes(gzip.compress(b'{"Question": "Which?", "id": "g1"}\n'))
    pyarrow.parquet.write_table(pyarrow.table({"question": ["What?", "Why?"]}), tmp_path / "mmlu.parquet")
    (tmp_path / "notes.txt").write_text("no benchmark")
    entries = questions_in(tmp_path)
    assert [(entry["benchmark"], entry["field"]) for entry in entries] == [
        ("aime25", "problem"),
        ("gpqa", "Question"),
        ("mmlu", "question"),
    ]
    found = {entry["benchmark"]: read_questions(tmp_path / entry["file"], field=entry["field"]) for entry in entries}
    assert found == {
        "aime25": [Question("1", "How many?")],
        "gpqa": [Question("g1", "Which?")],
        "mmlu": [Question("1", "What?"), Question("2", "Why?")],
    }


def test_other_questions_make_another_entry(tmp_path):
    write(tmp_path / "exam.jsonl", {"question": "Which?"})
    before = questions_in(tmp_path)
    assert questions_in(tmp_path) == before
    write(tmp_path / "exam.jsonl", {"question": "Where?"})
    assert questions_in(tmp_path) != before


def test_texts_and_messages_are_one_question(tmp_path):
    path = write(
        tmp_path / "exam.jsonl",
        {"question": ["Which?", "this", "that"]},
        {"question": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"}]},
    )
    assert [question.text for question in read_questions(path, field="question")] == [
        "Which?\nthis\nthat",
        "Be brief.\nWhich?",
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"qestion": "Which?"}', "exam.jsonl, line 3: no field 'question'. Did you mean 'qestion'?"),
        (b'{"question": 5}', "exam.jsonl, line 3: 'question' is no text, list of texts or list of messages: 5"),
        (b'{"question": []}', "exam.jsonl, line 3: 'question' is no text"),
        (b'{"question": [{"role": "user"}]}', "exam.jsonl, line 3: 'question' is no text"),
        (b'{"question": "cut in ha', "exam.jsonl, line 3: not JSON"),
        (b'{"question": "\xff"}', "exam.jsonl, line 3: not UTF-8"),
        (b"[" * 100_000, "exam.jsonl, line 3: nested too deep"),
        (b'{"question": ' + b"7" * 5_000 + b"}", "exam.jsonl, line 3: an integer of too many digits"),
        (b'{"question": [{"role": "user", "content": [{"type": "image_url"}]}]}', "line 3: 'question' is no text"),
        (b'["question"]', "exam.jsonl, line 3: a list and no object"),
    ],
)
def test_a_row_without_a_question_is_refused_by_file_and_line(tmp_path, line, complaint):
    path = tmp_path / "exam.jsonl"
    path.write_bytes(b'{"question": "Which?"}\n\n' + line + b"\n")
    with pytest.raises(UserError) as refused:
        read_questions(path, field="question")
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("exam.jsonl", b"\n", "exam.jsonl has no questions"),
        ("exam.jsonl.gz", gzip.compress(b'{"question": "?"}\n' * 99, mtime=0)[:-20], "exam.jsonl.gz is damaged"),
        (
            "exam.jsonl.gz",
            gzip.compress(b'{"question": "?"}\n' * 99, mtime=0)[:30] + b"\xff" * 30,
            "damaged behind line",
        ),
        ("exam.parquet", b"PAR1 and no more", "exam.parquet is damaged"),
        ("exam.csv", b"question\n", "exam.csv is none of .jsonl, .jsonl.gz, .jsonl.zst, .parquet"),
        (None, b"", "there is no file .*exam.jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, complaint):
    if name:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        read_questions(tmp_path / (name or "exam.jsonl"), field="question")


def test_a_folder_that_does_not_serve_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no folder .*none"):
        questions_in(tmp_path / "none")
    with pytest.raises(UserError, match="no file in it ends in .jsonl"):
        questions_in(tmp_path)
    write(tmp_path / "exam.jsonl", {"stem": "Which?", "id": 1})
    with pytest.raises(UserError, match="exam.jsonl, line 1: none of the fields question, .*; it has stem, id"):
        questions_in(tmp_path)
    write(tmp_path / "exam.jsonl", {"question": "Which?"})
    (tmp_path / "exam.jsonl.gz").write_bytes(gzip.compress(b'{"question": "?"}\n'))
    with pytest.raises(UserError, match="'exam' is there twice"):
        questions_in(tmp_path)


def test_an_offline_task_that_is_not_there_is_refused():
    with pytest.raises(
        UserError, match=r"no offline task has the file 'offline_maths.jsonl'. Did you mean 'offline_math"
    ):
        offline_path("core_evals:offline_maths.jsonl")
    assert offline_path("/data/offline_math.jsonl") is None
