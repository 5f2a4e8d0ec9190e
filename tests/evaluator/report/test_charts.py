"""The curves in a real Chromium, driven by mouse and by keys, and what of them is there without a script."""

import csv
import io
import json
import re

import pytest

from evaluator.report.charts import HOLLOW, packed, panel_svg, sample_svg, value_text
from evaluator.report.comparison import Comparison, panels
from evaluator.report.panels import Charts, Curve, Line, Panel, difference, thinned
from evaluator.text import fixed, significant
from evaluator.verdicts.judge import judge
from nemo_distill.study.report import write_tables
from nemo_distill.study.tables import load_study
from tests.evaluator.verdicts.pages import report

LARGE, LESS = '[data-panel="0"]', "[data-difference]"
V3, V1V3 = "30pre_70post_v3", "30pre_70post_v1v3"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The page of the study's own tables: five blends, MMLU first."""
    folder = tmp_path_factory.mktemp("published")
    write_tables(folder)
    return folder / "report.html"


@pytest.fixture
def page(browser, written):
    """It, opened; at the end it must have been quiet."""
    page = browser.open(written, width=1440)
    yield page
    assert page.troubles == []
    assert [one for one in page.requests[1:] if not one.startswith(("data:", "blob:"))] == []
    page.close()


def mmlu(tokens: str) -> dict[str, float]:
    """MMLU's published scores after so many tokens, the highest first."""
    rows = {blend.name: {row.title: row for row in blend.evaluated} for blend in load_study().blends}
    found = {name: row[tokens].score("MMLU").points for name, row in rows.items() if tokens in row}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def pick(page, label: str, value: str) -> None:
    """Choose in the menu that is called so."""
    page.evaluate(
        f"(() => {{ const menu = [...document.querySelectorAll('.charts > .tools label')].find((one) =>"
        f"one.textContent.trim().startsWith({json.dumps(label)})).querySelector('select');"
        f"menu.value = [...menu.options].find((one) => one.text === {json.dumps(value)}).value;"
        "menu.dispatchEvent(new Event('change')); })()"
    )


def texts(page, selector: str) -> list[str]:
    return page.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.textContent.trim())")


def milestones(page) -> list[str]:
    """Marks on the axis of tokens of the large figure, from the left, and its name."""
    *marks, name = texts(page, f"{LARGE} .marks text[text-anchor=middle]")
    return [*reversed(marks), name]


def test_the_script_draws_at_first_what_the_page_came_with(browser, written, page):
    still = browser.open(written, script=False)
    shown = still.evaluate("[...document.querySelectorAll('figure svg')].map((one) => one.outerHTML)")
    still.close()
    assert len(shown) == 11
    drawn = page.evaluate(
        "(() => { const data = JSON.parse(document.querySelector('[data-charts] script').textContent);"
        "const state = { hidden: new Set(), from: data.tokens[0], to: data.tokens.at(-1), rule: null };"
        "state.logarithmic = true;"
        "const less = differenceOf(data.panels[0], data.baseline);"
        "const all = [[data.panels[0], 290], [less, 290], ...data.panels.slice(1).map((one) => [one, 240])];"
        "return all.map(([one, height]) => draw(viewOf(one, state), data, state, 400, height).text); })()"
    )
    number = re.compile(r"(?<![\w#])-?\d+(?:\.\d+)?")
    for one, other in zip(shown, drawn, strict=True):
        one, other = (re.sub(r"\s*/>|></path>", ">", text).replace("&#39;", "'") for text in (one, other))
        assert number.sub("0", one) == number.sub("0", other)
        apart = [abs(float(x) - float(y)) for x, y in zip(number.findall(one), number.findall(other), strict=True)]
        assert max(apart) < 0.11  # places on the screen
        said = [re.findall("<title>(.*?)</title>", text) for text in (one, other)]
        assert said[0] == said[1] != []


