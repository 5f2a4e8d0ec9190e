"""Reads what an evaluation left, in either layout, and refuses what is not to be believed.

    readings = read_direct(Path("out"), suite, model_id="pruned", started=time.time())
    readings[0].result.scores                          # ((1.0, 0.0, 1.0, 1.0), (0.0, ...), ...)

Directly run, an evaluation's folder is nemo-evaluator's output folder; nemo-evaluator-launcher keeps it as
`TIME-INVOCATION/TASK.N/artifacts`, most often with the job's exit code in `logs/stage.exit` beside it. An evaluation
that went wrong can look like a bad model, so a result is refused, with the reason, unless everything agrees: the
program ended well and in a folder of its own, the model asked is the model meant, every request was answered, every
question has all its repeats, and the score written is the one that the answers give.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from evaluator.harness.readers import Sample, read_samples, reported_mean
from evaluator.results.answers import Answer, Question
from evaluator.results.scores import TaskResult
from evaluator.stats.scores import Summary, binomial_stderr
from evaluator.suites.suite import Benchmark, Suite

RESULTS = "results.yml"
STATISTICS = "eval_factory_metrics.json"
EXIT_CODE = Path("logs", "stage.exit")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One benchmark as it was read."""

    result: TaskResult
    """The scores."""
    questions: tuple[Question, ...]
    """What was answered; empty where the harness keeps no answers."""


def read_direct(
    folder: Path, suite: Suite, *, model_id: str, started: float, ids: Mapping[str, Sequence[str]] | None = None
) -> list[Reading]:
    """The suite's benchmarks as nemo-evaluator left them in `folder`: together, or each in a folder of its task's name.

    `started` is when the evaluation began, in seconds since 1970; `ids` are the questions' ids by task, in the order
    in which they are asked, where the harness keeps no ids. Raises ValueError with the reason not to believe it.
    """
    if suite.evaluation:
        return read_artifacts(folder, suite.benchmarks, suite, model_id=model_id, started=started, ids=ids or {})
    readings = []
    for benchmark in suite.benchmarks:
        artifacts = folder / benchmark.task
        readings += read_artifacts(artifacts, [benchmark], suite, model_id=model_id, started=started, ids=ids or {})
    return readings


def read_launcher(
    folder: Path,
    suite: Suite,
    *,
    model_id: str,
    started: float,
    states: Mapping[int, str] | None = None,
    ids: Mapping[str, Sequence[str]] | None = None,
) -> list[Reading]:
    """The suite's benchmarks as nemo-evaluator-launcher left them in `folder`, that of one invocation.

    `states` are those of its jobs by their numbers, as the launcher tells them, for executors that leave no exit
    code; Slurm's is one. Raises ValueError with the reason not to believe it.
    """
    readings = []
    for number, benchmark in enumerate(suite.benchmarks):
        job = folder / f"{benchmark.task}.{number}"
        if not job.is_dir():
            raise ValueError(f"'{folder}' holds no folder of {benchmark.task}.")
        if (job / EXIT_CODE).is_file():
            code = (job / EXIT_CODE).read_text().split()[-1]  # after a time or a word, as the executor likes
            if code != "0":
                raise ValueError(f"{benchmark.task} ended with {code}, see the logs in '{job / 'logs'}'.")
        elif states is None:
            raise ValueError(f"{benchmark.task} has not ended: '{job}' has no {EXIT_CODE}.")
        elif states[number] != "success":
            raise ValueError(f"{benchmark.task} is '{states[number]}', see the logs in '{job / 'logs'}'.")
        readings += read_artifacts(
            job / "artifacts", [benchmark], suite, model_id=model_id, started=started, ids=ids or {}
        )
    return readings


