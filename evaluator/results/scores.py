"""Holds what came out of an evaluation: a table of question x repeat per benchmark, and the numbers that follow.

    result = CheckpointResult.load(folder)
    result.tasks[0].scores                            # ((1.0, 0.0, 1.0, 1.0), (0.0, ...), ...)

`evaluator.harness.read` makes them of what harnesses leave, and says why one is not to be believed.
"""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from evaluator.results.clusters import clusters_of
from evaluator.stats.scores import Summary, summarize

RESULTS_FILE = "results.json"


@dataclass(frozen=True)
class TaskResult:
    """One benchmark's answers of one checkpoint, judged."""

    task: str
    """The task's name, see `evaluator.suites.suite`."""
    questions: tuple[str, ...]
    """Ids of the questions."""
    scores: tuple[tuple[float, ...], ...]
    """Scores from 0 to 1, one row per question, one column per repeat."""
    mean_tokens: float
    """Mean length of an answer in tokens."""
    cut_share: float
    """Share of answers, from 0 to 1, that were cut at the token limit."""
    clusters: tuple[str, ...] = ()
    """Per question the passage or problem that it shares with others; empty when no two share one."""
    reported: Summary | None = None
    """What the harness reports where it keeps no answers: `scores` and `questions` are empty then."""
    empty_share: float = 0.0
    """Share of answers, from 0 to 1, that leave no text to judge: nothing was said, or nothing but reasoning."""

    @property
    def has_answers(self) -> bool:
        """Whether there is a score of every question and repeat."""
        return bool(self.scores)

    @cached_property
    def table(self) -> np.ndarray:
        """The scores as an array (questions, repeats)."""
        return np.array(self.scores, dtype=np.float64)

    @cached_property
    def summary(self) -> Summary:
        """Mean, standard error and re-run noise, from 0 to 1."""
        return self.reported or summarize(self.table, self.clusters)


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
                    "reported": Summary(**task["reported"]) if task.get("reported") else None,
                }
            )
            for task in record["tasks"]
        )
        return cls(**record | {"tasks": tasks, "command": tuple(record["command"])})
