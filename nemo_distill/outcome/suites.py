"""Says what an evaluation will ask, before anything runs: its load on a checkpoint and the protocol of its scores.

asked = ask(recipe.evaluate)
asked.loads[0].detectable        # smallest difference that the benchmark would show, from 0 to 1
asked.protocol                   # twelve hex digits; scores of one protocol are compared
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core_evals.nemo_distill import version
from evaluator.harness import evaluation
from evaluator.harness.budget import budget_of, cheap
from evaluator.harness.cluster import HARNESSES, Cluster, check_ready
from evaluator.harness.requirements import Means, prepare_suite
from evaluator.serve.vllm import SEQUENCES, Vllm, find_vllm, options, said_besides
from evaluator.stats.power import detectable_difference
from evaluator.suites import datasets
from evaluator.suites.catalogue import get_suite
from evaluator.suites.judge import Judge, judge_of
from evaluator.suites.lengths import UNKNOWN, Length, length_of
from evaluator.suites.own import checked
from evaluator.suites.suite import Suite, identity_of
from nemo_distill.config.benchmarks import files_of
from nemo_distill.config.plain import fingerprint
from nemo_distill.config.resolved import Evaluation
from nemo_distill.config.values import build
from nemo_distill.errors import UserError
from nemo_distill.outcome.benchmarks import entry_of, with_declared, with_tasks
from nemo_distill.outcome.measured import Way

SLOW = 8_192
"""Most tokens of an answer for which our own server is no waste of time, at full scale."""


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
    of_pruned: bool = True
    """Whether the pruned student is asked, too."""
    hours: int | None = None
    """Time that a checkpoint may take, where that is bounded."""

    own_limit: bool = False
    """Whether the benchmark has a `max_new_tokens` of its own, whatever the settings say."""
    task: str = ""
    """What nemo-evaluator calls it."""
    length: Length = UNKNOWN
    """Mean lengths of its prompts and answers."""

    @property
    def answers(self) -> int:
        """Questions x repeats."""
        return self.questions * self.repeats


@dataclass(frozen=True)
class Asked:
    """What every checkpoint of a run is asked."""

    loads: tuple[Load, ...]
    """Each benchmark's part."""
    protocol: str
    """A hash of all that decides a score but the checkpoint: the suite, its questions, the judge, our tasks' version. A
    suite keeps it as long as it is asked alike: a field that a later version adds to `evaluator.suites.suite` enters it
    only where it is used."""
    context: int | None = None
    """The most tokens of a prompt and its answer, where the suite says it; None: what the checkpoint's config says."""
    site: Mapping[str, Any] | None = None
    """What nemo-evaluator-launcher is told of the cluster it asks on; None: it does not ask."""
    launcher: Mapping[str, Any] = field(default_factory=dict)
    """The part of that which decides a score."""
    pruned: tuple[str, ...] | None = None
    """Tasks that the pruned student is asked; None: all."""
    unready: str = ""
    """The sentence on what has to be said before a checkpoint can be asked; empty where nothing is lacking."""
    remarks: tuple[str, ...] = ()
    """What to know of the engine before anything is spent, in sentences."""
    declared: tuple[Mapping[str, Any], ...] = ()
    """Entries of the benchmarks that the recipe declares (`nemo_distill.outcome.benchmarks`)."""
    tasks: tuple[str, ...] | None = None
    """Tasks that are asked of all that there are; None: all."""
    own: Mapping[str, Path | None] = field(default_factory=dict)
    """Benchmarks whose questions are at hand, each with the recipe's file, None where they ship with this package."""
    engine: Mapping[str, Any] | None = None
    """What is in the protocol of the engine that serves on this machine; None for our own server, and on a cluster."""
    way: Way = Way()
    """What it is asked on, of which no score depends."""


