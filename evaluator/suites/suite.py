"""Defines benchmarks, their data sets and suites; `evaluator.suites.catalogue` lists those that there are.

suite = get_suite("offline")                       # of the catalogue
suite.with_repeats(1).answers                      # questions x repeats
suite.benchmarks[0].key                            # name of its score, as nemo-evaluator-launcher exports it
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CARRIER = "AIME_2025"
"""The launcher's task in whose container a user's own questions are asked: simple-evals', of few dependencies."""
UNIT, PERCENT = "unit", "percent"
"""Scales of a score: from 0 to 1, from 0 to 100."""


@dataclass(frozen=True)
class Dataset:
    """A data set of the hub."""

    name: str
    """Its owner and name."""
    files: tuple[str, ...]
    """Patterns of the files that it needs; those that are tables hold the questions."""
    fields: tuple[str, str]
    """Which fields hold a question's id, empty where its place is its id, and its text."""
    between: tuple[str, str, str] | None = None
    """A field with a date, and the first and the last day of those that are asked; None for all questions."""
    parts: str = ""
    """A field with the list of the questions that each row, a problem, is made of; empty where a row is a question."""
    given: tuple[str, ...] = ()
    """Ids of the questions that come with their answers and are not asked."""
    by_hand: tuple[str, str] | None = None
    """A file that it needs and that is not on the Hub, and the address from which it is fetched by hand."""
    fetched_as: str = ""
    """Owner and name of the data set whose files are to lie there, where `name` is but a script."""


@dataclass(frozen=True)
class Own:
    """What makes a benchmark of a file of questions (`evaluator.suites.own`)."""

    kind: str
    """How answers are judged: a name in `evaluator.suites.own.KINDS`."""
    digest: str
    """SHA-256, in hex, of the questions as they are asked and judged."""
    prompt: str = ""
    """What is asked, with `{question}` in it; empty: the kind's own."""


@dataclass(frozen=True)
class Benchmark:
    """One column of the tables."""

    title: str
    """What tables call it."""
    task: str
    """What nemo-evaluator calls it."""
    repeats: int
    """Times every question is asked; scores of one column all have the same number."""
    metric: str
    """Metric in results.yml; `{n}` stands for the repeats."""
    score: str
    """Score of that metric in results.yml; `{n}` stands for the repeats."""
    questions: int
    """Number of questions."""
    protocol: str
    """What decides the score besides the model, in half a sentence."""
    result: str = ""
    """The task's name in results.yml where it differs from `task`."""
    written_as: tuple[str, str, str] | None = None
    """Task, metric and score in results.yml, where the study's own name of the score is another."""
    params: Mapping = field(default_factory=dict, hash=False)
    """nemo-evaluator's parameters that differ from the suite's; None leaves the task's own default."""
    repeats_key: str = ""
    """What the harness calls the number of repeats; empty where it asks once and no more."""
    score_once: str = ""
    """The score's name where the question is asked once and `score` is what it is called with more repeats."""
    harness: str = ""
    """Whose output `evaluator.harness.readers` reads to get every answer's score; empty where that is not known."""
    dataset: Dataset | None = None
    """Where the questions come from, for the harnesses that run on this machine."""
    requests: int = 1
    """Requests that one answer takes; 0 where it is not always the same number."""
    judged: bool = False
    """Whether a model judges the answers (`evaluator.suites.judge`)."""
    executes_code: bool = False
    """Whether what the model writes is executed."""
    problems: int = 0
    """Problems that the questions are parts of, and stand or fall with; 0 where each question stands alone."""
    scale: str = UNIT
    """Scale of its score in results.yml, `UNIT` or `PERCENT`; what answers add up to decides where they are kept."""
    split: str = ""
    """The part of the data set that is asked, as its harness or the Hub calls it."""
    most: float = 1.0
    """Highest score of one question; more than 1 where a question weighs by how much it asks for."""
    lowest: float = 0.0
    """Lowest score, from 0 to 1, that a checkpoint which answers is known to have; 0 where none is known. The study's
    are those of its pruned student, as published."""
    declared: bool = False
    """Whether a recipe declares it; of such a benchmark nobody knows how low a score can be."""
    endpoint: str = "chat"
    """What the launcher's task asks: `chat`, or `completions`, which take no chat template and no reasoning."""
    uses: tuple[str, ...] = ()
    """Names of the Hub's data sets that a declared one reads; those of the suites say so by `dataset`."""
    own: Own | None = None
    """Whose file its questions are from; None where they come with their harness."""

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the Hub's data sets that its harness reads."""
        return (*([self.dataset.name] if self.dataset else ()), *self.uses)

    @property
    def sandboxed(self) -> bool:
        """Whether on this machine all of it runs in a sandbox: a harness that is not ours, or what executes code."""
        return self.harness != "offline" or self.executes_code

    @property
    def independent(self) -> int:
        """How many of the questions an error may count: their problems where they are parts of some."""
        return self.problems or self.questions

    @property
    def launched_as(self) -> str:
        """The launcher's task: a user's own questions are asked in place of one, in its container."""
        return CARRIER if self.own else self.task

    @property
    def path(self) -> tuple[str, str, str]:
        """Task, metric and score, as the study's tables name them."""
        score = self.score_once if self.repeats == 1 and self.score_once else self.score
        return (self.result or self.task, self.metric.format(n=self.repeats), score.format(n=self.repeats))

    @property
    def written(self) -> tuple[str, str, str]:
        """Task, metric and score as results.yml has them."""
        task, metric, score = self.path
        return self.written_as or (task, metric or task, score or task)

    @property
    def key(self) -> str:
        """The flat name of the score, as nemo-evaluator-launcher exports it."""
        return "_".join(part for part in self.path if part)


