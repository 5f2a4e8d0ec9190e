"""Writes the page of the board, a file that needs no network, and its table as CSV beside it.

write_board(view(board), Path("board.html"))
"""

from pathlib import Path

from evaluator.report.board import View
from evaluator.report.bought import summary
from evaluator.report.pages import render_page
from evaluator.text import valid_unicode


def write_board(shown: View, path: Path) -> None:
    """Write the page `path`, and its table beside it as .csv."""
    text = render_page("board_page.html.j2", view=shown, summary=summary(shown), files=(shown.table,), beside=())
    path.write_text(valid_unicode(text), encoding="utf-8")
    path.with_suffix(".csv").write_text(shown.table.text, encoding="utf-8", errors="replace")
