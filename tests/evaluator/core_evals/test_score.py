"""The judge of the offline tasks: what counts as an answer, and what a response cannot do."""

import pytest

from core_evals.nemo_distill.interpreter import Refused, call
from core_evals.nemo_distill.score import score, visible

CODE = {"kind": "code", "checks": {"function": "f", "cases": [[[1], 7], [[2], 10]]}}
RULES = {"count": 2, "options": ["apple", "pear", "plum"]}


def instruction(**rules):
    return {"kind": "instruction", "answer": "", "checks": RULES | rules}


@pytest.mark.parametrize(
    ("response", "seen"),
    [
        ("7+5=12</think>12", "12"),
        ("<think>7+5=12</think> 12 ", "12"),
        ("12", "12"),
        ("<think>7+5=1", ""),
        ("a</think>b</think>c", "c"),
    ],
)
def test_only_what_follows_the_reasoning_is_visible(response, seen):
    assert visible(response, ended=True) == seen


@pytest.mark.parametrize(
    ("response", "seen"),
    [
        (r"it may be \boxed{62}. But wait, let me", ""),
        ("<think>it may be 62", ""),
        (r"so</think>\boxed{62} and", r"\boxed{62} and"),
        ("", ""),
    ],
)
def test_what_was_cut_while_thinking_is_no_answer_and_what_was_cut_behind_it_is_one(response, seen):
    assert visible(response, ended=False) == seen


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (r"\boxed{62}", 1),
        (r"\boxed{61} no, \boxed{62}", 1),
        (r"\boxed{62} no, \boxed{61}", 0),
        ("62", 0),
        (r"\boxed{62", 0),
        (r"<think>\boxed{62}", 0),
        (r"\boxed{62}</think>63", 0),
        ("", 0),
        (r"first \boxed{62}, no: \boxed{\frac{1}{2}}", 0),
        (r"first \boxed{\frac{1}{2}}, no: \boxed{62}", 1),
        (r"first \boxed{62}, no: \boxed{61", 0),
        (r"\boxed{\{62\}}", 0),
        (r"\boxed{{62}}", 0),
        (r"first \boxed{5}, no: \boxed{\text{62}}", 1),
        (r"\boxed{\mathrm{62}}", 1),
        (r"\boxed{62.}", 1),
        (r"\boxed{ 62.0 }", 1),
        (r"\boxed{62.5}", 0),
        (r"\boxed{$62$}", 1),
        (r"\boxed {62}", 1),
        (r"\boxed 62", 1),
        (r"so \boxed 62.", 1),
        (r"\boxed{\frac{124}{2}}", 1),
        (r"\boxed{\dfrac{124}{0}}", 0),
        (r"\boxed{062}", 1),
        (r"\boxed{-62}", 0),
        (r"\boxed{6 2}", 0),
        (r"\boxed{sixty-two}", 0),
        ("\\boxed{62}\r\n  ", 1),
        (r"\boxedin 62", 0),
        (r"\boxed{}", 0),
        ("\\boxed{" + "{" * 5_000 + "62", 0),
        (r"\boxed{" + "9" * 5_000 + "}", 0),
    ],
)
def test_the_last_box_counts(response, expected):
    assert score({"kind": "boxed", "answer": "62"}, response, ended=True) == expected


@pytest.mark.parametrize(
    ("answer", "box", "expected"),
    [
        ("1234", "1,234", 1),
        ("1234", "1{,}234", 1),
        ("1234", r"1\,234", 1),
        ("1,234", "1234", 1),
        ("-5", "\N{MINUS SIGN}5", 1),
        ("1/2", r"\tfrac{1}{2}", 1),
        ("0.5", r"\frac12", 0),
        ("B", r"\text{B}", 1),
        ("B", r"\text{C}", 0),
        (r"\sqrt{2}", r"\sqrt{2}", 1),
    ],
)
def test_what_latex_puts_around_an_answer_does_not_make_it_another(answer, box, expected):
    assert score({"kind": "boxed", "answer": answer}, rf"</think>\boxed{{{box}}}") == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("Answer: B", 1),
        ("answer is (B)", 0),
        ("B", 1),
        ("(B).", 1),
        ("Answer: C", 0),
        ("Answer: A or Answer: B", 1),
        ("Because of it", 0),
        ("", 0),
    ],
)
def test_the_last_letter_announced_counts(response, expected):
    assert score({"kind": "choice", "answer": "B"}, response, ended=True) == expected


@pytest.mark.parametrize(
    ("rules", "response", "expected"),
    [
        ({}, "list: apple plum", 1),
        ({}, "list: apple", 0),
        ({}, "list: apple plum pear", 0),
        ({}, "list: apple apple", 0),
        ({"capitals": True}, "LIST: APPLE PLUM", 1),
        ({"capitals": True}, "list: APPLE PLUM", 0),
        ({"commas": True}, "list: apple, plum", 1),
        ({"commas": True}, "list: apple plum", 0),
        ({"starts_with": "sure"}, "Sure: apple plum", 1),
        ({"starts_with": "sure"}, "surely apple plum", 0),
        ({"ends_with": "done"}, "apple plum done.", 1),
        ({"ends_with": "done"}, "apple done plum", 0),
        ({"commas": True, "ends_with": "done"}, "list: plum, pear done", 1),
    ],
)
def test_every_rule_is_verified(rules, response, expected):
    assert score(instruction(**rules), response, ended=True) == expected