def read_artifacts(
    artifacts: Path,
    benchmarks: Sequence[Benchmark],
    suite: Suite,
    *,
    model_id: str,
    started: float,
    ids: Mapping[str, Sequence[str]],
) -> list[Reading]:
    """One evaluation's output folder, which holds `benchmarks`. Raises ValueError with the reason not to believe it."""
    file = artifacts / RESULTS
    if not file.is_file():
        raise ValueError(f"the evaluation left no {RESULTS} in '{artifacts}'.")
    if file.stat().st_mtime < started:
        raise ValueError(f"'{file}' is from before this evaluation began: the folder had been used.")
    record = yaml.safe_load(file.read_text(encoding="utf-8"))
    answered_by = record["target"]["api_endpoint"]["model_id"]
    if answered_by != model_id:
        raise ValueError(f"the results in '{artifacts}' are about the model '{answered_by}', not '{model_id}'.")
    statistics = _read_statistics(artifacts, benchmarks)
    tasks = record["results"].get("tasks", {}) | record["results"].get("groups", {})
    return [_read(benchmark, artifacts, suite, tasks, statistics, ids.get(benchmark.task)) for benchmark in benchmarks]


def _read_statistics(artifacts: Path, benchmarks: Sequence[Benchmark]) -> dict:
    """What the adapter counted, which is what was asked for. A folder used twice counts both times."""
    if not (artifacts / STATISTICS).is_file():
        raise ValueError(f"the evaluation left no {STATISTICS} in '{artifacts}': nothing shows that it asked anything.")
    metrics = json.loads((artifacts / STATISTICS).read_text(encoding="utf-8"))
    runs = metrics.get("evaluation", {}).get("total_runs", 1)
    if runs != 1:
        raise ValueError(f"'{artifacts}' was used for {runs} evaluations: the harness scores what it finds there.")
    statistics = metrics.get("response_stats", {})
    count, successful = statistics.get("count", 0), statistics.get("successful_count", 0)
    wanted = sum(benchmark.questions * benchmark.repeats * benchmark.requests for benchmark in benchmarks)
    if not wanted == count == successful:
        raise ValueError(
            f"the evaluation in '{artifacts}' made {count:,} requests, {successful:,} of them answered; its questions "
            f"x repeats are {wanted:,}."
        )
    return statistics


def _read(
    benchmark: Benchmark, artifacts: Path, suite: Suite, tasks: dict, statistics: dict, ids: Sequence[str] | None
) -> Reading:
    score, stderr = _written(tasks, benchmark)
    ids = ids or [f"{benchmark.path[0]}/{index}" for index in range(benchmark.questions)]
    samples = read_samples(benchmark, artifacts, ids) if benchmark.harness else []
    finished = statistics.get("finish_reason", {})
    requests = sum(finished.values())
    tokens = [sample.tokens for sample in samples if sample.tokens is not None]
    cut = [sample.finish_reason == "length" for sample in samples if sample.finish_reason]
    mean_tokens = sum(tokens) / len(tokens) if tokens else statistics.get("avg_completion_tokens") or 0.0
    cut_share = sum(cut) / len(cut) if cut else finished.get("length", 0) / requests if requests else 0.0
    questions: tuple[Question, ...] = ()
    if samples:
        result, questions = _table(benchmark, samples, mean_tokens=mean_tokens, cut_share=cut_share)
        if not math.isclose(score, expected := reported_mean(benchmark, samples), abs_tol=1e-6):
            raise ValueError(f"{RESULTS} says {benchmark.key} is {score}, its answers {expected}.")
    else:
        summary = Summary(score, _stderr(score, stderr, benchmark), None, benchmark.questions, benchmark.repeats)
        result = TaskResult(benchmark.task, (), (), mean_tokens, cut_share, reported=summary)
    if result.summary.mean == 0:
        _check_zero(benchmark, suite, samples)
    return Reading(result=result, questions=questions)


def _stderr(score: float, stderr: float, benchmark: Benchmark) -> float:
    """Standard error over questions of a score whose answers are not known.

    What a harness reports is that only where it asks once: of repeats, simple-evals and NeMo-Skills report the error
    over runs, which says nothing of the questions. Elsewhere it is the largest that a mean of scores from 0 to 1 has.
    """
    if benchmark.repeats == 1 and math.isfinite(stderr):
        return stderr
    return binomial_stderr(score, questions=benchmark.independent, repeats=benchmark.repeats).most


