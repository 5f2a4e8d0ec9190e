"""The pages in a real Chromium: what they do, that they can be read by anyone, anywhere, and on paper."""

import base64
import csv
import itertools
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from benchmarks.made_up_runs import make_run
from evaluator.report.comparison import Comparison, write_comparison
from evaluator.report.run import write_report
from evaluator.suites.catalogue import get_suite
from evaluator.text import fixed
from evaluator.verdicts.judge import judge
from nemo_distill import cli
from nemo_distill.outcome.gather import gather
from tests.evaluator.answers_for_tests import keep_answers
from tests.evaluator.verdicts.pages import report

PAGES = ("comparison", "run", "published")
SMALL = ("eight", "nothing")
"""Pages of few answers: eight blends, and two that score nothing."""
SCORES = "[aria-labelledby=scores]"
GPQA, MMLU = "sheet-ns-gpqa", "sheet-lm-evaluation-harness-mmlu"
A4_LANDSCAPE = 1031
"""Pixels between the margins."""
CHECKS = (Path(__file__).parents[1] / "page_for_tests.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of two runs with all questions of the study's suite, of which GPQA's answers were kept."""
    runs = tmp_path_factory.mktemp("runs")
    for name, skills in (("a", (0.0, 1.0)), ("b", (0.5, 2.0))):
        shares = {"stem": 60, "code": 40} if name == "a" else {"stem": 100}
        keep_answers(make_run(runs, name, suite=get_suite("study"), skills=skills, shares=shares), ("ns_gpqa",))
    return runs


@pytest.fixture(scope="module")
def pages(runs, tmp_path_factory):
    """Every kind of page, by its name, as the commands write them."""
    from nemo_distill.run.manifest import find

    assert cli.main(["report", "a", "b", "--runs", str(runs)]) == 0
    assert cli.main(["report", "--published", "--runs", str(runs)]) == 0
    single = tmp_path_factory.mktemp("single")
    write_report(gather(find("a", runs=runs).specs["report"]), single)
    folders = {"comparison": runs / "comparisons" / "a-vs-b", "run": single, "published": runs / "published"}
    for name, blends, chance in zip(SMALL, (8, 2), (0.5, 0.0)):
        folders[name] = tmp_path_factory.mktemp(name)
        drawn = np.random.default_rng(1)
        reports = {"pre_sft_v1": report("pre_sft_v1", [[chance] * 5], drawn, chances=(1.8 * chance, chance / 5))}
        for number in range(1, blends):
            chances = [[chance * (1 + number / 20)] * 5]
            reports[f"blend_{number}"] = report(f"blend_{number}", chances, drawn, base=reports["pre_sft_v1"])
        write_comparison(Comparison(judge(reports), dict.fromkeys(reports, "")), folders[name])
    return {name: folder / "report.html" for name, folder in folders.items()}


@pytest.fixture(scope="module")
def axe() -> str:
    """The script axe-core."""
    return (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def opened(browser, pages):
    """Opens a page, and at the end demands that it was quiet and asked the network for nothing."""
    shown = []

    def open_page(name: str, **options):
        shown.append(browser.open(pages[name], **options))
        shown[-1].evaluate(CHECKS)
        return shown[-1]

    yield open_page
    for page in shown:
        assert page.troubles == []
        asked = [one for one in page.requests if not one.startswith("data:")]  # what it holds itself
        assert asked == page.requests[:1] and asked[0].startswith("file://")
        page.close()


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut_off_from_a_phone_to_a_wide_screen_even_with_all_unfolded(opened, name):
    page, widths = opened(name, width=360, height=800), (360, 390, 768, 1440, 2560)
    # With the width that was asked for: on a phone `innerWidth` grows with what sticks out.
    for width in widths:
        page.resize(width)
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page.evaluate("unfold()")
    page.until("[...document.querySelectorAll('details.sheet')].every((one) => one.querySelector('.tools'))")
    for width in widths:
        page.resize(width)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(f"strays({width})") == []


def test_a_blend_of_sixty_letters_widens_no_phone(browser, pages, tmp_path):
    long = "distill_30pre_70post_v1_with_a_long_warmup_and_lower_lr_5e-5"
    text = pages["comparison"].read_text(encoding="utf-8")
    renamed = tmp_path / "report.html"
    renamed.write_text(re.sub(r'<span class="whole">blend_b</span>|blend_(<wbr>)?b', long, text), encoding="utf-8")
    page = browser.open(renamed, width=360, height=800)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert text.count("blend_b") > 20 and page.evaluate("document.documentElement.scrollWidth") == 360
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_what_is_decided_by_stands_on_the_first_screen_and_details_begin_within_five(opened, name):
    page = opened(name, width=1440, height=900)
    ends = "(one) => document.querySelector(one).getBoundingClientRect().bottom"
    assert page.evaluate(f"['h1', '.tiles', '.tiles.apart', '.points'].map({ends})")[-1] <= 900
    assert page.evaluate("document.querySelector('.divide').getBoundingClientRect().top") <= 5 * 900


@pytest.mark.parametrize(
    ("name", "dark"), [*itertools.product(PAGES, (False, True)), *((name, False) for name in SMALL)]
)
def test_the_page_can_be_read_by_whoever_sees_little_and_followed_without_seeing_it(opened, axe, name, dark):
    page = opened(name, dark=dark)
    page.evaluate("unfold()")
    lightness = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", lightness)[0]) < 60) == dark
    found = page.evaluate("contrasts()")
    assert found["texts"] > 500
    assert found["pale"] == []
    if dark:
        return  # what follows is the same
    found = page.evaluate("outline()")
    assert found["lang"] == "en" and found["title"]
    levels = found["levels"]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert found["headings_without_scope"] == found["drawings_without_words"] == found["unnamed"] == []
    assert found["said_otherwise"] == found["regions_twice"] == []
    assert found["scrolling_unreachable"] == found["hidden_reachable"] == []
    assert found["twice"] == [] and found["dead_links"] == []
    assert found["landmarks"] == {"header": 1, "nav": 1, "main": 1}
    page.evaluate(f"{axe};0")
    # Its own look at contrasts takes as long as all others, and finds what is found above.
    assert page.evaluate("findings({'color-contrast': {enabled: false}})") == []


def test_in_colours_of_the_reader_s_own_text_stands_out_and_bands_and_the_row_that_a_link_leads_to_are_seen(opened):
    page = opened("comparison")
    page.media(dark=True, forced=True)
    assert page.evaluate("contrasts()")["pale"] == []
    page.evaluate("location.hash = document.querySelector('tr[id]').id")
    page.until("document.querySelector('tr:target')")
    behind, *parts = page.evaluate(
        "['body', '.band .wide', '.band .at', '.band .zero'].map((one) =>"
        "getComputedStyle(document.querySelector(one)).backgroundColor)"
    )
    assert behind not in parts
    assert page.evaluate("getComputedStyle(document.querySelector('tr:target > td')).outlineStyle") == "solid"


@pytest.mark.parametrize(("name", "width", "back"), [("comparison", 1280, False), ("run", 390, True)])
def test_the_keyboard_reaches_every_control_in_order_and_whoever_goes_by_it_sees_where_they_are(
    opened, name, width, back
):
    page = opened(name, width=width, height=800)
    if back:
        page.evaluate(f"openPart('scores'); openPart('{GPQA}')")
        page.until(f"document.querySelector('#{GPQA} .tools')")
    count = page.evaluate("(window.order = controls()).length")
    seen = []
    for _ in range(count):
        page.press("Tab", shift=back)
        seen.append(page.evaluate("focused()"))
    assert [one["place"] for one in seen] == [*range(count)][:: -1 if back else 1] and count > 60
    assert seen[-1 if back else 0]["said"] == "A Skip to the report"
    assert [amiss for one in seen for amiss in one["amiss"]] == []
    assert {"A", "BUTTON", "DIV", "SUMMARY", "SELECT"} <= {one["said"].split()[0] for one in seen}


def test_a_click_sorts_the_highest_first_then_the_lowest_then_as_before(opened):
    page = opened("comparison")
    page.evaluate("openPart('scores')")
    table, button = "[aria-labelledby=scores] table", "[aria-labelledby=scores] th:nth-child(3) button"
    first = page.evaluate(f"rows('{table}')")
    seen = {}
    for direction in ("descending", "ascending", None):
        page.click(button)
        assert (
            page.evaluate(f"document.querySelector('{table} th:nth-child(3)').getAttribute('aria-sort')") == direction
        )
        seen[direction] = page.evaluate(f"rows('{table}')")
        assert (direction or "first order") in page.evaluate("document.getElementById('said').textContent")
    scores = [float(row[2].split()[0]) for row in first]
    assert scores != sorted(scores, reverse=True)
    assert [float(row[2].split()[0]) for row in seen["descending"]] == sorted(scores, reverse=True)
    assert [float(row[2].split()[0]) for row in seen["ascending"]] == sorted(scores)
    assert seen[None] == first


@pytest.mark.parametrize("key", ["Enter", " "])
def test_a_key_sorts_as_a_click_does_and_the_focus_stays(opened, key):
    page = opened("comparison")
    page.evaluate("openPart('scores')")
    page.evaluate("document.querySelector('[aria-labelledby=scores] th:nth-child(2) button').focus()")
    page.press(key)
    tokens = [row[1] for row in page.evaluate("rows('[aria-labelledby=scores] table')")]
    assert tokens == ["5B", "5B", "2.5B", "2.5B", "0", "–"]  # and the teacher's, which has none, last
    assert page.evaluate("document.activeElement.textContent") == "Tokens"


def test_a_table_in_groups_is_sorted_within_them(opened):
    page = opened("comparison")
    page.evaluate("document.querySelector('[aria-labelledby=stopping] details').open = true")
    page.click("[aria-labelledby=stopping] details th:nth-child(4) button")
    groups = page.evaluate(
        "[...document.querySelectorAll('[aria-labelledby=stopping] details tbody')].map((body) =>"
        "[...body.rows].map((row) => [row.cells[0].textContent.trim(), row.cells[3].textContent]))"
    )
    assert len(groups) == 2
    for rows, blend in zip(groups, ("blend_a", "blend_b"), strict=True):
        assert all(name.endswith(blend) for name, _ in rows)
        values = [float(cell.split()[0]) for _, cell in rows]
        assert len(values) == 2 and values == sorted(values, reverse=True)


def test_every_question_can_be_found_sorted_and_leafed_through(opened, runs):
    page = opened("comparison")
    page.evaluate("openPart('questions')")
    page.click(f"#{MMLU} > summary")
    page.until(f"document.querySelector('#{MMLU} .tools')")
    where = f"document.querySelector('#{MMLU} .where').textContent"
    assert page.evaluate(where) == "1–50 of 14,042"
    with open(runs / "comparisons" / "a-vs-b" / "questions.csv", newline="", encoding="utf-8") as file:
        kept = {line["question"]: line for line in csv.DictReader(file) if line["benchmark"] == "MMLU"}
    assert len(kept) == 14_042

    page.click(f"#{MMLU} .pager button:nth-of-type(2)")
    assert page.evaluate(where) == "51–100 of 14,042"
    page.click(f"#{MMLU} thead th:nth-child(3) button")
    assert page.evaluate(where) == "1–50 of 14,042"
    rows = page.evaluate(f"rows('#{MMLU} table')")
    assert [row[2] for row in rows] == ["1/1"] * 50  # the pruned student's, of which few are right
    assert [kept[row[0]]["Pruned student"] for row in rows] == ["1"] * 50

    page.evaluate(
        f"(() => {{ const menu = document.querySelector('#{MMLU} select'); menu.value = 1;"
        "menu.dispatchEvent(new Event('change')); })()"
    )
    headings = page.evaluate(f"[...document.querySelectorAll('#{MMLU} thead th')].map((one) => one.textContent.trim())")
    assert [heading[2:] for heading in headings[3:5]] == ["blend_a 2.5B", "blend_b 2.5B"]
    page.evaluate(
        f"(() => {{ const find = document.querySelector('#{MMLU} input'); find.value = '-1234';"
        "find.dispatchEvent(new Event('input')); })()"
    )
    found = page.evaluate(f"rows('#{MMLU} table')")
    assert sorted(row[0].rpartition("-")[2] for row in found) == sorted(
        name.rpartition("-")[2] for name in kept if "-1234" in name
    )
    for row in found:
        line = kept[row[0]]
        names = ("Teacher", "Pruned student", "blend_a 2.5B", "blend_b 2.5B")
        assert row[1:5] == [f"{line[name]}/1" for name in names]


def test_the_questions_that_differ_most_are_shown_with_their_answers(opened):
    page = opened("comparison")
    page.evaluate("openPart('questions')")
    before = page.evaluate(f"rows('#{GPQA} table')")
    page.click(f"#{GPQA} > summary")
    page.until(f"document.querySelector('#{GPQA} .tools')")
    assert len(before) == 20 and page.evaluate(f"rows('#{GPQA} table')")[:20] == before
    first = page.evaluate(f"rows('#{GPQA} table')")[0]
    page.click(f"#{GPQA} tbody th a")
    page.until(f"document.querySelector('#{GPQA} details.answers').open")
    text = page.evaluate(f"document.querySelector('#{GPQA} details.answers').innerText")
    assert first[0] in text and "letters…" in text and len(text) < 6000
    for name, cell in (("evaluate-teacher", first[1]), ("evaluate-5B", first[3])):
        right, times = map(int, cell.split("/"))
        assert (f"{name} says <yes>" in text) or right == 0
        assert (f"{name} says <no>" in text) or right == times
    assert page.evaluate(f"document.querySelectorAll('#{GPQA} details.answers').length") == 12
    assert page.evaluate(f"document.querySelectorAll('#{MMLU} details.answers').length") == 0


@pytest.mark.parametrize("name", PAGES)
def test_without_a_script_the_page_says_the_same(opened, name):
    page = opened(name, script=False)
    assert page.evaluate("document.querySelectorAll('button, select, input:not(#on-paper)').length") == 0
    assert page.evaluate("document.querySelectorAll('table').length") >= 6
    if name == "comparison":
        page.evaluate("openPart('questions')")
        page.click(f"#{MMLU} > summary")
        assert page.evaluate(f"document.getElementById('{MMLU}').open")
        assert len(page.evaluate(f"rows('#{MMLU} table')")) == 20
        said = page.evaluate(f"document.querySelector('#{MMLU} .note').textContent")
        assert "the other 14,022 are in questions.csv" in said


@pytest.mark.parametrize("name", PAGES)
def test_on_paper_no_table_is_cut_or_folded(opened, name, tmp_path):
    page = opened(name, width=A4_LANDSCAPE)
    page.evaluate("countFoldedBeforePrint()")
    page.pdf(tmp_path / "print.pdf")
    assert (tmp_path / "print.pdf").read_bytes().startswith(b"%PDF")
    assert page.evaluate("[window.folded, document.querySelectorAll('details[open]').length]") == [0, 0]
    page.media(kind="print")
    page.evaluate("unfold()")
    assert page.evaluate("cut()") == []
    off = "[...document.querySelectorAll('nav, .how, .save, a.rows, a.rows + a')]"
    assert page.evaluate(f"{off}.filter((one) => one.checkVisibility()).length") == 0
    # Chromium repeats a table's headings on the next page unless there is a button's box in them.
    assert page.evaluate("getComputedStyle(document.querySelector('button.sort')).display") == "contents"
    assert page.evaluate("getComputedStyle(document.querySelector('thead')).breakInside") == "avoid"


def test_on_paper_tables_are_unfolded_without_a_script_too_and_answers_left_out_unless_they_are_asked_for(opened):
    page = opened("comparison", width=A4_LANDSCAPE, script=False)
    table, answers = (f"document.querySelector('{one} td').checkVisibility()" for one in (SCORES, f"#{MMLU}"))
    assert [page.evaluate(one) for one in (table, answers)] == [False, False]
    page.media(kind="print")
    assert [page.evaluate(one) for one in (table, answers)] == [True, False]
    page.evaluate("document.getElementById('on-paper').checked = true")
    assert page.evaluate(answers)


@pytest.mark.parametrize("script", [True, False], ids=["script", "none"])
def test_every_figure_has_its_rows_and_command_and_tables_are_saved_as_they_lie_beside_the_page(opened, pages, script):
    for name in PAGES:
        page = opened(name, script=script)
        assert page.evaluate("unsourced()") == []
        links = page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('a[download]')].map((one) => [one.download, one.href]))"
        )
        for file, address in links.items():
            kind, _, data = address.partition(",")
            assert kind == "data:text/csv;charset=utf-8;base64"
            assert base64.b64decode(data) == (pages[name].parent / file).read_bytes()
        assert "scores.csv" in links