def ask(settings: Evaluation, site: Mapping[str, Any] | None = None, *, vllm_for: str = "") -> Asked:
    """What `settings` ask, of a cluster where `site` says which (`evaluator.harness.cluster`).

    `vllm_for` is what else needs vLLM, where something does.

    Raises `UserError` for a suite that is not there, that lacks something it needs, and for what `site` cannot say.
    """
    suite, declared = asked_suite(settings)
    files = {task: file for task, file in paths(files_of(settings.benchmarks)).items() if task in declared}
    folder = Path(settings.datasets) if settings.datasets else None
    if folder and not folder.is_dir():
        raise UserError(f"evaluate.datasets={settings.datasets}: there is no such folder.")
    means = Means(
        datasets=folder,
        execute_generated_code=settings.execute_generated_code,
        questions=files,
        vllm=_vllm(settings, suite, vllm_for),
    )
    try:
        suite = prepare_suite(suite, means)  # with the number of questions that there are
    except ValueError as error:
        raise UserError(str(error)) from None
    asked_of_pruned = suite if settings.pruned == "all" else cheap(suite)
    if not asked_of_pruned.benchmarks:
        named = ",".join(settings.tasks or ())
        raise UserError(
            f"evaluate.tasks={named} leaves nothing to ask the pruned student, which may never end an answer: say "
            "evaluate.pruned=all, or ask ifeval as well."
        )
    told = cluster_of(site or {})  # looked at where it is not needed yet, too
    cluster = told if suite.runner == "launcher" else None
    loads = [
        Load(
            title=benchmark.title,
            questions=benchmark.questions,
            independent=benchmark.independent,
            repeats=benchmark.repeats,
            max_new_tokens=benchmark.params.get("max_new_tokens", suite.max_new_tokens),
            detectable=detectable_difference(benchmark.independent, benchmark.repeats),
            detectable_at_best=detectable_difference(benchmark.independent, math.inf),
            own_limit="max_new_tokens" in benchmark.params,
            of_pruned=benchmark in asked_of_pruned.benchmarks,
            hours=budget_of(benchmark, suite, tokens_per_second=cluster.tokens_per_second).hours if cluster else None,
            task=benchmark.task,
            length=length_of(benchmark.task, limit=benchmark.params.get("max_new_tokens", suite.max_new_tokens)),
        )
        for benchmark in suite.benchmarks
    ]
    judge = cluster.judge_model if cluster else _model_of(judge_of(suite))
    identity: dict[str, Any] = {"suite": identity_of(suite), "judge": judge, "tasks": {}}
    if cluster:
        from evaluator.harness import launcher_config  # which renders a file, and so takes a moment to import

        identity["launcher"] = launcher_config.identity(suite, cluster)
    engine = engine_of(means.vllm, suite) if means.vllm else None
    if engine:
        identity["engine"] = engine
    if folder and any(benchmark.datasets for benchmark in suite.benchmarks):
        identity["datasets"] = datasets.hash_datasets(folder, suite)
    if any(benchmark.harness == "offline" for benchmark in suite.benchmarks):
        identity["tasks"] = version.identity()
    if any(benchmark.harness != "offline" for benchmark in suite.benchmarks):
        identity["harness"] = {"version": evaluation.VERSION}
    return Asked(
        loads=tuple(loads),
        protocol=fingerprint(identity),
        context=suite.context,
        site=cluster.plain if cluster else None,
        launcher=cluster.deciding if cluster else {},
        pruned=None if asked_of_pruned == suite else tuple(one.task for one in asked_of_pruned.benchmarks),
        unready=_unready(suite, cluster) if cluster else "",
        remarks=tuple(_remarks(cluster)) if cluster else tuple(_remarks_here(suite, means.vllm)),
        declared=tuple(declared.values()),
        tasks=tuple(one.task for one in suite.benchmarks) if settings.tasks else None,
        own={one.task: files.get(one.task) for one in suite.benchmarks if one.harness == "offline"},
        engine=engine,
        way=_way(cluster, means.vllm),
    )


