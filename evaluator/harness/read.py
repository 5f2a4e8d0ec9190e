"""Reads what an evaluation left, in either layout, and refuses what is not to be believed.

    readings = read_direct(Path("out"), suite, model_id="pruned", started=time.time())
    readings[0].result.scores                          # ((1.0, 0.0, 1.0, 1.0), (0.0, ...), ...)

Directly run, an evaluation's folder is nemo-evaluator's output folder; nemo-evaluator-launcher keeps it as
`TIME-INVOCATION/TASK.N/artifacts`, most often with the job's exit code in `logs/stage.exit` beside it. An evaluation
that went wrong can look like a bad model, so a result is refused, with the reason, unless everything agrees: the
program ended well and in a folder of its own, the model asked is the model meant, as many requests were answered as
there are questions x repeats, every question has all its repeats, and the score written is the one that the answers
give. Requests that failed and were answered when they were made again are mentioned and do no harm.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluator.harness.left import refuse_links
from evaluator.harness.readers import read_samples, reported_mean
from evaluator.harness.sample import Sample
from evaluator.harness.written import RESULTS, STATISTICS, Scores, Statistics, Written, read_scores, read_statistics
from evaluator.harness.zero import check_zero
from evaluator.results.answers import Answer, Question
from evaluator.results.files import read_text
from evaluator.results.scores import TaskResult
from evaluator.stats.scores import Summary, binomial_stderr
from evaluator.suites.suite import Benchmark, Suite

EXIT_CODE = Path("logs", "stage.exit")
LEAST_ERROR = 0.1
"""A reported error below so much of the largest that there can be is one on another scale, or none."""
logger = logging.getLogger(__name__)


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
    """The suite's benchmarks as nemo-evaluator left them in `folder`, each evaluation in its own (`Suite.folder`).

    `started` is when the evaluation began, in seconds since 1970; `ids` are the questions' ids by task, in the order
    in which they are asked, where the harness keeps no ids. Raises ValueError with the reason not to believe it.
    """
    readings = []
    for asked in suite.evaluations:
        artifacts = folder / suite.folder(asked)
        readings += read_artifacts(artifacts, asked, suite, model_id=model_id, started=started, ids=ids or {})
    order = [benchmark.task for benchmark in suite.benchmarks]
    return sorted(readings, key=lambda reading: order.index(reading.result.task))


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
    code; Slurm's is one. The folder is the invocation's own, so a job that met its time limit goes on in it: the
    harness asks what is not answered yet. Raises ValueError with the reason not to believe it.
    """
    readings = []
    for number, benchmark in enumerate(suite.benchmarks):
        job = folder / f"{benchmark.launched_as}.{number}"
        with _about(model_id):
            _check_ended(job, benchmark, (states or {}).get(number))
        artifacts = job / "artifacts"
        readings += read_artifacts(
            artifacts, [benchmark], suite, model_id=model_id, started=started, ids=ids or {}, resumable=True
        )
    return readings


def _check_ended(job: Path, benchmark: Benchmark, state: str | None) -> None:
    if not job.is_dir():
        raise ValueError(f"'{job.parent}' holds no folder of {benchmark.task}.")
    if (job / EXIT_CODE).exists():
        code = (read_text(job / EXIT_CODE).split() or ["no code"])[-1]  # after a time or a word, as executors like
        if code != "0":
            raise ValueError(f"{benchmark.task} ended with {code}, see the logs in '{job / 'logs'}'.")
    elif state is None:
        raise ValueError(f"{benchmark.task} has not ended: '{job}' has no {EXIT_CODE}.")
    elif state != "success":
        raise ValueError(f"{benchmark.task} is '{state}', see the logs in '{job / 'logs'}'.")


