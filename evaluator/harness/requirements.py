"""Checks that what a suite needs of this machine is there, before anything is spent.

means = Means(datasets=Path("datasets"))
suite = prepare_suite(get_suite("harness"), means)      # ValueError, in one sentence, for what is lacking
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evaluator.harness.bubblewrap import check_sandbox
from evaluator.harness.parameters import check_installed
from evaluator.serve.vllm import Vllm
from evaluator.suites.datasets import check_datasets, count_problems, count_questions
from evaluator.suites.judge import judge_of
from evaluator.suites.own import checked
from evaluator.suites.suite import Suite


@dataclass(frozen=True, kw_only=True)
class Means:
    """What an evaluation on this machine may use."""

    threads: int = 1
    """CPU threads of the model."""
    datasets: Path | None = None
    """Folder of the hub's data sets (`evaluator.suites.datasets`); None where none is asked for."""
    execute_generated_code: bool = False
    """Whether what the model writes may be executed, in a sandbox (`evaluator.harness.bubblewrap`)."""
    max_unasked: float = 0.05
    """Most of a benchmark's answers, as a share from 0 to 1, that may be missing (`Suite.max_unasked`)."""
    questions: Mapping[str, Path] = field(default_factory=dict)
    """Files of a user's own questions, by task."""
    vllm: Vllm | None = None
    """vLLM, which serves the model on GPUs; None: our own server does, on CPU threads."""


def prepare_suite(suite: Suite, means: Means) -> Suite:
    """`suite` with the number of questions that there are. Raises ValueError, in one sentence, for what is lacking."""
    suite = dataclasses.replace(suite, max_unasked=means.max_unasked)
    for benchmark in suite.benchmarks:
        if benchmark.own:
            checked(benchmark.task, benchmark.own, means.questions)
    if suite.runner != "direct":
        return suite
    if means.vllm is None and (texts := [one for one in suite.benchmarks if one.endpoint != "chat"]):
        raise ValueError(
            f"{texts[0].title} asks for {texts[0].endpoint}, which vLLM answers and our own server does not: "
            "evaluate.engine=vllm, or leave it out of evaluate.tasks."
        )
    if suite.executes_code and not means.execute_generated_code:
        what = ", ".join(suite.executes_code)
        raise ValueError(
            f"the suite '{suite.name}' executes what the model writes ({what}), in a sandbox: "
            "evaluate.execute_generated_code=true allows it."
        )
    if sandboxed := [benchmark for benchmark in suite.benchmarks if benchmark.sandboxed]:
        what = ", ".join(benchmark.title for benchmark in sandboxed)
        check_sandbox(f"without a sandbox {what} cannot be asked.")
    check_installed(suite)
    judge_of(suite)
    fetching = [one for one in suite.benchmarks if one.dataset or (one.declared and not one.own)]
    if not fetching:
        return suite
    if means.datasets is None:
        raise ValueError(f"the suite '{suite.name}' needs evaluate.datasets: a sandbox has no way to the hub.")
    check_datasets(means.datasets, suite)
    return suite.with_questions(count_questions(means.datasets, suite), count_problems(means.datasets, suite))
