"""Finished runs whose models never were: folders as a run leaves them, with answers drawn from chances.

    make_run(Path("runs"), "a", suite=get_suite("offline"), skills=[0, 1, 2], shares={"stem": 100})

A question is answered rightly with a chance that rises with the checkpoint's skill less the question's hardness, which
is the same for every run: so answers pair as those of real models do.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluator.results.scores import CheckpointResult, TaskResult
from evaluator.suites.suite import Benchmark, Suite
from nemo_distill.config.schedule import Schedule
from nemo_distill.outcome.benchmarks import with_declared
from nemo_distill.run.facts import RunFacts
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import Spec, Step, mark_done, place

COURSE = {
    "seq_length": 8192,
    "global_batch_size": 768,
    "max_iterations": 16_000,
    "warmup_iterations": 100,
    "learning_rate": 1e-4,
    "min_learning_rate": 1e-5,
}
"""The study's schedule."""
ITERATIONS = (400, 800, 3200, 6400, 9600, 12_800, 16_000)
"""The study's milestones."""
TEACHER, PRUNED = 3.0, -3.0
"""Their skills."""


def make_run(
    runs: Path,
    name: str,
    *,
    suite: Suite,
    skills: Sequence[float],
    shares: Mapping[str, float],
    strengths: Mapping[str, float] | None = None,
    broken: tuple[int, str] | None = None,
    iterations: Sequence[int] = ITERATIONS,
    repeats: int | None = None,
    seed: int = 1234,
    protocol: str = "0123456789ab",
    blend: str = "",
    declared: Sequence[Mapping] = (),
) -> Run:
    """Write the run RUNS/NAME.json with its folders, all done.

    Args:
        runs: The folder of all runs.
        name: Of the run; answers are drawn by it, too.
        suite: What was asked.
        skills: Of each milestone.
        shares: Percent of each source of the blend.
        strengths: By task, what is added to the skill of every milestone.
        broken: A milestone's number, from 0, and the task of which all its answers are wrong.
        iterations: Of the milestones; as many as there are skills are used.
        repeats: Times each question is asked; None is the suite's.
        seed: Of the requests and of the training.
        protocol: Stands for all else that decides a score.
        declared: Entries of what a recipe declares to be asked beside the suite (`nemo_distill.outcome.benchmarks`).
        blend: What it was trained on; the run's name unless told. Runs of one blend under two seeds are replicates.
    """
    asked = with_declared(suite, declared)
    asked = asked if repeats is None else asked.with_repeats(repeats)
    milestones = Schedule(**COURSE).milestones(iterations[: len(skills)])
    config = {"suite": suite.name, "repeats": repeats, "protocol": protocol, "seed": seed}
    config |= {"benchmarks": list(declared)} if declared else {}
    checkpoints = [("teacher", "teacher", None, None), ("pruned", "pruned", 0, 0)]
    checkpoints += [(mark.label, "milestone", mark.tokens, mark.iteration) for mark in milestones]
    evaluations = [f"evaluate-{label}" for label, *_ in checkpoints]
    segments = [f"distill-{mark.label}" for mark in milestones]
    steps = [
        Step("prune", "nemo_distill.steps.prune", {}),
        Step("prepare", "nemo_distill.steps.prepare", {"of": blend or name}),
    ]
    steps += [
        Step(segment, "nemo_distill.steps.distill", {"course": COURSE | {"seed": seed}}, ("prune", "prepare"))
        for segment in segments
    ]
    steps += [
        Step(f"evaluate-{label}", "nemo_distill.steps.evaluate", {**config, "of": "" if role != "milestone" else name})
        for label, role, *_ in checkpoints
    ]
    report = {
        "title": name,
        "suite": suite.name,
        "repeats": repeats,
        "blend": dict(shares),
        "checkpoints": [
            {"step": f"evaluate-{label}", "role": role, "tokens": tokens, "iteration": iteration}
            for label, role, tokens, iteration in checkpoints
        ],
        "distill": segments,
    }
    steps.append(Step("report", "nemo_distill.steps.report", report, (*evaluations, *segments)))
    specs = place(steps, runs=runs)
    for spec in specs.values():
        spec.save()
    layers = {"pattern_before": "M-M*-", "pattern_after": "M-*-", "dropped": [3]}
    _write(specs["prune"], "layers.json", layers | {"parameters_before": 8_888_000_000, "parameters_after": 7 * 10**9})
    _write(specs["prune"], "candidates.json", [])
    _write(specs["prepare"], "sources.json", {source: {"tokens": 10 * 10**9} for source in shares})
    for segment, mark in zip(segments, milestones, strict=True):
        line = {"iteration": mark.iteration, "tokens": mark.tokens, "loss": 1 / mark.iteration, "learning_rate": 1e-5}
        _write(specs[segment], "losses.jsonl", line)
    for index, (label, role, *_) in enumerate(checkpoints):
        skill = {"teacher": TEACHER, "pruned": PRUNED}.get(role) if role != "milestone" else skills[index - 2]
        own = strengths if role == "milestone" and strengths else {}
        wrong = broken[1] if broken and broken[0] == index - 2 else None
        drawn = np.random.default_rng(zlib.crc32(f"{name if role == 'milestone' else ''} {label} {seed}".encode()))
        tasks = tuple(
            TaskResult(
                task=benchmark.task,
                questions=ids(benchmark),
                scores=answers(benchmark, skill + own.get(benchmark.task, 0), drawn, wrong == benchmark.task),
                mean_tokens=100.0,
                cut_share=0.0,
            )
            for benchmark in asked.benchmarks
        )
        CheckpointResult(label, suite.name, seed, 1.0, ("made up",), tasks).save(specs[f"evaluate-{label}"].folder)
    for spec in specs.values():
        mark_done(spec.folder, seconds=1.0)
    run = Run(
        name=name,
        runs=runs.resolve(),
        specs=specs,
        facts=RunFacts(recipe={"blend": {"name": f"blend_{blend or name}"}}, seed=seed),
    )
    run.save()
    return run


def ids(benchmark: Benchmark) -> tuple[str, ...]:
    """Of its questions; where they are parts of problems, by PROBLEM.STEP, as SciCode's are."""
    numbers = range(benchmark.questions)
    if not benchmark.problems:
        return tuple(f"{benchmark.task}-{number}" for number in numbers)
    return tuple(f"{1 + number % benchmark.problems}.{1 + number // benchmark.problems}" for number in numbers)


def answers(benchmark: Benchmark, skill: float, drawn: np.random.Generator, wrong: bool = False) -> tuple:
    """Scores, question by repeat, of a checkpoint of that skill; all 0 when it is `wrong`."""
    hardness = np.random.default_rng(zlib.crc32(benchmark.task.encode())).normal(0, 1.5, (benchmark.questions, 1))
    chances = 1 / (1 + np.exp(hardness - skill))
    right = drawn.random((benchmark.questions, benchmark.repeats)) < chances
    return tuple(map(tuple, (right & (not wrong)).astype(float).tolist()))


def _write(spec: Spec, name: str, content) -> None:
    (spec.folder / name).write_text(json.dumps(content) + "\n", encoding="utf-8")