def read_artifacts(
    artifacts: Path,
    benchmarks: Sequence[Benchmark],
    suite: Suite,
    *,
    model_id: str,
    started: float,
    ids: Mapping[str, Sequence[str]],
    resumable: bool = False,
) -> list[Reading]:
    """One evaluation's output folder, which holds `benchmarks`. Raises ValueError with the reason not to believe it."""
    with _about(model_id):
        refuse_links(artifacts)
        scores = read_scores(artifacts, model_id=model_id, started=started)
        statistics = read_statistics(artifacts)
        if statistics.runs != 1 and not (resumable and statistics.runs > 1):
            raise ValueError(
                f"'{artifacts}' was used for {statistics.runs} evaluations: the harness scores what it finds there."
            )
        may_lack = any(benchmark.harness in ("offline", "nemo_skills") for benchmark in benchmarks)
        if not may_lack:
            _check_asked(artifacts, benchmarks, statistics)
        samples = {
            benchmark.task: _samples(benchmark, artifacts, _ids(benchmark, ids), scores) if benchmark.harness else []
            for benchmark in benchmarks
        }
        unasked = sum(not sample.asked for kept in samples.values() for sample in kept)
        not_taken = sum(sample.not_taken for kept in samples.values() for sample in kept)
        whole = all(samples.values())
        _check_asked(artifacts, benchmarks, statistics, unasked=unasked, not_taken=not_taken, whole=whole)
        if statistics.failed:
            logger.warning(
                "%s: %s of %s requests failed; all that could be asked was answered when it was asked again.",
                ", ".join(benchmark.title for benchmark in benchmarks),
                f"{statistics.failed:,}",
                f"{statistics.count + statistics.again:,}",
            )
        return [_read(benchmark, suite, scores, statistics, samples[benchmark.task]) for benchmark in benchmarks]


def _foreign(benchmark: Benchmark) -> bool:
    """Whether it is a task that a recipe declares: what its harness keeps of it has been seen by nobody here."""
    return benchmark.declared and benchmark.own is None


def _samples(benchmark: Benchmark, artifacts: Path, ids: Sequence[str], scores: Scores) -> list[Sample]:
    """The answers that were kept. Of a declared task there are none unless they are whole and give its score."""
    if not _foreign(benchmark):
        return read_samples(benchmark, artifacts, ids)
    written = scores.of(benchmark)
    try:
        samples = read_samples(benchmark, artifacts, ids)
        _table(benchmark, samples, TaskResult(benchmark.task, (), (), 0.0, 0.0))
        if not written.says(mean := reported_mean(benchmark, samples)):
            raise ValueError(f"they give {mean:.6g}, and {RESULTS} says {written.value}.")
    except ValueError as error:
        logger.warning("%s: its answers are not read, so that its score alone is known: %s", benchmark.title, error)
        return []
    return samples


