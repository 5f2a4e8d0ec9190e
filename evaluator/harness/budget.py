"""Says what a checkpoint may spend on a benchmark of the launcher's: tokens, and from them time.

>>> from evaluator.suites.catalogue import get_suite
>>> suite = get_suite("study")
>>> [budget_of(benchmark, suite).hours for benchmark in suite.benchmarks]
[1, 6, 3, 4, 2, 2, 2, 2]
>>> [benchmark.title for benchmark in cheap(suite).benchmarks]
['MMLU', 'IFEval']

A student that was pruned and not distilled hardly ever ends an answer, so what a benchmark takes at most is questions x
repeats x the limit of an answer. Where models that do end theirs take a small part of that, the budget is a few times
what they take (`MEAN_TOKENS`), and a checkpoint that overruns it is ended rather than waited for.
"""

import math
from dataclasses import dataclass

from evaluator.suites.suite import Benchmark, Suite

TOKENS_PER_SECOND = 6_400
"""Output of a deployment with 8 H100: 800 tokens/s each, what NVIDIA's table of this model has with long prompts."""
START_HOURS = 0.5
"""Fetching images and data, loading the checkpoint, and scoring."""
MEAN_TOKENS = {"lm-evaluation-harness.mmlu": 512, "ns_mmlu_pro": 10_000, "AA_math_test_500": 10_000}
"""Mean length of an answer, by task, that a budget grants where it is less than the limit: NVIDIA's published runs of
the 9B take 2,534 in MMLU Pro. MMLU's answers are a letter, and what they take is reading its prompts."""
CHEAP_TOKENS = 18_000_000
"""What one benchmark may cost of a student that never ends an answer: under an hour on 8 H100."""


@dataclass(frozen=True)
class Budget:
    """What one checkpoint may spend on one benchmark."""

    title: str
    """What tables call the benchmark."""
    tokens: int
    """Tokens of all answers."""
    hours: int
    """Time from the job's start, whole hours."""


def budget_of(benchmark: Benchmark, suite: Suite, *, tokens_per_second: float = TOKENS_PER_SECOND) -> Budget:
    """The budget of one of the suite's benchmarks on a deployment that writes so many tokens a second."""
    granted = MEAN_TOKENS.get(benchmark.task, math.inf) * benchmark.questions * benchmark.repeats
    tokens = round(min(granted, _most(benchmark, suite)))
    return Budget(benchmark.title, tokens, math.ceil(tokens / tokens_per_second / 3600 + START_HOURS))


def cheap(suite: Suite) -> Suite:
    """`suite` with the benchmarks that cost at most `CHEAP_TOKENS` even where no answer ends."""
    return suite.with_benchmarks(one for one in suite.benchmarks if _most(one, suite) <= CHEAP_TOKENS)


def _most(benchmark: Benchmark, suite: Suite) -> int:
    """Tokens that the benchmark takes where every answer is as long as it may be."""
    limit = benchmark.params.get("max_new_tokens", suite.max_new_tokens)
    if limit is None:  # the task's own, a word or two
        limit = MEAN_TOKENS.get(benchmark.task, suite.max_new_tokens)
    return benchmark.questions * benchmark.repeats * limit
