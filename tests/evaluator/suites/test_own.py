"""A user's own questions: what is asked of each kind, how answers are judged, what is said of a row that is none."""

import json

import pytest

from core_evals.nemo_distill.instructions import RULES
from core_evals.nemo_distill.score import score
from evaluator.suites.own import KINDS, checked, digest_of, read_own
from evaluator.suites.suite import Own
from nemo_distill.config import benchmarks as config


def write(path, *rows):
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def own(kind: str, prompt: str = "") -> Own:
    return Own(kind, "", prompt)


ASK = {"question": "Which?"}
ROWS = {
    "choice": ASK | {"choices": ["a", "b", "c"], "answer": "B"},
    "boxed": ASK | {"answer": 62},
    "exact": ASK | {"answer": ["New York", "NYC"]},
    "regex": ASK | {"pattern": "(?i)^paris\\b"},
    "instruction": ASK | {"checks": {"max_words": 3, "contains": ["blue"], "commas": False, "ends_with": "."}},
    "code": ASK | {"tests": ["assert f(2) == 4", "assert f(0) == 0"], "function": "f"},
}
RIGHT = {
    "choice": [
        "Answer: B",
        "**Answer:** (B)",
        "b is wrong, a too.\nThe answer is B.",
        "\\boxed{B}",
        "B",
        "B) b",
        "The correct answer is option B: \\boxed{12}",
    ],
    "boxed": ["\\boxed{62}", "\\boxed{62.0}", "so $\\boxed{\\frac{124}{2}}$"],
    "exact": ["new york", "I think so.\nAnswer: **NYC**.", " New  York. "],
    "regex": ["Paris, of course", "PARIS"],
    "instruction": ["It is blue.", "blue ."],
}
WRONG = {
    "choice": ["Answer: A", "Answer: B, no, answer: C", "Because", "I do not know", "", "A", "\\boxed{A}"],
    "boxed": ["62", "\\boxed{63}", "\\boxed{62} or \\boxed{6"],
    "exact": ["York", "New York City", "Answer: Boston\nNew York is not it."],
    "regex": ["In Paris", ""],
    "instruction": ["", "It is blue", "It is very blue.", "It is red.", "So, blue."],
}


@pytest.mark.parametrize("kind", RIGHT)
def test_answers_are_judged_by_their_kind(kind, tmp_path):
    (question,) = read_own(write(tmp_path / "own.jsonl", ROWS[kind]), own(kind))
    for text in RIGHT[kind]:
        assert score(question, f"hm</think>{text}") == score(question, text, ended=True) == 1, text
        assert score(question, text) == 0, "what may be reasoning that was cut is no answer"
    for text in WRONG[kind]:
        assert score(question, f"B 62 New York Paris It is blue.</think>{text}") == 0, text


FORMS = {
    "words": (2, "Two words", "One"),
    "min_words": (2, "Two words", "One"),
    "max_words": (2, "Two words", "More than two"),
    "lines": (2, "One\n\nTwo", "One"),
    "sentences": (2, "It is 3.5. Good!", "It is 3.5."),
    "bullets": (2, "- one\n* two", "- one\n-two"),
    "max_characters": (3, " abc ", "abcd"),
    "starts_with": ("So", "So it is", "so it is"),
    "ends_with": ("?", "Is it? ", "It is."),
    "contains": (["a", "b"], "ab", "a"),
    "excludes": (["a", "b"], "c", "cb"),
    "uppercase": (True, "ABC 1", "ABc"),
    "lowercase": (True, "abc", "aBc"),
    "json": (True, '```json\n{"a": 1}\n```', "{a: 1}"),
    "commas": (False, "a b", "a, b"),
}


def test_every_rule_of_an_instruction_tells_an_answer_that_follows_it_from_one_that_does_not(tmp_path):
    rows = [ASK | {"checks": {rule: value}} for rule, (value, _, _) in FORMS.items()]
    questions = read_own(write(tmp_path / "own.jsonl", *rows), own("instruction"))
    for question, (rule, (_, right, wrong)) in zip(questions, FORMS.items(), strict=True):
        assert (score(question, right, ended=True), score(question, wrong, ended=True)) == (1, 0), rule
    assert {rule.removeprefix("min_").removeprefix("max_") for rule in RULES} == {
        rule.removeprefix("min_").removeprefix("max_") for rule in FORMS
    }


