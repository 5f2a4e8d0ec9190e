"""The report of a run: a table in the study's form, learning curves, what changed, and where every number is from.

    report = Report(title="30pre_70post_v1v3", suite=get_suite("offline"), rows=(teacher, pruned, *milestones), ...)
    report.recovered(report.milestones[-1])      # share of the gap to the teacher
    write_report(report, Path("out"))            # `evaluator.report.run`

Scores are shown as in the study, from 0 to 100, each with its standard error over questions. Two checkpoints answer
the same questions, so what lies between them is judged from paired differences, which are more exact than two
overlapping error bars suggest. Where a harness keeps no answers there is nothing to pair: see
`evaluator.results.pairs`.
"""

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evaluator.results.held_out import HeldOutPoint
from evaluator.results.pairs import difference, same_questions, without_answers
from evaluator.results.scores import CheckpointResult, TaskResult
from evaluator.stats.scores import Estimate, Summary, average
from evaluator.suites.suite import Benchmark, Suite

if TYPE_CHECKING:
    from evaluator.results.board import Board

AVERAGE = "Average"
PRUNED_SIZES = {
    "num_layers": "Layers",
    "hidden_size": "Hidden",
    "mamba_num_heads": "Mamba heads",
    "mamba_head_dim": "Head dim",
    "ffn_hidden_size": "FFN",
    "num_attention_heads": "Attention heads",
}
"""What a candidate's sizes are called, in the order of the study's table."""
ROLE_TITLES = {"teacher": "Teacher", "pruned": "Pruned student"}


@dataclass(frozen=True)
class Row:
    """One checkpoint: a line of the table, a point of the curves."""

    role: str
    """`teacher`, `pruned`, `milestone` or, of one of these in fewer bits, `quantised`."""
    result: CheckpointResult
    """Its evaluation."""
    tokens: int | None = None
    """Tokens of distillation it has seen; None for the teacher."""
    iteration: int | None = None
    """Iterations of distillation; None for the teacher."""
    learning_rate: float | None = None
    """Learning rate at which it was read; None for the teacher, and where the run does not say it."""
    folder: str = ""
    """The evaluation's, under the folder of all runs; empty where it is not known."""
    checkpoint: str = ""
    """What was evaluated: a folder under that of all runs, or the teacher's own name."""
    answers: Path | None = None
    """The file of its single answers, where the evaluation kept them."""

    @property
    def seen(self) -> int:
        """Tokens of distillation that a student has seen."""
        assert self.tokens is not None, f"the {self.role} has seen none"
        return self.tokens

    @property
    def title(self) -> str:
        """What the table calls it."""
        return ROLE_TITLES.get(self.role, self.result.label)

    @property
    def anchor(self) -> str:
        """Id, on a page, of the line that says where its numbers are from."""
        return anchor_of(self.folder)

    @property
    def recount(self) -> str:
        """The command, for the folder of all runs, that computes its scores from the answers once more."""
        return recount_of(self.folder)

    @property
    def asked_by(self) -> str:
        """The harness's command, for the evaluation's folder."""
        return shlex.join(self.result.command)

    @property
    def summaries(self) -> dict[str, Summary]:
        """Score of each task, from 0 to 1."""
        return {task.task: task.summary for task in self.result.tasks}

    @property
    def average(self) -> Estimate:
        """Suite average, from 0 to 1."""
        return average(list(self.summaries.values()))

    def was_asked(self, task: str | None) -> bool:
        """Whether there is a score of a task, or the suite average for None."""
        return not math.isnan(self.score(task).mean)

    def score(self, task: str | None) -> Summary | Estimate:
        """Score of a task, or the suite average for None; from 0 to 1."""
        return self.summaries[task] if task else self.average


@dataclass(frozen=True)
class BlendPart:
    """One source of the blend."""

    source: str
    """Name in the catalogue."""
    share: float
    """Share of the tokens trained on, in percent."""
    tokens_available: int
    """Tokens it holds."""
    tokens_used: float
    """Tokens drawn from it up to the last milestone."""
    provenance: str = ""
    """Where its share comes from; empty where the run itself is what says so."""

    @property
    def epochs(self) -> float:
        """Epochs of it; above 1 it repeats."""
        return self.tokens_used / self.tokens_available


