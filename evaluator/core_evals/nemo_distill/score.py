r"""Judges a response to one question of the offline tasks, or of a user's own; pure standard library.

A question's ``kind`` says how: "choice" reads the last letter announced, "boxed" the last ``\boxed{}``,
"instruction" verifies rules about form, "code" runs a small function against test cases.  Questions of a user's own may
be "letter", "exact", "regex", "form" (`instructions`) and "program" (`program`) as well.  A response is what the model
wrote, with or without its reasoning: only what follows the last ``</think>`` is judged.  A response that was cut while
thinking is no answer, whatever stands in it; one without tags counts if it ended by itself.

>>> score({"kind": "boxed", "answer": "62"}, r"7+5=12, 3+2+1=6</think>\boxed{62}")
1.0
>>> score({"kind": "choice", "answer": "B"}, "Answer: B", ended=True), visible("it may be B. But wait")
(1.0, '')
"""

import re
from fractions import Fraction

from core_evals.nemo_distill.instructions import followed
from core_evals.nemo_distill.interpreter import Refused, call
from core_evals.nemo_distill.program import passes

THINK, END_THINK = "<think>", "</think>"
REGEX_SECONDS = 2
"""Longest that a pattern may search an answer; what takes longer is not found."""


def visible(response: str, *, ended: bool = False) -> str:
    """What there is to judge: the text after the reasoning; empty if that was begun and never ended.

    A server whose prompt ends in <think> returns a response with ``</think>`` only, one that separates the
    reasoning returns neither tag.  So a response without tags may be an answer or reasoning that was cut: it is an
    answer where it `ended` by itself.
    """
    if END_THINK in response:
        return response.rsplit(END_THINK, 1)[1].strip()
    return response.strip() if ended and THINK not in response else ""


def score(question: dict, response: str, *, ended: bool = False) -> float:
    """1.0 if the response answers the question, else 0.0; ValueError for a question of an unknown kind.

    `ended` says whether the response ended by itself and was not cut (`visible`).
    """
    kind = question["kind"]
    if kind not in _JUDGES:
        raise ValueError(f"no judge for questions of kind {kind!r}; known: {', '.join(_JUDGES)}")
    return float(_JUDGES[kind](question, visible(response, ended=ended)))


def _choice(question: dict, text: str) -> bool:
    letters = re.findall(r"(?i:answer)\W*([A-Z])\b", text) or re.findall(r"^\W*([A-Z])\W*$", text)
    return bool(letters) and letters[-1] == question["answer"]


def _boxed(question: dict, text: str) -> bool:
    box = last_box(text)
    if box is None:
        return False
    given, expected = plain(box), plain(question["answer"])
    if given == expected:
        return True
    one, other = _number(given), _number(expected)
    return one is not None and one == other


def last_box(text: str) -> str | None:
    r"""What is in the last ``\boxed{}``, with all braces that it holds; None without a box, or if it has no end.

    Without braces a box holds the number or word that follows.

    >>> last_box(r"\boxed{5}, no: \boxed{\frac{1}{2}}"), last_box(r"\boxed 62."), last_box(r"\boxed{5}, \boxed{6")
    ('\\frac{1}{2}', '62.', None)
    """
    start = max((found.end() for found in re.finditer(r"\\f?box(?:ed)?(?![A-Za-z])\s*", text)), default=None)
    if start is None:
        return None
    if not text.startswith("{", start):
        word = re.match(r"[^\s{}\\$]+", text[start:])
        return word[0] if word else None
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)  # an escaped brace is none
        if depth == 0:
            return text[start + 1 : start + brace.start()]
    return None


def plain(latex: str) -> str:
    r"""An answer without what LaTeX and punctuation put around it.

    >>> plain(r" \text{62}. "), plain(r"$1{,}234$"), plain(r"\dfrac{124}{2}")
    ('62', '1234', '124/2')
    """
    text = latex.strip().rstrip(".").strip().strip("$")
    text = re.sub(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2", text)
    text = re.sub(r"(?<=\d)(?:,|\{,\}|\\,|\\!)(?=\d{3}(?!\d))", "", text)
    return re.sub(r"\\[,;:! ]|(?<!\d)\s+|\s+(?!\d)", "", text).replace("\N{MINUS SIGN}", "-").rstrip(".")


def _number(text: str) -> Fraction | None:
    if not re.fullmatch(r"[-+]?\d{1,50}(\.\d{1,50})?(/\d{1,50})?", text, re.ASCII):
        return None
    above, _, below = text.partition("/")
    return Fraction(above) / Fraction(below or 1) if int(below or 1) else None


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
    checks = question["checks"]
    source = _source(text, checks["function"])
    try:
        return all(call(source, checks["function"], arguments) == expected for arguments, expected in checks["cases"])
    except (Refused, SyntaxError, ArithmeticError, TypeError, ValueError, IndexError, MemoryError, RecursionError):
        return False  # a program that fails is a wrong answer, not a failed evaluation


def _source(text: str, function: str) -> str:
    """The program in an answer: its last fenced block, of those that define `function` where any does."""
    fenced = re.findall(r"```[^\n`]*\n(.*?)```", text, re.DOTALL)
    # A block that calls the function may follow the one that defines it.
    # Blanks of its own line alone are looked at: over lines, a run of them would be searched from each of its places.
    defining = [block for block in fenced if re.search(rf"^[^\S\n]*def\s+{function}\b", block, re.MULTILINE)]
    return (defining or fenced or [text])[-1].replace("\r\n", "\n")


_ANNOUNCED = re.compile(r"(?i:answer(?:\s+is)?(?:\W+(?:option|choice))?)\W*([A-Z])\b")


def _letter(question: dict, text: str) -> bool:
    """Whether the right letter is boxed, or announced last, or all or the beginning of the answer."""
    boxed = plain(last_box(text) or "")
    letters = _ANNOUNCED.findall(text) or re.findall(r"^\W*([A-Z])(?:\W*$|[).:])", text)
    return (boxed if re.fullmatch("[A-Z]", boxed) else letters[-1] if letters else "") == question["answer"]


def _exact(question: dict, text: str) -> bool:
    """Whether the answer is one of those accepted: all of it, or what its last line has after `Answer:`."""
    announced = re.findall(r"(?i:answer)[\s*]*:[\s*]*(.+)", text)
    given = {bare(text), bare(announced[-1] if announced else text)}
    return any(bare(accepted) in given for accepted in question["checks"]["accepted"])


def bare(text: str) -> str:
    """A text without letter case, punctuation around it and differences of white space.

    >>> bare(" **New  York.** ")
    'new york'
    """
    line = " ".join(text.split()).casefold()
    return re.sub(r"^[^\w+-]+|[^\w%]+$", "", line) or line


def _regex(question: dict, text: str) -> bool:
    import regex  # which can be told when to give up

    try:
        return regex.search(question["checks"]["pattern"], text, timeout=REGEX_SECONDS) is not None
    except TimeoutError:
        return False


def _program(question: dict, text: str) -> bool:
    return passes(_source(text, question["checks"].get("function") or r"\w+"), question["checks"]["tests"])


_JUDGES = {
    "choice": _choice,
    "boxed": _boxed,
    "instruction": _instruction,
    "code": _code,
    "letter": _letter,
    "exact": _exact,
    "regex": _regex,
    "form": lambda question, text: followed(question["checks"], text),
    "program": _program,
}
