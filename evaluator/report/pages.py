"""Renders what all reports share: Markdown and HTML pages from the templates, and tables for a terminal.

    write_pages(Path("out"), "report", report=report, ...)      # report.md and report.html
    table = plain_table("Tokens", ["Math", "Average"], bold="Average")

A page is one file that needs no network: `base.html.j2` is its shell, `macros.html.j2` its tables, `report.js` what
sorts them. All can be read without the script.
"""

import html
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from evaluator.report.charts import line_sample_svg, packed, panel_svg, sample_svg, value_text
from evaluator.report.colours import palette_css
from evaluator.report.scatter import front_svg, mark_svg, scatter_svg
from evaluator.results.scores import TaskResult
from evaluator.text import (
    EMPTY,
    Measured,
    change_text,
    fixed,
    points_text,
    rate_text,
    score_text,
    share_text,
    span_text,
    times_text,
    tokens_text,
    tokens_texts,
    valid_unicode,
)

TEMPLATES = Path(__file__).parent / "templates"
MARKDOWN, HTML, PNG = "report.md", "report.html", "learning_curves.png"
"""The files of every report."""
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
"""What begins a tag of HTML."""
_NOT_SHOWN = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")
"""Ends of lines, and characters that a reader does not see and a program obeys."""
_COLUMNS_IN_LINE = 6
"""So many columns of a terminal's table have room for a score and its error side by side."""


def write_pages(folder: Path, template: str, *, templates: Path = TEMPLATES, **context) -> None:
    """Render the templates `{template}.md.j2` and `{template}.html.j2` into report.md and report.html of `folder`.

    They are those of the folder `templates`, and may use the shell and the macros of this room. Raises
    jinja2.UndefinedError for a name that `context` lacks.
    """
    for name, ending in ((MARKDOWN, "md"), (HTML, "html")):
        text = render_page(f"{template}.{ending}.j2", templates=templates, **context)
        (folder / name).write_text(valid_unicode(text), encoding="utf-8")


def render_page(template: str, *, templates: Path = TEMPLATES, **context) -> str:
    """The text of a template. Raises jinja2.UndefinedError for a name that `context` lacks."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([templates, TEMPLATES]),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    if not template.endswith(".html.j2"):
        environment.finalize = _one_line
        environment.concat = lambda parts: _Block("".join(parts))  # type: ignore[method-assign]
    environment.filters |= {
        "score": score_text,
        "points": points_text,
        "change": change_text,
        "rate": rate_text,
        "tokens": tokens_text,
        "tokens_alike": tokens_texts,
        "titled": titled,
        "span": span_text,
        "headings": headings,
        "lost": lost_text,
        "row": row_text,
        "times": times_text,
    }
    drawing = (front_svg, line_sample_svg, mark_svg, packed, palette_css, panel_svg, sample_svg, scatter_svg)
    functions = (*drawing, fixed, value_text)
    environment.globals |= {function.__name__: function for function in functions} | {"dict": dict}
    environment.filters["zip"] = zip
    return environment.get_template(template).render(context)


class _Block(str):
    """What a template has made, a macro say: several lines, or cells of a table."""


def _one_line(value: object) -> object:
    """`value` as text within a line of Markdown: names and answers come from data, which may hold HTML, ends of lines,
    cells and links."""
    if not isinstance(value, str) or isinstance(value, _Block):
        return value
    return _TAG.sub("&lt;", _NOT_SHOWN.sub(_written_out, value)).replace("|", "\\|").replace("](", "]\\(")


def _written_out(found: re.Match) -> str:
    return found[0].encode("unicode_escape").decode()


def row_text(cells: Iterable[object]) -> str:
    """Cells of a table with bars between them.

    >>> row_text(["a|b", 1, "two\\nlines"])
    'a\\\\|b | 1 | two\\\\nlines'
    """
    return _Block(" | ".join(str(_one_line(cell)) for cell in cells))


def lost_text(task: TaskResult) -> str:
    """What to know of a benchmark's score, to stand beside it; or nothing.

    Shares of its answers that were cut, had no text to judge or could not be asked for, and how probable a zero is.
    """
    shares = ((task.cut_share, "cut"), (task.empty_share, "empty"), (task.unasked_share, "not asked"))
    known = [f"{share_text(share)} {word}" for share, word in shares if share > 0]
    if task.zero_chance is not None:
        known.append(f"0 by chance in {share_text(task.zero_chance)} or more")
    return ", ".join(known)


def titled(text: str, columns: Sequence[tuple[str, str]]) -> str:
    """`text` with the title of the benchmark in place of the file or task that it begins with.

    >>> columns = [("offline_math", "Math"), ("my_quiz", "My quiz")]
    >>> titled("math: 2 of its 30 questions", columns), titled("my_quiz", columns), titled("Source", columns)
    ('Math: 2 of its 30 questions', 'My quiz', 'Source')
    """
    name, colon, rest = text.partition(":")
    for task, title in columns:
        if name == task or task.endswith(f"_{name}"):
            return f"{title}{colon}{rest}"
    return text


def headings(content: str) -> list[tuple[str, str]]:
    """Id and text of each heading of the second level, for the page's own contents."""
    plain = re.sub(r"<span[^>]*aria-hidden[^>]*>.*?</span>", "", content)
    found = re.findall(r'<h2 id="([^"]+)">(.*?)</h2>', plain)
    return [(name, html.unescape(re.sub(r"<[^>]+>", "", text)).strip()) for name, text in found]


def plain_table(first: str, columns: list[str], *, bold: str = "", errors: bool = False, **options):
    """An empty `rich.table.Table` with the column `first` and, to the right, `columns`, of which `bold` stands out.

    Cells with `errors` are those of `cell_text`.
    """
    from rich import box
    from rich.table import Table

    # Without its edge the table fits 80 columns with a hundred in every cell of five benchmarks and their average. Of
    # more, as of the study's eight, titles break and an error goes below its score.
    many = len(columns) > _COLUMNS_IN_LINE
    options |= {"padding": (0, 0)} if many else {}
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, **options)
    table.add_column(first, no_wrap=True)
    for column in columns:
        width = max(len("100.0"), *map(len, column.split())) if many else None
        style = "bold" if column == bold else None
        table.add_column(column, justify="right", no_wrap=not many, width=width, style=style)
    return table


def cell_text(value: Measured, columns: list[str]) -> str:
    """A score with its error for a `plain_table` of `columns`: side by side, or one below the other in many columns."""
    if math.isnan(value.mean):
        return EMPTY
    between = " " if len(columns) <= _COLUMNS_IN_LINE else "\n"
    return f"{fixed(100 * value.mean)}{between}±{fixed(100 * value.stderr)}"
