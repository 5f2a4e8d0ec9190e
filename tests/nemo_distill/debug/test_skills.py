"""The debug world's exercises: their reasoning is right, and their answers are what the judge accepts."""

import itertools
import random
import re

import pytest

from core_evals.nemo_distill.score import score
from nemo_distill.debug import skills
from nemo_distill.debug.questions import as_question
from nemo_distill.debug.world import CLOSINGS, KNOWLEDGE, LISTS, OPENINGS

JUDGED = (skills.knowledge, skills.science, skills.addition, skills.subtraction, skills.instruction, skills.code)


def drawn(skill, count=300):
    rng = random.Random(5)
    return [skill(rng) for _ in range(count)]


@pytest.mark.parametrize("skill", JUDGED)
def test_the_judge_accepts_the_worked_answer(skill):
    for exercise in drawn(skill):
        response = f"{exercise.thinking}</think>{exercise.response}"
        assert score(as_question(exercise, identity="x"), response) == 1.0, response


@pytest.mark.parametrize("skill", JUDGED)
def test_the_judge_refuses_the_answer_to_another_question(skill):
    exercises = drawn(skill)
    pairs = [(a, b) for a, b in itertools.pairwise(exercises) if (a.answer, a.checks) != (b.answer, b.checks)]
    wrong = [score(as_question(a, identity="x"), b.response) for a, b in pairs]
    assert sum(wrong) <= 0.02 * len(wrong)


@pytest.mark.parametrize("skill", (skills.addition, skills.subtraction))
def test_every_step_of_the_arithmetic_is_true(skill):
    for exercise in drawn(skill):
        a, b = map(int, re.findall(r"\d+", exercise.prompt))
        assert int(exercise.answer) == (a + b if skill is skills.addition else a - b)
        for step in exercise.thinking.split(", "):
            left, right = step.split("=")
            assert eval(left) == int(right), step  # digits and signs of our own making


def test_functions_in_both_languages_compute_the_same_formula():
    for exercise in drawn(skills.code):
        namespace = {}
        exec(exercise.response.removeprefix("```python\n").removesuffix("```"), namespace)  # our own source
        function = namespace[exercise.checks["function"]]
        assert all(function(*arguments) == expected for arguments, expected in exercise.checks["cases"])


def test_the_same_seed_draws_the_same_exercises():
    assert drawn(skills.code, 50) == drawn(skills.code, 50)


def test_no_relation_gives_two_subjects_the_same_object():
    for facts in KNOWLEDGE.values():
        assert len(set(facts.values())) == len(facts)


def test_words_that_frame_an_answer_are_no_items_of_a_list():
    listed = {word for words in LISTS.values() for word in words}
    assert not listed & {*CLOSINGS, *OPENINGS, "list"}
