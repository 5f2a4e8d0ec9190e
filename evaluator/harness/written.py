"""Reads what nemo-evaluator wrote of an evaluation as a whole: results.yml and what its adapter counted.

    scores = read_scores(artifacts, model_id="80B", started=began)
    scores.of(benchmark).value                       # 0.7395, on the scale of answers, from 0 to 1
    read_statistics(artifacts).successful            # 12,032

Harnesses report on two scales: NeMo-Skills returns "all float metrics as percentages"
(nemo_skills/evaluation/metrics/base.py), all others of these suites return shares. Which one a benchmark's is, it says
(`Benchmark.scale`); a harness that changed its mind is found out by its answers, where it keeps them.
"""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evaluator.harness.asking import ASKING, UNASKED
from evaluator.results.files import form, mapping, number, read_object, read_text, text, whole
from evaluator.suites.suite import PERCENT, Benchmark

RESULTS = "results.yml"
STATISTICS = "eval_factory_metrics.json"
ROUNDED = 5.1e-5
"""How far a score may be from its answers, from 0 to 1: half of the second decimal of a percentage, and less than one
answer of the largest benchmark, MMLU with 14,042, adds."""
MOST_NAMED = 8
"""Scores that a sentence names, of those that there are."""


@dataclass(frozen=True)
class Written:
    """One score as it stands in results.yml."""

    value: float
    """The score, as it is written."""
    stderr: float
    """Its standard error, as it is written; nan where there is none."""
    percent: bool
    """Whether the benchmark says that it is from 0 to 100."""

    @property
    def share(self) -> float:
        """The score from 0 to 1, on the scale that the benchmark says. Raises ValueError where it is not on that."""
        most = 100 if self.percent else 1
        return number(self.value, "the score", most=most) / most

    @property
    def stderr_share(self) -> float:
        """The standard error of `share`."""
        return self.stderr / 100 if self.percent else self.stderr

    def says(self, mean: float) -> bool:
        """Whether it is what answers of this mean give, be it as a share or as a percentage."""
        return any(abs(share - mean) <= ROUNDED for share in (self.value, self.value / 100))


@dataclass(frozen=True)
class Scores:
    """The scores in a results.yml."""

    file: Path
    """The file."""
    tasks: Mapping[str, Any]
    """What it holds by task or group of tasks."""
    limit: int | None = None
    """Number of questions of each benchmark that it was told to stop at; None for all."""

    def of(self, benchmark: Benchmark) -> Written:
        """The benchmark's score. Raises ValueError when there is none, or none that can be."""
        if self.limit is not None:
            raise ValueError(f"'{self.file}' is of the first {self.limit} questions of each benchmark, not of all.")
        task, metric, name = benchmark.written
        with form(f"'{self.file}'"):
            metrics = mapping(self.tasks.get(task) or {}, task).get("metrics") or {}
            scores = {metric: mapping(values["scores"], metric) for metric, values in metrics.items()}
        older = metric.replace("avg-of-", "")  # NeMo-Skills before July 2025
        found = next((of for known, of in scores.items() if _flat(known) in (_flat(metric), _flat(older))), {})
        if task not in self.tasks:
            raise ValueError(
                f"{RESULTS} has no task {task!r} for {benchmark.title}; it has {sorted(self.tasks)[:MOST_NAMED]}."
            )
        if found.get(name) is None:
            have = sorted(f"{metric}/{score}" for metric, of in scores.items() for score in of)
            more = f" and {len(have) - MOST_NAMED} more" if len(have) > MOST_NAMED else ""
            near = difflib.get_close_matches(f"{metric}/{name}", have, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"{RESULTS} has no score {benchmark.key}: of {task} it has {have[:MOST_NAMED]}{more}.{hint}"
            )
        with form(f"'{self.file}'"):
            value = number(found[name]["value"], f"the score {benchmark.key}", most=100)
            stderr = (found[name].get("stats") or {}).get("stderr")
            if isinstance(stderr, bool) or not isinstance(stderr, (int, float)) or not math.isfinite(stderr):
                stderr = math.nan  # lm-evaluation-harness writes N/A where it computes none, others .nan
        return Written(value, float(stderr), benchmark.scale == PERCENT)