def _way(cluster: Cluster | None, vllm: Vllm | None) -> Way:
    """A deployment of the cluster's for each benchmark, or vLLM on a GPU at least, for all; else it is on CPUs."""
    if cluster:
        copies = cluster.data_parallel_size
        return Way(gpus=copies, in_flight=max(1, cluster.parallelism // copies), together=False)
    return Way(gpus=1 if vllm else 0, in_flight=SEQUENCES)


def engine_of(vllm: Vllm, suite: Suite) -> dict[str, Any]:
    """What vLLM decides of an answer, as plain JSON data: its version, its options, and what each question says."""
    asked = said_besides(thinking=bool(suite.reasoning_end))
    return {"name": "vllm", "version": vllm.version, "options": list(options(suite.context)), "request": asked}


def _vllm(settings: Evaluation, suite: Suite, needed_by: str) -> Vllm | None:
    """vLLM where `settings` ask for it. Raises `UserError` where it is not there, or where it has no part in it."""
    if settings.engine != "vllm":
        if settings.vllm and not needed_by:
            raise UserError(
                f"evaluate.vllm={settings.vllm} says where vLLM is, and evaluate.engine={settings.engine} "
                "has no part for it: say evaluate.engine=vllm as well, or neither."
            )
        return None
    if suite.runner != "direct":
        raise UserError(
            f"evaluate.engine=vllm serves on this machine, and the suite '{suite.name}' is asked in containers on a "
            "cluster, which have a vLLM of their own: leave it out, or take evaluate.suite=study_here."
        )
    try:
        return find_vllm(settings.vllm)
    except ValueError as error:
        raise UserError(str(error)) from None


def _remarks_here(suite: Suite, vllm: Vllm | None) -> Iterator[str]:
    if suite.remark:
        yield suite.remark
    if vllm:
        yield (
            f"vLLM {vllm.version} ({vllm.program}) serves each checkpoint on the GPUs that its step is given. Its "
            "answers are not the same to the digit when they are asked again: rounding depends on what else is asked."
        )
    elif suite.max_new_tokens > SLOW:
        yield (
            f"evaluate.engine=transformers computes on CPUs, and answers have up to {suite.max_new_tokens:,} tokens: "
            "evaluate.engine=vllm is meant for that."
        )


def asked_suite(settings: Evaluation) -> tuple[Suite, dict[str, dict[str, Any]]]:
    """The benchmarks that `settings` ask, and the entries of those that the recipe declares, by task.

    Raises `UserError` for a suite or a task that is not there, and for questions that cannot be asked.
    """
    beside = suite_of(settings.suite, settings.repeats)
    declared = {one.task: entry_of(one, beside) for one in settings.benchmarks}
    suite = suite_of(settings.suite, settings.repeats, settings.max_new_tokens, declared=tuple(declared.values()))
    if settings.tasks:
        suite = with_tasks(suite, settings.tasks)
    asked = {benchmark.task for benchmark in suite.benchmarks}
    return suite, {task: entry for task, entry in declared.items() if task in asked}


def own_questions(settings: Evaluation) -> list[list[dict]]:
    """The conversations that a model is to continue, of questions that ship with this package or are a recipe's own."""
    suite, _ = asked_suite(settings)
    folder, files = Path(version.__file__).parent / "data", files_of(settings.benchmarks)
    found: list[list[dict]] = []
    for benchmark in suite.benchmarks:
        if benchmark.own:
            found += [one["messages"] for one in checked(benchmark.task, benchmark.own, paths(files))]
        elif benchmark.harness == "offline":
            lines = (folder / f"{benchmark.task}.jsonl").read_text(encoding="utf-8").splitlines()
            found += [json.loads(line)["messages"] for line in lines]
    return found


def paths(files: Mapping[str, str]) -> dict[str, Path]:
    """Files of questions, by task."""
    return {task: Path(file) for task, file in files.items()}


def cluster_of(site: Mapping[str, Any]) -> Cluster:
    """The cluster that a site's settings say, with the judge of the environment where they name none."""
    cluster: Cluster = build(("executor", "evaluation"), Cluster, site)
    return cluster.with_judge(os.environ)


def _unready(suite: Suite, cluster: Cluster) -> str:
    try:
        check_ready(suite, cluster)
    except ValueError as error:
        return str(error)
    return ""


def _remarks(cluster: Cluster) -> Iterator[str]:
    if os.environ.get("EVALUATOR_OVERRIDES"):
        yield "EVALUATOR_OVERRIDES is no longer read: executor.evaluation.overrides takes its place."
    tagged = [f"{harness} as the launcher tags it" for harness in HARNESSES if harness not in cluster.images]
    if names := [*cluster.unpinned, *tagged]:
        yield f"Names that may move to other images, which @sha256:... would pin: {', '.join(names)}."


def _model_of(judge: Judge | None) -> str | None:
    return judge.model_id if judge else None


def suite_of(
    name: str,
    repeats: int | None,
    max_new_tokens: int | None = None,
    *,
    tasks: Sequence[str] | None = None,
    declared: Sequence[Mapping[str, Any]] = (),
) -> Suite:
    """The suite called `name` and what is `declared` beside it, with these numbers in place of their own.

    Of all that, `tasks` are what is asked; None: all. Raises `UserError` when there is no such suite.
    """
    try:
        suite = get_suite(name)
    except ValueError as error:
        raise UserError(str(error)) from None
    suite = with_declared(suite, declared) if declared else suite
    suite = suite if repeats is None else suite.with_repeats(repeats)
    suite = suite if max_new_tokens is None else suite.with_max_new_tokens(max_new_tokens)
    return suite if tasks is None else suite.with_benchmarks(one for one in suite.benchmarks if one.task in tasks)


def suite_of_config(config: Mapping[str, Any]) -> Suite:
    """The suite that the config of an evaluation says, with the part of it that this checkpoint was asked."""
    return suite_of(
        config["suite"],
        config["repeats"],
        config.get("max_new_tokens"),
        tasks=config.get("tasks"),
        declared=config.get("benchmarks", ()),
    )