@dataclass(frozen=True)
class Pruning:
    """How the teacher became the student."""

    parameters_before: int
    """Parameters of the teacher."""
    parameters_after: int
    """Parameters of the student."""
    pattern_before: str
    """Layers of the teacher, a letter each."""
    pattern_after: str
    """Layers of the student."""
    dropped: tuple[int, ...]
    """Numbers, from 1, of the teacher's layers that are gone."""
    candidates: tuple[dict, ...] = ()
    """Scored candidates of the search, best first: their sizes, `parameters`, `score` and `chosen`; `chip_friendly`
    where all its matrices run in FP8."""
    remark: str = ""
    """What an FP8-aligned student costs and wins."""

    @property
    def axes(self) -> list[tuple[str, str]]:
        """Key and title of each size in which the candidates may differ."""
        return [(key, title) for key, title in PRUNED_SIZES.items() if any(key in one for one in self.candidates)]


@dataclass(frozen=True)
class Quantised:
    """A milestone in fewer bits beside itself as it was trained."""

    row: Row
    """As it is quantised."""
    of: Row
    """The milestone."""
    sentences: tuple[str, ...] = ()
    """What is quantised, what is not, and what becomes of the bytes."""

    @property
    def title(self) -> str:
        """What tables call the difference."""
        return f"{self.row.title} against {self.of.title}"


@dataclass(frozen=True)
class StepRecord:
    """One step behind the report."""

    name: str
    """Its name in the run."""
    folder: str
    """Its folder, under the folder of all runs."""
    seconds: float | None
    """How long it ran, where it says so."""
    command: str = ""
    """The command, for the folder of all runs, that makes what is in its folder; empty where that is not known."""
    shows: tuple[str, ...] = ()
    """Files in its folder that tables of the page are of."""
    of: tuple[str, ...] = ()
    """What the page shows of that: `blend`, `pruning`, `loss`, `held-out`, `contamination`."""

    @property
    def anchor(self) -> str:
        """Id, on a page, of the line with its command."""
        return f"step-{self.name}"

    @property
    def show(self) -> str:
        """The command, for the folder of all runs, that shows what tables of the page are of; empty where none are."""
        return shlex.join(["cat", *(f"{self.folder}/{name}" for name in self.shows)]) if self.shows else ""


@dataclass(frozen=True)
class Report:
    """All that the report shows."""

    title: str
    """Name of the run, as a rule the blend's."""
    suite: Suite
    """The benchmarks, with the repeats that were asked for."""
    rows: tuple[Row, ...]
    """Teacher, pruned student, milestones by tokens, then what of these is quantised."""
    losses: tuple[dict, ...] = ()
    """Lines of losses.jsonl of all segments: iteration, tokens, loss, learning_rate."""
    blend: tuple[BlendPart, ...] = ()
    """The blend, in the recipe's order."""
    steps: tuple[StepRecord, ...] = ()
    """Steps the report rests on, first to last."""
    facts: dict[str, str] = field(default_factory=dict)
    """Commit, command, versions and the like, by name."""
    pruning: Pruning | None = None
    """How the student came about."""
    min_learning_rate: float | None = None
    """Learning rate at the end of the schedule, where the run says it."""
    protocol: str = ""
    """A hash of all that decides a score besides the checkpoint, where the run says it."""
    training: dict[str, str] = field(default_factory=dict)
    """How the student was trained: iterations, tokens, learning rate, batch, layout, by name."""
    manifest: tuple[tuple[str, str], ...] = ()
    """Name and spec, as JSON, of every step behind the report."""
    contamination: object | None = None
    """Which benchmark questions the sources hold, as an object with `table()`, headings and rows of texts, and
    `notes()`, sentences."""
    held_out: tuple[HeldOutPoint, ...] = ()
    """What was measured on held-out documents, by iteration; nothing where none were held out."""
    sentences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What quantising made of a milestone, by the title of its row."""
    board: "Board | None" = None
    """What its models score against what they cost to serve, where sizes or rates are known."""

    def made_by(self, what: str) -> str:
        """Id, on a page, of the line with the command of the last step that made `what` (`StepRecord.of`); empty where
        that is not known."""
        return next((step.anchor for step in reversed(self.steps) if what in step.of), "")

    def row(self, role: str) -> Row:
        """The teacher's or the pruned student's row."""
        return next(row for row in self.rows if row.role == role)

    @property
    def milestones(self) -> tuple[Row, ...]:
        """Rows of the distilled student, by tokens."""
        return tuple(row for row in self.rows if row.role == "milestone")

    @property
    def quantised(self) -> tuple[Quantised, ...]:
        """The milestones that are there in fewer bits as well, each beside itself."""
        by_iteration = {row.iteration: row for row in self.milestones}
        return tuple(
            Quantised(row, by_iteration[row.iteration], self.sentences.get(row.title, ()))
            for row in self.rows
            if row.role == "quantised" and row.iteration in by_iteration
        )

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Task and title of each benchmark."""
        return [(benchmark.task, benchmark.title) for benchmark in self.suite.benchmarks]

    @property
    def without_answers(self) -> list[str]:
        """Titles of the benchmarks whose harness kept no single answers of some row."""
        return without_answers((row.result.tasks for row in self.rows), self.columns)

    def recovered(self, row: Row) -> float | None:
        """Share of the gap between pruned student and teacher that `row` has closed; None when there is no gap."""
        means = {role: self.row(role).average.mean for role in ROLE_TITLES}
        return recovered(means | {"milestone": row.average.mean})

    def changes(self) -> Iterator[tuple[str, list[Estimate]]]:
        """What the last milestone has over other checkpoints: title, difference per benchmark and on average."""
        last = self.milestones[-1]
        others = [self.row("pruned"), *self.milestones[-2:-1], self.row("teacher")]
        for other in others:
            name = other.title if other.role == "milestone" else f"the {other.title.lower()}"
            yield f"{last.title} against {name}", _differences(last, other)
        for one in self.quantised:
            yield one.title, _differences(one.row, one.of)