def read_scores(artifacts: Path, *, model_id: str, started: float) -> Scores:
    """The scores of the evaluation in this folder. Raises ValueError when they are older or of another model."""
    file = artifacts / RESULTS
    if not file.is_file():
        raise ValueError(f"the evaluation left no {RESULTS} in '{artifacts}'.")
    if file.stat().st_mtime < started:
        raise ValueError(f"'{file}' is from before this evaluation began: the folder had been used.")
    try:
        record = yaml.safe_load(read_text(file))
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        raise ValueError(f"'{file}' is no whole YAML: cut short or overwritten? {_line(error)}") from None
    with form(f"'{file}'"):
        record = mapping(record, f"'{file}'")
        answered_by = record["target"]["api_endpoint"]["model_id"]
        limit = ((record.get("config") or {}).get("params") or {}).get("limit_samples")
        results = mapping(record["results"], "results")
        tasks = (results.get("tasks") or {}) | (results.get("groups") or {})
    if answered_by != model_id:
        raise ValueError(f"the results in '{artifacts}' are about the model '{answered_by}', not '{model_id}'.")
    return Scores(file, tasks, limit)


@dataclass(frozen=True)
class Statistics:
    """What the adapter counted, which is what was asked for. A folder used twice counts both times."""

    count: int
    """Number of replies, those that failed and were asked for again included."""
    successful: int
    """Number of replies with an answer."""
    runs: int
    """Number of times that an evaluation was started in the folder."""
    finish_reasons: Mapping[str, int]
    """Number of answers by how they ended: `stop`, `length`; empty where the endpoint did not say."""
    mean_tokens: float
    """Mean length of an answer in tokens; 0 where the endpoint did not say."""
    why_unasked: str = ""
    """What the endpoint said of a question that could not be asked; empty where it is not kept."""
    again: int = 0
    """Number of requests that our own adapter made again before it told of them."""
    mean_prompt: float = 0.0
    """Mean length of a prompt in tokens; 0 where the endpoint did not say."""
    seconds: float = 0.0
    """Wall time of all evaluations in the folder, scoring included; 0 where it was not written."""

    @property
    def failed(self) -> int:
        """Number of requests that failed."""
        return self.count - self.successful + self.again

    @property
    def unasked(self) -> int:
        """Number of questions that the adapter could not ask (`evaluator.harness.interceptor`)."""
        return self.finish_reasons.get(UNASKED, 0)

    @property
    def cut_share(self) -> float:
        """Share of answers, from 0 to 1, of which the endpoint said that they were cut at the token limit."""
        return self.finish_reasons.get("length", 0) / self.successful if self.successful else 0.0


def read_statistics(artifacts: Path) -> Statistics:
    """What was counted of the evaluation in this folder. Raises ValueError when nothing was, or what cannot be."""
    file = artifacts / STATISTICS
    if not file.is_file():
        raise ValueError(f"the evaluation left no {STATISTICS} in '{artifacts}': nothing shows that it asked anything.")
    metrics = read_object(file)
    with form(f"'{file}'"):
        stats = mapping(metrics.get("response_stats", {}), "response_stats")
        count = whole(stats.get("count", 0), "count")
        successful = whole(stats.get("successful_count", 0), "successful_count")
        reasons = mapping(stats.get("finish_reason") or {}, "finish_reason")
        asking = mapping(metrics.get(ASKING) or {}, ASKING)
        again, why = asking.get("asked_again") or {}, asking.get("why") or [""]
        ended = {text(name, "a finish reason"): whole(times, name) for name, times in reasons.items()}
        evaluation = mapping(metrics.get("evaluation") or {}, "evaluation")
        return Statistics(
            count=count,
            successful=successful,
            runs=whole(evaluation.get("total_runs", 1), "total_runs"),
            finish_reasons=ended,
            mean_tokens=number(stats.get("avg_completion_tokens") or 0.0, "avg_completion_tokens"),
            again=sum(whole(times, reason) for reason, times in mapping(again, "asked_again").items()),
            why_unasked=text(why[0], "why it could not ask"),
            mean_prompt=number(stats.get("avg_prompt_tokens") or 0.0, "avg_prompt_tokens"),
            seconds=number(evaluation.get("runtime_seconds") or 0.0, "runtime_seconds"),
        )


def _flat(metric: str) -> str:
    """A metric as the launcher exports it: NeMo-Skills' `pass@1[avg-of-8]` becomes `pass_at_1_avg-of-8`."""
    return re.sub(r"[^\w.-]+", "_", metric.replace("pass@", "pass_at_")).strip("_")


def _line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"(line {mark.line + 1})" if mark else ""