@pytest.mark.parametrize("errors", [(1.5, 2.0), ()])
def test_the_script_draws_points_by_themselves_as_the_page_does(page, errors):
    curve = Curve("a", (1e9, 2e9, 4e9), (60.0, 65.0, 70.0), (1.0, 1.0, 1.0), number=2)
    points = Curve("a, FP8", (2e9, 4e9), (64.0, 70.0), errors, number=2, hollow=True)
    panel = Panel("T", (curve, points), paired={("a, FP8", "a"): {4e9: 0.5}})
    less, charts = difference(panel, "a"), Charts("curves", (panel,), baseline="a")
    assert less.curves[0].hollow and less.curves[0].at(4e9) == (0.0, 0.5)
    drawn = page.evaluate(
        f"(() => {{ const data = {packed(charts)}; const [panel] = data.panels;"
        "const state = { hidden: new Set(), from: 1e9, to: 4e9, rule: null, logarithmic: true };"
        "return [...[panel, differenceOf(panel, 'a')].map((one) => draw(one, data, state, 400, 290).text),"
        "sampleOf(data.looks['a, FP8']).outerHTML]; })()"
    )
    own = [*(panel_svg(one, large=True) for one in (panel, less)), sample_svg(points)]
    assert [re.sub("></path>", "/>", text) for text in drawn] == own
    assert all(text.count(HOLLOW) == 2 for text in own[:2]) and own[2].count(HOLLOW) == 1
    assert own[0].count('class="band"') == 1 and 'class="band"' not in own[1]


def test_what_lies_in_the_middle_is_rounded_alike_on_the_page_and_by_its_script(page):
    tokens = (1e9, 2e9, 3e9)
    ties = [(61.25, 61.75, 100 * 0.6135), (58.2, 100 * 7 / 16, 100 * 0.5515), (0.05, 100 / 3, 100 * 13 / 24)]
    curves = [Curve(name, tokens, means, (0.25, 0.35, 1.45)) for name, means in zip("abc", ties)]
    panel = Panel("T", tuple(curves), (Line("teacher", 61.05, 0.15), Line("pruned student", 0.45)))
    charts = Charts("curves", (panel,), baseline="a", at=3e9)
    script = (
        f"(() => {{ const data = {packed(charts)}; const [panel] = data.panels;"
        "return [panel, ...['a', 'b', 'c', 'teacher'].map((name) => differenceOf(panel, name))].map((one) =>"
        "one.curves.map((curve) => curve.points.map((point) => valueText(point[1], point[2], one)))); })()"
    )
    shown = [panel, *(difference(panel, name) for name in ("a", "b", "c", "teacher"))]
    words = [[[value_text(*point[1:], one) for point in curve.points] for curve in one.curves] for one in shown]
    assert page.evaluate(script) == words
    assert words[0][0] == ["61.3 ± 0.3", "61.8 ± 0.4", "61.4 ± 1.5"]
    numbers = [place / 40 for place in range(-100, 100)] + [100 * right / 14_042 for right in range(0, 14_042, 61)]
    numbers += [100 * place / 10_000 for place in range(5, 10_000, 70)]
    for name, rule in (("fixed", fixed), ("significant", significant)):
        for digits in (1, 2):
            found = page.evaluate(f"{json.dumps(numbers)}.map((one) => {name}(one, {digits}))")
            assert found == [rule(one, digits) for one in numbers]


def test_whoever_points_at_a_curve_reads_all_values_there_the_highest_first(page):
    box = page.evaluate(f"document.querySelector('{LARGE} .plot svg').viewBox.baseVal.width")
    at = page.evaluate(
        f"[...document.querySelectorAll('{LARGE} .curve g')].find((one) => one.textContent.endsWith('at 40B'))"
        ".transform.baseVal[0].matrix.e"
    )
    page.drag(f"{LARGE} .plot", ((at + 3) / box, 0.4))
    tip = texts(page, f"{LARGE} .tip > *")
    assert tip[0] == "40B tokens"
    assert tip[1:] == [f"{name}{value:.1f}" for name, value in mmlu("40B").items()]
    page.drag("h1", (0.5, 0.5))
    assert page.evaluate(f"document.querySelector('{LARGE} .tip').hidden")


