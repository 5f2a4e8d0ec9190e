"""Runs a suite against a checkpoint, on whichever path the suite says, and reads what came out.

    result = run_suite(Path("hf"), suite=get_suite("offline"), folder=Path("out"), label="pruned", seed=0)

The single entry point for all evaluations: a suite of the launcher goes to `evaluator.harness.launcher`, every other
one is run on this machine by `evaluator.harness.direct`.
"""

from collections.abc import Callable
from pathlib import Path

from evaluator.harness.cluster import Cluster
from evaluator.harness.direct import run_direct
from evaluator.harness.launcher import run_launcher
from evaluator.harness.requirements import Means, prepare_suite
from evaluator.results.scores import CheckpointResult
from evaluator.suites.suite import Suite


def run_suite(
    checkpoint: Path,
    *,
    suite: Suite,
    folder: Path,
    label: str,
    seed: int,
    model_id: str = "",
    means: Means | None = None,
    cluster: Cluster | None = None,
    progress: Callable[[int, int], None] = lambda answered, total: None,
) -> CheckpointResult:
    """Score the Hugging Face checkpoint in a folder with every benchmark of `suite`.

    `model_id` is what it is served as, by default its `label`: with a fingerprint in it no other checkpoint answers in
    its place. `cluster` is where a suite of the launcher's runs.
    Writes `answers.jsonl`, nemo-evaluator's own output and the server's log into `folder`; `progress(answered, total)`
    is called as answers come in. Raises ValueError when the checkpoint is not whole, something that the suite needs is
    lacking or a result is not what was asked for, ProgramFailed with the log's end when a program fails.
    """
    means, model_id = means or Means(), model_id or label
    suite = prepare_suite(suite, means)
    if suite.runner == "launcher":
        return run_launcher(
            checkpoint,
            suite=suite,
            folder=folder,
            label=label,
            model_id=model_id,
            seed=seed,
            cluster=cluster or Cluster(),
            questions=means.questions,
            progress=progress,
        )
    return run_direct(
        checkpoint,
        suite=suite,
        folder=folder,
        label=label,
        model_id=model_id,
        seed=seed,
        means=means,
        progress=progress,
    )
