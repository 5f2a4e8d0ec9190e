"""Turns samples.jsonl into what nemo-evaluator reads: a score per task, with its standard error over questions.

The names are those of the study's tables: `offline_math_pass_at_1_avg-of-4_symbolic_correct` is the task, the metric
`pass_at_1_avg-of-4` and the score `symbolic_correct`.
"""

import json
from collections import defaultdict
from pathlib import Path

import yaml
from nemo_evaluator.api.api_dataclasses import EvaluationResult, MetricResult, Score, ScoreStats, TaskResult

from core_evals.nemo_distill.runner import SAMPLES
from evaluator.stats.scores import summarize

SCORE = "symbolic_correct"


def parse_output(output_dir: str) -> EvaluationResult:
    """The result of the evaluation that ran in `output_dir`; ValueError when a question lacks a repeat."""
    folder = Path(output_dir)
    params = yaml.safe_load((folder / "run_config.yml").read_text(encoding="utf-8"))["config"]["params"]
    tables: dict[str, dict[str, list[float]]] = {task: defaultdict(list) for task in params["task"].split(",")}
    for line in (folder / SAMPLES).read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        tables[record["task"]][record["id"]].append(record["score"])
    repeats = params["extra"]["num_repeats"]
    return EvaluationResult(tasks={task: _result(task, table, repeats) for task, table in tables.items()})


def _result(task: str, table: dict[str, list[float]], repeats: int) -> TaskResult:
    for question, scores in table.items():
        if len(scores) != repeats:
            raise ValueError(f"{task}: question {question} has {len(scores)} answers, not {repeats}.")
    summary = summarize(list(table.values()))
    stats = ScoreStats(count=summary.questions * repeats, mean=summary.mean, stderr=summary.stderr)
    score = Score(value=summary.mean, stats=stats)
    return TaskResult(metrics={f"pass_at_1_avg-of-{repeats}": MetricResult(scores={SCORE: score})})
