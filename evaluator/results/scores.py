"""Holds what came out of an evaluation: a table of question x repeat per benchmark, and the numbers that follow.

    result = CheckpointResult.load(folder)
    result.tasks[0].scores                            # ((1.0, 0.0, 1.0, 1.0), (0.0, ...), ...)

`evaluator.harness.read` makes them of what harnesses leave, and says why one is not to be believed.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.results.clusters import clusters_of
from evaluator.results.files import form, items, mapping, number, read_object, text, whole
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
    """Scores from 0 to `most`, one row per question, one column per repeat."""
    mean_tokens: float
    """Mean length of an answer in tokens."""
    cut_share: float
    """Share of answers, from 0 to 1, that were cut at the token limit."""
    clusters: tuple[str, ...] = ()
    """Per question the passage or problem that it shares with others; empty when no two share one."""
    reported: Summary | None = None
    """What the harness reports where it keeps no answers: `scores` and `questions` are empty then."""
    failed_requests: int = 0
    """Number of requests that failed, of the evaluation that asked this benchmark: made again until they were answered,
    or not to be answered at all."""
    most: float = 1.0
    """Highest score of a question; more than 1 where questions weigh differently, so that their mean is at most 1."""
    empty_share: float = 0.0
    """Share of answers, from 0 to 1, that leave no text to judge: nothing was said, or nothing but reasoning."""
    unasked_share: float = 0.0
    """Share of answers, from 0 to 1, that are missing, and wrong, since their prompts were longer than the context."""
    zero_chance: float | None = None
    """Least probability, from 0 to 1, with which chance gives a checkpoint that answers a score of 0 here; None for any
    other score, or where no such checkpoint is known."""

    @classmethod
    def not_asked(cls, task: str, *, questions: int, repeats: int) -> "TaskResult":
        """In the place of a benchmark that this checkpoint alone was not asked: a score of nan."""
        return cls(task, (), (), math.nan, 0.0, reported=Summary(math.nan, math.nan, None, questions, repeats))

    @property
    def asked(self) -> bool:
        """Whether the checkpoint was asked."""
        return not (self.reported and math.isnan(self.reported.mean))

    @property
    def has_answers(self) -> bool:
        """Whether there is a score of every question and repeat."""
        return bool(self.scores)

    @cached_property
    def table(self) -> np.ndarray:
        """The scores as an array (questions, repeats)."""
        return np.array(self.scores, dtype=np.float64)

    @cached_property
    def by_question(self) -> np.ndarray:
        """Mean over repeats of each question."""
        return self.table.mean(axis=1)

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
        """Read what `save` wrote. Raises ValueError naming the file when it is not that, or holds what cannot be."""
        path = folder / RESULTS_FILE
        record = read_object(path)
        with form(f"'{path}'"):
            _check_names(record, cls)
            tasks = tuple(_task(mapping(task, "a task")) for task in items(record["tasks"], "tasks"))
            names = [task.task for task in tasks]
            if not names or len(set(names)) < len(names):
                raise ValueError(f"its tasks are {names}: each is there once.")
            return cls(
                label=text(record["label"], "label"),
                suite=text(record["suite"], "suite"),
                seed=whole(record["seed"], "seed"),
                seconds=number(record["seconds"], "seconds"),
                command=tuple(text(word, "a word of command") for word in items(record["command"], "command")),
                tasks=tasks,
            )


def _task(record: dict[str, Any]) -> TaskResult:
    """One benchmark of results.json, with what later versions added where an earlier one wrote it."""
    name = text(record["task"], "the name of a task")
    _check_names(record, TaskResult)
    most = number(record.get("most", 1.0), f"the highest score of {name}", least=1, most=2)
    questions, scores = items(record["questions"], f"questions of {name}"), items(record["scores"], f"scores of {name}")
    reported = None if record.get("reported") is None else _summary(mapping(record["reported"], name), name)
    table = _checked_table(name, questions, scores, most) if reported is None else None
    if reported is not None and (questions or scores):
        raise ValueError(f"{name} has both answers and a score that stands for them.")
    chance = record.get("zero_chance")
    clusters = items(record.get("clusters") or list(clusters_of(name, questions)), f"clusters of {name}")
    if clusters and (len(clusters) != len(questions) or set(map(type, clusters)) != {str}):
        raise ValueError(f"{name} has {len(clusters)} clusters for {len(questions)} questions, or some are no names.")
    result = TaskResult(
        task=name,
        questions=tuple(questions),
        scores=tuple(map(tuple, scores)),
        mean_tokens=number(record["mean_tokens"], f"mean_tokens of {name}"),
        cut_share=number(record["cut_share"], f"cut_share of {name}", most=1),
        empty_share=number(record.get("empty_share", 0.0), f"empty_share of {name}", most=1),
        unasked_share=number(record.get("unasked_share", 0.0), f"unasked_share of {name}", most=1),
        zero_chance=None if chance is None else number(chance, f"zero_chance of {name}", most=1),
        clusters=tuple(clusters),
        reported=reported,
        failed_requests=whole(record.get("failed_requests", 0), f"failed_requests of {name}"),
        most=most,
    )
    if table is not None:
        vars(result)["table"] = table  # what the property would make of the scores once more
    return result


def _checked_table(name: str, questions: list, scores: list, most: float) -> np.ndarray:
    """The scores as an array. Raises ValueError unless every question has one id and as many scores, from 0 to `most`,
    as all others."""
    if len(questions) != len(scores) or len(questions) < 2:
        raise ValueError(f"{name} has {len(scores)} rows of scores for {len(questions)} questions.")
    if set(map(type, questions)) != {str}:
        raise ValueError(f"{name} has a question whose id is no text.")
    "".join(questions).encode()  # of valid Unicode: ids become lines of tables
    if set(map(type, scores)) != {list} or len(set(map(len, scores))) > 1 or not scores[0]:
        lengths = sorted({len(row) if isinstance(row, list) else 0 for row in scores})
        raise ValueError(f"the questions of {name} have {lengths} scores: each is asked as often as the others.")
    if not set(map(type, chain.from_iterable(scores))) <= {int, float}:
        raise ValueError(f"{name} has a score that is no number.")
    table = np.array(scores, dtype=np.float64)
    wrong = table[~((table >= 0) & (table <= most))]
    if wrong.size:
        raise ValueError(f"{name} has {wrong.size} scores such as {wrong[0]:g}; they are from 0 to {most:g}.")
    if table.mean() > 1:
        raise ValueError(f"the mean score of {name} is {table.mean():g}; it is at most 1.")
    return table


def _summary(record: dict[str, Any], name: str) -> Summary:
    _check_names(record, Summary)
    spread = record["rerun_sd"]
    return Summary(
        mean=number(record["mean"], f"the score of {name}", most=1),
        stderr=number(record["stderr"], f"the error of {name}", most=1),
        rerun_sd=None if spread is None else number(spread, f"the re-run noise of {name}", most=1),
        questions=whole(record["questions"], f"the questions of {name}", least=1),
        repeats=whole(record["repeats"], f"the repeats of {name}", least=1),
    )


def _check_names(record: Mapping[str, Any], kind: type) -> None:
    known = {one.name for one in fields(kind)}
    if unknown := sorted(set(record) - known):
        raise ValueError(f"it has {unknown[0]!r}, which this version does not know: written by a later one?")