def test_what_is_asked_is_the_question_in_the_kinds_prompt_or_the_recipes(tmp_path):
    file = write(tmp_path / "own.jsonl", ROWS["choice"])
    asked = read_own(file, own("choice"))[0]["messages"]
    asked_for = "Answer with the letter of the right choice, in the last line, as in 'Answer: A'."
    assert asked == [{"role": "user", "content": f"Which?\n\nA) a\nB) b\nC) c\n\n{asked_for}"}]
    assert read_own(file, own("choice", "{choices}: {question}"))[0]["messages"][0]["content"].startswith("A) a\nB")
    named = write(file, ASK | {"answer": "B", "id": "first"})  # the question itself holds its choices
    (question,) = read_own(named, own("choice"))
    assert question["id"] == "first" and "{" not in question["messages"][0]["content"]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{question}?"}]
    (question,) = read_own(write(file, {"messages": messages, "answer": 3}), own("boxed"))
    assert question["messages"] == messages and question["answer"] == "3"


def test_an_answer_of_a_choice_is_its_text_its_letter_or_its_place(tmp_path):
    rows = [ASK | {"choices": ["3", "1", "B"], "answer": answer} for answer in ("1", "A", 2, "B")]
    questions = read_own(write(tmp_path / "own.jsonl", "", *rows), own("choice"))
    assert [question["answer"] for question in questions] == ["B", "A", "C", "C"]
    assert [question["id"] for question in questions] == ["2", "3", "4", "5"], (
        "a row without an id has its line's number"
    )


def test_the_digest_is_of_what_is_asked_and_judged_and_nothing_else(tmp_path):
    file = write(tmp_path / "own.jsonl", ROWS["boxed"])
    digest = digest_of(read_own(file, own("boxed")))
    write(file, json.dumps(ROWS["boxed"] | {"note": "easy"}, indent=None).replace(": ", " :   "))
    assert digest_of(read_own(file, own("boxed"))) == digest
    assert digest_of(read_own(file, own("boxed", "{question}"))) != digest
    assert digest_of(read_own(write(file, ROWS["boxed"] | {"answer": 63}), own("boxed"))) != digest
    with pytest.raises(ValueError, match="own.jsonl no longer holds the questions of 'quiz' that were to be asked"):
        checked("quiz", Own("boxed", digest), {"quiz": file})


BAD = [
    ("choice", ["{"], "line 1: no JSON"),
    ("choice", ["[1]"], "line 1: a list, and no object"),
    ("choice", [ROWS["choice"], ROWS["choice"] | {"answer": "D"}], r"line 2: its answer is 'D': .* \(A to C\)"),
    ("choice", [ROWS["choice"] | {"answer": 3}], "its answer is 3"),
    ("choice", [ROWS["choice"] | {"choices": ["a"]}], "a list of 2 to 26"),
    ("choice", [ROWS["choice"] | {"choices": ["a", 2]}], "a choice has to be text"),
    ("choice", [ASK | {"choices": ["a", "b"]}], "it has no 'answer', which a question of kind 'choice' needs"),
    ("choice", [ASK | {"answer": "a"}], "without 'choices' it is a letter"),
    ("choice", [{"qestion": "Which?", "answer": "A"}], "it has 'qestion'. Did you mean 'question'?"),
    ("boxed", [{"answer": "3"}], "it has neither 'question' nor 'messages'"),
    ("boxed", [ASK | {"answer": "3", "messages": []}], "it has both 'question' and 'messages'"),
    ("boxed", [ASK | {"answer": True}], "its answer is True"),
    ("boxed", [{"question": " ", "answer": 3}], "its question is ' '"),
    ("boxed", [ROWS["boxed"], {"messages": [{"role": "user", "content": "x"}], "answer": 1}], "line 2: it has no 'que"),
    ("boxed", [{"messages": [{"role": "usr", "content": "x"}], "answer": 1}], "role 'usr'. Did you mean 'user'?"),
    (
        "boxed",
        [{"messages": [{"role": "assistant", "content": "x"}], "answer": 1}],
        "the last message is the assistant",
    ),
    ("boxed", [{"messages": [{"role": "user"}], "answer": 1}], "a message has a 'role' and a 'content'"),
    ("boxed", [{"messages": "x", "answer": 1}], "has to be a list of messages"),
    (
        "boxed",
        [ROWS["boxed"] | {"id": "a"}, ROWS["boxed"] | {"id": "a"}],
        "line 2: the id 'a' is that of an earlier row",
    ),
    ("boxed", [ROWS["boxed"] | {"id": [1]}], r"its id is \[1\]"),
    ("exact", [ASK | {"answer": []}], "has to be text, or a list of texts"),
    ("regex", [ASK | {"pattern": "("}], r"'\(' is no pattern: missing \)"),
    ("instruction", [ASK | {"checks": {"max_word": 3}}], "there is no rule 'max_word'. Did you mean 'max_words'?"),
    ("instruction", [ASK | {"checks": {"max_words": "3"}}], "the rule 'max_words' has to be a whole number, not '3'"),
    ("instruction", [ASK | {"checks": {"json": 1}}], "the rule 'json' has to be true or false, not 1"),
    ("instruction", [ASK | {"checks": []}], "'checks' has to be rules by name"),
    ("code", [ASK | {"tests": "assert f("}], "its tests are no Python"),
    ("code", [ASK | {"tests": "assert f(1)", "function": "f(x)"}], "which is no name of a function"),
    ("code", [], "has no questions"),
]


