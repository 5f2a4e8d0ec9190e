"""Writes the report of several runs side by side: which blend is better where, and how sure that is.

    comparison = Comparison(judge({"pre_sft_v1": report, "pt_v1v2": other}))
    write_comparison(comparison, Path("out"))      # report.md report.html learning_curves.png scores.csv verdicts.csv
    rich.print(terminal_summary(comparison))

The conclusions are `evaluator.verdicts.judge`'s; it is drawn and laid out by what draws and lays out the other reports.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluator.report.pages import EMPTY, MARKERS, PNG, SYMBOLS, cell_text, plain_table, write_pages
from evaluator.report.panels import Panel, fit_panel, is_logarithmic
from evaluator.report.questions import Column, View, sheets, with_answers, write_questions
from evaluator.report.run import CSV_COLUMNS, SCORES, curve_of, line_of, score_lines
from evaluator.results.run import AVERAGE, ROLE_TITLES, BlendPart, Report, Row
from evaluator.text import Measured, change_text, p_text
from evaluator.verdicts.contrasts import BETTER, OPEN, SUSPECT, WORSE, Contrast
from evaluator.verdicts.judge import Judgement, Standing

VERDICTS = "verdicts.csv"
VERDICT_COLUMNS = (
    "family", "milestone", "benchmark", "one", "other", "difference", "stderr", "holm_p", "verdict",
    "questions_needed", "repeats_needed", "paired",
)  # fmt: skip
MOST_RUNS = len(SYMBOLS)
"""Runs that a page tells apart."""
_NARROW_NAME = 12
"""Characters of a run's name beside which the terminal table has room for errors."""


@dataclass(frozen=True)
class Comparison:
    """All that the report shows."""

    judgement: Judgement
    """What the runs' answers show."""
    commands: Mapping[str, str]
    """Command, by the run's name, that shows its own report, and so each of its numbers."""

    @property
    def reports(self) -> Mapping[str, Report]:
        """The runs' own reports, by the names that the runs go by."""
        return self.judgement.reports

    @property
    def first(self) -> Report:
        """One of them, for what all share: the suite and the teacher."""
        return next(iter(self.reports.values()))

    @property
    def title(self) -> str:
        """Names of all runs."""
        return " · ".join(self.reports)

    def number(self, name: str) -> int:
        """Number of the run, from 1, which decides its colour and symbol."""
        return list(self.reports).index(name) + 1

    @property
    def columns(self) -> list[str]:
        """Titles of the benchmarks, and of their average."""
        return [*(title for _, title in self.first.columns), AVERAGE]

    @property
    def without_answers(self) -> list[str]:
        """Titles of the benchmarks whose harness kept no single answers of some checkpoint."""
        lacking = {title for report in self.reports.values() for title in report.without_answers}
        return [title for _, title in self.first.columns if title in lacking]

    @property
    def pruned(self) -> Row | None:
        """The pruned student, where all runs began from one."""
        rows = [report.row("pruned") for report in self.reports.values()]
        return rows[0] if all(row.summaries == rows[0].summaries for row in rows) else None

    @property
    def at(self) -> str:
        """Title of the milestone at which all is summed up."""
        return self.judgement.title(self.judgement.last_common)

    @property
    def finals(self) -> dict[str, Row]:
        """Row of each run that has the milestone at which all is summed up."""
        return self.judgement.shared[self.judgement.last_common]

    @property
    def standings(self) -> list[Standing]:
        """Who leads in each column there."""
        return list(self.judgement.standings(self.at))

    @property
    def rows(self) -> list[tuple[str, Row]]:
        """Every checkpoint once, with the name of its run; teachers and pruned students that are one under none."""
        found: dict[str, tuple[str, Row]] = {}
        for name, report in self.reports.items():
            for row in report.rows:
                shared = row.role == "teacher" or (row.role == "pruned" and self.pruned)
                found.setdefault(row.role if shared else f"{name} {row.title}", ("" if shared else name, row))
        return list(found.values())

    @property
    def sources(self) -> list[tuple[str, list[BlendPart | None]]]:
        """Every source with its part in each run's blend; None where a blend has none of it."""
        blends = [{part.source: part for part in report.blend} for report in self.reports.values()]
        names = dict.fromkeys(name for blend in blends for name in blend)
        return [(name, [blend.get(name) for blend in blends]) for name in names]


