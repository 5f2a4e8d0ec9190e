"""Step: score a Hugging Face checkpoint with a suite of benchmarks, through nemo-evaluator.

Config: `checkpoint` (name of the upstream step that exported it, or what `data.models.model_folder` takes), `label`
(what tables call it), `suite`, `repeats` (per question; None: the suite's), `max_new_tokens` (of an answer; None: the
suite's), `datasets` (folder of the hub's data sets, or None), `execute_generated_code` (whether it may be), `protocol`
(a hash, see `nemo_distill.outcome.suites`), `seed`, `threads` (CPU threads of the model); where they are not all,
`tasks` (those that are asked); where a recipe declares any, `benchmarks` (`nemo_distill.outcome.benchmarks`); of a
suite of nemo-evaluator-launcher `launcher` (what the site says that decides a score, see `evaluator.harness.cluster`).
Upstream: the step that exported the checkpoint, if one did.
Beside it, in no fingerprint: `max_unasked`, the share of a benchmark's answers that may be missing, and `questions`,
the files of a recipe's own questions.
Output: `results.json` (every score by question and repeat), `answers.jsonl` (what was answered) and `nemo_evaluator/`
(its own output and logs). `evaluator.harness.run` is the single entry point: whether the suite runs on this machine or
on a cluster, the suite says.

An attempt that was cut leaves nothing that the next one trusts: the suite is run anew. But what runs on a cluster goes
on there, and is waited for (`evaluator.harness.launcher`).
"""

import logging
import shutil
from pathlib import Path

from evaluator.harness.requirements import Means
from evaluator.harness.run import run_suite
from evaluator.serve.checkpoint import verify_checkpoint
from nemo_distill.config.teacher import path_of
from nemo_distill.data.models import without_links
from nemo_distill.errors import UserError
from nemo_distill.families.checkpoint import fetched
from nemo_distill.outcome.suites import cluster_of, paths, suite_of_config
from nemo_distill.run.step import Spec

VERSION = 1
logger = logging.getLogger(__name__)


def main(spec: Spec) -> None:
    """Serve the checkpoint, ask, score, write results.json."""
    config = spec.config
    suite = suite_of_config(config)
    datasets = config.get("datasets")
    means = Means(
        threads=config["threads"],
        datasets=Path(datasets) if datasets else None,
        execute_generated_code=config.get("execute_generated_code", False),
        max_unasked=spec.beside.max_unasked,
        questions=paths(spec.beside.questions),
    )
    exported = spec.upstream.get(config["checkpoint"])
    checkpoint = exported / "hf" if exported else fetched(path_of(config["checkpoint"], spec.beside.teacher))
    fingerprint = exported.name if exported else (config.get("sha256") or spec.fingerprint)
    direct = suite.runner == "direct"
    unit, linked = "answers" if direct else "benchmarks", spec.folder / "checkpoint"
    try:
        verify_checkpoint(checkpoint)
        checkpoint = checkpoint if direct else without_links(checkpoint, linked)
        result = run_suite(
            checkpoint,
            suite=suite,
            folder=spec.folder,
            label=config["label"],
            model_id=f"{config['label']}-{fingerprint[:12]}",
            seed=config["seed"],
            means=means,
            cluster=cluster_of(_site(spec)),
            progress=lambda done, total: spec.progress.update(done=done, total=total, unit=unit),
        )
    except ValueError as error:  # the checkpoint, what the suite needs, or a result that is not to be believed
        raise UserError(str(error)) from None
    shutil.rmtree(linked, ignore_errors=True)
    result.save(spec.folder)
    for task in result.tasks:
        logger.info("%s %.1f ± %.1f", task.task, 100 * task.summary.mean, 100 * task.summary.stderr)


def _site(spec: Spec) -> dict:
    """What the launcher is told of the cluster: what decides a score from the config, all else from beside it."""
    beside = spec.beside.evaluation
    return {**beside, **spec.config.get("launcher", {}), "overrides": beside.get("overrides", [])}
