"""The debug corpora: schemas of the real sources, the same bytes for the same seed, nothing of the questions."""

import json

import pytest

from nemo_distill.config.sources import SOURCES
from nemo_distill.debug import corpora, questions
from nemo_distill.debug.world import held_out
from nemo_distill.errors import UserError


def test_every_source_of_the_catalogue_has_a_stand_in_of_its_schema():
    assert {name: source.field for name, source in SOURCES.items()} == {
        name: stand_in.field for name, stand_in in corpora.STAND_INS.items()
    }


@pytest.mark.parametrize("source", corpora.STAND_INS)
def test_rows_have_the_fields_that_prepare_reads(source):
    for row in corpora.documents(source, seed=3, count=50):
        if corpora.STAND_INS[source].field == "text":
            assert row.keys() == {"text"} and row["text"]
        else:
            user, assistant = row["messages"]
            assert (user["role"], assistant["role"]) == ("user", "assistant")
            assert ("reasoning_content" in assistant) == corpora.STAND_INS[source].reasoning


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path):
    counts = dict.fromkeys(corpora.STAND_INS, 40)
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        corpora.write(tmp_path / folder, seed=seed, counts=counts)
    for source in counts:
        a, b, c = ((tmp_path / folder / f"{source}.jsonl").read_bytes() for folder in "abc")
        assert a == b != c


def test_writing_leaves_one_file_a_source_and_says_what_is_in_it(tmp_path):
    written = corpora.write(tmp_path, seed=1, counts={"stem": 7})
    assert [path.name for path in tmp_path.iterdir()] == ["stem.jsonl"]
    lines = (tmp_path / "stem.jsonl").read_text().splitlines()
    assert written["stem"]["documents"] == len(lines) == 7
    assert all(json.loads(line)["messages"] for line in lines)


def test_an_unknown_source_is_named_with_the_nearest_one():
    with pytest.raises(UserError, match="'math-v2-part01'"):
        corpora.documents("math-v2-part1", seed=0, count=1)


def test_no_question_of_a_generalising_task_is_in_the_corpora():
    """Not its prompt (verbatim), nor its content in any other phrasing (the key)."""
    prompts, keys = set(), set()
    for source in corpora.STAND_INS:
        drawn = corpora.exercises(source, seed=1)
        for exercise in (next(drawn) for _ in range(3_000)):
            prompts.add(exercise.prompt)
            keys.add(exercise.key)
    for task in questions.TASKS:
        for exercise in questions.exercises(task):
            assert exercise.prompt not in prompts
            assert exercise.key not in keys
            assert held_out(*exercise.key)


def test_every_fact_that_is_recalled_is_stated_in_the_corpora():
    subjects = {exercise.key[1] for exercise in questions.exercises("offline_knowledge")}
    stated = " ".join(row["text"] for row in corpora.documents("sft-general", seed=1, count=4_000))
    assert all(f" {subject}" in stated for subject in subjects)