def _written(tasks: dict, benchmark: Benchmark) -> tuple[float, float]:
    """The benchmark's score in results.yml and its standard error there, nan where it has none."""
    task, metric, name = benchmark.written
    metrics = tasks.get(task, {}).get("metrics", {})
    by_name = {_flat(name): values for name, values in metrics.items()}
    found = by_name.get(_flat(metric), {}).get("scores", {}).get(name, {})
    if found.get("value") is None:
        have = sorted(f"{m}/{s}" for m, values in metrics.items() for s in values.get("scores", {}))
        raise ValueError(f"{RESULTS} has no score {benchmark.key}: of {task} it has {have}.")
    stderr = (found.get("stats") or {}).get("stderr")
    return float(found["value"]), math.nan if stderr is None else float(stderr)


def _flat(metric: str) -> str:
    """A metric as the launcher exports it: NeMo-Skills' `pass@1[avg-of-8]` becomes `pass_at_1_avg-of-8`."""
    return re.sub(r"[^\w.-]+", "_", metric.replace("pass@", "pass_at_")).strip("_")


def _table(
    benchmark: Benchmark, samples: list[Sample], *, mean_tokens: float, cut_share: float
) -> tuple[TaskResult, tuple[Question, ...]]:
    """The samples as a table, in the order of the questions, and as answers to look at."""
    table: dict[str, dict[int, Sample]] = {}
    for sample in samples:
        table.setdefault(sample.question, {})[sample.repeat] = sample
    repeats = list(range(benchmark.repeats))
    if len(table) != benchmark.questions or len(samples) != benchmark.questions * benchmark.repeats:
        raise ValueError(
            f"{benchmark.task} kept {len(samples):,} answers to {len(table):,} questions, not "
            f"{benchmark.repeats} to each of {benchmark.questions:,}: it is not the whole table."
        )
    for question, row in table.items():
        if sorted(row) != repeats:
            raise ValueError(
                f"{benchmark.task} has the repeats {sorted(row)} of {question}: it is not the whole table."
            )
    rows = {question: [table[question][repeat] for repeat in repeats] for question in sorted(table, key=_natural)}
    clusters = tuple(row[0].cluster for row in rows.values())
    result = TaskResult(
        task=benchmark.task,
        questions=tuple(rows),
        scores=tuple(tuple(sample.score for sample in row) for row in rows.values()),
        clusters=clusters if any(clusters) else (),
        mean_tokens=mean_tokens,
        cut_share=cut_share,
    )
    questions = tuple(
        Question(
            task=benchmark.task,
            question=question,
            prompt=row[0].prompt,
            reference=_reference(row),
            answers=tuple(
                Answer(text=sample.text, score=sample.score, finish_reason=sample.finish_reason) for sample in row
            ),
        )
        for question, row in rows.items()
    )
    return result, questions


def _reference(row: Sequence[Sample]) -> str:
    """The right answer; where choices are shuffled anew in every repeat, each has one of its own."""
    if all(sample.reference == row[0].reference for sample in row):
        return row[0].reference
    return f"{' / '.join(sample.reference for sample in row)}, by repeat; the question shown is that of the first"


def _natural(question: str) -> tuple:
    """Sorts `aime/9` before `aime/10`."""
    head, _, tail = question.rpartition("/")
    return (head, int(tail), "") if tail.isdigit() else (head, -1, tail)


def _check_zero(benchmark: Benchmark, suite: Suite, samples: list[Sample]) -> None:
    """A benchmark answered all wrongly is a bad model only where something was answered."""
    if samples and not any(sample.text.strip() for sample in samples):
        raise ValueError(f"{benchmark.title} is 0 and all its {len(samples)} answers are empty: it did not work.")
    if not suite.may_score_zero:
        raise ValueError(f"{benchmark.title} is 0: of the suite '{suite.name}' that is a failed evaluation.")
