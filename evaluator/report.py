"""The report of a run: a table in the study's form, learning curves, what changed, and where every number is from.

    report = Report(title="30pre_70post_v1v3", suite=get_suite("offline"), rows=(teacher, pruned, *milestones), ...)
    write_report(report, Path("out"))            # report.md report.html learning_curves.png scores.csv
    rich.print(terminal_table(Path("out")))

Scores are shown as in the study, from 0 to 100, each with its standard error over questions. Two checkpoints answer
the same questions, so what lies between them is judged from paired differences, which are more exact than two
overlapping error bars suggest.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from evaluator.results import CheckpointResult
from evaluator.stats import Estimate, Summary, average, paired_difference
from evaluator.suite import Suite

TEMPLATES = Path(__file__).parent / "templates"
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

    @property
    def title(self) -> str:
        """What the table calls it."""
        return ROLE_TITLES.get(self.role, self.result.label)

    @property
    def summaries(self) -> dict[str, Summary]:
        """Score of each task, from 0 to 1."""
        return {task.task: task.summary for task in self.result.tasks}

    @property
    def average(self) -> Estimate:
        """Suite average, from 0 to 1."""
        return average(list(self.summaries.values()))


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
    """Scored candidates of the search, best first: their sizes, `parameters`, `score` and `chosen`."""

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

    def recovered(self, row: Row) -> float | None:
        """Share of the gap between pruned student and teacher that `row` has closed; None when there is no gap."""
        means = {role: self.row(role).average.mean for role in ROLE_TITLES}
        return _recovered(means | {"milestone": row.average.mean})

    def changes(self) -> Iterator[tuple[str, list[Estimate]]]:
        """What the last milestone has over other checkpoints: title, paired difference per benchmark and average."""
        last = self.milestones[-1]
        others = [self.row("pruned"), *self.milestones[-2:-1], self.row("teacher")]
        for other in others:
            differences = [
                paired_difference(mine.scores, theirs.scores)
                for mine, theirs in zip(last.result.tasks, other.result.tasks, strict=True)
            ]
            name = other.title if other.role == "milestone" else f"the {other.title.lower()}"
            yield f"{last.title} against {name}", [*differences, average(differences)]


def check(report: Report) -> None:
    """Raise ValueError unless all rows answer the same questions, as often, under one seed and suite."""
    first = report.rows[0].result
    asked = [(task.task, task.questions, len(task.scores[0])) for task in first.tasks]
    if [name for name, _, _ in asked] != [benchmark.task for benchmark in report.suite.benchmarks]:
        raise ValueError(f"'{first.label}' was not evaluated with the suite '{report.suite.name}'.")
    for row in report.rows[1:]:
        if [(task.task, task.questions, len(task.scores[0])) for task in row.result.tasks] != asked:
            raise ValueError(f"'{row.result.label}' was asked other questions, or more often, than '{first.label}'.")


def write_report(report: Report, folder: Path) -> None:
    """Write report.md, report.html, learning_curves.png and scores.csv into `folder`.

    Raises ValueError when the rows cannot be compared.
    """
    import jinja2

    from evaluator import plots

    check(report)
    write_scores(report, folder / SCORES)
    plots.write_png(report, folder / "learning_curves.png")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": score_text,
        "points": points_text,
        "change": change_text,
        "tokens": tokens_text,
        "span": span_text,
    }
    for name in ("report.md", "report.html"):
        text = environment.get_template(f"{name}.j2").render(report=report, plots=plots)
        (folder / name).write_text(text, encoding="utf-8")


def write_scores(report: Report, path: Path) -> None:
    """Write the scores as CSV, one line per checkpoint and benchmark, from 0 to 1."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for row in report.rows:
            for benchmark in report.suite.benchmarks:
                s = row.summaries[benchmark.task]
                values = [_digits(s.mean), _digits(s.stderr), _digits(s.rerun_sd), s.questions, s.repeats]
                writer.writerow([row.title, row.role, row.tokens, benchmark.title, benchmark.key, *values])
            mean = [_digits(row.average.mean), _digits(row.average.stderr)]
            writer.writerow([row.title, row.role, row.tokens, AVERAGE, "", *mean, "", "", ""])


def terminal_table(folder: Path):
    """The table of scores in `folder`, as a `rich.table.Table`."""
    from rich import box
    from rich.table import Table

    with open(folder / SCORES, newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    columns = list(dict.fromkeys(line["benchmark"] for line in lines))
    averages = [
        (line["role"], line["checkpoint"], float(line["mean"])) for line in lines if line["benchmark"] == AVERAGE
    ]
    caption = "from 0 to 100, ± standard error over questions"
    share = _recovered({role: mean for role, _, mean in averages})
    if share is not None:
        caption += f"\n{averages[-1][1]} tokens recovered {100 * share:.0f}% of the gap"
    # Without its edge the table fits 80 columns with a hundred in every cell.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, caption=caption)
    table.add_column("Tokens", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True, style="bold" if column == AVERAGE else None)
    for index in range(0, len(lines), len(columns)):
        cells = lines[index : index + len(columns)]
        texts = (f"{100 * float(cell['mean']):.1f} ±{100 * float(cell['stderr']):.1f}" for cell in cells)
        milestone = cells[0]["role"] == "milestone"
        table.add_row(cells[0]["checkpoint" if milestone else "role"], *texts, style=None if milestone else "dim")
    return table


def score_text(value: Summary | Estimate) -> str:
    """A score from 0 to 100 with its standard error: `61.3 ± 2.1`."""
    return f"{100 * value.mean:.1f} ± {100 * value.stderr:.1f}"


def points_text(difference: float) -> str:
    """A difference from 0 to 1 in points, with its sign: `+12.4`."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def change_text(value: Estimate) -> str:
    """A difference in points with its standard error: `+12.4 ± 3.0`."""
    return f"{points_text(value.mean)} ± {100 * value.stderr:.1f}"


def tokens_text(tokens: float) -> str:
    """A number of tokens in three digits: `0.4M`, `2.5B`."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if tokens >= 0.1 * size:
            return f"{tokens / size:.3g}{unit}"
    return f"{tokens:.0f}"


def span_text(seconds: float | None) -> str:
    """A time span: `42 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    return f"{whole // 60} min {whole % 60:02} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _recovered(means: dict[str, float]) -> float | None:
    gap = means["teacher"] - means["pruned"]
    return (means["milestone"] - means["pruned"]) / gap if gap > 0 else None


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
