"""The report of a run: a table in the study's form, learning curves, what changed, and where every number is from.

    report = Report(title="30pre_70post_v1v3", suite=get_suite("offline"), rows=(teacher, pruned, *milestones), ...)
    write_report(report, Path("out"))            # report.md report.html, a PNG and two CSVs
    rich.print(terminal_table(Path("out")))

Scores are shown as in the study, from 0 to 100, each with its standard error over questions. Two checkpoints answer
the same questions, so what lies between them is judged from paired differences, which are more exact than two
overlapping error bars suggest. Where a harness keeps no answers there is nothing to pair: see `evaluator.pairs`.
"""

import csv
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluator.pages import PNG, SYMBOLS, plain_table, write_pages
from evaluator.pairs import difference, same_questions, without_answers
from evaluator.results import CheckpointResult, TaskResult
from evaluator.stats import Estimate, Summary, average
from evaluator.suite import Suite

SCORES = "scores.csv"
CSV_COLUMNS = (
    "checkpoint", "role", "tokens", "benchmark", "key", "mean", "stderr", "rerun_sd", "questions", "repeats",
)  # fmt: skip
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
    """`teacher`, `pruned` or `milestone`."""
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
    def title(self) -> str:
        """What the table calls it."""
        return ROLE_TITLES.get(self.role, self.result.label)

    @property
    def anchor(self) -> str:
        """Id, on a page, of the line that says where its numbers are from."""
        return "from-" + self.folder.replace("/", "-")

    @property
    def recount(self) -> str:
        """The command, for the folder of all runs, that computes its scores from the answers once more."""
        return f"python -m evaluator.recount {shlex.quote(self.folder)}"

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

    def score(self, task: str | None) -> Summary | Estimate:
        """Score of a task, or the suite average for None; from 0 to 1."""
        return self.summaries[task] if task else self.average


@dataclass(frozen=True)
class BlendPart:
    """One source of the blend."""

    source: str
    """Name in the catalogue."""
    percent: float
    """Share of the tokens trained on."""
    tokens_available: int
    """Tokens it holds."""
    tokens_used: float
    """Tokens drawn from it up to the last milestone."""
    provenance: str = ""
    """Where its share comes from; empty where the run itself is what says so."""

    @property
    def epochs(self) -> float:
        """Times it was passed over; above 1 it repeats."""
        return self.tokens_used / self.tokens_available


@dataclass(frozen=True)
class Pruning:
    """How the teacher became the student."""

    parameters_before: int
    parameters_after: int
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
    """What a student that the chip likes costs and wins."""

    @property
    def axes(self) -> list[tuple[str, str]]:
        """Key and title of each size in which the candidates may differ."""
        return [(key, title) for key, title in PRUNED_SIZES.items() if any(key in one for one in self.candidates)]


@dataclass(frozen=True)
class StepRecord:
    """One step behind the report."""

    name: str
    """Its name in the run."""
    folder: str
    """Its folder, under the folder of all runs."""
    seconds: float | None
    """How long it ran, where it says so."""


@dataclass(frozen=True)
class Report:
    """All that the report shows."""

    title: str
    """Name of the run, as a rule the blend's."""
    suite: Suite
    """The benchmarks, with the repeats that were asked for."""
    rows: tuple[Row, ...]
    """Teacher, pruned student, then milestones by tokens."""
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
    """Of every step behind the report: its name, and its spec as JSON."""
    contamination: object | None = None
    """Which benchmark questions the sources hold, as an object with `table()`, headings and rows of texts, and
    `notes()`, sentences."""

    def row(self, role: str) -> Row:
        """The teacher's or the pruned student's row."""
        return next(row for row in self.rows if row.role == role)

    @property
    def milestones(self) -> tuple[Row, ...]:
        """Rows of the distilled student, by tokens."""
        return tuple(row for row in self.rows if row.role == "milestone")

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
            differences = list(map(difference, last.result.tasks, other.result.tasks))
            name = other.title if other.role == "milestone" else f"the {other.title.lower()}"
            yield f"{last.title} against {name}", [*differences, average(differences)]


def check(report: Report) -> None:
    """Raise ValueError unless all rows answer the same questions, as often, under one seed and suite."""
    first = report.rows[0].result
    if [task.task for task in first.tasks] != [benchmark.task for benchmark in report.suite.benchmarks]:
        raise ValueError(f"'{first.label}' was not evaluated with the suite '{report.suite.name}'.")
    for row in report.rows[1:]:
        if len(row.result.tasks) != len(first.tasks) or not all(map(_asked_alike, row.result.tasks, first.tasks)):
            raise ValueError(f"'{row.result.label}' was asked other questions, or more often, than '{first.label}'.")


def _asked_alike(mine: TaskResult, theirs: TaskResult) -> bool:
    return same_questions(mine, theirs) and mine.summary.repeats == theirs.summary.repeats