def test_the_arrow_keys_read_what_pointing_does_and_say_it(page):
    page.evaluate(f"document.querySelector('{LARGE} .plot').focus()")
    page.press("ArrowRight")
    page.press("ArrowRight")
    said = page.evaluate("document.getElementById('said').textContent")
    assert said == "5B tokens: " + "; ".join(f"{name} {value:.1f}" for name, value in mmlu("5B").items())
    page.press("Escape")
    assert page.evaluate(f"document.querySelector('{LARGE} .tip').hidden")
    page.press("ArrowLeft")
    assert page.evaluate("document.getElementById('said').textContent").startswith("100B tokens")


def test_a_blend_is_hidden_by_its_name_and_the_axis_follows(page):
    marks = texts(page, f"{LARGE} .marks text[text-anchor=end]")
    pressed = "document.querySelector('.legend li:nth-child(2) button').ariaPressed"
    page.evaluate("document.querySelector('.legend li:nth-child(2) button').focus()")
    page.press("Enter")
    assert page.evaluate(pressed) == "false" and len(texts(page, f"{LARGE} .curve")) == 4
    assert texts(page, f"{LARGE} .marks text[text-anchor=end]") != marks  # pt_v1v2 was the lowest
    page.click(".charts > .tools > button")
    assert page.evaluate(pressed) == "true" and texts(page, f"{LARGE} .marks text[text-anchor=end]") == marks


def test_tokens_are_zoomed_by_dragging_or_by_menu_and_as_before_again(page):
    first = milestones(page)
    page.drag(f"{LARGE} .plot", (0.5, 0.5), (0.8, 0.5), (1.0, 0.5))
    assert first[0] == "2.5B" and milestones(page)[0] == "20B"
    assert page.evaluate("document.querySelector('.charts > .tools > button').disabled") is False
    pick(page, "from", "2.5B")
    assert milestones(page) == first
    pick(page, "to", "40B")
    assert milestones(page)[:-1] == ["2.5B", "5B", "20B", "40B"]
    pick(page, "Tokens", "linear")
    assert milestones(page)[-1] == "tokens"
    page.click(".charts > .tools > button")
    assert milestones(page) == first and first[-1] == "tokens, log scale"


def test_differences_are_from_the_baseline_and_in_the_panel_that_are_picked(page):
    pick(page, "Difference from", V3)
    last = mmlu("80B")
    said = [text for text in texts(page, f"{LESS} title") if text.endswith("at 80B")]
    assert f"{V1V3}: {last[V1V3] - last[V3]:+.1f} at 80B".replace("-", "−") in said and len(said) == len(last) - 1
    pick(page, "Small", "differences")
    assert texts(page, "[data-panel='1'] .title") == [f"MMLU Pro less {V3}"]
    pick(page, "Large", "IFEval")
    assert texts(page, f"{LESS} .title") == [f"IFEval less {V3}"]
    assert "MMLU less 30pre_70post_v3" in texts(page, ".panels .title")
    pick(page, "Large", "SciCode, average of 8")
    assert "nothing to show here" in texts(page, f"{LESS} text")  # no other blend in that protocol


def test_the_slider_lists_the_blends_at_its_milestone_in_order(page):
    assert "MMLU at 80B tokens" in texts(page, ".compared h3")
    page.evaluate("document.querySelector('.compared input').focus()")
    page.press("ArrowLeft")
    assert page.evaluate("document.querySelector('.compared input').getAttribute('aria-valuetext')") == "60B tokens"
    rows = page.evaluate(
        "[...document.querySelectorAll('.compared tbody tr')]"
        ".map((row) => [...row.cells].map((one) => one.textContent.trim()))"
    )
    known = [row[:2] for row in rows if row[1] != "–"]
    assert known == [[name, f"{value:.1f}"] for name, value in mmlu("60B").items()]
    assert page.evaluate("document.querySelectorAll('figure .rule').length") > 8


