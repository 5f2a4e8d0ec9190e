"""Writes the report of the study's own tables: as published, as curves, and what they show. It needs no run.

    report = PublishedReport.of(load_study())
    write_published(report, Path("runs/published"))     # report.md report.html learning_curves.png, CSVs
    for table in terminal_tables(report):
        rich.print(table)

It is drawn and laid out by what draws and lays out the report of a run (`evaluator.report.plots`,
`evaluator.report.pages`).
"""

from dataclasses import dataclass
from pathlib import Path

from evaluator.report.addresses import Origin
from evaluator.report.colours import SYMBOLS, numbers_of
from evaluator.report.files import NO_SCORES, Table
from evaluator.report.lookups import blends_table
from evaluator.report.matrix import Matrix
from evaluator.report.pages import EMPTY, PNG, plain_table, write_pages
from evaluator.report.panels import Charts, Curve, Line, Panel
from evaluator.results.run import BlendPart, recovered
from evaluator.suites.suite import Benchmark
from evaluator.text import fixed
from evaluator.verdicts.finding import Finding
from nemo_distill.study.claims import Checked, check_claim
from nemo_distill.study.decision import matrix, summary, tables
from nemo_distill.study.findings import Pair, detectable, findings, pairs
from nemo_distill.study.tables import BlendTable, Checkpoint, Score, Study, common_benchmark, load_study, repeats_text

TEMPLATES = Path(__file__).parent / "templates"
MARK = "†"
"""Marks a column of a protocol that is not the reference models'."""


@dataclass(frozen=True)
class PublishedReport:
    """All that the report shows."""

    study: Study
    """The study's tables."""
    parts: dict[str, tuple[BlendPart, ...]]
    """Composition of each blend at its last row."""
    findings: tuple[Finding, ...]
    """What the tables do and do not show."""
    claims: tuple[Checked, ...]
    """The study's claims, held against its tables."""
    pairs: tuple[Pair, ...]
    """Every two blends after the same tokens."""

    @classmethod
    def of(cls, study: Study) -> "PublishedReport":
        """The report on `study`."""
        parts = {blend.name: _parts(blend, study) for blend in study.blends}
        return cls(
            study=study,
            parts=parts,
            findings=tuple(findings(study, parts)),
            claims=tuple(check_claim(claim, study) for claim in study.claims),
            pairs=tuple(pairs(study)),
        )

    def rows(self, blend: BlendTable) -> tuple[Checkpoint, ...]:
        """Rows of the blend's table: teacher, pruned student, what else stands in the same source, then by tokens."""
        references = (
            row for row in self.study.references if row.role in ("teacher", "pruned") or row.source == blend.source
        )
        return (*references, *blend.rows)

    @staticmethod
    def cells(blend: BlendTable, row: Checkpoint) -> list[Score | None]:
        """The row's scores in the columns of the blend's table; None where it has none in the column's protocol."""
        if not row.scores:
            return [None] * len(blend.columns)
        return [
            score if score.benchmark.repeats == column.repeats else None
            for score, column in zip(row.scores, blend.columns, strict=True)
        ]

    def marked(self, blend: BlendTable) -> list[Benchmark]:
        """Columns of the blend's table that are not to be compared with the reference models'."""
        teacher = self.study.reference("teacher")
        return [column for column, cell in zip(blend.columns, self.cells(blend, teacher), strict=True) if cell is None]

    def column_titles(self, blend: BlendTable) -> list[str]:
        """Titles of the blend's columns, marked where they are not to be compared."""
        marked = self.marked(blend)
        return [column.title + MARK * (column in marked) for column in blend.columns]

    @property
    def pairs_by_tokens(self) -> dict[str, list[Pair]]:
        """The pairs of each number of tokens, most tokens first."""
        groups: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            groups.setdefault(pair.tokens, []).append(pair)
        return groups

    @property
    def errors(self) -> list[tuple[str, Benchmark, Score, float]]:
        """Title and benchmark of each column, the chosen blend's or else the first blend's last score, and the least
        difference from it that is clear."""
        found = []
        for column in self.study.columns:
            blends = [blend for blend in self.study.blends if column in blend.columns]
            score = blends[-1].last.score(column.title)
            found.append((self.study.column_title(column), column, score, detectable(column, score.points)))
        return found

    @property
    def recovered(self) -> list[tuple[BlendTable, float | None]]:
        """Blends comparable with teacher and pruned student, and the share of the gap that each has closed."""
        means = {role: self.study.reference(role).average.mean for role in ("teacher", "pruned")}
        return [(blend, recovered(means | {"milestone": blend.last.average.mean})) for blend in self.study.comparable]


def write_tables(folder: Path) -> PublishedReport:
    """Write the report of the study's own tables into `folder`, which is made, and return it."""
    report = PublishedReport.of(load_study())
    folder.mkdir(parents=True, exist_ok=True)
    write_published(report, folder)
    return report


