"""Counts what an evaluation took, from what nemo-evaluator's adapter wrote beside the scores.

    asked = asking(Path("out"), evaluation, suite, tasks, once=True)
    save_spent(folder, Spent(engine="vllm", ..., benchmarks=in_order(suite, asked), model=model_of(checkpoint)))

It counts after an evaluation has been believed, and refuses nothing: what was not written is 0.
"""

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluator.harness.written import Statistics, read_statistics
from evaluator.results.scores import TaskResult
from evaluator.results.spent import Asking
from evaluator.suites.suite import Benchmark, Suite


def asking(
    artifacts: Path, benchmarks: Sequence[Benchmark], suite: Suite, tasks: Iterable[TaskResult], *, once: bool
) -> list[Asking]:
    """What the evaluation whose output is in `artifacts` took, of each of the benchmarks that it asked.

    `tasks` are its results. Of several benchmarks the adapter counts the tokens together: those of answers are dealt
    out by what is known of each, and those of prompts evenly. `once` is whether nothing was known before.
    """
    statistics = Statistics(count=0, successful=0, runs=1, finish_reasons={}, mean_tokens=0.0)
    with contextlib.suppress(ValueError):  # of a task whose harness asks past the adapter
        statistics = read_statistics(artifacts)
    answers = {one.task: one.questions * one.repeats for one in benchmarks}
    means = {one.task: one.mean_tokens for one in tasks}
    written = {task: number * means.get(task, 0.0) for task, number in answers.items()}
    all_written, all_asked = sum(written.values()), sum(answers.values())
    generated = statistics.successful * statistics.mean_tokens
    return [
        Asking(
            task=one.task,
            questions=one.questions,
            repeats=one.repeats,
            prompt=round(statistics.successful * statistics.mean_prompt * answers[one.task] / all_asked),
            generated=round(generated * (written[one.task] / all_written if all_written else 1 / len(benchmarks))),
            limit=one.params.get("max_new_tokens", suite.max_new_tokens),
            seconds=round(statistics.seconds, 3),
            once=once and statistics.runs == 1,
        )
        for one in benchmarks
    ]


def in_order(suite: Suite, asked: Iterable[Asking]) -> tuple[Asking, ...]:
    """Those of the suite's benchmarks that were asked, in its order."""
    by_task = {one.task: one for one in asked}
    return tuple(by_task[benchmark.task] for benchmark in suite.benchmarks if benchmark.task in by_task)


def model_of(checkpoint: Path) -> Mapping[str, Any]:
    """The config.json of a checkpoint; empty where there is none."""
    with contextlib.suppress(OSError, ValueError):
        text = (checkpoint / "config.json").read_text(encoding="utf-8")
        config = json.loads(text, parse_constant=lambda _: None)  # an infinite time_step_limit, which is no JSON
        return config if isinstance(config, dict) else {}
    return {}
