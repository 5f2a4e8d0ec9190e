"""Data sets of the Hub in a folder of this machine, as people lay it out."""

import dataclasses
import json

import pyarrow
import pyarrow.parquet
import pytest

from evaluator.suites.catalogue import OFFLINE, get_suite
from evaluator.suites.datasets import check_datasets, count_questions, hash_datasets, read_questions
from evaluator.suites.suite import Dataset

DATASET = Dataset(name="org/quiz", files=("data/*.jsonl",), fields=("id", "question"))
SUITE = OFFLINE.with_benchmarks([dataclasses.replace(OFFLINE.benchmarks[0], dataset=DATASET)])


def test_folders_that_are_links_are_read_and_hashed_with_all_that_is_in_them(tmp_path):
    real, links = tmp_path / "real" / "org" / "quiz" / "data", tmp_path / "links" / "org" / "quiz"
    real.mkdir(parents=True)
    links.mkdir(parents=True)
    rows = [{"id": number, "question": "Which?"} for number in range(3)]
    (real / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = hash_datasets(tmp_path / "real", SUITE)
    (links / "data").symlink_to(real)
    (real / "back").symlink_to(real)
    assert list(count_questions(tmp_path / "links", SUITE).values()) == [3]
    assert hash_datasets(tmp_path / "links", SUITE) == hash_datasets(tmp_path / "real", SUITE) == before
    (real / "test.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert hash_datasets(tmp_path / "links", SUITE) != before


def test_questions_in_parquet_are_counted_and_files_that_are_fetched_as_another_data_set_s_are_named_so(tmp_path):
    mmlu, pro = (one for one in get_suite("study_here").benchmarks if one.title.startswith("MMLU"))
    suite = OFFLINE.with_benchmarks([mmlu, pro])
    with pytest.raises(ValueError, match=r"hf download .* cais/mmlu --local-dir .*hails/mmlu_no_train"):
        check_datasets(tmp_path, suite)
    for name in ("hails/mmlu_no_train/all", "TIGER-Lab/MMLU-Pro/data"):
        (tmp_path / name).mkdir(parents=True)
        table = pyarrow.table({"question_id": [70, 71], "question": ["Which?", "What?"]})
        pyarrow.parquet.write_table(table, tmp_path / name / "test-00000-of-00001.parquet")
    check_datasets(tmp_path, suite)
    assert count_questions(tmp_path, suite) == {mmlu.task: 2, pro.task: 2}
    assert list(read_questions(tmp_path, pro.dataset)) == [("70", "Which?"), ("71", "What?")]