def write_report(report: Report, folder: Path) -> None:
    """Write report.md, report.html, learning_curves.png, scores.csv and questions.csv into `folder`.

    Raises ValueError when the rows cannot be compared.
    """
    from evaluator import plots
    from evaluator.questions import with_answers, write_questions
    from evaluator.verdict import judge_alone

    stop, flags = judge_alone(report.title, report)  # checks the rows
    write_scores(report, folder / SCORES)
    asked, unread = with_answers(question_sheets(report))
    write_questions(asked, folder)
    drawn = panels(report)
    milestones = [row.tokens for row in report.milestones]
    plots.write_png(drawn, folder / PNG, title=report.title, losses=report.losses, milestones=milestones)
    drawings = {
        "panels": [plots.panel_svg(panel) for panel in drawn],
        "loss": plots.loss_svg(report.losses, milestones) if report.losses else "",
    }
    write_pages(
        folder,
        "report",
        report=report,
        stop=stop,
        flags=flags,
        drawings=drawings,
        sheets=asked,
        unread=unread,
        symbols=SYMBOLS,
    )


def question_sheets(report: Report) -> tuple:
    """The run's `evaluator.questions.Sheet`s: first the questions on which the student's end is furthest from the
    teacher."""
    from evaluator.questions import Column, View, sheets

    columns = [Column(row.title, "", row) for row in report.rows]
    places = tuple(range(len(columns)))
    teacher = next(place for place in places if report.rows[place].role == "teacher")
    return sheets(columns, [View("All checkpoints", places)], (teacher, places[-1]), report.columns)


def panels(report: Report) -> list:
    """Learning curves as `evaluator.plots.Panel`s, the suite average first."""
    from evaluator.plots import Panel, is_logarithmic

    points = list(report.milestones)
    if not is_logarithmic([row.tokens for row in points]):
        points.insert(0, report.row("pruned"))  # where the curve starts: no token seen
    drawn = []
    for task, title in [(None, "Suite average"), *report.columns]:
        lines = tuple(line_of(report.row(role), task) for role in ROLE_TITLES)
        drawn.append(Panel(title, (curve_of(points, task, label="distilled student"),), lines))
    return drawn


def curve_of(points: Sequence[Row], task: str | None, **look):
    """The `evaluator.plots.Curve` of a task, or of the suite average for None, through `points`; `look` is its own."""
    from evaluator.plots import Curve

    scores = [row.score(task) for row in points]
    return Curve(
        tokens=tuple(row.tokens for row in points),
        means=tuple(100 * score.mean for score in scores),
        errors=tuple(100 * score.stderr for score in scores),
        **look,
    )


def line_of(row: Row, task: str | None):
    """The `evaluator.plots.Line` at which the teacher or the pruned student stands."""
    from evaluator.plots import Line

    score = row.score(task)
    return Line(row.title.lower(), 100 * score.mean, 100 * score.stderr, color=row.role)


def write_scores(report: Report, path: Path) -> None:
    """Write the scores as CSV, one line per checkpoint and benchmark, from 0 to 1."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        writer.writerows(score_lines(report))


def score_lines(report: Report) -> Iterator[list]:
    """The scores, a line per checkpoint and benchmark, in the order of `CSV_COLUMNS`."""
    for row in report.rows:
        for benchmark in report.suite.benchmarks:
            s = row.summaries[benchmark.task]
            values = [_digits(s.mean), _digits(s.stderr), _digits(s.rerun_sd), s.questions, s.repeats]
            yield [row.title, row.role, row.tokens, benchmark.title, benchmark.key, *values]
        mean = [_digits(row.average.mean), _digits(row.average.stderr)]
        yield [row.title, row.role, row.tokens, AVERAGE, "", *mean, "", "", ""]


def terminal_table(folder: Path):
    """The table of scores in `folder`, as a `rich.table.Table`."""
    with open(folder / SCORES, newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    columns = list(dict.fromkeys(line["benchmark"] for line in lines))
    averages = [
        (line["role"], line["checkpoint"], float(line["mean"])) for line in lines if line["benchmark"] == AVERAGE
    ]
    caption = "from 0 to 100, ± standard error over questions"
    share = recovered({role: mean for role, _, mean in averages})
    if share is not None:
        caption += f"\n{averages[-1][1]} tokens recovered {100 * share:.0f}% of the gap"
    table = plain_table("Tokens", columns, bold=AVERAGE, caption=caption)
    for index in range(0, len(lines), len(columns)):
        cells = lines[index : index + len(columns)]
        texts = (f"{100 * float(cell['mean']):.1f} ±{100 * float(cell['stderr']):.1f}" for cell in cells)
        milestone = cells[0]["role"] == "milestone"
        table.add_row(cells[0]["checkpoint" if milestone else "role"], *texts, style=None if milestone else "dim")
    return table


def recovered(means: Mapping[str, float]) -> float | None:
    """Share of the gap from `pruned` to `teacher` that `milestone` has closed; None when there is no gap."""
    gap = means["teacher"] - means["pruned"]
    return (means["milestone"] - means["pruned"]) / gap if gap > 0 else None


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