@dataclass(frozen=True)
class Suite:
    """Benchmarks asked under one protocol."""

    name: str
    """Its name in settings."""
    benchmarks: tuple[Benchmark, ...]
    """In the order of the tables' columns."""
    temperature: float
    """Sampling temperature."""
    top_p: float
    """Nucleus sampling."""
    max_new_tokens: int
    """The most tokens of an answer, its reasoning included."""
    parallelism: int
    """Requests in flight."""
    evaluation: str
    """nemo-evaluator's name for all of them in one evaluation; empty when each is started on its own."""
    runner: str = "direct"
    """`direct`, processes on this machine (`evaluator.harness.direct`), or `launcher`, nemo-evaluator-launcher's
    containers on a cluster (`evaluator.harness.launcher`)."""
    reasoning_end: str = ""
    """Only what follows this text is scored; empty where the tasks look after that themselves."""
    context: int | None = None
    """The most tokens of a prompt and its answer, where the suite needs more than the checkpoint's config says: a
    Nemotron-H has no positions that could run out."""
    may_score_zero: bool = True
    """Whether a checkpoint may answer a whole benchmark wrongly; where not, a zero is a failed evaluation unless chance
    explains it (`evaluator.harness.zero`)."""
    max_unasked: float = 0.05
    """Most of a benchmark's answers, as a share from 0 to 1, that may be missing since their prompts were longer than
    the context; they count as wrong."""
    keeps_reasoning: bool = False
    """Whether the launcher's harnesses are given the reasoning with the answer, and score both as one text."""
    engine: tuple[str, ...] = ()
    """Options of the launcher's engine beyond those of nemo_evaluator.yaml, word by word."""
    answer_seconds: int = 3_600
    """Longest time in seconds that one answer is waited for, its time in a queue included."""
    remark: str = ""
    """What it asks otherwise than who reads its name may think, as a sentence for the preview."""

    @property
    def answers(self) -> int:
        """Questions x repeats, over all benchmarks."""
        return sum(benchmark.questions * benchmark.repeats for benchmark in self.benchmarks)

    @property
    def evaluations(self) -> tuple[tuple[Benchmark, ...], ...]:
        """The benchmarks that one evaluation of nemo-evaluator asks, of each evaluation on this machine.

        Those that our own runner asks alike are asked together: batches fill, and nemo-evaluator starts once.
        """
        groups: dict[Any, list[Benchmark]] = {}
        for benchmark in self.benchmarks:
            key: Any = benchmark.task
            if benchmark.own:
                key = (benchmark.repeats, benchmark.executes_code, benchmark.params.get("max_new_tokens"))
            elif self.evaluation and not benchmark.declared:
                key = None
            groups.setdefault(key, []).append(benchmark)
        return tuple(map(tuple, groups.values()))

    def folder(self, evaluation: tuple[Benchmark, ...]) -> str:
        """The folder of one of the `evaluations`, under that of all: its first task; none of the suite's own."""
        first = evaluation[0]
        return first.task if first.own or first.declared or not self.evaluation else ""

    @property
    def datasets(self) -> dict[str, Dataset]:
        """Data set of each task that takes its questions from one."""
        return {benchmark.task: benchmark.dataset for benchmark in self.benchmarks if benchmark.dataset}

    @property
    def executes_code(self) -> tuple[str, ...]:
        """Titles of the benchmarks that execute what the model writes."""
        return tuple(benchmark.title for benchmark in self.benchmarks if benchmark.executes_code)

    def with_repeats(self, repeats: int) -> "Suite":
        """The same benchmarks, each that can be asked more than once asked `repeats` times."""
        if repeats < 1:
            raise ValueError(f"repeats is {repeats}; it must be at least 1.")
        repeated = (
            dataclasses.replace(benchmark, repeats=repeats if benchmark.repeats_key else 1)
            for benchmark in self.benchmarks
        )
        return dataclasses.replace(self, benchmarks=tuple(repeated))

    def with_max_new_tokens(self, tokens: int) -> "Suite":
        """The same benchmarks with another limit of an answer's length."""
        return dataclasses.replace(self, max_new_tokens=tokens)

    def with_benchmarks(self, benchmarks: Iterable[Benchmark]) -> "Suite":
        """The same protocol with these of its benchmarks."""
        return dataclasses.replace(self, benchmarks=tuple(benchmarks))

    def with_questions(self, questions: Mapping[str, int], problems: Mapping[str, int] | None = None) -> "Suite":
        """The same benchmarks, with as many questions and problems as is said here of their tasks."""
        counted = (
            dataclasses.replace(
                benchmark,
                questions=questions.get(benchmark.task, benchmark.questions),
                problems=(problems or {}).get(benchmark.task, benchmark.problems),
            )
            for benchmark in self.benchmarks
        )
        return dataclasses.replace(self, benchmarks=tuple(counted))


