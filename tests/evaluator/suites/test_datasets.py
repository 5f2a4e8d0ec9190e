"""Data sets of the Hub in a folder of this machine, as people lay it out."""

import dataclasses
import json

from evaluator.suites.catalogue import OFFLINE
from evaluator.suites.datasets import count_questions, hash_datasets
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
