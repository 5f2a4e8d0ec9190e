"""The five skills of the debug world: each function draws one exercise from a random generator.

Every function takes ``rng`` and returns an `Exercise`; phrasing varies, the way of thinking does not.  The reasoning
is written so that each of its steps is a small look-up (a fact, a sum of two digits, one option at a time): a tiny
model can learn the steps, and composing them is what the held-out questions test.

>>> import random
>>> exercise = addition(random.Random(0))
>>> exercise.kind, exercise.response == rf"\\boxed{{{exercise.answer}}}"
('boxed', True)
"""

import random
from collections.abc import Sequence

from nemo_distill.debug.world import (
    CLOSINGS,
    COUNT_WORDS,
    GOODS,
    KINDS_OF,
    KNOWLEDGE,
    LISTS,
    OPENINGS,
    PEOPLE,
    Exercise,
    kind_of,
)  # fmt: skip

LETTERS = "ABCD"
CODE_NAMES = ("f", "g", "h", "calc", "solve", "score")
OPERATORS = {"plus": "+", "minus": "-", "times": "*"}

_KNOWLEDGE_PROMPTS = {
    "capital": ("What is the capital of {}?", "Name the capital of {}.", "Which city is the capital of {}?"),
    "opposite": ("What is the opposite of {}?", "Name the opposite of {}.", "Which word is the opposite of {}?"),
    "young": ("What is a young {} called?", "Name a young {}.", "Which word means a young {}?"),
    "symbol": ("What is the symbol of {}?", "Name the symbol of {}.", "Which symbol stands for {}?"),
}
FACT_SENTENCES = {
    "capital": "the capital of {} is {}",
    "opposite": "the opposite of {} is {}",
    "young": "a young {} is a {}",
    "symbol": "the symbol of {} is {}",
}
_SCIENCE_PROMPTS = ("Which one is {}?", "Which of these is {}?", "Find {}.")
_OPEN_SCIENCE_PROMPTS = ("What is the {}?", "What kind of thing is the {}?", "Name the kind of the {}.")


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _with_options(question: str, options: Sequence[str]) -> str:
    return question + "\n" + " ".join(f"{letter}) {option}" for letter, option in zip(LETTERS, options))


def knowledge(rng: random.Random) -> Exercise:
    """A fact asked with four options of the same relation; the facts are recall, the option set is not.

    The reasoning says of each option what it belongs to, until it comes to the subject of the question.
    """
    relation = rng.choice(sorted(KNOWLEDGE))
    facts = KNOWLEDGE[relation]
    subject_of = {right: subject for subject, right in facts.items()}
    subject = rng.choice(sorted(facts))
    right = facts[subject]
    options = rng.sample(sorted(set(facts.values()) - {right}), 3) + [right]
    rng.shuffle(options)
    looked_at = options[: options.index(right) + 1]
    letter = LETTERS[len(looked_at) - 1]
    question = rng.choice(_KNOWLEDGE_PROMPTS[relation]).format(subject)
    return Exercise(
        kind="choice",
        prompt=_with_options(question, options),
        thinking=", ".join(f"{a}) {option} {subject_of[option]}" for a, option in zip(LETTERS, looked_at)),
        response=f"Answer: {letter}",
        key=("knowledge", subject, *options),
        answer=letter,
    )


def fact(rng: random.Random) -> Exercise:
    """A fact asked openly; the corpora state every fact this way too."""
    relation = rng.choice(sorted(KNOWLEDGE))
    subject = rng.choice(sorted(KNOWLEDGE[relation]))
    right = KNOWLEDGE[relation][subject]
    prompt = rng.choice(_KNOWLEDGE_PROMPTS[relation]).format(subject)
    return Exercise("open", prompt, FACT_SENTENCES[relation].format(subject, right), f"It is {right}", key=())


def science(rng: random.Random) -> Exercise:
    """One member of a kind among three of other kinds; the reasoning goes through the options until it finds it."""
    kind = rng.choice(sorted(KINDS_OF))
    right = rng.choice(KINDS_OF[kind])
    options = [rng.choice(KINDS_OF[other]) for other in rng.sample(sorted(set(KINDS_OF) - {kind}), 3)] + [right]
    rng.shuffle(options)
    looked_at = options[: options.index(right) + 1]
    letter = LETTERS[len(looked_at) - 1]
    return Exercise(
        kind="choice",
        prompt=_with_options(rng.choice(_SCIENCE_PROMPTS).format(_a(kind)), options),
        thinking=", ".join(f"{a}) {option} {kind_of[option]}" for a, option in zip(LETTERS, looked_at)),
        response=f"Answer: {letter}",
        key=("science", kind, *options),
        answer=letter,
    )


def open_science(rng: random.Random) -> Exercise:
    """The kind of one thing, asked openly."""
    member = rng.choice(sorted(kind_of))
    kind = kind_of[member]
    prompt = rng.choice(_OPEN_SCIENCE_PROMPTS).format(member)
    return Exercise("open", prompt, f"the {member} is {_a(kind)}", f"It is {_a(kind)}", key=())


def addition(rng: random.Random) -> Exercise:
    """A sum of three-digit numbers below 1000, digit by digit with carry."""
    a = rng.randint(100, 899)
    b = rng.randint(100, 999 - a)
    steps, carry = [], 0
    for x, y in zip(_digits(a), _digits(b)):
        total = x + y + carry
        steps.append(f"{x}+{y}+1={total}" if carry else f"{x}+{y}={total}")
        carry = total // 10
    return _boxed(rng, ("+", "gets", " more"), a, b, ", ".join(steps), a + b)


