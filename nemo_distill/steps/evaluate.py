"""Step: score a Hugging Face checkpoint with a suite of benchmarks, through nemo-evaluator.

Config: `checkpoint` (name of the upstream step that exported it, or a path), `label` (what tables call it), `suite`,
`repeats` (per question; None: the suite's), `protocol` (see `protocol`), `seed`, `threads` (CPU threads of the model).
Upstream: the step that exported the checkpoint, if one did.
Output: `results.json` (every score by question and repeat) and `nemo_evaluator/` (its own output and logs).

An attempt that was cut leaves nothing that the next one trusts: the suite is run anew.
"""

import dataclasses
import hashlib
import importlib.util
import logging
import math
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.errors import UserError
from nemo_distill.step import fingerprint

VERSION = 1
logger = logging.getLogger(__name__)


def main(spec) -> None:
    """Serve the checkpoint, ask, score, write results.json."""
    from evaluator.checkpoint import verify_checkpoint
    from evaluator.run import run_suite

    config = spec.config
    suite = _suite(config["suite"], config["repeats"])
    exported = spec.upstream.get(config["checkpoint"])
    checkpoint = exported / "hf" if exported else Path(config["checkpoint"])
    try:
        verify_checkpoint(checkpoint)
    except ValueError as error:
        raise UserError(str(error)) from None

    result = run_suite(
        checkpoint,
        suite=suite,
        folder=spec.folder,
        label=config["label"],
        seed=config["seed"],
        threads=config["threads"],
        progress=lambda answered, total: spec.progress.update(done=answered, total=total, unit="answers"),
    )
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


def loads(suite: str, repeats: int | None) -> list[Load]:
    """Every benchmark of the suite. Raises `UserError` for a suite that is not there."""
    from evaluator.stats import detectable_difference

    chosen = _suite(suite, repeats)
    return [
        Load(
            title=benchmark.title,
            questions=benchmark.questions,
            repeats=benchmark.repeats,
            max_new_tokens=benchmark.params.get("max_new_tokens", chosen.max_new_tokens),
            detectable=detectable_difference(benchmark.questions, benchmark.repeats),
            detectable_at_best=detectable_difference(benchmark.questions, math.inf),
        )
        for benchmark in chosen.benchmarks
    ]


def protocol(suite: str, repeats: int | None) -> str:
    """A hash of all that decides a score besides the checkpoint: the suite and, of our own tasks, questions and code.

    Raises `UserError` for a suite that is not there.
    """
    chosen = _suite(suite, repeats)
    identity = {"suite": dataclasses.asdict(chosen), "tasks": {}}
    if any(benchmark.task.startswith("offline") for benchmark in chosen.benchmarks):
        folder = Path(importlib.util.find_spec("core_evals.nemo_distill").origin).parent
        files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".yml", ".jsonl"))
        identity["tasks"] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return fingerprint(identity)


def _suite(name: str, repeats: int | None):
    from evaluator.suite import get_suite

    try:
        suite = get_suite(name)
    except ValueError as error:
        raise UserError(str(error)) from None
    return suite if repeats is None else suite.with_repeats(repeats)
