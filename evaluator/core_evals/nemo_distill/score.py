r"""Judges a response to one question of the offline tasks; pure standard library.

A question's ``kind`` says how: "choice" reads the last letter announced, "boxed" the last ``\boxed{}``,
"instruction" verifies rules about form, "code" runs a small function against test cases.  A response is what the
model wrote, with or without its reasoning: only what follows the last ``</think>`` is judged, and a response whose
reasoning never ends is wrong.

>>> score({"kind": "boxed", "answer": "62"}, r"7+5=12, 3+2+1=6</think>\boxed{62}")
1.0
>>> score({"kind": "choice", "answer": "B"}, "Answer: C")
0.0
"""

import re

from core_evals.nemo_distill.interpreter import Refused, call

THINK, END_THINK = "<think>", "</think>"


def visible(response: str) -> str:
    """What a user would see: the text after the reasoning; empty if the reasoning was begun and never ended.

    A server whose prompt ends in <think> returns a response with ``</think>`` only, one that separates the
    reasoning returns neither tag.
    """
    if END_THINK in response:
        return response.rsplit(END_THINK, 1)[1].strip()
    return "" if THINK in response else response.strip()


def score(question: dict, response: str) -> float:
    """1.0 if the response answers the question, else 0.0; ValueError for a question of an unknown kind."""
    kind = question["kind"]
    if kind not in _JUDGES:
        raise ValueError(f"no judge for questions of kind {kind!r}; known: {', '.join(_JUDGES)}")
    return float(_JUDGES[kind](question, visible(response)))


def _choice(question: dict, text: str) -> bool:
    letters = re.findall(r"(?i:answer)\W*([A-Z])\b", text) or re.findall(r"^\W*([A-Z])\W*$", text)
    return bool(letters) and letters[-1] == question["answer"]


def _boxed(question: dict, text: str) -> bool:
    boxes = re.findall(r"\\boxed\{([^{}]*)\}", text)
    return bool(boxes) and boxes[-1].strip() == question["answer"]


def _instruction(question: dict, text: str) -> bool:
    checks = question["checks"]
    unknown = set(checks) - {"options", "count", *_RULES}
    if unknown:
        raise ValueError(f"question {question.get('id')!r} has unknown rules: {', '.join(sorted(unknown))}")
    words = re.findall(r"[A-Za-z]+", text.lower())
    named = [word for word in words if word in checks["options"]]
    if len(named) != checks["count"] or len(set(named)) != len(named):
        return False
    return all(_RULES[rule](text, value, named) for rule, value in checks.items() if rule in _RULES)


def _separated_by_commas(text: str, _: bool, named: list[str]) -> bool:
    return re.search(r"\W+".join(named), text.lower()) is not None and text.count(",") == len(named) - 1


_RULES = {
    "capitals": lambda text, _, named: text == text.upper(),
    "commas": _separated_by_commas,
    "starts_with": lambda text, word, named: re.match(rf"{word}\b", text, re.IGNORECASE) is not None,
    "ends_with": lambda text, word, named: re.search(rf"\b{word}\W*$", text, re.IGNORECASE) is not None,
}


def _code(question: dict, text: str) -> bool:
    fenced = re.findall(r"```(?:python)?\n(.*?)```", text, re.DOTALL)
    source = fenced[-1] if fenced else text
    checks = question["checks"]
    try:
        return all(call(source, checks["function"], arguments) == expected for arguments, expected in checks["cases"])
    except (Refused, SyntaxError, ArithmeticError, TypeError, ValueError, IndexError, RecursionError):
        return False  # a program that fails is a wrong answer, not a failed evaluation


_JUDGES = {"choice": _choice, "boxed": _boxed, "instruction": _instruction, "code": _code}
