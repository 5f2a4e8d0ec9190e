"""What harnesses leave, in small: the suite `study` of a few questions, in the forms that data/launcher names."""

import dataclasses
import json
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from evaluator.suites.catalogue import OFFLINE, STUDY

DATA = Path(__file__).parents[1] / "data"
NUMBERS = {
    "MMLU": (4, 1),
    "MMLU Pro": (4, 1),
    "GPQA Diamond": (3, 2),
    "LCB v6": (2, 2),
    "AIME 2025": (2, 2),
    "MATH-500": (2, 2),
    "IFEval": (3, 1),
    "SciCode": (6, 2),
}
"""Questions and repeats of each benchmark."""
SMALL = dataclasses.replace(
    STUDY,
    max_unasked=0.2,  # two of SciCode's twelve answers
    benchmarks=tuple(
        dataclasses.replace(
            benchmark,
            questions=NUMBERS[benchmark.title][0],
            repeats=NUMBERS[benchmark.title][1],
            problems=2 if benchmark.problems else 0,
        )
        for benchmark in STUDY.benchmarks
    ),
)


OWN = dataclasses.replace(
    OFFLINE, benchmarks=tuple(dataclasses.replace(one, questions=2, repeats=2) for one in OFFLINE.benchmarks[1:3])
)
"""Two of our own tasks, of two questions, asked twice."""


def left_by_our_own_tasks(folder: Path, tasks: Sequence[str] = tuple(one.task for one in OWN.benchmarks)) -> Path:
    """nemo-evaluator's output folder of `OWN`, as our own tasks leave it: half of all answers are right."""
    folder.mkdir(parents=True)
    score = {"value": 0.5, "stats": {"count": 4, "mean": 0.5, "stderr": 0.5}}
    metrics = {"pass_at_1_avg-of-2": {"scores": {"symbolic_correct": score}}}
    results = {"groups": {}, "tasks": {task: {"metrics": metrics} for task in tasks}}
    record = {"config": {"params": {"limit_samples": None}}, "results": results}
    target = {"target": {"api_endpoint": {"model_id": "80B"}}}
    (folder / "results.yml").write_text(yaml.safe_dump(record | target))
    answers = 4 * len(tasks)
    ended = {"finish_reason": {"stop": answers}, "avg_completion_tokens": 7.0}
    counted = {"count": answers + 1, "successful_count": answers} | ended
    statistics = {"evaluation": {"total_runs": 1}, "response_stats": counted}
    (folder / "eval_factory_metrics.json").write_text(json.dumps(statistics))
    answer = {"prompt": "What?", "reference": "1", "tokens": 7, "finish_reason": "stop", "empty": False, "not_taken": 0}
    lines = [
        {"task": task, "id": f"{task}-{place}", "repeat": repeat, "score": 1.0 - place, "response": f"{place}"} | answer
        for task in tasks
        for place in range(2)
        for repeat in range(2)
    ]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def left_behind(folder: Path) -> Path:
    """An invocation's folder as the launcher leaves it."""
    invocation = folder / "20260101_120000-0123abcd"
    shutil.copytree(DATA / "launcher", invocation, ignore=shutil.ignore_patterns("README.md"))
    write_database(invocation / "AA_math_test_500.5" / "artifacts" / "AA_math_test_500" / "cache" / "cache.sqlite")
    return invocation


def write_database(folder: Path) -> None:
    """simple-evals' cache of answers: a row each, by its place in (repeat, question)."""
    folder.mkdir(parents=True)
    connection = sqlite3.connect(folder / "cache.db")
    connection.execute("CREATE TABLE Cache (key BLOB, value BLOB, filename TEXT)")
    for key, score in enumerate((1.0, 0.0, 1.0, 0.0)):
        convo = [
            {"role": "user", "content": f"Solve {key % 2}."},
            {"role": "assistant", "content": f"\\boxed{{{score:g}}}"},
        ]
        record = {"html": "<p>Correct Answer: 1</p>", "score": score, "metrics": {}, "convo": convo}
        connection.execute("INSERT INTO Cache VALUES (?, ?, ?)", (str(key), json.dumps(record), None))
    connection.commit()
    connection.close()


def edit_yaml(file: Path, change: Callable[[dict], None]) -> None:
    """Change what a file of YAML says."""
    record = yaml.safe_load(file.read_text())
    change(record)
    file.write_text(yaml.safe_dump(record))


def edit_json(file: Path, change: Callable[[dict], None]) -> None:
    """Change what a file of JSON says."""
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


def edit_line(file: Path, number: int, change: Callable[[dict], None]) -> None:
    """Change what a line of a file says, counted from 0."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    change(lines[number])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
