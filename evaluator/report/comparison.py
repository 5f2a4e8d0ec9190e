"""Writes the report of several runs side by side: which blend is better where, and how sure that is.

    comparison = Comparison(judge({"pre_sft_v1": report, "pt_v1v2": other}), commands)
    write_comparison(comparison, Path("out"))      # report.md report.html learning_curves.png and CSVs
    rich.print(terminal_summary(comparison))

The conclusions are `evaluator.verdicts.judge`'s; it is drawn and laid out by what draws and lays out the other reports.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from evaluator.report.advice import advice, both_text, needed_text, place_text, rests_text, standing_text
from evaluator.report.colours import SYMBOLS, numbers_of
from evaluator.report.pages import EMPTY, PNG, cell_text, plain_table, write_pages
from evaluator.report.panels import Panel, fit_panel, is_logarithmic
from evaluator.report.questions import Column, View, sheets, with_answers, write_questions
from evaluator.report.run import CSV_COLUMNS, SCORES, curve_of, line_of, score_lines
from evaluator.results.run import AVERAGE, ROLE_TITLES, BlendPart, Report, Row
from evaluator.text import Measured, cells, joined, score_text
from evaluator.verdicts.contrasts import BETTER, WORSE, Contrast, by_tokens
from evaluator.verdicts.judge import Judgement, Standing
from evaluator.verdicts.stopping import Candidate, StoppingPoint

VERDICTS, STOPPING = "verdicts.csv", "stopping.csv"
VERDICT_COLUMNS = (
    "family", "milestone", "benchmark", "one", "other", "difference",
    "stderr_answers", "p_answers", "verdict_answers", "stderr_seed", "p_seed", "verdict_seed",
    "questions_needed", "questions_least", "questions_most",
    "repeats_needed", "repeats_least", "repeats_most", "paired",
)  # fmt: skip
STOPPING_COLUMNS = (
    "blend", "milestone", "tokens", "average", "stderr",
    "lost", "lost_stderr", "lost_at_most", "margin", "fallen", "stop",
)  # fmt: skip
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
        """A report of each blend, of several runs their mean, by the blend's name."""
        return self.judgement.reports

    @cached_property
    def runs(self) -> Mapping[str, Report]:
        """The runs' own reports, by the names that the runs go by."""
        return {name: report for blend in self.judgement.blends.values() for name, report in blend.runs.items()}

    @property
    def replicated(self) -> dict[str, list[str]]:
        """Names of the runs of each blend that has more than one."""
        return {name: list(blend.runs) for name, blend in self.judgement.blends.items() if len(blend.runs) > 1}

    @property
    def first(self) -> Report:
        """One of them, for what all share: the suite and the teacher."""
        return next(iter(self.reports.values()))

    @property
    def title(self) -> str:
        """Names of all blends."""
        return " · ".join(self.reports)

    def number(self, name: str) -> int:
        """Number of the blend, from 1, which decides its colour and symbol; of a run, its blend's."""
        return self._numbers[name]

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        """Number of each blend and run by its name."""
        blends = numbers_of(self.judgement.blends)
        runs = {run: blends[blend.name] for blend in self.judgement.blends.values() for run in blend.runs}
        return runs | blends

    @property
    def columns(self) -> list[str]:
        """Title of the average, which is what is tested first, and of the benchmarks."""
        return [AVERAGE, *(title for _, title in self.first.columns)]

    @property
    def without_answers(self) -> list[str]:
        """Titles of the benchmarks whose harness kept no single answers of some checkpoint."""
        lacking = {title for report in self.runs.values() for title in report.without_answers}
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
        """Row of each blend that has the milestone at which all is summed up, the highest average first."""
        rows = self.judgement.shared[self.judgement.last_common]
        return dict(sorted(rows.items(), key=lambda item: -item[1].average.mean))

    @property
    def standings(self) -> list[Standing]:
        """Who leads in each column there, the average first."""
        return sorted(self.judgement.standings(self.at), key=lambda one: one.column != AVERAGE)

    @property
    def rows(self) -> list[tuple[str, Row]]:
        """Every checkpoint once, with the name of its run; teachers and pruned students that are one under none."""
        found: dict[str, tuple[str, Row]] = {}
        for name, report in self.runs.items():
            for row in report.rows:
                shared = row.role == "teacher" or (row.role == "pruned" and self.pruned)
                found.setdefault(row.role if shared else f"{name} {row.title}", ("" if shared else name, row))
        return list(found.values())

    @property
    def means(self) -> list[tuple[str, Row]]:
        """Milestones that are means of several runs, with the name of their blend."""
        return [
            (name, row)
            for name, blend in self.judgement.blends.items()
            for row in blend.report.milestones
            if len(blend.at(row.seen)) > 1
        ]

    @property
    def sources(self) -> list[tuple[str, list[BlendPart | None]]]:
        """Every source with its part in each run's blend; None where a blend has none of it."""
        blends = [{part.source: part for part in report.blend} for report in self.reports.values()]
        names = dict.fromkeys(name for blend in blends for name in blend)
        return [(name, [blend.get(name) for blend in blends]) for name in names]