def grouped(contrasts: Sequence[Contrast]) -> dict[str, dict[tuple[str, str], list[Contrast]]]:
    """Contrasts by milestone, the last first, and by the pair, in the order of the columns."""
    groups: dict[str, dict] = {}
    for contrast in contrasts:
        groups.setdefault(contrast.at, {}).setdefault((contrast.one, contrast.other), []).append(contrast)
    return dict(reversed(groups.items()))


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write report.md, report.html, learning_curves.png and scores.csv, verdicts.csv and questions.csv into `folder`,
    which is there."""
    from evaluator.report import plots

    asked, unread = with_answers(question_sheets(comparison))
    write_questions(asked, folder)
    drawn = panels(comparison)
    plots.write_png(drawn, folder / PNG, title=comparison.title)
    write_csv(comparison, folder)
    write_pages(
        folder,
        "comparison",
        comparison=comparison,
        judgement=comparison.judgement,
        between=grouped(comparison.judgement.between),
        teacher=grouped(comparison.judgement.teacher),
        drawings=[plots.panel_svg(panel) for panel in drawn],
        symbols=SYMBOLS,
        emphasis={BETTER: "sure", WORSE: "sure", OPEN: "unsure", SUSPECT: "unsure"},
        role_titles=ROLE_TITLES,
        needed_text=needed_text,
        p_text=p_text,
        sheets=asked,
        unread=unread,
        rows=[row for _, row in comparison.rows],
        labels=[f"{name} {row.title}".strip() for name, row in comparison.rows],
        widest=max((part.share for report in comparison.reports.values() for part in report.blend), default=1),
        empty=EMPTY,
    )


def question_sheets(comparison: Comparison) -> tuple:
    """The runs' `evaluator.report.questions.Sheet`s: first the questions that part the blends where all is summed
    up."""
    columns = [
        Column(name, row.title, row, comparison.number(name)) if name else Column(row.title, "", row)
        for name, row in comparison.rows
    ]
    shared = [place for place, column in enumerate(columns) if not column.number]

    def view(label: str, chosen) -> View:
        return View(label, (*shared, *(place for place, column in enumerate(columns) if chosen(column))))

    rivals = [place for place, column in enumerate(columns) if column.row in comparison.finals.values()]
    views = [view(f"At {comparison.at} tokens", lambda column: column.row in comparison.finals.values())]
    for tokens in reversed(comparison.judgement.shared):
        rows = comparison.judgement.shared[tokens].values()
        if tokens != comparison.judgement.last_common:
            views.append(view(f"At {comparison.judgement.title(tokens)} tokens", lambda c, rows=rows: c.row in rows))
    views += [view(name, lambda column, name=name: column.name == name) for name in comparison.reports]
    return sheets(columns, views, rivals, comparison.first.columns)


def write_csv(comparison: Comparison, folder: Path) -> None:
    """Write scores.csv, as every run's own with its name before it, and verdicts.csv, a line per contrast."""
    with open(folder / SCORES, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("run", *CSV_COLUMNS))
        for name, report in comparison.reports.items():
            writer.writerows((name, *line) for line in score_lines(report))
    judgement = comparison.judgement
    families = {"between runs": judgement.between, "against the teacher": judgement.teacher} | {
        f"within {name}": contrasts for name, contrasts in judgement.within.items()
    }
    with open(folder / VERDICTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(VERDICT_COLUMNS)
        for family, contrasts in families.items():
            for c in contrasts:
                numbers = [f"{c.difference.mean:.6f}", f"{c.difference.stderr:.6f}", f"{c.p_value:.3g}", c.verdict]
                more = [c.needed.questions, c.needed.repeats] if c.needed else ["", ""]
                writer.writerow([family, c.at, c.column, c.one, c.other, *numbers, *more, "yes" if c.paired else "no"])


def panels(comparison: Comparison) -> list[Panel]:
    """Learning curves of all runs, the suite average first."""
    pruned = comparison.pruned
    tokens = sorted(comparison.judgement.shared)
    start = [pruned] if pruned and not is_logarithmic(tokens) else []
    drawn = []
    references = [row for row in (comparison.first.row("teacher"), pruned) if row]
    for task, title in [(None, "Suite average"), *comparison.first.columns]:
        curves = [
            curve_of([*start, *report.milestones], task, label=name, color=f"blend{index + 1}", marker=MARKERS[index])
            for index, (name, report) in enumerate(comparison.reports.items())
        ]
        drawn.append(fit_panel(title, curves, [line_of(row, task) for row in references]))
    return drawn


def terminal_summary(comparison: Comparison):
    """Scores where all runs meet, who is better there, where to stop, and what to look at, as a rich renderable."""
    from rich.console import Group
    from rich.text import Text

    columns = comparison.columns
    # Beside longer names, columns with their errors do not fit 80 characters.
    errors = max(map(len, comparison.finals)) <= _NARROW_NAME
    caption = "± standard error over questions" if errors else "standard errors are on the page"
    caption = f"from 0 to 100, {caption}"
    table = plain_table(f"At {comparison.at}", columns, bold=AVERAGE, errors=errors, caption=caption)
    references = [comparison.first.row("teacher"), *filter(None, [comparison.pruned])]
    for name, row in [*((row.role, row) for row in references), *comparison.finals.items()]:
        values: list[Measured] = [*row.summaries.values(), row.average]
        texts = (cell_text(value, columns) if errors else f"{100 * value.mean:.1f}" for value in values)
        table.add_row(name, *texts, style="dim" if row in references else None)
    lines = [table, Text()]
    for standing in comparison.standings:
        lines.append(Text.assemble((f"{standing.column}: ", "bold"), standing_text(standing)))
    lines.append(Text())
    for stop in comparison.judgement.stopping:
        lines.append(Text.assemble((f"Stop {stop.run} at {stop.row.title}: ", "bold"), stop.text))
    for flag in comparison.judgement.flags:
        lines.append(Text.assemble((f"{flag.title} ", "bold yellow"), flag.text))
    return Group(*lines, Text())


def standing_text(standing: Standing) -> str:
    """Who leads, whom it is better than and from whom it shows no significant difference, in a sentence."""
    parts = []
    if standing.above:
        leads = (f"{c.other} ({change_text(c.difference)})" for c in standing.above)
        parts.append(f"is better than {', '.join(leads)}")
    if standing.level:
        others = (f"{c.other} ({change_text(c.difference)}{needed_text(c, before='; ')})" for c in standing.level)
        parts.append(f"shows no significant difference from {', '.join(others)}")
    return f"{standing.leader} {' and '.join(parts)}."


def needed_text(contrast: Contrast, before: str = "") -> str:
    """What would show a difference as large as was seen: `810 questions or 98 repeats needed`."""
    if contrast.verdict == SUSPECT:
        return f"{before}{SUSPECT}"
    if contrast.needed is None:
        return ""
    ways = [f"{_rounded(contrast.needed.questions)} questions"]
    if contrast.needed.repeats:
        ways.append(f"{_rounded(contrast.needed.repeats)} repeats")
    return f"{before}{' or '.join(ways)} needed"


def _rounded(count: int) -> str:
    """In two digits, rounded up: it is no more exact than that, and nobody asks a million questions."""
    if count > 1_000_000:
        return "over 1,000,000"
    step = 10 ** max(0, len(str(count)) - 2)
    return f"{-(-count // step) * step:,}"
