"""The report of the study's own tables, as the command writes it."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from evaluator.text import fixed
from nemo_distill import cli
from nemo_distill.config.files import load
from nemo_distill.study.findings import pairs
from nemo_distill.study.report import PublishedReport, terminal_tables
from nemo_distill.study.tables import load_study

ROOT = Path(__file__).resolve().parents[3]
LEADING = ("30pre_70post_v1v3", "30pre_70post_v3")
HEAVY = {"torch", "nemo", "megatron", "modelopt", "transformers", "datasets", "nemo_run", "nemo_evaluator", "pandas"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What `nemo-run report --published` prints where the recipes are, the modules it loads, and its folder."""
    runs = tmp_path_factory.mktemp("runs")
    code = (
        "import sys; from nemo_distill import cli\n"
        f"code = cli.main(['report', '--published', '--runs', {str(runs)!r}])\n"
        "print('MODULES', *{name.partition('.')[0] for name in sys.modules}); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed, _, modules = done.stdout.partition("MODULES")
    return printed, set(modules.split()), runs / "published"


@pytest.fixture(scope="module")
def texts(written):
    """The page's visible text, the Markdown, and the page itself."""
    page = (written[2] / "report.html").read_text(encoding="utf-8")
    parser = HTMLParser()
    words: list[str] = []
    parser.handle_data = words.append
    parser.feed(page)
    return re.sub(r"\s+", " ", " ".join(words)), (written[2] / "report.md").read_text(encoding="utf-8"), page


def row_of(table: str, title: str) -> list[str]:
    """The cells of the row `title` of a Markdown table."""
    line = next(line for line in table.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_the_command_writes_its_files_says_where_and_loads_nothing_heavy(written):
    printed, modules, folder = written
    assert sorted(path.name for path in folder.iterdir()) == [
        "blends.csv", "differences.csv", "learning_curves.png", "report.html", "report.md", "scores.csv",
    ]  # fmt: skip
    assert str(folder / "report.md") in printed and str(folder / "report.html") in printed
    assert HEAVY & modules == set()


def test_every_published_number_stands_in_its_row_of_both_pages(texts):
    html, markdown, _ = texts
    for blend in load_study().blends:
        table = markdown.partition(f"## {blend.name}\n")[2].partition("\n## ")[0]
        section = html[html.index(blend.about) :]
        for row in blend.evaluated:
            points = [str(score.points) for score in row.scores]
            assert row_of(table, row.title) == points
            assert f"{row.title} {' '.join(points)}" in section


def test_the_terminal_shows_a_table_per_blend_within_80_columns():
    study = load_study()
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        for table in terminal_tables(PublishedReport.of(study)):
            console.print(table)
    shown = capture.get()
    assert "…" not in shown
    for blend in study.blends:
        assert blend.name in shown
        for row in blend.evaluated:
            points = (re.escape(str(score.points)) for score in row.scores)
            assert re.search(rf"{re.escape(row.title)}\s+" + r"\s+".join(points), shown)


def test_a_single_shot_column_is_marked_and_holds_no_averaged_score(texts):
    table = texts[1].partition("## 30pre_70post_v3\n")[2].partition("\n## ")[0]
    assert "| AIME 2025† |" in table and "| SciCode† |" in table
    assert row_of(table, "Teacher") == ["74.7", "74.9", "56.1", "64.4", "–", "95.9", "65.8", "–"]
    chosen = texts[1].partition("## 30pre_70post_v1v3\n")[2].partition("\n## ")[0]
    assert "†" not in chosen
    assert row_of(chosen, "Teacher") == ["74.7", "74.9", "56.1", "64.4", "73.7", "95.9", "65.8", "23.1"]
    assert row_of(chosen, "Nano-12B-v2")[0] == "78.5"


def test_the_page_says_first_what_the_numbers_can_and_cannot_show(written, texts):
    html, markdown, page = texts
    study = load_study()
    found = [one for pair in pairs(study) for one in pair.differences if one]
    clear = sum(one.verdict == "clear" for one in found)
    sentence = f"These numbers cannot say which blend is best: {clear} of {len(found)} differences are more than"
    assert sentence in html and f"**{sentence}" in markdown and sentence in " ".join(written[0].split())
    assert page.index("<h1>These numbers cannot say") < page.index("What they cannot show") < page.index('id="verdict"')
    # And the first table has the differences of the last one, seen from the blend with the highest average.
    (pair,) = (one for one in pairs(study) if (one.tokens, one.one, one.other) == ("80B", *LEADING))
    rows = page.partition('id="verdict"')[2].partition("</table>")[0].split("<tr class=")
    assert LEADING[1].replace("_", "_<wbr>") in rows[2]
    expected = [
        f"{fixed(-one.points + 0, signed=True)} ± {fixed(one.stderr.most)}".replace("-", "−")
        for one in pair.differences
        if one
    ]
    assert re.findall(r'class="change">([^<]*)<', rows[2])[1:] == expected  # the first is their average's


def test_the_row_that_was_not_evaluated_says_so(texts):
    html, markdown, _ = texts
    assert "5B not evaluated" in html
    assert row_of(markdown, "5B (not evaluated)") == [""] * 8


def test_the_composition_stands_beside_the_table_with_where_its_shares_come_from(texts):
    html, markdown, _ = texts
    blend = load(ROOT / "recipes" / "distill_v1v3.py").BLEND
    table = markdown.partition(f"## {blend.name}\n")[2].partition("\n## ")[0]
    for source, share in blend.shares.items():
        assert row_of(table, source)[0] == f"{share:g}%"
    assert row_of(table, "science-rqa") == ["2%", "1.61B", "0.278B", "5.79", "published"]
    assert "science-rqa 2 % 1.61B 0.278B 5.79 published" in html


def test_the_page_is_one_file_that_loads_nothing(texts):
    page = texts[2]
    assert not re.findall(r"<(?:script\s[^>]*src|link|img|iframe|object|embed)\b", page)
    assert not re.findall(r"(?:src|href|action|poster)\s*=\s*[\"']?\s*(?:https?:)?//", page)
    assert not re.findall(r"@import|url\(\s*[\"']?(?!#)", page)
    assert len(page.encode()) < 1_000_000


def test_the_page_can_be_read_without_seeing_it(texts):
    page = texts[2]
    assert page.count("<h1>") == 1 and '<html lang="en">' in page
    assert all("scope=" in cell for cell in re.findall(r"<th\b[^>]*>", page))
    drawings = re.findall(r'<svg viewBox="0 0 \d+ \d+" role[^>]*>', page)
    assert len(drawings) == 11  # ten panels, and the first one's differences
    assert all('role="img"' in drawing and "aria-label=" in drawing for drawing in drawings)
    ids = re.findall(r'<h[23] id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'aria-labelledby="([^"]+)"', page)) <= set(ids)


def test_drawings_take_their_colours_from_the_page_so_that_they_follow_dark_mode(texts):
    page = texts[2]
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert not re.findall(r"#[0-9a-fA-F]{6}\b", drawings)
    used = set(re.findall(r"var\(--(\w+)\)", drawings))
    assert {"teacher", "pruned", "blend1", "blend5"} <= used
    defined = re.findall(r"--(\w+): #", page)
    assert {name: defined.count(name) for name in used} == dict.fromkeys(used, 2)  # in light and in dark


def test_where_there_are_no_recipes_or_others_the_report_is_the_same(written, tmp_path, monkeypatch, capsys):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "broken.py").write_text("raise RuntimeError\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "--published"]) == 0
    assert "runs/published/report.md" in capsys.readouterr().out
    for path in written[2].iterdir():
        assert Path("runs/published", path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["report"], "name a run, as nemo-run status does, or give --published for the study's own tables."),
        (["report", "a-run", "--published"], "leave out 'a-run' or --published."),
        (["report", "--publishd"], "No such option: --publishd"),
    ],
)
def test_a_run_or_published_is_asked_for_and_not_both(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert sentence in err and err.count("\n") == 1 and out == ""
    assert list(tmp_path.iterdir()) == []
