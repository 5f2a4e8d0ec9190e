"""The one place that knows the benchmarks: what nemo-evaluator calls them, how often they ask, how they are scored.

>>> suite = get_suite("offline")
>>> suite.answers                     # questions x repeats
800
>>> [benchmark.key for benchmark in suite.benchmarks][:1]
['offline_knowledge_pass_at_1_avg-of-4_symbolic_correct']

`offline` is the suite of the debug scale: small questions that ship with this package. `harness` asks the study's
questions through the same harness packages that its containers hold, but in processes of this machine, and
`harness_code` adds the two benchmarks that execute what the model writes. `study` is the study's suite, run on a
cluster by nemo-evaluator-launcher from nemo_evaluator.yaml, which `python -m evaluator.harness.launcher_config` renders
from here.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field


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
    """A file that it needs and the hub has not, and the address from which it is fetched by hand."""


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
    """Requests that one answer takes."""
    judged: bool = False
    """Whether a model judges the answers (`evaluator.suites.judge`)."""
    executes_code: bool = False
    """Whether what the model writes is executed."""
    problems: int = 0
    """Problems that the questions are parts of, and stand or fall with; 0 where each question stands alone."""

    @property
    def independent(self) -> int:
        """How many of the questions an error may count: their problems where they are parts of some."""
        return self.problems or self.questions

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
    """`direct`, processes on this machine (`evaluator.harness.run`), or `launcher`, nemo-evaluator-launcher's
    containers on a
    cluster (`evaluator.harness.launcher`)."""
    reasoning_end: str = ""
    """Only what follows this text is scored; empty where the tasks look after that themselves."""
    context: int | None = None
    """The most tokens of a prompt and its answer, where the suite needs more than the checkpoint's config says: a
    Nemotron-H has no positions that could run out."""
    may_score_zero: bool = True
    """Whether a checkpoint may answer a whole benchmark wrongly; where not, a zero is a failed evaluation."""

    @property
    def answers(self) -> int:
        """Questions x repeats, over all benchmarks."""
        return sum(benchmark.questions * benchmark.repeats for benchmark in self.benchmarks)

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


def _offline(title: str, task: str, protocol: str) -> Benchmark:
    return Benchmark(
        title=title,
        task=task,
        repeats=4,
        metric="pass_at_1_avg-of-{n}",
        score="symbolic_correct",
        questions=40,
        protocol=protocol,
        repeats_key="num_repeats",
        harness="offline",
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
            written_as=("mmlu_str", "exact_match", "exact_match"),
            harness="lm_eval",
            params={"temperature": None, "top_p": None, "max_new_tokens": None, "num_fewshot": 5},
        ),
        Benchmark(
            title="MMLU Pro",
            task="ns_mmlu_pro",
            harness="nemo_skills",
            repeats_key="num_repeats",
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
            harness="nemo_skills",
            repeats_key="num_repeats",
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
            harness="nemo_skills",
            repeats_key="num_repeats",
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
            harness="nemo_skills",
            repeats_key="num_repeats",
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
            repeats_key="n_samples",
            harness="simple_evals",
            judged=True,
        ),
        Benchmark(
            title="IFEval",
            task="ns_ifeval",
            repeats_key="num_repeats",
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
            repeats_key="num_repeats",
            harness="nemo_skills",
            repeats=8,
            metric="pass_at_1_avg-of-{n}",
            score="subtask_accuracy",
            questions=288,  # of 291 sub-steps; three are given and not asked (13.6, 62.1, 76.3)
            problems=65,
            protocol="sub-steps, generated code is run in the container's sandbox",
            result="scicode",
            params={"max_new_tokens": 8_192},
        ),
    ),
    temperature=0.6,
    top_p=0.95,
    max_new_tokens=32_768,
    parallelism=64,
    evaluation="",
    runner="launcher",
    may_score_zero=False,
)

_AIME = Benchmark(
    title="AIME 2025",
    task="aime_2025_nemo",
    repeats=32,
    metric="score",
    score="micro_avg_of_{n}",
    score_once="micro",
    questions=30,
    protocol="boxed integer, compared as text",
    repeats_key="n_samples",
    harness="simple_evals",
    dataset=Dataset("opencompass/AIME2025", ("aime2025-I.jsonl", "aime2025-II.jsonl"), ("", "question")),
)
_MATH = Benchmark(
    title="MATH-500",
    task="AA_math_test_500",
    repeats=5,
    metric="score",
    score="micro_avg_of_{n}",
    score_once="micro",
    questions=500,
    protocol="Artificial Analysis's prompt, a model judges equality where sympy finds none",
    repeats_key="n_samples",
    harness="simple_evals",
    dataset=Dataset("HuggingFaceH4/MATH-500", ("test.jsonl",), ("unique_id", "problem")),
    judged=True,
)
_GPQA = Benchmark(
    title="GPQA Diamond",
    task="gpqa_diamond",
    repeats=8,
    metric="score",
    score="micro_avg_of_{n}",
    score_once="micro",
    questions=198,
    protocol="4 choices, shuffled anew in every repeat, the letter after 'Answer:'",
    repeats_key="n_samples",
    harness="simple_evals",
    dataset=Dataset("Idavidrein/gpqa", ("gpqa_diamond.csv",), ("Record ID", "Question")),
)
_IFEVAL = Benchmark(
    title="IFEval",
    task="lm-evaluation-harness.ifeval",
    result="ifeval",
    repeats=1,
    metric="prompt_level_strict_acc",
    score="prompt_level_strict_acc",
    questions=541,
    protocol="verified by a program, every instruction of a prompt followed to the letter",
    harness="lm_eval",
    dataset=Dataset("google/IFEval", ("ifeval_input_data.jsonl",), ("key", "prompt")),
)

HARNESS = Suite(
    name="harness",
    benchmarks=(_GPQA, _AIME, _MATH, _IFEVAL),
    temperature=0.6,
    top_p=0.95,
    max_new_tokens=1_024,
    parallelism=64,
    evaluation="",
    reasoning_end="</think>",
    context=8_192,
)

_LIVECODEBENCH = Benchmark(
    title="LCB v6",
    task="codegeneration_release_v6",
    result="codegeneration",
    repeats=4,
    metric="pass@1",
    score="pass@1",
    questions=454,
    protocol="problems from August 2024 to May 2025, generated code is run in a sandbox",
    params={"start_date": "2024-08-01", "end_date": "2025-05-31", "parallelism": 8},  # a process for each
    repeats_key="n_samples",
    harness="livecodebench",
    dataset=Dataset(
        "livecodebench/code_generation_lite",
        ("code_generation_lite.py", "test*.jsonl"),
        ("question_id", "question_content"),
        between=("contest_date", "2024-08-01", "2025-05-31"),
    ),
    executes_code=True,
)

_SCICODE = Benchmark(
    title="SciCode",
    task="scicode",
    repeats=8,
    metric="steps_pass@1",
    score="steps_pass@1",
    questions=288,
    problems=65,
    protocol="sub-steps without their background, generated code is run in a sandbox",
    repeats_key="n_samples",
    harness="scicode",
    dataset=Dataset(
        "SciCode1/SciCode",
        ("problems_test.jsonl", "test_data.h5"),
        ("step_number", "step_description_prompt"),
        parts="sub_steps",
        given=("13.6", "62.1", "76.3"),
        by_hand=(
            "test_data.h5",
            "https://drive.usercontent.google.com/download?id=17G_k65N_6yFFZ2O-jQH00Lh6iaw3z-AW&confirm=y",
        ),
    ),
    executes_code=True,
)

HARNESS_CODE = dataclasses.replace(
    HARNESS,
    name="harness_code",
    benchmarks=(*HARNESS.benchmarks, _LIVECODEBENCH, _SCICODE),
    context=32_768,  # SciCode's prompts hold the code of all earlier steps, of which a problem has up to 15
)

_SUITES = {suite.name: suite for suite in (OFFLINE, HARNESS, HARNESS_CODE, STUDY)}


def get_suite(name: str) -> Suite:
    """The suite called `name`. Raises ValueError with the nearest name when there is none."""
    if name in _SUITES:
        return _SUITES[name]
    near = difflib.get_close_matches(str(name), _SUITES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_SUITES)}."
    raise ValueError(f"there is no suite called {name!r}; {hint}")
