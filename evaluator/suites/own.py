r"""Reads a user's own questions: what each asks, and what its answer is judged by, all checked line by line.

    questions = read_own(Path("quiz.jsonl"), own_kind("choice"))
    questions[0]["messages"][0]["content"]            # "What is ...?\n\nA) ...\nB) ...\n\nAnswer with ..."
    digest_of(questions)                              # of what is asked and judged, not of the file's white space

Every line is an object: an `id` where there is one (else the line's number), `question` or `messages`, and what the
kind needs. What comes out is what `core_evals.nemo_distill.runner` asks and `core_evals.nemo_distill.score` judges.
ValueError names file and line of the first row that is none, and the nearest name that is known.
"""

import ast
import difflib
import hashlib
import json
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from core_evals.nemo_distill import instructions
from core_evals.nemo_distill.score import last_box
from evaluator.suites.suite import Own, Suite

QUESTIONS = "questions"
"""Folder with a user's own questions, in that of an evaluation."""
OWN = "nemo_distill.own"
"""What nemo-evaluator calls an evaluation of them."""
LETTER = "Answer with the letter of the right choice, in the last line, as in 'Answer: A'."
PROMPTS = {
    "choice": f"{{question}}\n\n{{choices}}\n\n{LETTER}",
    "boxed": "{question}\n\nGive your final answer in \\boxed{}.",
    "exact": "{question}\n\nGive your final answer, and nothing else, in the last line, as in 'Answer: 42'.",
    "regex": "{question}",
    "instruction": "{question}",
    "code": "{question}\n\nAnswer with one block of Python code.",
}
"""What is asked, by kind, where a recipe says nothing else."""
KINDS = tuple(PROMPTS)
LETTERS = string.ascii_uppercase
ROLES = ("system", "user", "assistant")
SHARED = ("id", "question", "messages")
FIELDS: dict[str, tuple[str, ...]] = {
    "choice": ("answer", "choices"),
    "boxed": ("answer",),
    "exact": ("answer",),
    "regex": ("pattern",),
    "instruction": ("checks",),
    "code": ("tests", "function"),
}
"""Fields of a row by kind, the first of which every row has."""
Judged = tuple[str, str, dict[str, Any]]
"""How the runner judges an answer: the kind there, the right answer, and what else it takes."""


def read_own(path: Path, own: Own) -> list[dict[str, Any]]:
    """The questions of a file, in its order. Raises ValueError for a file or a row that cannot be asked."""
    questions: dict[str, dict[str, Any]] = {}
    rows = list(_rows(path))
    if not rows:
        raise ValueError(f"{path} has no questions.")
    asked = _field(rows[0][2])
    for where, number, row in rows:
        _check_fields(row, own.kind, where)
        if asked not in row:
            raise ValueError(f"{where}: it has no {asked!r}, as the first row has; a file has one of the two.")
        identity = row.get("id", number)
        if isinstance(identity, bool) or not isinstance(identity, str | int) or identity == "":
            raise ValueError(f"{where}: its id is {identity!r}, which has to be a text or a number.")
        if str(identity) in questions:
            raise ValueError(f"{where}: the id {identity!r} is that of an earlier row.")
        kind, answer, checks = _JUDGED[own.kind](row, where)
        questions[str(identity)] = {
            "id": str(identity),
            "messages": _messages(row, own, where),
            "kind": kind,
            "answer": answer,
            "checks": checks,
        }
    return list(questions.values())


def _field(row: Mapping[str, Any]) -> str:
    return "messages" if row.get("messages") is not None else "question"