_FIRST_FIELDS: dict[type, tuple[str, ...]] = {
    Suite: (
        "name", "benchmarks", "temperature", "top_p", "max_new_tokens", "parallelism", "evaluation", "runner",
        "reasoning_end", "context", "may_score_zero",
    ),
    Benchmark: (
        "title", "task", "repeats", "metric", "score", "questions", "protocol", "result", "written_as", "params",
        "repeats_key", "score_once", "harness", "dataset", "requests", "judged", "executes_code", "problems",
    ),
    Dataset: ("name", "files", "fields", "between", "parts", "given", "by_hand"),
}  # fmt: skip
"""Fields that protocols have held since evaluations were first made. It stays as it is when a field is added."""
_READING = {
    Benchmark: ("scale", "split", "most", "lowest", "endpoint"),
    Suite: ("max_unasked", "remark", "answer_seconds"),
}
"""Fields that say how results are read and believed, or name what others decide: protocols hold none of them."""


def identity_of(part: Any) -> Any:
    """A suite, benchmark or data set as plain JSON data, to hash for what its scores may be compared with.

    The first fields are always in it; one that was added later is only where it differs from its default, and one on
    how results are read never is. So a new field makes no finished evaluation another one, unless it is used.
    """
    if isinstance(part, Mapping):
        return {name: identity_of(value) for name, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [identity_of(value) for value in part]
    kinds: tuple[type, ...] = type(part).__mro__
    if not dataclasses.is_dataclass(part):
        return part
    first: tuple[str, ...] = next((_FIRST_FIELDS[kind] for kind in kinds if kind in _FIRST_FIELDS), ())
    left_out: tuple[str, ...] = next((_READING[kind] for kind in kinds if kind in _READING), ())
    return {
        one.name: identity_of(value)
        for one in dataclasses.fields(part)
        if one.name not in left_out and ((value := getattr(part, one.name)) != one.default or one.name in first)
    }