def test_a_figure_is_saved_as_it_stands_with_its_legend_and_its_values(page):
    page.evaluate("window.saved = []; window.save = (...file) => saved.push(file);")
    page.evaluate(f"document.querySelector('{LARGE} .save').open = true")
    for place in (1, 2, 3):
        page.click(f"{LARGE} .save button:nth-of-type({place})")
    page.until("saved.length === 3")
    svg, table, png = (
        page.evaluate(f"saved.find((one) => one[0] === 'mmlu.{ending}')[1]") for ending in ("svg", "csv", "png")
    )
    assert page.evaluate("saved.find((one) => one[0] === 'mmlu.png')[1].size") > 20_000 and png == {}
    assert (
        page.evaluate("new DOMParser().parseFromString(saved[0][1], 'image/svg+xml').querySelector('parsererror')")
        is None
    )
    assert "var(" not in svg and svg.count(V3) > 1  # in the legend, too
    lines = list(csv.DictReader(io.StringIO(table)))
    assert {line["curve"]: float(line["value"]) for line in lines if float(line["tokens"]) == 40e9} == mmlu("40B")


def test_without_a_script_every_point_says_its_value_and_a_table_holds_them_all(browser, written):
    page = browser.open(written, script=False)
    points = [text for text in texts(page, f"{LARGE} .curve title")]
    assert f"{V3}: {mmlu('40B')[V3]:.1f} at 40B" in points and len(points) == sum(
        len(b.evaluated) for b in load_study().blends
    )
    assert len(texts(page, "#curves-charts .values tbody tr.group")) == 10
    assert page.evaluate("document.querySelectorAll('.plot, .tip').length") == 0
    page.close()


def test_on_paper_the_figures_are_whole_and_their_controls_are_not_there(page):
    page.resize(1031)
    page.media(kind="print")
    boxes = page.evaluate(
        "[...document.querySelectorAll('figure svg')].map((one) => one.getBoundingClientRect().right)"
    )
    assert max(boxes) <= 1031
    assert not page.evaluate("[...document.querySelectorAll('.charts .tools')].some((one) => one.checkVisibility())")


def test_blends_keep_their_looks_in_whatever_order_their_runs_are_named(drawn):
    names = ["pt_v1v2", "30pre_70post_v1v3 (debug scale)", "mine"]
    first = report("pt_v1v2", [[0.5] * 5], drawn)
    reports = {name: first if name == "pt_v1v2" else report(name, [[0.5] * 5], drawn, base=first) for name in names}
    numbers = [
        {
            curve.label: curve.number
            for curve in panels(Comparison(judge({name: reports[name] for name in order}), {}))[0].curves
        }
        for order in (names, names[::-1])
    ]
    assert numbers[0] == numbers[1] and numbers[0]["pt_v1v2"] == 2 and numbers[0][names[1]] == 5


@pytest.fixture
def drawn():
    import numpy as np

    return np.random.default_rng(3)


def test_a_difference_has_the_paired_error_where_it_is_known():
    tokens = (1e9, 2e9)
    one, other = Curve("a", tokens, (50, 60), (3, 3)), Curve("b", tokens, (49, 58), (4, 4))
    panel = Panel("T", (one, other), (Line("teacher", 90, 1),), paired={("b", "a"): {2e9: 0.5}})
    (curve,) = difference(panel, "a").curves
    assert (curve.means, curve.errors) == ((-1, -2), (5, 0.5))
    assert [curve.means for curve in difference(panel, "teacher").curves] == [(-40, -30), (-41, -32)]
    assert difference(panel, "nobody") is None


def test_names_are_text_in_a_drawing_and_a_long_curve_keeps_its_extremes():
    values = [1.0] * 5000
    values[1234], values[4321] = 9.0, 0.1
    tokens, kept = thinned(range(1, 5001), values)
    assert len(tokens) <= 402 and {9.0, 0.1} <= set(kept) and (tokens[0], tokens[-1]) == (1, 5000)
    svg = panel_svg(Panel('<b>"&', (Curve("<i>", (1e9, 2e9), (1, 2)),)))
    assert "<b>" not in svg and "<i>" not in svg