def test_an_unknown_rule_or_kind_is_an_error_and_no_wrong_answer():
    with pytest.raises(ValueError, match="rhymes"):
        score(instruction(rhymes=True), "apple plum")
    with pytest.raises(ValueError, match="essay"):
        score({"kind": "essay"}, "x")


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("```python\ndef f(x):\n    return x * 3 + 4\n```", 1),
        ("def f(x):\n    return x * 3 + 4", 1),
        ("```python\ndef f(x):\n    if x > 1:\n        return 10\n    return 7\n```", 1),
        ("```python\ndef f(x):\n    y = x * 3\n    return y + 4\n```", 1),
        ("```python\ndef f(x):\n    return 7\n```", 0),
        ("```python\ndef g(x):\n    return x * 3 + 4\n```", 0),
        ("```python\ndef f(x)\n    return x * 3 + 4\n```", 0),
        ("```python\ndef f(x):\n    return x // 0\n```", 0),
        ("```python\ndef f(x):\n    return y\n```", 0),
        ("```python\ndef f(x):\n    x * 3 + 4\n```", 0),
        ("no code", 0),
        ("```py\ndef f(x):\n    return x * 3 + 4\n```", 1),
        ("``` python3  \ndef f(x):\n    return x * 3 + 4\n```", 1),
        ("```Python\r\ndef f(x):\r\n    return x * 3 + 4\r\n```\r\n", 1),
        ("def f(x):\r\n    return x * 3 + 4\r\n", 1),
        ("```\ndef f(x):\n    return x * 3 + 4\n```\nCalled so:\n```\nf(2)\n```", 1),
        ("```text\nan idea\n```\n```python\ndef f(x):\n    return x * 3 + 4\n```", 1),
        ("```\ndef f(x):\n    return x * 3 + 4\n```\nno:\n```\ndef f(x):\n    return 7\n```", 0),
    ],
)
def test_functions_are_judged_by_what_they_return(response, expected):
    assert score(CODE, response, ended=True) == expected


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    return __import__('os').getpid()",
        "def f(x):\n    return open('x')",
        "def f(x):\n    return x.real",
        "def f(x):\n    while True:\n        x = 1",
        "def f(x):\n    for i in x:\n        return i",
        "def f(x):\n    return [y for y in x]",
        "def f(x):\n    return 9 ** 9 ** 9",
        "def f(x):\n    return [0] * 10 ** 9",
        "def f(x):\n    return [0] * 999999999",
        "def f(x):\n    return x << 99",
        "def f(x):\n    return f(x)",
        "def f(x):\n    return 'a' + 'b'",
        "def f(x):\n    import os",
        "def f(x=print(1)):\n    return x",
        "@print\ndef f(x):\n    return x",
        "print(1)\ndef f(x):\n    return x",
        "def f(*x):\n    return 1",
        "def f(x):\n    return " + "+".join(["x"] * 500),
        "def f(x):\n    return " + "*".join(["99999999"] * 9),
    ],
)
def test_the_sandbox_refuses_all_but_small_arithmetic(source):
    with pytest.raises(Refused):
        call(source, "f", [1])


def test_deeply_nested_source_is_a_wrong_answer_and_no_crash():
    assert score(CODE, "def f(x):\n    return " + "(" * 5_000 + "x" + ")" * 5_000, ended=True) == 0
    assert score(CODE, "def f(x):\n    return " + "-" * 50_000 + "x", ended=True) == 0
    around = "(" * 199
    for inner in (
        "-" * 400 + "x",
        "not " * 300 + "x",
        "lambda:" * 300 + "x",
        "[" + "~" * 700 + "x]",
        "x" + "[0]" * 500,
    ):
        assert score(CODE, f"def f(x):\n    return {around}{inner}{')' * 199}", ended=True) == 0


def test_the_sandbox_agrees_with_python():
    expressions = ["x * 3 - 4 if x > 2 else -x", "(x + 1) * 2 // 3 % 5", "1 < x <= 5", "x > 1 and x != 3", "[x, 2][0]"]
    for expression in expressions:
        for x in range(-3, 9):
            assert call(f"def f(x):\n    return {expression}", "f", [x]) == eval(expression, {"x": x})


LONG = 130_000
"""Characters of the longest answers, about 32,768 tokens."""


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ({"kind": "exact", "answer": "", "checks": {"accepted": ["a"]}}, "answer:b" + " " * LONG + "." + "\t" * LONG),
        ({"kind": "code", "answer": "", "checks": {"function": "f", "cases": [[[1], 1]]}}, f"```\n{' ' * 9}\n" * LONG),
        (
            {"kind": "code", "answer": "", "checks": {"function": "f", "cases": [[[1], 1]]}},
            "```\n" + "\n" * LONG + "```",
        ),
        ({"kind": "choice", "answer": "A"}, "answer" + "!" * LONG),
        ({"kind": "letter", "answer": "A"}, "answer is" + " " * LONG + "a"),
        ({"kind": "boxed", "answer": "1"}, "\\boxed{" + "\\text{" * (LONG // 7) + "}"),
    ],
)
def test_a_long_answer_is_judged_at_once(question, answer):
    """By a pattern that grows with the square of the length it would be judged in minutes, or in hours."""
    assert score(question, answer, ended=True) == 0


def test_what_is_announced_is_the_rest_of_its_line_or_the_next():
    question = {"kind": "exact", "answer": "", "checks": {"accepted": ["New York"]}}
    for text in ("So\n**Answer:** New York.  \n", "Answer:\n\n  New York\nbye", "answer: no\nANSWER : new  york"):
        assert score(question, text, ended=True) == 1
    assert score(question, "Answer: **\nNew Yorkers", ended=True) == 0
