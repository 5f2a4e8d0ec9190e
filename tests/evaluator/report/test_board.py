"""What a board says and draws, of models whose truth is known."""

import csv
import dataclasses
import re

import pytest

from evaluator.report.board import view
from evaluator.report.board_page import write_board
from evaluator.report.bought import summary
from evaluator.report.scatter import NARROW, scatter_svg
from evaluator.results.board import Board, Conditions, Model, Rate
from evaluator.stats.scores import Estimate

AT = (32_768, 1_024)
HERE = Conditions(gpu="H100 80GB HBM3", engine="vLLM 0.24.0", load="16 in flight")
THERE = dataclasses.replace(HERE, gpu="H200")


def model(
    title: str, score: float, rate: float | None, gib: float | None, *, role="milestone", on=HERE, **more
) -> Model:
    rates = () if rate is None else (Rate(setting=AT, conditions=on, values=(rate,)),)
    scores = {"Math": Estimate(score / 100, 0.01), "Code": Estimate(score / 100, 0.01)}
    return Model(title=title, role=role, scores=scores, gib=gib, rates=rates, **{"protocol": "p", **more})


TEACHER = model("Teacher", 66.0, 800, 16.0, role="teacher")
PRUNED = model("Pruned student", 18.0, 960, 13.0, role="pruned")
EARLY, LAST = model("40B", 62.0, 960, 13.0), model("80B", 65.0, 960, 13.0)
FP8 = model("80B-fp8", 64.0, 1200, 8.0, role="quantised", format="FP8")
ALL = (TEACHER, PRUNED, EARLY, LAST, FP8)
PUBLISHED = tuple(
    dataclasses.replace(one, published=True, protocol="the study's", blend=one.blend or "theirs" if one is LAST else "")
    for one in (TEACHER, LAST)
)


def board(*models: Model, setting=AT):
    return view(Board(models=models, setting=setting, measure="it is measured elsewhere"))


def fronts(shown) -> dict[str, str]:
    return {line.model.name: shown.front_text(line) for line in shown.lines}


def test_what_is_bought_is_the_fastest_students_and_what_was_trained_beside_it():
    said = summary(board(*ALL))
    assert said.sentence == (
        "80B-fp8 generates 1.50 times the teacher's tokens/s from 50% of its weights, for 2.0 ± 1.0 points less "
        "on average."
    )
    assert said.points[0] == (
        "As it was trained",
        "80B generates 1.20 times the teacher's tokens/s from 81% of its weights, for 1.0 ± 1.0 points less "
        "on average.",
    )


def test_the_front_is_marked_in_table_and_drawing():
    shown = board(*ALL)
    assert fronts(shown) == {"Teacher": "both", "Pruned student": "", "40B": "", "80B": "both", "80B-fp8": "both"}
    by_rate, by_size = (scatter_svg(scatter) for scatter in shown.figures[0].scatters)
    assert re.findall(r'font-weight="650">([^<]+)', by_rate) == ["80B-fp8", "teacher", "80B"]
    for drawn in (by_rate, by_size):
        assert drawn.count('class="front"') == 1
        assert "↓ pruned student 18.0" in drawn  # far below: named at the margin, and stretches no axis
    (path,) = re.findall(r'class="front" d="([^"]+)"', by_rate)
    assert path.count("V") == path.count("H") == 2


def test_a_student_as_good_and_larger_is_on_no_front_and_equal_ones_are_together():
    worse = model("worse", 65.0, 960, 14.0)
    twin = model("twin", 65.0, 960, 13.0)
    assert fronts(board(TEACHER, LAST, worse, twin)) == {
        "Teacher": "both",
        "80B": "both",
        "twin": "both",
        "worse": "tokens/s",
    }
    assert fronts(board(LAST)) == {"80B": "both"}


def test_scores_of_two_protocols_and_rates_of_two_gpus_share_no_figure_and_the_page_says_so():
    shown = board(*ALL, model("b", 70.0, 2000, 8.0, on=THERE), model("c", 90.0, 5000, 1.0, protocol="q"))
    first, second = shown.figures
    assert [scatter.foot for scatter in first.scatters] == [
        "at 32,768/1,024 on H100 80GB HBM3, vLLM 0.24.0, 16 in flight",
        "at 32,768/1,024 on H200, vLLM 0.24.0, 16 in flight",
        "",
    ]
    drawn = [{point.label for point in scatter.points} for scatter in (*first.scatters, *second.scatters)]
    assert drawn[1] == {"b"} and drawn[3] == drawn[4] == {"c"} and all("c" not in one for one in drawn[:3])
    axes = dict(summary(shown).points)["What shares an axis"]
    assert "Scores are of 2 protocols" in axes and "Rates were measured on" in axes
    (line,) = (line for line in shown.lines if line.model.title == "b")
    assert line.times_rate is None and line.times_size == 0.5  # the teacher was not measured there


