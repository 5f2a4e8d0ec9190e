"""Finished runs whose models never were: folders as a run leaves them, with answers drawn from chances.

    make_run(Path("runs"), "a", suite=get_suite("offline"), skills=[0, 1, 2], shares={"stem": 100})

A question is answered rightly with a chance that rises with the checkpoint's skill less the question's hardness, which
is the same for every run: so answers pair as those of real models do.
"""

import dataclasses
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluator.results.scores import CheckpointResult, TaskResult
from evaluator.serve.bench import identity_of
from evaluator.serve.throughput import Rate, Served, Throughput
from evaluator.suites.suite import Benchmark, Suite
from nemo_distill.config.schedule import Schedule
from nemo_distill.outcome.benchmarks import with_declared
from nemo_distill.run.facts import RunFacts
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import Spec, Step, mark_done, place, read_mark, remark

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
TEACHER_NAME = "nvidia/NVIDIA-Nemotron-Nano-9B-v2"
"""Which is not on this machine."""
SETTING = "32768/1024x16"
"""At which checkpoints are served."""


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
    exports: float | None = None,
    quantised: tuple[str, float] | None = None,
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
        exports: Weights of a student in GiB, of which checkpoints are made that seem as large; None makes none.
        quantised: Format of the last milestone once more, with its weights in GiB; in FP8 it is evaluated, too.
    """
    asked = with_declared(suite, declared)
    asked = asked if repeats is None else asked.with_repeats(repeats)
    milestones = Schedule(**COURSE).milestones(iterations[: len(skills)])
    config = {"suite": suite.name, "repeats": repeats, "protocol": protocol, "seed": seed}
    config |= {"benchmarks": list(declared)} if declared else {}
    checkpoints = [("teacher", "teacher", None, None), ("pruned", "pruned", 0, 0)]
    checkpoints += [(mark.label, "milestone", mark.tokens, mark.iteration) for mark in milestones]
    last = milestones[-1]
    if quantised and quantised[0] == "fp8":
        checkpoints.append((f"{last.label}-fp8", "quantised", last.tokens, last.iteration))
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
    made = {"pruned": "prune"} | {mark.label: f"distill-{mark.label}" for mark in milestones} if exports else {}
    steps += [
        Step(f"export-{label}", "nemo_distill.steps.export", {"dtype": "bfloat16"}, (of,)) for label, of in made.items()
    ]
    quantize = f"quantize-{last.label}"
    if quantised:
        exported = f"export-{last.label}"
        steps.append(Step(quantize, "nemo_distill.steps.quantize", {"format": quantised[0]}, (exported,)))
    for label, role, *_ in checkpoints:
        checkpoint = f"export-{label}" if label in made else quantize if role == "quantised" else ""
        told = {**config, "of": "" if role in ("teacher", "pruned") else name}
        told |= {"label": label, "checkpoint": checkpoint or TEACHER_NAME} if exports else {}
        steps.append(
            Step(f"evaluate-{label}", "nemo_distill.steps.evaluate", told, (checkpoint,) if checkpoint else ())
        )
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
    for label in made:
        write_checkpoint(specs[f"export-{label}"].folder / "hf", exports or 0.0)
    if quantised:
        write_checkpoint(specs[quantize].folder / "hf", quantised[1], format=quantised[0])
        _write(specs[quantize], "quantised.json", {"sentences": [f"Quantised to {quantised[0]}."]})
    for index, (label, role, *_) in enumerate(checkpoints):
        index = min(index, 1 + len(skills))  # a quantised one is the last milestone
        trained = role not in ("teacher", "pruned")
        skill = skills[index - 2] if trained else {"teacher": TEACHER, "pruned": PRUNED}[role]
        own = strengths if trained and strengths else {}
        wrong = broken[1] if broken and broken[0] == index - 2 else None
        drawn = np.random.default_rng(zlib.crc32(f"{name if trained else ''} {label} {seed}".encode()))
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
        if (spec.folder / "hf").is_dir():
            seem(spec.folder, quantised[1] if quantised and spec.name == quantize else exports or 0.0)
    run = Run(
        name=name,
        runs=runs.resolve(),
        specs=specs,
        facts=RunFacts(recipe={"blend": {"name": f"blend_{blend or name}"}}, seed=seed),
    )
    run.save()
    return run


def write_checkpoint(folder: Path, gib: float, *, format: str = "") -> None:
    """A checkpoint of about as many kilobytes as it is to seem GiB (`seem`)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}\n", encoding="utf-8")
    config = {"model_type": "nemotron_h"} | ({"quantization_config": {"quant_algo": format}} if format else {})
    (folder / "config.json").write_text(json.dumps(config) + "\n", encoding="utf-8")
    size = 2 * round(512 * gib)
    tensor = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}
    header = json.dumps({"lm_head.weight": tensor}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))


def seem(folder: Path, gib: float) -> None:
    """Have the mark of success say that its weights are of that size: nothing is that large."""
    mark = read_mark(folder)
    mark["files"]["hf/model.safetensors"] = round(gib * 2**30)
    remark(folder, mark)


def measure(run: Run, rates: Mapping[str, float], *, gpu: str = "NVIDIA H100 80GB HBM3", vllm: str = "0.24.0") -> Run:
    """The run with a step in which these checkpoints were served at the study's setting: tokens/s by label."""
    step = Step("serve_bench", "nemo_distill.steps.serve_bench", {"gpu": gpu, "vllm": vllm})
    digest = zlib.crc32(json.dumps([run.name, dict(rates), gpu, vllm]).encode())
    folder = run.runs / step.name / f"{digest:012x}"
    spec = Spec(
        name=step.name, module=step.module, config=step.config, folder=folder, upstream={}, fingerprint=folder.name
    )
    spec.save()
    served = [
        Served(
            label=label,
            identity=identity_of(_checkpoint(run, label)) if label != "teacher" else "teacher",
            rates=(_rate(rate),),
        )
        for label, rate in rates.items()
    ]
    Throughput(gpu=gpu, vllm=vllm, settings=(SETTING,), models=tuple(served)).save(folder)
    mark_done(folder, seconds=1.0)
    measured = dataclasses.replace(run, specs={**run.specs, step.name: spec})
    measured.save()
    return measured


def _checkpoint(run: Run, label: str) -> Path:
    evaluation = run.specs[f"evaluate-{label}"]
    return evaluation.upstream[evaluation.config["checkpoint"]] / "hf"


def _rate(tokens_per_second: float) -> Rate:
    return Rate(
        setting=SETTING,
        tokens_per_second=tokens_per_second,
        seconds=1.0,
        generated_tokens=1024,
        prompt_tokens=32_768,
        first_token_median_ms=1.0,
        first_token_p99_ms=1.0,
        inter_token_median_ms=1.0,
        inter_token_p99_ms=1.0,
    )


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
