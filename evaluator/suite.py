"""The one place that knows the benchmarks: what nemo-evaluator calls them, how often they ask, how they are scored.

>>> suite = get_suite("offline")
>>> suite.answers                     # questions x repeats
800
>>> [benchmark.key for benchmark in suite.benchmarks][:1]
['offline_knowledge_pass_at_1_avg-of-4_symbolic_correct']

`offline` is the suite of the debug scale, run by `evaluator.run`; `study` is the study's, run by
nemo-evaluator-launcher from nemo_evaluator.yaml, which `python -m evaluator.launcher` renders from here.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field


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
    params: Mapping = field(default_factory=dict, hash=False)
    """nemo-evaluator's parameters that differ from the suite's; None leaves the task's own default."""

    @property
    def path(self) -> tuple[str, str, str]:
        """Task, metric and score in results.yml."""
        return (self.result or self.task, self.metric.format(n=self.repeats), self.score.format(n=self.repeats))

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
    """nemo-evaluator's name for all of them in one evaluation, run by `evaluator.run`; empty when each is started on
    its own, by nemo-evaluator-launcher."""

    @property
    def answers(self) -> int:
        """Questions x repeats, over all benchmarks."""
        return sum(benchmark.questions * benchmark.repeats for benchmark in self.benchmarks)

    def with_repeats(self, repeats: int) -> "Suite":
        """The same benchmarks, each asked `repeats` times."""
        if repeats < 1:
            raise ValueError(f"repeats is {repeats}; it must be at least 1.")
        repeated = (dataclasses.replace(benchmark, repeats=repeats) for benchmark in self.benchmarks)
        return dataclasses.replace(self, benchmarks=tuple(repeated))


def _offline(title: str, task: str, protocol: str) -> Benchmark:
    return Benchmark(
        title=title,
        task=task,
        repeats=4,
        metric="pass_at_1_avg-of-{n}",
        score="symbolic_correct",
        questions=40,
        protocol=protocol,
    )


OFFLINE = Suite(
    name="offline",
    benchmarks=(
        _offline("Knowledge", "offline_knowledge", "multiple choice, in the manner of MMLU"),
        _offline("Science", "offline_science", "multiple choice, in the manner of GPQA Diamond"),
        _offline("Math", "offline_math", "boxed answer, in the manner of AIME and MATH-500"),
        _offline("IFEval", "offline_ifeval", "verified by a program, in the manner of IFEval"),
        _offline("Code", "offline_code", "run against test cases, in the manner of LiveCodeBench"),
    ),
    temperature=0.6,
    top_p=0.95,
    max_new_tokens=48,
    parallelism=256,
    evaluation="nemo_distill.offline",
)

STUDY = Suite(
    name="study",
    benchmarks=(
        Benchmark(
            title="MMLU",
            task="lm-evaluation-harness.mmlu",
            repeats=1,
            metric="",
            score="",
            questions=14_042,
            protocol="5-shot, the answer generated, greedy",
            result="mmlu",
            params={"temperature": None, "top_p": None, "max_new_tokens": None, "num_fewshot": 5},
        ),
        Benchmark(
            title="MMLU Pro",
            task="ns_mmlu_pro",
            repeats=1,
            metric="pass_at_1",
            score="symbolic_correct",
            questions=12_032,
            protocol="10 choices, boxed",
            result="mmlu-pro",
        ),
        Benchmark(
            title="GPQA Diamond",
            task="ns_gpqa",
            repeats=8,
            metric="pass_at_1_avg-of-{n}",
            score="symbolic_correct",
            questions=198,
            protocol="4 choices",
            result="gpqa",
        ),
        Benchmark(
            title="LCB v6",
            task="ns_livecodebench",
            repeats=4,
            metric="pass_at_1_avg-of-{n}",
            score="accuracy",
            questions=454,
            protocol="split test_v6_2408_2505",
            result="livecodebench",
            params={"dataset_split": "test_v6_2408_2505"},
        ),
        Benchmark(
            title="AIME 2025",
            task="ns_aime2025",
            repeats=32,
            metric="pass_at_1_avg-of-{n}",
            score="symbolic_correct",
            questions=30,
            protocol="boxed integer",
            result="aime25",
        ),
        Benchmark(
            title="MATH-500",
            task="AA_math_test_500",
            repeats=5,
            metric="score",
            score="micro_avg_of_{n}",
            questions=500,
            protocol="Artificial Analysis's prompt, a model judges equality",
            params={"max_retries": 5, "request_timeout": 3600},
        ),
        Benchmark(
            title="IFEval",
            task="ns_ifeval",
            repeats=1,
            metric="pass_at_1",
            score="average_score",
            questions=541,
            protocol="verified by a program, mean of its four accuracies",
            result="ifeval",
        ),
        Benchmark(
            title="SciCode",
            task="ns_scicode",
            repeats=8,
            metric="pass_at_1_avg-of-{n}",
            score="subtask_accuracy",
            questions=65,
            protocol="subtasks, generated code is run in the container's sandbox",
            result="scicode",
            params={"max_new_tokens": 8_192},
        ),
    ),
    temperature=0.6,
    top_p=0.95,
    max_new_tokens=32_768,
    parallelism=64,
    evaluation="",
)

_SUITES = {suite.name: suite for suite in (OFFLINE, STUDY)}


def get_suite(name: str) -> Suite:
    """The suite called `name`. Raises ValueError with the nearest name when there is none."""
    if name in _SUITES:
        return _SUITES[name]
    near = difflib.get_close_matches(str(name), _SUITES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_SUITES)}."
    raise ValueError(f"there is no suite called {name!r}; {hint}")