def subtraction(rng: random.Random) -> Exercise:
    """A difference of three-digit numbers of at least 100, digit by digit with borrow."""
    b = rng.randint(100, 899)
    a = rng.randint(b + 100, 999)
    steps, borrow = [], 0
    for x, y in zip(_digits(a), _digits(b)):
        lent = 10 if x - y - borrow < 0 else 0
        difference = x + lent - y - borrow
        steps.append(f"{x + lent}-{y}-1={difference}" if borrow else f"{x + lent}-{y}={difference}")
        borrow = lent // 10
    return _boxed(rng, ("-", "loses", ""), a, b, ", ".join(steps), a - b)


def _digits(number: int) -> list[int]:
    """Its digits, units first."""
    return [int(digit) for digit in reversed(str(number))]


def _boxed(rng: random.Random, words: tuple[str, str, str], a: int, b: int, thinking: str, result: int) -> Exercise:
    sign, verb, after = words
    person, goods = rng.choice(PEOPLE), rng.choice(GOODS)
    prompt = rng.choice(
        (
            f"What is {a} {sign} {b}?",
            f"Compute {a} {sign} {b}.",
            f"{person} has {a} {goods} and {verb} {b}{after}. How many {goods} now?",
        )
    )
    return Exercise("boxed", prompt, thinking, rf"\boxed{{{result}}}", ("math", a, sign, b), answer=str(result))


def instruction(rng: random.Random) -> Exercise:
    """Name so many things of a category under up to two rules about form, each verified by a program."""
    category, count = rng.choice(sorted(LISTS)), rng.randint(2, 5)
    words = rng.sample(LISTS[category], count)
    style = rng.choice(("plain", "capitals", "commas"))
    frame = rng.choice(("none", "start", "end"))
    checks: dict = {"category": category, "count": count}
    asks, plan = [], [COUNT_WORDS[count], category]
    text = (", " if style == "commas" else " ").join(words)
    if style == "capitals":
        asks.append("in capital letters")
        checks["capitals"] = True
    elif style == "commas":
        asks.append("with commas")
        checks["commas"] = True
    if frame == "start":
        checks["starts_with"] = rng.choice(OPENINGS)
        asks.append(f"starting with {checks['starts_with']}")
    elif frame == "end":
        checks["ends_with"] = rng.choice(CLOSINGS)
        asks.append(f"ending with {checks['ends_with']}")
    text = f"{checks.get('starts_with', 'list')}: {text}"
    if frame == "end":
        text += f" {checks['ends_with']}"
    if style == "capitals":
        text = text.upper()
    verb = rng.choice(("Name", "List", "Give me"))
    prompt = f"{verb} {COUNT_WORDS[count]} {category}" + (" " + " and ".join(asks) if asks else "") + "."
    key = ("instruction", category, count, style, checks.get("starts_with"), checks.get("ends_with"))
    return Exercise("instruction", prompt, ", ".join([" ".join(plan), *asks]), text, key, checks=checks)


def _formula(rng: random.Random, *, steps: int) -> tuple[str, str]:
    """So many operations on x: in words, and as an expression of Python and C++ alike."""
    words, expression = "x", "x"
    for _ in range(steps):
        word, constant = rng.choice(sorted(OPERATORS)), rng.randint(2, 9)
        words += f" {word} {constant}"
        # "x plus 2 times 3" is read from left to right, so the sum gets brackets
        left = f"({expression})" if OPERATORS[word] == "*" and expression != "x" else expression
        expression = f"{left} {OPERATORS[word]} {constant}"
    return words, expression


def code(rng: random.Random, *, language: str = "Python") -> Exercise:
    """A function of x: a formula of two or three operations, or a threshold between two formulas of one."""
    name = rng.choice(CODE_NAMES)
    if rng.random() < 0.5:
        words, expression = _formula(rng, steps=rng.randint(2, 3))
        request, plan = f"returns {words}", f"{name}: {expression}"
        key: tuple = ("code", expression)
        value = eval(f"lambda x: {expression}")  # our own expression, built above from digits and operators
        python, cpp = f"    return {expression}\n", f"return {expression};"
    else:
        threshold = rng.randint(1, 9)
        (words, above), (other_words, below) = _formula(rng, steps=1), _formula(rng, steps=1)
        request = f"returns {words} if x is above {threshold}, else {other_words}"
        plan = f"{name}: x > {threshold}: {above}, else: {below}"
        key = ("code", above, threshold, below)
        value = eval(f"lambda x: ({above}) if x > {threshold} else ({below})")
        python = f"    if x > {threshold}:\n        return {above}\n    return {below}\n"
        cpp = f"if (x > {threshold}) return {above}; return {below};"
    verb = rng.choice(("Write", "Give me", "Show"))
    if language == "Python":
        response = f"```python\ndef {name}(x):\n{python}```"
    else:
        response = f"```cpp\nint {name}(int x) {{ {cpp} }}\n```"
    cases = [[[x], value(x)] for x in (-3, 0, 1, 2, 5, 6, 9, 10, 40)]
    prompt = f"{verb} a {language} function {name} that {request}."
    return Exercise("code", prompt, plan, response, key, checks={"function": name, "cases": cases})
