"""What came out of an evaluation, as tables of question x repeat, and the reasons not to believe it.

    results = read_suite(Path("out/nemo_evaluator"), get_suite("offline"), model_id="pruned")
    results[0].scores                                 # ((1.0, 0.0, 1.0, 1.0), (0.0, ...), ...)

An evaluation that went wrong can look like a bad model, so a result is refused unless everything agrees: the model
that answered, the number of repeats, every request answered, and the score nemo-evaluator wrote with the answers kept.
"""

import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml

from evaluator.clusters import clusters_of
from evaluator.stats import Summary, summarize
from evaluator.suite import Benchmark, Suite

RESULTS_FILE = "results.json"


@dataclass(frozen=True)
class TaskResult:
    """One benchmark's answers of one checkpoint, judged."""

    task: str
    """The task's name, see `evaluator.suite`."""
    questions: tuple[str, ...]
    """Ids of the questions."""
    scores: tuple[tuple[float, ...], ...]
    """From 0 to 1, one row per question, one column per repeat."""
    mean_tokens: float
    """Mean length of an answer in tokens."""
    cut_share: float
    """Share of answers, from 0 to 1, that were cut at the token limit."""
    clusters: tuple[str, ...] = ()
    """Per question the passage or problem that it shares with others; empty when no two share one."""

    @cached_property
    def table(self) -> np.ndarray:
        """The scores as an array (questions, repeats)."""
        return np.array(self.scores, dtype=np.float64)

    @cached_property
    def summary(self) -> Summary:
        """Mean, standard error and re-run noise, from 0 to 1."""
        return summarize(self.table, self.clusters)


@dataclass(frozen=True)
class CheckpointResult:
    """A suite's results for one checkpoint."""

    label: str
    """What tables call it: teacher, pruned, 0.4M."""
    suite: str
    """Name of the suite."""
    seed: int
    """Seed of the requests."""
    seconds: float
    """Wall time of the evaluation."""
    command: tuple[str, ...]
    """The harness's command, relative to the folder of the result."""
    tasks: tuple[TaskResult, ...]
    """One per benchmark, in the suite's order."""

    def save(self, folder: Path) -> None:
        """Write results.json into `folder`."""
        (folder / RESULTS_FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "CheckpointResult":
        """Read what `save` wrote."""
        record = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
        tasks = tuple(
            TaskResult(
                **task
                | {
                    "questions": tuple(task["questions"]),
                    "scores": tuple(map(tuple, task["scores"])),
                    "clusters": tuple(task.get("clusters") or clusters_of(task["task"], task["questions"])),
                }
            )
            for task in record["tasks"]
        )
        return cls(**record | {"tasks": tasks, "command": tuple(record["command"])})


def read_suite(folder: Path, suite: Suite, *, model_id: str) -> tuple[TaskResult, ...]:
    """Read and check the output folder of one nemo-evaluator run of our own tasks, in the suite's order.

    Raises ValueError with the reason when the results cannot be what was asked for.
    """
    if not (folder / "results.yml").is_file():
        raise ValueError(f"the evaluation left no results.yml in '{folder}'.")
    record = yaml.safe_load((folder / "results.yml").read_text(encoding="utf-8"))
    answered_by = record["target"]["api_endpoint"]["model_id"]
    if answered_by != model_id:
        raise ValueError(f"the results in '{folder}' are about the model '{answered_by}', not '{model_id}'.")
    stats = json.loads((folder / "eval_factory_metrics.json").read_text(encoding="utf-8"))["response_stats"]
    if not suite.answers == stats["count"] == stats["successful_count"]:
        raise ValueError(
            f"the evaluation in '{folder}' made {stats['count']} requests, {stats['successful_count']} of them "
            f"answered; the questions x repeats of the suite are {suite.answers}."
        )
    samples: dict[str, list[dict]] = {}
    for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        samples.setdefault(sample["task"], []).append(sample)
    results = tuple(_result(samples.get(benchmark.task, []), benchmark) for benchmark in suite.benchmarks)
    for benchmark, result in zip(suite.benchmarks, results, strict=True):
        _check_score(record["results"]["tasks"], benchmark, result)
    return results


def _result(samples: list[dict], benchmark: Benchmark) -> TaskResult:
    table: dict[str, dict[int, float]] = {}
    for sample in samples:
        table.setdefault(sample["id"], {})[sample["repeat"]] = sample["score"]
    repeats = list(range(benchmark.repeats))
    if len(table) != benchmark.questions or any(sorted(row) != repeats for row in table.values()):
        raise ValueError(f"{benchmark.task} lacks answers: samples.jsonl is not the whole table.")
    return TaskResult(
        task=benchmark.task,
        questions=tuple(table),
        scores=tuple(tuple(row[repeat] for repeat in repeats) for row in table.values()),
        mean_tokens=sum(sample["tokens"] for sample in samples) / len(samples),
        cut_share=sum(sample["finish_reason"] == "length" for sample in samples) / len(samples),
    )


def _check_score(tasks: dict, benchmark: Benchmark, result: TaskResult) -> None:
    task, metric, score = benchmark.path
    metrics = tasks.get(task, {}).get("metrics", {})
    written = metrics.get(metric, {}).get("scores", {}).get(score, {}).get("value")
    if written is None:
        raise ValueError(f"results.yml has no score {benchmark.key}: of {task} it has {sorted(metrics)}.")
    if not math.isclose(written, result.summary.mean, abs_tol=1e-9):
        raise ValueError(f"results.yml says {benchmark.key} is {written}, its answers {result.summary.mean}.")