def test_a_rate_that_was_not_measured_is_said_and_not_drawn():
    shown = board(TEACHER, dataclasses.replace(LAST, rates=()))
    (of_rate, of_size) = shown.figures[0].scatters
    assert [point.label for point in of_rate.points] == ["teacher"] and len(of_size.points) == 2
    assert (
        summary(shown).sentence
        == "80B has 81% of the teacher's weights, for 1.0 ± 1.0 points less on average; its rate was not measured."
    )
    assert dict(summary(shown).points)["Not measured"] == (
        "The rate at 32,768/1,024 of 80B, in no figure of tokens/s: it is measured elsewhere."
    )


def test_published_models_are_hollow_have_a_front_of_their_own_and_no_axis_of_another_gpu():
    theirs = [
        dataclasses.replace(
            one, rates=(Rate(setting=AT, conditions=Conditions(gpu="H100", engine="vLLM"), values=(5000,)),)
        )
        for one in PUBLISHED
    ]
    shown = board(*ALL, *theirs)
    assert fronts(shown)["80B"] == "both" and fronts(shown)["theirs 80B"] == "GiB"
    by_rate, _ = shown.figures[0].scatters
    assert {point.label for point in by_rate.points if point.hollow} == {"teacher", "80B"}
    assert scatter_svg(by_rate).count('fill="var(--card)"') == 2
    elsewhere = board(
        *(
            dataclasses.replace(one, rates=tuple(dataclasses.replace(r, conditions=THERE) for r in one.rates))
            for one in ALL
        ),
        *theirs,
    )
    by_rate, by_size = elsewhere.figures[0].scatters
    assert not any(point.hollow for point in by_rate.points) and any(point.hollow for point in by_size.points)
    assert "share no axis with these" in dict(summary(elsewhere).points)["What shares an axis"]


def test_the_page_is_read_at_any_width_without_a_script_and_saves_its_figures(browser, tmp_path):
    write_board(board(*ALL, *PUBLISHED), tmp_path / "board.html")
    rows = list(csv.DictReader((tmp_path / "board.csv").open(encoding="utf-8")))
    assert [row["model"] for row in rows] == [one.title for one in (*ALL, *PUBLISHED)]
    assert rows[4]["times_teacher_gib"] == "0.5000" and rows[4]["front_gib"] == "yes"
    shown = "[...document.querySelectorAll('figure > svg')].filter((one) => getComputedStyle(one).display !== 'none')"
    wide = "document.documentElement.scrollWidth - innerWidth"
    page = browser.open(tmp_path / "board.html", width=360, height=800, script=False)
    for width, drawn in ((360, "narrow"), (1440, "wide"), (2560, "wide")):
        page.resize(width)
        assert page.evaluate(wide) == 0
        assert page.evaluate(f"{shown}.map((one) => one.classList[0])") == [drawn, drawn]
        spilled = (
            f"{shown}.flatMap((one) => [...one.querySelectorAll('text')].filter((text) => {{ const [a, b] ="
            " [text.getBoundingClientRect(), one.getBoundingClientRect()];"
            " return a.left < b.left - 1 || a.right > b.right + 1; })).map((text) => text.textContent)"
        )
        assert page.evaluate(spilled) == []
    page.close()
    page = browser.open(tmp_path / "board.html", width=1440)
    page.evaluate("box = document.querySelector('[data-board]')")
    text = page.evaluate("boardPicture(box, box.querySelector('figure')).text")
    assert "var(" not in text and "Pareto front" in text and "80B-fp8" in text
    assert page.evaluate("document.querySelectorAll('figure .save button').length") == 6
    assert page.troubles == []
    page.close()


def test_names_are_left_out_where_they_would_lie_over_others():
    crowd = [model(f"checkpoint-{number}", 65 + number / 50, 960, 13.0) for number in range(20)]
    drawn = scatter_svg(board(TEACHER, *crowd).figures[0].scatters[0], width=NARROW)
    assert drawn.count("<title>") == 21 and drawn.count('class="halo"') < 12


@pytest.mark.parametrize("gpu", ["H100 PCIe", "H100 NVL", "A100-SXM4-80GB"])
def test_other_gpus_are_not_the_studys(gpu):
    assert not Conditions(gpu="H100", engine="vLLM").may_join(dataclasses.replace(HERE, gpu=gpu))
    assert Conditions(gpu="H100", engine="vLLM").may_join(HERE)