def digest_of(questions: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256, in hex, of questions as they are asked and judged."""
    return hashlib.sha256(as_lines(questions).encode()).hexdigest()


def as_lines(questions: Iterable[Mapping[str, Any]]) -> str:
    """The questions as the runner reads them, a line each."""
    return "".join(json.dumps(question, sort_keys=True) + "\n" for question in questions)


def write_own(suite: Suite, files: Mapping[str, Path], folder: Path) -> None:
    """Write what the runner is to ask of `suite`, TASK.jsonl each, into a folder; `files` are those of the questions.

    Raises ValueError where a file does not hold the questions that the suite was made of.
    """
    for benchmark in suite.benchmarks:
        if benchmark.own:
            folder.mkdir(exist_ok=True)
            questions = checked(benchmark.task, benchmark.own, files)
            (folder / f"{benchmark.task}.jsonl").write_text(as_lines(questions), encoding="utf-8")


def checked(task: str, own: Own, files: Mapping[str, Path]) -> list[dict[str, Any]]:
    """The questions of a benchmark. Raises ValueError where its file does not hold those that it was made of."""
    if task not in files:
        raise ValueError(f"the file of the questions of '{task}' is not said.")
    questions = read_own(files[task], own)
    if digest_of(questions) != own.digest:
        raise ValueError(
            f"{files[task]} no longer holds the questions of '{task}' that were to be asked: put them back, or give "
            "the run's command again, which evaluates with those that are there now."
        )
    return questions


def _rows(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where each row of a file stands, in words and as a line number, and the row."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                where = f"{path}, line {number}"
                if line.strip():
                    try:
                        row = json.loads(line)
                    except (ValueError, RecursionError) as error:
                        raise ValueError(f"{where}: no JSON: {error}.") from None
                    if not isinstance(row, dict):
                        raise ValueError(f"{where}: a {type(row).__name__}, and no object.")
                    yield where, str(number), row
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8: {error.reason} at byte {error.start}.") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from None


def _check_fields(row: dict[str, Any], kind: str, where: str) -> None:
    known = (*SHARED, *FIELDS[kind])
    for name in row:
        if name not in known and difflib.get_close_matches(name, known, n=1, cutoff=0.7):
            raise ValueError(f"{where}: it has {name!r}. {_nearest(name, known)}")
    needed = FIELDS[kind][0]
    if row.get(needed) is None:
        raise ValueError(f"{where}: it has no {needed!r}, which a question of kind '{kind}' needs.")
    if (row.get("question") is None) == (row.get("messages") is None):
        has = "both 'question' and" if row.get("question") is not None else "neither 'question' nor"
        raise ValueError(f"{where}: it has {has} 'messages'.")


def _messages(row: dict[str, Any], own: Own, where: str) -> list[dict[str, str]]:
    if row.get("messages") is None:
        question = _text(row, "question", where)
        prompt = own.prompt or PROMPTS[own.kind]
        choices = row.get("choices")
        if choices is None:  # which the question itself may hold
            prompt = prompt.replace("{choices}\n\n", "").replace("{choices}", "")
        else:
            listed = "\n".join(f"{letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
            prompt = prompt.replace("{choices}", listed)
        return [{"role": "user", "content": prompt.replace("{question}", question).strip()}]
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"{where}: 'messages' has to be a list of messages.")
    for message in messages:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise ValueError(f"{where}: a message has a 'role' and a 'content', unlike {message!r:.80}.")
        if message["role"] not in ROLES:
            raise ValueError(f"{where}: a message has the role {message['role']!r}. {_nearest(message['role'], ROLES)}")
        if not isinstance(message["content"], str):
            raise ValueError(f"{where}: the content of a message is {message['content']!r:.80}, which has to be text.")
    if messages[-1]["role"] != "user":
        raise ValueError(f"{where}: the last message is the {messages[-1]['role']}'s, and nothing asks.")
    return messages


def _choice(row: dict[str, Any], where: str) -> Judged:
    answer, choices = row["answer"], row.get("choices")
    if choices is None:
        if not isinstance(answer, str) or len(answer) != 1 or answer not in LETTERS:
            raise ValueError(f"{where}: its answer is {answer!r}: without 'choices' it is a letter, A to Z.")
        return "letter", answer, {}
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(LETTERS):
        raise ValueError(f"{where}: 'choices' has to be a list of 2 to {len(LETTERS)} choices.")
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise ValueError(f"{where}: a choice has to be text: {choices!r:.80}.")
    letters = LETTERS[: len(choices)]
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return "letter", letters[answer], {}
    if isinstance(answer, str) and choices.count(answer) == 1:
        return "letter", letters[choices.index(answer)], {}
    if isinstance(answer, str) and len(answer) == 1 and answer in letters:
        return "letter", answer, {}
    raise ValueError(
        f"{where}: its answer is {answer!r}: it has to be one of the choices, its letter ({letters[0]} to "
        f"{letters[-1]}), or its place from 0."
    )


def _boxed(row: dict[str, Any], where: str) -> Judged:
    answer = row["answer"]
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = f"{answer}"
    if not isinstance(answer, str) or not answer.strip():
        raise ValueError(f"{where}: its answer is {answer!r}, which has to be a number or text.")
    boxed = last_box(answer)
    return "boxed", answer if boxed is None else boxed, {}


def _exact(row: dict[str, Any], where: str) -> Judged:
    given = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
    accepted = [f"{one}" if isinstance(one, int | float) and not isinstance(one, bool) else one for one in given]
    if not accepted or not all(isinstance(one, str) and one.strip() for one in accepted):
        raise ValueError(f"{where}: its answer is {row['answer']!r}, which has to be text, or a list of texts.")
    return "exact", accepted[0], {"accepted": accepted}


def _regex(row: dict[str, Any], where: str) -> Judged:
    import regex

    pattern = _text(row, "pattern", where)
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"{where}: {pattern!r} is no pattern: {error}.") from None
    return "regex", pattern, {"pattern": pattern}


def _instruction(row: dict[str, Any], where: str) -> Judged:
    checks = row["checks"]
    if not isinstance(checks, dict) or not checks:
        raise ValueError(f"{where}: 'checks' has to be rules by name, such as {{'max_words': 50}}.")
    for rule, value in checks.items():
        if rule not in instructions.RULES:
            raise ValueError(f"{where}: there is no rule {rule!r}. {_nearest(rule, instructions.RULES)}")
        if fault := instructions.fault(rule, value):
            raise ValueError(f"{where}: the rule {rule!r} {fault}, not {value!r}.")
    return "form", "", checks


def _code(row: dict[str, Any], where: str) -> Judged:
    tests = row["tests"]
    if isinstance(tests, list) and all(isinstance(test, str) for test in tests):
        tests = "\n".join(tests)
    if not isinstance(tests, str) or not tests.strip():
        raise ValueError(f"{where}: 'tests' has to be statements of Python, such as 'assert f(2) == 4'.")
    try:
        ast.parse(tests)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{where}: its tests are no Python: {error}.") from None
    function = row.get("function", "")
    if function and not (isinstance(function, str) and function.isidentifier()):
        raise ValueError(f"{where}: 'function' is {function!r}, which is no name of a function.")
    return "program", "", {"tests": tests} | ({"function": function} if function else {})


_JUDGED: dict[str, Callable[[dict[str, Any], str], Judged]] = {
    "choice": _choice,
    "boxed": _boxed,
    "exact": _exact,
    "regex": _regex,
    "instruction": _instruction,
    "code": _code,
}


def _text(row: dict[str, Any], name: str, where: str) -> str:
    value = row[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: its {name} is {value!r:.80}, which has to be text.")
    return value


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