def write_published(report: PublishedReport, folder: Path) -> None:
    """Write report.md, report.html, learning_curves.png and the CSVs of `tables` into `folder`, which is there."""
    from evaluator.report import plots

    study = report.study
    files = (*tables(study, report.pairs), blends_table(report.parts))
    scores = files[0]
    grouped = panels(study, scores)
    for table in files:
        table.write(folder)
    sheet = [panel for group in grouped for panel in _padded(group, plots.COLUMNS)]
    plots.write_png(sheet, folder / PNG, title=study.title)
    matrices = [(tokens, matrix(study, tokens, scores)) for tokens in report.pairs_by_tokens]

    def error_rows(value: Score) -> str:
        """The row of a score."""
        places = (
            (blend.name, row.title, nth)
            for blend in study.blends
            for row in blend.evaluated
            for nth, score in enumerate(row.scores)
            if score is value
        )
        return next((scores.rows(name, title, nth=nth) for name, title, nth in places), "")

    write_pages(
        folder,
        "published",
        templates=TEMPLATES,
        report=report,
        study=study,
        summary=summary(study),
        matrices=matrices,
        files=files,
        differences=files[1],
        error_rows=error_rows,
        curves=_charts(study, grouped, *matrices[0]),
        split=[group[0].title.partition(",")[0] for group in grouped[1:]],
        symbols=SYMBOLS,
        numbers=numbers_of(blend.name for blend in study.blends),
        mark=MARK,
        empty=EMPTY,
        repeats_text=repeats_text,
    )


def panels(study: Study, scores: Table = NO_SCORES) -> list[list]:
    """Learning curves as `evaluator.report.panels.Panel`s: of benchmarks in one protocol, then a group for each other
    one; with the rows of `scores` that they are of."""
    groups: dict[str, list] = {"": []}
    for column in study.columns:
        groups.setdefault(column.title if study.is_split(column.title) else "", []).append(
            _panel(study, column, scores)
        )
    return list(groups.values())


def _charts(study: Study, grouped: list[list[Panel]], title: str, first: Matrix) -> Charts:
    """All panels, compared at the milestone of the first matrix, with its leader."""
    at = next(row.tokens for blend in study.blends for row in blend.evaluated if row.title == title)
    drawn = tuple(panel for group in grouped for panel in group)
    return Charts("curves", drawn, baseline=first.lines[0].name, at=at)


def terminal_tables(report: PublishedReport) -> list:
    """A `rich.table.Table` per blend, as published."""
    tables = []
    for blend in report.study.blends:
        marked = report.marked(blend)
        notes = [f"{EMPTY} {row.title} was not evaluated" for row in blend.rows if not row.scores]
        if marked:
            notes.insert(
                0, f"{MARK} {repeats_text(marked[0].repeats)}, which teacher and pruned student were not asked"
            )
        titles = [title.replace(" Diamond", "").replace(" 2025", "") for title in report.column_titles(blend)]
        table = plain_table(
            "Tokens",
            titles,
            title=blend.name,
            title_justify="left",
            title_style="bold",
            caption="\n".join(notes) or None,
        )
        for row in report.rows(blend):
            milestone = row.role == "milestone"
            cells = [fixed(cell.points) if cell else EMPTY for cell in report.cells(blend, row)]
            name = row.title if milestone else row.role
            table.add_row(name, *cells, style=None if milestone else "dim")
        tables.append(table)
    return tables


def _parts(blend: BlendTable, study: Study) -> tuple[BlendPart, ...]:
    made_of, drawn = blend.composition, blend.composition.tokens_drawn(study.schedule.tokens(blend.last.title))
    return tuple(
        BlendPart(source, share, made_of.source(source).available or 0, drawn[source], made_of.provenance_of(source))
        for source, share in made_of.shares.items()
    )


def _panel(study: Study, column: Benchmark, table: Table):
    def origin(blend: str, row: Checkpoint) -> Origin:
        place = next(nth for nth, score in enumerate(row.scores) if score.benchmark.title == column.title)
        return Origin(table.rows(blend, row.title, nth=place), "again")

    shown: list[Score] = []
    curves, lines, missing = [], [], []
    numbers = numbers_of(blend.name for blend in study.blends)
    for blend in study.blends:
        if column in blend.columns:
            scores = [row.score(column.title) for row in blend.evaluated]
            shown += scores
            curves.append(
                Curve(
                    label=blend.name,
                    tokens=tuple(row.tokens for row in blend.evaluated),
                    means=tuple(score.points for score in scores),
                    number=numbers[blend.name],
                    origins=tuple(origin(blend.name, row) for row in blend.evaluated),
                )
            )
    for role, label in (("teacher", "teacher"), ("pruned", "pruned student")):
        reference = study.reference(role).score(column.title)
        if reference.benchmark.repeats == column.repeats:
            shown.append(reference)
            lines.append(Line(label, reference.points, color=role, origin=origin("", study.reference(role))))
        else:
            missing.append(label)
    common_benchmark(shown)
    return Panel(
        study.column_title(column),
        tuple(curves),
        tuple(lines),
        error=max(blend.last.score(column.title).stderr.most for blend in study.blends if column in blend.columns),
        foot=f"no {', no '.join(missing)} in this protocol" if missing else "",
    )


def _padded(group: list, columns: int) -> list:
    return group + [None] * (-len(group) % columns)