def grouped(contrasts: Sequence[Contrast]) -> dict[str, dict[tuple[str, str], list[Contrast]]]:
    """Contrasts by milestone, the last first, and by the pair; the average first, then in the order of the columns."""
    groups: dict[str, dict] = {}
    for contrast in contrasts:
        pair = groups.setdefault(contrast.at, {}).setdefault((contrast.one, contrast.other), [])
        pair.insert(0 if contrast.column == AVERAGE else len(pair), contrast)
    return dict(reversed(groups.items()))


def look(contrast: Contrast) -> str:
    """How a difference is drawn: `sure` where it stands, `half` where it does in these answers only, else `unsure`."""
    if contrast.verdict in (BETTER, WORSE):
        return "sure"
    return "half" if contrast.in_answers in (BETTER, WORSE) else "unsure"


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write report.md, report.html, learning_curves.png and the CSVs of scores, verdicts, stopping points and questions
    into `folder`, which is there."""
    from evaluator.report import plots

    asked = with_answers(question_sheets(comparison))
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
        advice=advice(comparison.judgement),
        rests=rests_text(comparison.judgement),
        look=look,
        both_text=both_text,
        place_text=place_text,
        role_titles=ROLE_TITLES,
        needed_text=needed_text,
        sheets=asked,
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

    shown = by_tokens(comparison.runs)
    finals = shown[comparison.judgement.last_common].values()
    rivals = [place for place, column in enumerate(columns) if column.row in finals]
    views = [view(f"At {comparison.at} tokens", lambda column: column.row in finals)]
    for tokens in reversed(comparison.judgement.shared):
        rows = shown[tokens].values()
        if tokens != comparison.judgement.last_common:
            views.append(view(f"At {comparison.judgement.title(tokens)} tokens", lambda c, rows=rows: c.row in rows))
    views += [view(name, lambda column, name=name: column.name == name) for name in comparison.runs]
    return sheets(columns, views, rivals, comparison.first.columns)


def write_csv(comparison: Comparison, folder: Path) -> None:
    """Write scores.csv, as every run's own with its name before it, verdicts.csv, a line per contrast, and
    stopping.csv, a line per milestone."""
    runs = [(name, line) for name, report in comparison.runs.items() for line in score_lines(report)]
    _write(folder / SCORES, ("run", *CSV_COLUMNS), ((name, *line) for name, line in runs))
    judgement = comparison.judgement
    families = {"between blends": judgement.between, "against the teacher": judgement.teacher} | {
        f"within {name}": contrasts for name, contrasts in judgement.within.items()
    }
    contrasts = [(family, contrast) for family, contrasts in families.items() for contrast in contrasts]
    _write(folder / VERDICTS, VERDICT_COLUMNS, (_verdict_line(*one) for one in contrasts))
    stops = [(stop, one) for stop in judgement.stopping for one in stop.candidates]
    _write(folder / STOPPING, STOPPING_COLUMNS, (_stopping_line(*one) for one in stops))


def _verdict_line(family: str, c: Contrast) -> list:
    answers = [f"{c.difference.stderr:.6f}", f"{c.p_value:.3g}", c.in_answers]
    seed = c.another_seed
    seeds = [f"{seed.stderr:.6f}", f"{seed.p_value:.3g}", c.verdict] if seed else ["", "", ""]
    more: list = [""] * 6
    if c.needed:
        more = [c.needed.questions, *c.needed.questions_range, c.needed.repeats, *c.needed.repeats_range]
    difference = f"{c.difference.mean:.6f}"
    return [family, c.at, c.column, c.one, c.other, difference, *answers, *seeds, *more, "yes" if c.paired else "no"]


def _stopping_line(stop: StoppingPoint, one: Candidate) -> list:
    average = [f"{one.row.average.mean:.6f}", f"{one.row.average.stderr:.6f}"]
    lost = [f"{value:.6f}" for value in (one.lost.mean, one.lost.stderr, one.at_most, stop.margin)]
    marks = ["yes" if mark else "no" for mark in (one.fallen, one.row == stop.row)]
    return [stop.run, one.row.title, one.row.seen, *average, *lost, *marks]


def _write(path: Path, columns: Sequence[str], lines: Iterable[Sequence]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(map(cells, lines))


def panels(comparison: Comparison) -> list[Panel]:
    """Learning curves of all runs, the suite average first."""
    pruned = comparison.pruned
    tokens = sorted(comparison.judgement.shared)
    start = [pruned] if pruned and not is_logarithmic(tokens) else []
    drawn = []
    references = [row for row in (comparison.first.row("teacher"), pruned) if row]
    for task, title in [(None, "Suite average"), *comparison.first.columns]:
        curves = [
            curve_of([*start, *report.milestones], task, label=name, number=comparison.number(name))
            for name, report in comparison.reports.items()
        ]
        drawn.append(fit_panel(title, curves, [line_of(row, task) for row in references if row.was_asked(task)]))
    return drawn


def terminal_summary(comparison: Comparison):
    """Scores where all runs meet, which blend to take and where to stop, and what to look at, as a rich renderable."""
    from rich.console import Group
    from rich.text import Text

    columns = comparison.columns
    # Beside longer names, columns with their errors do not fit 80 characters.
    errors = max(map(len, comparison.finals)) <= _NARROW_NAME
    caption = "± standard error over questions" if errors else "standard errors are on the page"
    caption = f"from 0 to 100, {caption}"
    table = plain_table(f"At {comparison.at}", columns, bold=AVERAGE, errors=errors, caption=caption)
    references = [comparison.first.row("teacher"), *filter(None, [comparison.pruned])]
    for name, row in [*comparison.finals.items(), *((row.role, row) for row in references)]:
        values: list[Measured] = [row.average, *row.summaries.values()]
        texts = (cell_text(value, columns) if errors else score_text(value).partition(" ")[0] for value in values)
        table.add_row(name, *texts, style="dim" if row in references else None)
    judgement = comparison.judgement
    lines = [table, Text(), Text(" ".join(advice(judgement)), style="bold"), Text(rests_text(judgement)), Text()]
    said = [one for one in comparison.standings if one.column == AVERAGE or one.above or one.above_in_answers]
    for standing in said:
        text = standing_text(standing, others=standing.column == AVERAGE)
        lines.append(Text.assemble((f"{standing.column}: ", "bold"), text))
    if silent := [one.column for one in comparison.standings if one not in said]:
        lines.append(Text(f"No verdict in {joined(silent)}; what is open, and what it would take, is on the page."))
    lines.append(Text())
    for stop in judgement.stopping:
        end = f"Stop {stop.run} at" if stop.shown else f"Train {stop.run} to"
        lines.append(Text.assemble((f"{end} {stop.row.title}: ", "bold"), stop.text))
    for flag in judgement.flags:
        lines.append(Text.assemble((f"{flag.title} ", "bold yellow"), flag.text))
    return Group(*lines, Text())