def test_a_row_that_cannot_be_asked_is_named_with_its_line(tmp_path):
    for number, (kind, rows, sentence) in enumerate(BAD):
        file = write(tmp_path / f"{number}.jsonl", *rows)
        with pytest.raises(ValueError, match=sentence) as raised:
            read_own(file, own(kind))
        assert str(file) in str(raised.value)
    with pytest.raises(ValueError, match="none.jsonl cannot be read: No such file"):
        read_own(tmp_path / "none.jsonl", own("boxed"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "\xe9"}')
    with pytest.raises(ValueError, match="is no UTF-8"):
        read_own(tmp_path / "latin.jsonl", own("boxed"))


def test_a_pattern_that_would_search_for_ever_is_not_found_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr("core_evals.nemo_distill.score.REGEX_SECONDS", 0.05)
    (question,) = read_own(write(tmp_path / "own.jsonl", ASK | {"pattern": "^(a|a)*(a|a)*(a|a)*$"}), own("regex"))
    assert score(question, "a" * 60 + "b", ended=True) == 0


def test_a_recipe_knows_the_kinds_that_there_are():
    assert config.KINDS == KINDS


def test_a_program_is_executed_in_a_sandbox_only(tmp_path, monkeypatch):
    monkeypatch.delenv("NEMO_DISTILL_SANDBOX", raising=False)
    (question,) = read_own(write(tmp_path / "own.jsonl", ROWS["code"]), own("code"))
    with pytest.raises(RuntimeError, match="in a sandbox only"):
        score(question, "def f(x): return x * 2", ended=True)


PROGRAMS = {
    "```python\ndef f(x):\n    return x * 2\n```\nFor example:\n```\nprint(f(1))\n```": 1,
    "def f(x): return x * 2": 1,
    "import sys\ndef f(x): return x * 2\nsys.stdout.close()": 0,
    "def f(x): return x + 2": 0,
    "def g(x): return x * 2": 0,
    "import sys\nsys.exit(0)": 0,
    "import os\nos._exit(0)": 0,
    "while True: pass": 0,
    "no idea": 0,
}


def test_a_program_passes_where_all_tests_do_and_it_comes_to_its_end(tmp_path, monkeypatch):
    # These programs are ours, so that they may run here; a model's run in the sandbox (harness/test_own.py).
    monkeypatch.setenv("NEMO_DISTILL_SANDBOX", "evaluator.harness.apart")
    monkeypatch.setattr("core_evals.nemo_distill.program.SECONDS", 1)
    (question,) = read_own(write(tmp_path / "own.jsonl", ROWS["code"]), own("code"))
    assert {text: score(question, text, ended=True) for text in PROGRAMS} == PROGRAMS