def test_every_question_is_saved_from_the_page_as_it_lies_beside_it(opened, pages):
    saved = opened("comparison").evaluate("questions()")
    kept = (pages["comparison"].parent / "questions.csv").read_text(encoding="utf-8")
    one, other = (list(csv.reader(text.splitlines())) for text in (saved, kept))
    assert one[0] == other[0] and len(one) == len(other) > 14_000
    assert [row[:3] for row in one] == [row[:3] for row in other]
    assert all(float(a) == float(b) for x, y in zip(one[1:], other[1:], strict=True) for a, b in zip(x[3:], y[3:]))


def test_the_rows_behind_a_figure_are_shown_with_its_digits(opened):
    page = opened("comparison")
    row = "[aria-labelledby=verdict] tbody tr:nth-child(2)"
    shown = page.evaluate(f"document.querySelector('{row} .change').textContent").replace("−", "-")
    page.click(f"{row} a.rows")
    page.until("document.querySelector('dialog[open]')")
    head, *lines = page.evaluate(
        "[...document.querySelectorAll('dialog tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    found = [dict(zip(head, line, strict=True)) for line in lines]
    (average,) = (line for line in found if line["benchmark"] == "Average")
    assert len(found) == 9 and {(line["family"], line["milestone"]) for line in found} == {("between blends", "5B")}
    difference, error = (100 * float(average[key]) for key in ("difference", "stderr_answers"))
    assert shown.lstrip("+-") == f"{fixed(abs(difference))} ± {fixed(error)}"
    page.click("dialog button")
    page.until("!document.querySelector('dialog')")
    # Of a curve, at another milestone and of another benchmark than at first.
    page.evaluate(
        "(() => { const menu = document.querySelector('#curves-charts .tools select'); menu.value = 3;"
        "menu.dispatchEvent(new Event('change')); const slider = document.querySelector('#curves-charts [type=range]');"
        "slider.value = 0; slider.dispatchEvent(new Event('input')); })()"
    )
    (first, *_) = page.evaluate("rows('.compared table')")
    page.click(".compared tbody a.rows")
    head, *lines = page.evaluate(
        "[...document.querySelectorAll('dialog tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    (line,) = (dict(zip(head, line, strict=True)) for line in lines)
    assert (line["checkpoint"], line["benchmark"]) == ("2.5B", "GPQA Diamond")
    mean, error = (100 * float(line[name]) for name in ("mean", "stderr"))
    assert first[:2] == [line["run"], f"{mean:.1f} ± {error:.1f}"]


def test_the_command_beside_a_checkpoint_gives_its_numbers_again(opened, runs):
    page = opened("comparison")
    page.evaluate("openPart('scores')")
    row = page.evaluate("rows('[aria-labelledby=scores] table')")[-1]
    assert row[0].endswith(" blend_b") and row[-1] == "csv how"
    page.click("[aria-labelledby=scores] tbody tr:last-child td.how a + a")
    command = page.evaluate("document.querySelector(':target code').textContent")
    done = subprocess.run([sys.executable, *command.split()[1:]], cwd=runs, capture_output=True, text=True, check=True)
    printed = [line.split() for line in done.stdout.splitlines()[1:]]
    again = [f"{float(mean):.1f} ± {float(error):.1f}" for _, mean, error, *_ in printed]
    assert len(again) == 9
    for shown, counted in zip([*row[3:11], row[2]], again, strict=True):  # the page has the average first
        for one, other in zip(map(float, shown.split(" ± ")), map(float, counted.split(" ± ")), strict=True):
            assert one == pytest.approx(other, abs=0.101)