@contextlib.contextmanager
def _about(model_id: str) -> Iterator[None]:
    """What is refused inside is said with the checkpoint's name."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"checkpoint '{model_id}': {error}") from error


def _ids(benchmark: Benchmark, ids: Mapping[str, Sequence[str]]) -> Sequence[str]:
    return ids.get(benchmark.task) or [f"{benchmark.path[0]}/{index}" for index in range(benchmark.questions)]


def _check_asked(
    artifacts: Path,
    benchmarks: Sequence[Benchmark],
    statistics: Statistics,
    *,
    unasked: int = 0,
    not_taken: int = 0,
    whole: bool = False,
) -> None:
    """Raise ValueError unless as many requests were answered as there are questions x repeats, but the `unasked`.

    The adapter counts replies that were `not_taken` for answers as well, one without choices, say. Answers that were
    under way when a job met its time limit are asked for again, so that more are counted than kept; that is all
    right where a `whole` table of them shows what was kept.
    """
    wanted = sum(one.questions * one.repeats * max(one.requests, 1) for one in benchmarks) - unasked
    resumed = statistics.runs > 1 and whole and statistics.successful >= wanted
    varies = any(one.requests == 0 for one in benchmarks) and statistics.successful >= wanted
    if not varies and not wanted <= statistics.successful <= wanted + not_taken and not resumed:
        but = f", but for {unasked:,} that could not be asked" if unasked else ""
        raise ValueError(
            f"the evaluation in '{artifacts}' made {statistics.count:,} requests, {statistics.successful:,} of them "
            f"answered; its questions x repeats are {wanted:,}{but}."
        )
    ends = sum(statistics.finish_reasons.values())
    if statistics.successful > statistics.count or ends > statistics.successful:
        raise ValueError(
            f"'{artifacts / STATISTICS}' counts {statistics.count:,} requests, {statistics.successful:,} answers and "
            f"{ends:,} ends of answers, which cannot be."
        )


def _read(
    benchmark: Benchmark, suite: Suite, scores: Scores, statistics: Statistics, samples: Sequence[Sample]
) -> Reading:
    written = scores.of(benchmark)
    tokens = [sample.tokens for sample in samples if sample.tokens is not None]
    asked = [sample for sample in samples if sample.asked]
    cut = [sample.finish_reason == "length" for sample in asked if sample.finish_reason]
    if len(cut) < len(asked) and statistics.finish_reasons:
        cut = []  # the adapter has seen all of them end
    empty = [sample.is_empty for sample in samples if sample.is_empty is not None]
    known = TaskResult(
        task=benchmark.task,
        questions=(),
        scores=(),
        mean_tokens=sum(tokens) / len(tokens) if tokens else statistics.mean_tokens,
        cut_share=sum(cut) / len(cut) if cut else statistics.cut_share,
        empty_share=sum(empty) / len(empty) if empty else 0.0,
        unasked_share=_unasked_share(benchmark, suite, statistics, samples),
        failed_requests=statistics.failed,
        most=benchmark.most,
    )
    questions: tuple[Question, ...] = ()
    if samples:
        result, questions = _table(benchmark, samples, known)
        if not written.says(expected := reported_mean(benchmark, samples)):
            raise ValueError(f"{RESULTS} says {benchmark.key} is {written.value}, its answers {expected:.6g}.")
        if result.summary.mean and all(sample.is_blank for sample in samples if sample.score):
            raise ValueError(f"{benchmark.title} is {100 * expected:.1f}, and no answer that is right has any text.")
    else:
        if benchmark.harness and not _foreign(benchmark):
            logger.warning("%s: no answers were kept, so that its score alone is known.", benchmark.title)
        stderr = _stderr(written, benchmark)
        reported = Summary(written.share, stderr, None, benchmark.questions, benchmark.repeats)
        result = replace(known, reported=reported)
    if result.summary.mean == 0:
        result = check_zero(benchmark, suite, result, samples)
    return Reading(result=result, questions=questions)


def _unasked_share(benchmark: Benchmark, suite: Suite, statistics: Statistics, samples: Sequence[Sample]) -> float:
    """Share of answers, from 0 to 1, that could not be asked for. Raises ValueError where it is above what may be."""
    unasked = sum(not sample.asked for sample in samples) or statistics.unasked
    asked_for = benchmark.questions * benchmark.repeats
    # An answer that takes several requests is missing when one of them is.
    share = min(unasked / asked_for, 1.0)
    if share > suite.max_unasked:
        said = next((sample.why for sample in samples if sample.why), statistics.why_unasked)
        because = f" ({said})" if said else ""
        raise ValueError(
            f"{unasked:,} of the {asked_for:,} answers to {benchmark.title} could not be asked for, as their prompts "
            f"are longer than the context{because}: evaluate.max_unasked={suite.max_unasked:g} is the most that may be."
        )
    if unasked:
        logger.warning(
            "%s: %s of %s answers could not be asked for, as prompts are longer than the context: they are wrong.",
            benchmark.title, f"{unasked:,}", f"{asked_for:,}",
        )  # fmt: skip
    return share


def _stderr(written: Written, benchmark: Benchmark) -> float:
    """Standard error over questions of a score whose answers are not known.

    What a harness reports is that only where it asks once: of repeats, simple-evals and NeMo-Skills report the error
    over runs, which says nothing of the questions. Elsewhere, and where what it reports is no error of such a score,
    it is the largest that a mean of scores from 0 to 1 has.
    """
    most = binomial_stderr(written.share, questions=benchmark.independent, repeats=benchmark.repeats).most
    if written.stderr < 0:
        raise ValueError(f"{RESULTS} says {benchmark.key} is {written.value} ± {written.stderr}, which cannot be.")
    plausible = LEAST_ERROR * most <= written.stderr_share <= benchmark.most * most
    return written.stderr_share if benchmark.repeats == 1 and plausible else most


def _table(
    benchmark: Benchmark, samples: Sequence[Sample], known: TaskResult
) -> tuple[TaskResult, tuple[Question, ...]]:
    """The samples as a table, in the order of the questions, and as answers to look at."""
    table: dict[str, dict[int, Sample]] = {}
    for sample in samples:
        if sample.score > benchmark.most:
            raise ValueError(f"{benchmark.task} gives {sample.question} the score {sample.score:g}, above what can be.")
        table.setdefault(sample.question, {})[sample.repeat] = sample
    texts = sum(sample.text is not None for sample in samples)
    if 0 < texts < len(samples):
        raise ValueError(f"{benchmark.task} kept the text of {texts:,} of {len(samples):,} answers.")
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
    result = replace(
        known,
        questions=tuple(rows),
        scores=tuple(tuple(sample.score for sample in row) for row in rows.values()),
        clusters=clusters if any(clusters) else (),
    )
    questions = tuple(
        Question(
            task=benchmark.task,
            question=question,
            prompt=row[0].prompt,
            reference=_reference(row),
            answers=tuple(
                Answer(text=sample.text or "", score=sample.score, finish_reason=sample.finish_reason or "")
                for sample in row
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
