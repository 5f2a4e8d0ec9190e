"""Step: score a Hugging Face checkpoint with a suite of benchmarks, through nemo-evaluator.

Config: `checkpoint` (name of the upstream step that exported it, or what `data.models.model_folder` takes), `label`
(what tables call it), `suite`, `repeats` (per question; None: the suite's), `max_new_tokens` (of an answer; None: the
suite's), `datasets` (folder of the hub's data sets, or None), `execute_generated_code` (whether it may be), `protocol`
(a hash, see `nemo_distill.outcome.suites`), `seed`, `threads` (CPU threads of the model); where they are not all,
`tasks` (those that are asked); where a recipe declares any, `benchmarks` (`nemo_distill.outcome.benchmarks`); of a
suite of nemo-evaluator-launcher `launcher` (what the site says that decides a score, see `evaluator.harness.cluster`);
where vLLM serves, `engine` (its version and the options that decide a score, see `evaluator.serve.vllm`).
Upstream: the step that exported the checkpoint, if one did.
Beside it, in no fingerprint: `max_unasked`, the share of a benchmark's answers that may be missing, `questions`, the
files of a recipe's own questions, and `vllm`, where vLLM is. vLLM takes the GPUs that CUDA_VISIBLE_DEVICES names.
Output: `results.json` (every score by question and repeat), `answers.jsonl` (what was answered) and `nemo_evaluator/`
(its own output and logs). `evaluator.harness.run` is the single entry point: whether the suite runs on this machine or
on a cluster, the suite says.

An attempt that was cut leaves nothing that the next one trusts: the suite is run anew. But what runs on a cluster goes
on there, and is waited for (`evaluator.harness.launcher`), and what vLLM has answered is not asked again
(`evaluator.harness.kept`).
"""

import logging
import shutil
from pathlib import Path

from evaluator.harness.requirements import Means
from evaluator.harness.run import run_suite
from evaluator.serve.checkpoint import verify_checkpoint
from evaluator.serve.processes import ProgramFailed
from evaluator.serve.vllm import Vllm, find_vllm
from evaluator.suites.suite import Suite
from nemo_distill.config.teacher import path_of
from nemo_distill.data.models import without_links
from nemo_distill.errors import PassingError, UserError
from nemo_distill.families.checkpoint import fetched
from nemo_distill.outcome.suites import cluster_of, engine_of, paths, suite_of_config
from nemo_distill.run.step import Spec

VERSION = 1
GPUS = 1
GPUS_IF = "engine"
MORE_GPUS = True
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
        vllm=_vllm(spec, suite),
    )
    exported = spec.upstream.get(config["checkpoint"])
    checkpoint = exported / "hf" if exported else fetched(path_of(config["checkpoint"], spec.beside.teacher))
    fingerprint = exported.name if exported else (config.get("sha256") or spec.fingerprint)
    direct = suite.runner == "direct"
    unit, linked = "answers" if direct else "benchmarks", spec.folder / "checkpoint"
    try:
        verify_checkpoint(checkpoint, quantised=exported is not None)
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
    except ProgramFailed as error:
        raise PassingError(str(error)) from None
    except ValueError as error:  # the checkpoint, what the suite needs, or a result that is not to be believed
        raise UserError(str(error)) from None
    shutil.rmtree(linked, ignore_errors=True)
    result.save(spec.folder)
    for task in result.tasks:
        logger.info("%s %.1f ± %.1f", task.task, 100 * task.summary.mean, 100 * task.summary.stderr)


def _vllm(spec: Spec, suite: Suite) -> Vllm | None:
    """The vLLM that the config says. Raises `UserError` where it is not there, or is another than was asked for."""
    asked = spec.config.get("engine")
    if not asked:
        return None
    try:
        found = find_vllm(spec.beside.vllm or None)
    except ValueError as error:
        raise UserError(str(error)) from None
    if (now := engine_of(found, suite)) != asked:
        raise UserError(
            f"'{found.program}' is vLLM {now['version']} with {' '.join(now['options'])}, and this evaluation is by "
            f"{asked['version']} with {' '.join(asked['options'])}: give the command again, which makes another of it."
        )
    return found


def _site(spec: Spec) -> dict:
    """What the launcher is told of the cluster: what decides a score from the config, all else from beside it."""
    beside = spec.beside.evaluation
    return {**beside, **spec.config.get("launcher", {}), "overrides": beside.get("overrides", [])}
