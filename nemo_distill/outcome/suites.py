"""Says what an evaluation will ask, before anything runs: its load on a checkpoint and the protocol of its scores.

loads(Evaluation(suite="offline", repeats=4))[0].detectable      # smallest difference that it would show, 0 to 1
protocol(Evaluation(suite="offline", repeats=4))                 # twelve hex digits; scores of one are compared
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core_evals.nemo_distill import version
from evaluator.harness.requirements import Means, prepare_suite
from evaluator.stats.power import detectable_difference
from evaluator.suites import datasets
from evaluator.suites.catalogue import get_suite
from evaluator.suites.judge import judge_of
from evaluator.suites.suite import Suite, identity_of
from nemo_distill.config.resolved import Evaluation
from nemo_distill.errors import UserError
from nemo_distill.run.step import fingerprint


@dataclass(frozen=True)
class Load:
    """What one benchmark asks of every checkpoint, and what that can show."""

    title: str
    """What tables call it."""
    questions: int
    """Number of questions."""
    independent: int
    """Number of questions, or of problems where questions are parts of some: what a standard error is over."""
    repeats: int
    """Times each is asked."""
    max_new_tokens: int | None
    """The most tokens of an answer; None where the task itself limits them to a word or two."""
    detectable: float
    """Minimum detectable effect: the smallest difference of two checkpoints that it shows, from 0 to 1."""
    detectable_at_best: float
    """Minimum detectable effect if the questions were asked without end."""

    @property
    def answers(self) -> int:
        """Questions x repeats."""
        return self.questions * self.repeats


def loads(settings: Evaluation) -> list[Load]:
    """Every benchmark of the suite. Raises `UserError` for a suite that is not there, or not to be run as it is."""
    chosen = _prepared(settings)
    return [
        Load(
            title=benchmark.title,
            questions=benchmark.questions,
            independent=benchmark.independent,
            repeats=benchmark.repeats,
            max_new_tokens=benchmark.params.get("max_new_tokens", chosen.max_new_tokens),
            detectable=detectable_difference(benchmark.independent, benchmark.repeats),
            detectable_at_best=detectable_difference(benchmark.independent, math.inf),
        )
        for benchmark in chosen.benchmarks
    ]


def protocol(settings: Evaluation) -> str:
    """A hash of all that decides a score but the checkpoint: the suite, its questions, the judge, our tasks' version.

    A suite keeps its hash as long as it is asked alike: a field that a later version adds to `evaluator.suites.suite`
    enters it only where it is used. Raises `UserError` for a suite that is not there or that lacks something it needs.
    """
    chosen = _prepared(settings)
    judge = judge_of(chosen) if chosen.runner == "direct" else None
    identity: dict[str, Any] = {
        "suite": identity_of(chosen),
        "judge": judge.model_id if judge else None,
        "tasks": {},
    }
    if settings.datasets and any(benchmark.dataset for benchmark in chosen.benchmarks):
        identity["datasets"] = datasets.hash_datasets(Path(settings.datasets), chosen)
    if any(benchmark.task.startswith("offline") for benchmark in chosen.benchmarks):
        identity["tasks"] = version.identity()
    return fingerprint(identity)


def _prepared(settings: Evaluation) -> Suite:
    """The suite as `settings` change it, with the number of questions that there are."""
    assert settings.suite is not None, "what a recipe leaves open has its scale's value by now"
    folder = Path(settings.datasets) if settings.datasets else None
    means = Means(datasets=folder, execute_generated_code=settings.execute_generated_code)
    try:
        return prepare_suite(suite_of(settings.suite, settings.repeats, settings.max_new_tokens), means)
    except ValueError as error:
        raise UserError(str(error)) from None


def suite_of(name: str, repeats: int | None, max_new_tokens: int | None = None) -> Suite:
    """The suite called `name`, with these numbers in place of its own. Raises `UserError` when there is none."""
    try:
        suite = get_suite(name)
    except ValueError as error:
        raise UserError(str(error)) from None
    suite = suite if repeats is None else suite.with_repeats(repeats)
    return suite if max_new_tokens is None else suite.with_max_new_tokens(max_new_tokens)
