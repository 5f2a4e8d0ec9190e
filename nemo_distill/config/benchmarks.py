r"""What a recipe declares to be asked beside a suite: questions of its own, and tasks of nemo-evaluator's.

>>> from nemo_distill.config.benchmarks import Benchmark, Questions
>>> quiz = Questions(name="my_quiz", path="questions/quiz.jsonl", kind="choice", repeats=4)
>>> quiz.title
'my_quiz'
>>> hmmt = Benchmark(
...     task="ns_hmmt_feb2025", questions=30, repeats=16, repeats_key="num_repeats",
...     metric="pass@1[avg-of-{n}]", score="symbolic_correct", scale="percent",
... )

    Settings(blend=BLEND, evaluate=Evaluate(benchmarks=(quiz, hmmt)))
    nemo-run recipes/mine.py evaluate.tasks=ifeval,my_quiz

A file of questions is JSONL, an object a line, with an `id` where it has one (else its line is its id), the `question`
or `messages`, and what its kind is judged by (`evaluator.suites.own`):

    choice        {"question": "...", "choices": ["a", "b", "c"], "answer": "B"}        or the choice itself
    boxed         {"question": "...", "answer": "62"}                                   in the last \boxed{}
    exact         {"question": "...", "answer": "Paris"}                                or a list of answers
    regex         {"question": "...", "pattern": "(?i)^paris\\b"}
    instruction   {"question": "...", "checks": {"max_words": 50, "contains": ["Paris"]}}
    code          {"question": "...", "tests": "assert f(2) == 4"}                      run in a sandbox
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_distill.config.arguments import check_arguments, check_count
from nemo_distill.errors import UserError, nearest

KINDS = ("choice", "boxed", "exact", "regex", "instruction", "code")
"""What can be asked for, and so how an answer is judged."""
SCALES = ("unit", "percent")
"""Scales on which a harness reports a score: from 0 to 1, from 0 to 100."""
LEAST_QUESTIONS, WHY_SO_MANY = 2, "no difference of two checkpoints can be shown by fewer than 2"
PLACEHOLDERS = ("question", "choices")
"""What a prompt may hold in braces."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_DATASET = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_TASK = re.compile(r"[A-Za-z0-9][\w-]*(\.[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, kw_only=True)
class Questions:
    """A benchmark of a recipe's own: a file of questions that are all of one kind."""

    name: str
    """What commands, tables and files call it: letters, digits, - and _."""
    path: str
    """JSONL file of the questions."""
    kind: str
    """How answers are judged: a name in `KINDS`."""
    title: str = ""
    """Heading of its column in tables; empty: its name."""
    prompt: str = ""
    """What is asked, with `{question}` and, of a choice, `{choices}` in it; empty: the kind's own
    (`evaluator.suites.own.PROMPTS`). Questions that are `messages` are asked as they stand."""
    repeats: int = 1
    """Times every question is asked, each with its own seed; `evaluate.repeats` takes its place."""
    max_new_tokens: int | None = None
    """Longest answer in tokens; None: the suite's number."""

    def __new__(cls, **given: object) -> "Questions":
        """Raises `UserError` for an argument that there is not, with the nearest, and where there is no name."""
        check_arguments(cls, "benchmark", given, name="name")
        return super().__new__(cls)

    def __post_init__(self):
        if isinstance(self.path, Path):
            object.__setattr__(self, "path", str(self.path))
        if not self.title:
            object.__setattr__(self, "title", self.name)
        _check_texts(self, "name", "path", "kind", "title")
        if not _NAME.fullmatch(self.name):
            near = re.sub(r"[^A-Za-z0-9_-]+", "-", self.name).strip("-_")[:100] or "my_quiz"
            raise UserError(f"a benchmark cannot be called {self.name!r}. Did you mean {near!r}?")
        if self.kind not in KINDS:
            raise UserError(f"benchmark {self.name!r} has the kind {self.kind!r}. {nearest(self.kind, KINDS)}")
        check_count(self, f"benchmark {self.name!r}", "repeats")
        check_count(self, f"benchmark {self.name!r}", "max_new_tokens")
        self._check_prompt()

    def _check_prompt(self) -> None:
        if not isinstance(self.prompt, str):
            raise UserError(f"benchmark {self.name!r}: prompt={self.prompt!r} has to be text.")
        if self.prompt and "{question}" not in self.prompt:
            raise UserError(f"benchmark {self.name!r}: prompt={self.prompt!r} has no {{question}} in it.")
        for word in re.findall(r"\{(\w+)\}", self.prompt):
            if word not in PLACEHOLDERS and nearest(word, PLACEHOLDERS).startswith("Did"):
                raise UserError(f"benchmark {self.name!r}: prompt has {{{word}}} in it. {nearest(word, PLACEHOLDERS)}")

    @property
    def task(self) -> str:
        """What results call it."""
        return self.name

    @property
    def file(self) -> Path:
        """The file, wherever a step is started."""
        return Path(os.path.abspath(Path(self.path).expanduser()))


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A task that nemo-evaluator knows by name, with the score in results.yml that is its own."""

    task: str
    """What nemo-evaluator calls it: `ns_hmmt_feb2025`, or `lm-evaluation-harness.mmlu` where harnesses share a name."""
    questions: int
    """Number of its questions."""
    metric: str
    """Metric in results.yml; `{n}` stands for the repeats."""
    score: str
    """Score of that metric in results.yml; `{n}` stands for the repeats."""
    scale: str
    """Scale of the score: a name in `SCALES`."""
    title: str = ""
    """Heading of its column in tables; empty: the task."""
    result: str = ""
    """Name of the task in results.yml; empty: what its harness is told to ask."""
    repeats: int = 1
    """Times every question is asked, in a task that has a parameter for it (`repeats_key`)."""
    repeats_key: str = ""
    """The task's parameter for the repeats: `num_repeats`, `n_samples`; empty where it asks once."""
    requests: int | None = 1
    """Number of requests that one answer takes; None where it is not always the same."""
    judged: bool = False
    """Whether a model judges the answers (`evaluator.suites.judge`)."""
    executes_code: bool = False
    """Whether what the model writes is executed: on this machine such a task is run in the sandbox."""
    datasets: tuple[str, ...] = ()
    """The Hub's data sets that it reads, as OWNER/NAME: on this machine it finds those of `evaluate.datasets` alone."""
    params: dict[str, Any] = field(default_factory=dict)
    """Parameters of the task that differ from the suite's; None leaves the task's own default."""

    def __new__(cls, **given: object) -> "Benchmark":
        """Raises `UserError` for an argument that there is not, with the nearest, and where there is no task."""
        check_arguments(cls, "benchmark", given, name="task")
        return super().__new__(cls)

    def __post_init__(self):
        if not self.title:
            object.__setattr__(self, "title", self.task)
        _check_texts(self, "task", "metric", "score", "scale", "title")
        if not _TASK.fullmatch(self.task):
            raise UserError(f"a benchmark's task is TASK or HARNESS.TASK, not {self.task!r}.")
        if self.scale not in SCALES:
            raise UserError(f"benchmark {self.task!r} has the scale {self.scale!r}. {nearest(self.scale, SCALES)}")
        for name in ("questions", "repeats", "requests"):
            check_count(self, f"benchmark {self.task!r}", name)
        if self.questions < LEAST_QUESTIONS:
            raise UserError(f"benchmark {self.task!r}: questions={self.questions}; {WHY_SO_MANY}.")
        if self.repeats > 1 and not self.repeats_key:
            raise UserError(
                f"benchmark {self.task!r} is asked {self.repeats} times, by a parameter that is not named: say "
                "repeats_key=, 'num_repeats' of NeMo-Skills, 'n_samples' of simple-evals."
            )
        if isinstance(self.datasets, str) or not all(_DATASET.fullmatch(str(name)) for name in self.datasets):
            raise UserError(
                f"benchmark {self.task!r}: datasets={self.datasets!r} have to be names, ('OWNER/NAME', ...)."
            )
        if not isinstance(self.params, Mapping) or not all(isinstance(key, str) for key in self.params):
            raise UserError(f"benchmark {self.task!r}: params={self.params!r} have to be parameters by name.")


Declared = Questions | Benchmark
"""What may stand in `evaluate.benchmarks`."""


def check_declared(benchmarks: Sequence[Declared]) -> None:
    """Raise `UserError` where two benchmarks have one name or title."""
    for what in ("task", "title"):
        names = [getattr(one, what) for one in benchmarks]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"evaluate.benchmarks has the {what} {name!r} twice; give each its own.")


def files_of(benchmarks: Iterable[Declared]) -> dict[str, str]:
    """Files of a recipe's own questions, by task."""
    return {one.task: str(one.file) for one in benchmarks if isinstance(one, Questions)}


def _check_texts(declared: Declared, *names: str) -> None:
    for name in names:
        value = getattr(declared, name)
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"a benchmark has {name}={value!r}, which has to be text.")
