"""Prints what a terminal shows of finished runs: tables of scores, a comparison, and where the pages are.

print_outcome(run, Console())
print_comparison(*write_comparison_report(runs_found, runs), Console())
"""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from evaluator.report.board import View
from evaluator.report.bought import terminal_board
from evaluator.report.comparison import Comparison
from evaluator.report.run import SUMMARY, terminal_table
from evaluator.report.terminal import terminal_summary
from nemo_distill.errors import UserError
from nemo_distill.run.manifest import Run
from nemo_distill.study.decision import summary
from nemo_distill.study.report import PublishedReport, terminal_tables


def print_outcome(run: Run, console: Console) -> None:
    """Where to stop a finished run, its table of scores and the path of its report."""
    if "report" not in run.specs or not run.specs["report"].done:
        return
    folder = run.specs["report"].folder
    try:
        table = terminal_table(folder)
    except (AttributeError, IndexError, KeyError, OSError, TypeError, ValueError) as error:
        raise UserError(f"the table of scores in {folder} is damaged: {error}.") from error
    if said := _first_line(folder / SUMMARY):
        console.print(Text(said, style="bold"))
    console.print(table)
    _print_paths(folder, console)


def print_published(report: PublishedReport, folder: Path, console: Console) -> None:
    """What the study's own tables can show, these, and the paths of its report."""
    console.print(Text(summary(report.study).sentence, style="bold"))
    console.print()
    for table in terminal_tables(report):
        console.print(table)
        console.print()
    _print_paths(folder, console)


def print_comparison(comparison: Comparison, folder: Path, console: Console) -> None:
    """What several runs show side by side and the paths of its report."""
    console.print(terminal_summary(comparison), highlight=False)
    _print_paths(folder, console)


def print_board(shown: View, path: Path, console: Console) -> None:
    """What compression bought, the models beside each other, and the path of the page."""
    console.print(terminal_board(shown), highlight=False)
    console.print(f"Board: {path}", highlight=False, soft_wrap=True)


def _print_paths(folder: Path, console: Console) -> None:
    console.print(f"Report: {folder / 'report.md'}", highlight=False, soft_wrap=True)
    console.print(f"        {folder / 'report.html'}", highlight=False, soft_wrap=True)


def _first_line(path: Path) -> str:
    """The first line of a file; empty where it is not there, as in reports of earlier versions."""
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return ""