def _differences(row: Row, other: Row) -> list[Estimate]:
    """How much `row` is above `other`, per benchmark and on average."""
    found = list(map(difference, row.result.tasks, other.result.tasks))
    return [*found, average(found)]


def check_rows(report: Report) -> None:
    """Raise ValueError unless all rows answer the same questions, as often, under one seed and suite."""
    first = report.rows[0].result
    suite = report.suite
    for row in report.rows:
        result = row.result
        if (result.suite, [task.task for task in result.tasks]) != (suite.name, [one.task for one in suite.benchmarks]):
            raise ValueError(f"'{result.label}' was not evaluated with the suite '{suite.name}'.")
        if not all(map(_asked_alike, result.tasks, first.tasks)):
            raise ValueError(f"'{result.label}' was asked other questions, or more often, than '{first.label}'.")
        if result.seed != first.seed:
            raise ValueError(
                f"'{result.label}' was evaluated under the seed {result.seed}, '{first.label}' under {first.seed}."
            )
        for task, benchmark in zip(result.tasks, suite.benchmarks, strict=True):
            _check_task(result.label, task, benchmark)


def _check_task(label: str, task: TaskResult, benchmark: Benchmark) -> None:
    """Raise ValueError unless the results are of so many repeats and scores as the benchmark has."""
    if task.has_answers and len(set(task.questions)) < len(task.questions):
        raise ValueError(f"'{label}' has a question of {benchmark.title} more than once.")
    if task.summary.repeats != benchmark.repeats:
        raise ValueError(
            f"'{label}' was asked {benchmark.title} {task.summary.repeats} times where {benchmark.repeats} are asked."
        )
    if task.most > benchmark.most:
        raise ValueError(f"'{label}' may score {task.most:g} in {benchmark.title}, where {benchmark.most:g} is most.")


def _asked_alike(mine: TaskResult, theirs: TaskResult) -> bool:
    return same_questions(mine, theirs) and mine.summary.repeats == theirs.summary.repeats


def anchor_of(evaluation: str) -> str:
    """Id, on a page, of what says where the numbers of the evaluation in that folder are from; empty for none."""
    return f"from-{evaluation.replace('/', '-')}" if evaluation else ""


def recount_of(evaluation: str) -> str:
    """The command, for the folder of all runs, that computes its scores from the answers once more."""
    return f"python -m evaluator.recount {shlex.quote(evaluation)}"


def recovered(means: Mapping[str, float]) -> float | None:
    """Share of the gap from `pruned` to `teacher` that `milestone` has closed; None when there is no gap."""
    gap = means["teacher"] - means["pruned"]
    return (means["milestone"] - means["pruned"]) / gap if gap > 0 else None
