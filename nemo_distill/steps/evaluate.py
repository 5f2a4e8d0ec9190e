"""Step: score a Hugging Face checkpoint with a suite of benchmarks, through nemo-evaluator.

Config: `checkpoint` (name of the upstream step that exported it, or a path), `label` (what tables call it), `suite`,
`repeats` (per question; None: the suite's), `max_new_tokens` (of an answer; None: the suite's), `datasets` (folder of
the hub's data sets, or None), `execute_generated_code` (whether it may be), `protocol` (see `protocol`), `seed`,
`threads` (CPU threads of the model). Upstream: the step that exported the checkpoint, if one did.
Output: `results.json` (every score by question and repeat), `answers.jsonl` (what was answered) and `nemo_evaluator/`
(its own output and logs). Whether that happens here or on a cluster, the suite says: `evaluator.harness.run` is the one
door.

An attempt that was cut leaves nothing that the next one trusts: the suite is run anew.
"""

import dataclasses
import logging
import math
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.config.settings import Evaluate
from nemo_distill.errors import UserError
from nemo_distill.run.step import fingerprint

VERSION = 1
logger = logging.getLogger(__name__)


def main(spec) -> None:
    """Serve the checkpoint, ask, score, write results.json."""
    from evaluator.harness.requirements import Means
    from evaluator.harness.run import run_suite
    from evaluator.serve.checkpoint import verify_checkpoint

    config = spec.config
    suite = _suite(config["suite"], config["repeats"], config.get("max_new_tokens"))
    datasets = config.get("datasets")
    means = Means(
        threads=config["threads"],
        datasets=Path(datasets) if datasets else None,
        execute_generated_code=config.get("execute_generated_code", False),
    )
    exported = spec.upstream.get(config["checkpoint"])
    checkpoint = exported / "hf" if exported else Path(config["checkpoint"])
    unit = "answers" if suite.runner == "direct" else "benchmarks"
    try:
        verify_checkpoint(checkpoint)
        result = run_suite(
            checkpoint,
            suite=suite,
            folder=spec.folder,
            label=config["label"],
            seed=config["seed"],
            means=means,
            progress=lambda done, total: spec.progress.update(done=done, total=total, unit=unit),
        )
    except ValueError as error:  # the checkpoint, what the suite needs, or a result that is not to be believed
        raise UserError(str(error)) from None
    result.save(spec.folder)
    for task in result.tasks:
        logger.info("%s %.1f ± %.1f", task.task, 100 * task.summary.mean, 100 * task.summary.stderr)


@dataclass(frozen=True)
class Load:
    """What one benchmark asks of every checkpoint, and what that can show."""

    title: str
    """What tables call it."""
    questions: int
    """Number of questions."""
    independent: int
    """The same, or of the problems where questions are parts of some: what an error counts."""
    repeats: int
    """Times each is asked."""
    max_new_tokens: int | None
    """The most tokens of an answer; None where the task itself limits them to a word or two."""
    detectable: float
    """The smallest difference of two checkpoints that it would show (see `detectable_difference`), from 0 to 1."""
    detectable_at_best: float
    """The same if the questions were asked without end."""

    @property
    def answers(self) -> int:
        """Questions x repeats."""
        return self.questions * self.repeats


def loads(settings: Evaluate) -> list[Load]:
    """Every benchmark of the suite. Raises `UserError` for a suite that is not there, or not to be run as it is."""
    from evaluator.stats.power import detectable_difference

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


def protocol(settings: Evaluate) -> str:
    """A hash of all that decides a score but the checkpoint: the suite, its questions, the judge, our tasks' version.

    Raises `UserError` for a suite that is not there or that lacks something it needs.
    """
    from core_evals.nemo_distill import version
    from evaluator.suites import datasets as hub
    from evaluator.suites.judge import judge_of

    chosen = _prepared(settings)
    judge = judge_of(chosen) if chosen.runner == "direct" else None
    identity = {"suite": dataclasses.asdict(chosen), "judge": judge.model_id if judge else None, "tasks": {}}
    if settings.datasets and any(benchmark.dataset for benchmark in chosen.benchmarks):
        identity["datasets"] = hub.fingerprint(Path(settings.datasets), chosen)
    if any(benchmark.task.startswith("offline") for benchmark in chosen.benchmarks):
        identity["tasks"] = version.identity()
    return fingerprint(identity)


def _prepared(settings: Evaluate):
    """The suite as `settings` change it, with the number of questions that there are."""
    from evaluator.harness.requirements import Means, prepare_suite

    datasets = Path(settings.datasets) if settings.datasets else None
    means = Means(datasets=datasets, execute_generated_code=settings.execute_generated_code)
    try:
        return prepare_suite(_suite(settings.suite, settings.repeats, settings.max_new_tokens), means)
    except ValueError as error:
        raise UserError(str(error)) from None


def _suite(name: str, repeats: int | None, max_new_tokens: int | None = None):
    from evaluator.suites.catalogue import get_suite

    try:
        suite = get_suite(name)
    except ValueError as error:
        raise UserError(str(error)) from None
    suite = suite if repeats is None else suite.with_repeats(repeats)
    return suite if max_new_tokens is None else suite.with_max_new_tokens(max_new_tokens)
