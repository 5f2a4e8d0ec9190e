"""Verifies the form of an answer, rule by rule, for questions of a user's own; pure standard library.

>>> followed({"max_words": 3, "contains": ["blue"]}, "The sky is blue")
False
>>> followed({"lines": 2, "ends_with": "."}, "One.\\nTwo.")
True

A word is what white space separates, a line one that is not blank, a bullet a line that begins with -, * or a bullet
sign, a sentence what ends in ., ! or ? before white space or the end. Letter case counts in `contains`, `excludes`,
`starts_with` and `ends_with` as it is written.
"""

import json
import re
from collections.abc import Callable
from typing import Any

_BULLET = re.compile("^\\s*[-*\N{BULLET}]\\s+\\S", re.MULTILINE)
_SENTENCE = re.compile(r"[^.!?]*\w[^.!?]*[.!?]+(?=\s|$)")


def _is_json(text: str) -> bool:
    fenced = re.fullmatch(r"```(?:json)?\s*\n(.*?)\n?```", text.strip(), re.DOTALL)
    try:
        json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())


COUNTS: dict[str, Callable[[str], int]] = {
    "words": lambda text: len(text.split()),
    "lines": _lines,
    "sentences": lambda text: len(_SENTENCE.findall(text)),
    "bullets": lambda text: len(_BULLET.findall(text)),
    "characters": len,
}
"""What can be counted; each has a rule of its name, and with `min_` and `max_` before it."""
TEXTS: dict[str, Callable[[str, str], bool]] = {
    "starts_with": lambda text, word: text.startswith(word),
    "ends_with": lambda text, word: text.endswith(word),
}
"""Rules about one text."""
LISTS: dict[str, Callable[[str, list[str]], bool]] = {
    "contains": lambda text, words: all(word in text for word in words),
    "excludes": lambda text, words: not any(word in text for word in words),
}
"""Rules about a list of texts."""
SWITCHES: dict[str, Callable[[str], bool]] = {
    "uppercase": lambda text: text == text.upper(),
    "lowercase": lambda text: text == text.lower(),
    "json": _is_json,
    "commas": lambda text: "," in text,
}
"""Rules that are true or false of an answer, and are asked to be."""
RULES = (
    *(f"{bound}{name}" for name in COUNTS for bound in ("", "min_", "max_")),
    *TEXTS,
    *LISTS,
    *SWITCHES,
)
"""Names of all rules."""


def fault(rule: str, value: Any) -> str:
    """Why `value` is none that the rule can have, in half a sentence; empty where it is one."""
    if rule in TEXTS:
        return "" if isinstance(value, str) and value else "has to be a text"
    if rule in LISTS:
        fits = isinstance(value, list) and value and all(isinstance(one, str) and one for one in value)
        return "" if fits else "has to be a list of texts"
    if rule in SWITCHES:
        return "" if isinstance(value, bool) else "has to be true or false"
    return "" if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else "has to be a whole number"


def followed(checks: dict[str, Any], text: str) -> bool:
    """Whether an answer follows every rule."""
    text = text.strip()
    return bool(text) and all(_follows(rule, value, text) for rule, value in checks.items())


def _follows(rule: str, value: Any, text: str) -> bool:
    if rule in TEXTS:
        return TEXTS[rule](text, value)
    if rule in LISTS:
        return LISTS[rule](text, value)
    if rule in SWITCHES:
        return SWITCHES[rule](text) == value
    bound, _, name = rule.rpartition("_")
    counted = COUNTS[name](text)
    return counted >= value if bound == "min" else counted <= value if bound == "max" else counted == value
