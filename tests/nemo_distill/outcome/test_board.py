"""`nemo-run board`: what it gathers of runs that never were, what it writes, and what it refuses."""

import csv
import dataclasses
import shutil

import pytest

from benchmarks.made_up_runs import make_run, measure
from evaluator.report.board import view
from evaluator.report.bought import summary
from evaluator.report.run import write_report
from evaluator.suites.catalogue import get_suite
from nemo_distill import cli
from nemo_distill.outcome.board import find_runs, gather_board
from nemo_distill.outcome.gather import gather
from nemo_distill.run.step import SUCCESS

OFFLINE = {"suite": get_suite("offline"), "shares": {"stem": 100}, "exports": 13.0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run whose last student is there in FP8 and was served, beside one whose last is there in NVFP4."""
    runs = tmp_path_factory.mktemp("board") / "runs"
    run = make_run(runs, "a", skills=(0.0, 1.0, 2.0), quantised=("fp8", 7.8), **OFFLINE)
    measure(run, {"teacher": 794, "20B": 963, "20B-fp8": 1147})
    make_run(runs, "b", skills=(0.0, 1.5), quantised=("nvfp4", 5.1), **OFFLINE)
    return runs


def test_every_model_has_its_score_its_size_and_the_rate_of_its_shape_and_format(runs):
    board = gather_board(find_runs([str(runs)], runs=runs))
    found = {model.name: model for model in board.own}
    assert [*found] == [
        *("Teacher", "Pruned student", "blend_a 2.5B", "blend_a 5B", "blend_a 20B", "blend_a 20B-fp8"),
        *("blend_b 2.5B", "blend_b 5B", "blend_b 5B-nvfp4"),
    ]
    rates = {name: [(rate.mean, rate.of) for rate in model.rates] for name, model in found.items()}
    of_others = [(963, "blend_a 20B")]
    assert rates["Teacher"] == [(794, "")] and rates["blend_a 20B"] == [(963, "")]
    assert rates["blend_a 2.5B"] == rates["Pruned student"] == rates["blend_b 5B"] == of_others
    assert rates["blend_a 20B-fp8"] == [(1147, "")] and rates["blend_b 5B-nvfp4"] == []
    sizes = {name: round(model.gib, 1) for name, model in found.items()}
    assert sizes["Teacher"] == 16.6  # of its parameters: it is not on this machine
    assert (sizes["blend_a 5B"], sizes["blend_a 20B-fp8"], sizes["blend_b 5B-nvfp4"]) == (13.0, 7.8, 5.1)
    assert {model.format for model in found.values()} == {"bf16", "FP8", "NVFP4"}
    assert [model.name for model in board.not_scored] == ["blend_b 5B-nvfp4"]
    assert len([model for model in board.models if model.published and model.scores]) == 8


def test_rates_of_another_machine_have_a_figure_of_their_own(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    (other,) = find_runs(["b"], runs=tmp_path / "runs")
    measure(other, {"5B": 1700}, gpu="NVIDIA H200")
    board = gather_board(find_runs([str(tmp_path / "runs")], runs=tmp_path))
    conditions = board.groups[0].conditions
    assert {one.gpu for one in conditions} == {"H100 80GB HBM3", "H200"}
    here = {one.model.name: one.at for one in board.groups[0].places(next(c for c in conditions if c.gpu == "H200"))}
    assert set(here.values()) == {1700} and "Teacher" not in here and "blend_a 20B-fp8" not in here


def test_a_student_that_is_not_at_hand_has_no_size_and_is_named(tmp_path):
    make_run(tmp_path, "c", skills=(0.0, 1.0), **{**OFFLINE, "exports": None})
    shown = view(gather_board(find_runs(["c"], runs=tmp_path)), number=1)
    assert [model.gib is None for model in shown.board.own] == [False, True, True, True]
    missing = dict(summary(shown).points)["Not measured"]
    assert "The size of Pruned student, 2.5B and 5B: the checkpoint is not where it was." in missing
    assert summary(shown).sentence.endswith("points less on average than the teacher; neither rate nor size is known.")


def test_the_command_says_in_fifteen_lines_what_the_page_and_its_table_hold(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = tmp_path / "new" / "shown.html"
    assert cli.main(["board", "a", "--runs", str(runs), "--out", str(page), "--setting", "32,768/1,024"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 15 and lines[-1] == f"Board: {page}"
    sentence = page.read_text(encoding="utf-8").partition("<h1>")[2].partition("</h1>")[0]
    assert " ".join(line.strip() for line in lines[:2]) == sentence.replace("&#39;", "'")
    assert sentence.startswith("20B-fp8 generates 1.44 times the teacher&#39;s tokens/s from 47% of its weights, for ")
    rows = list(csv.DictReader(page.with_suffix(".csv").open(encoding="utf-8")))
    assert {row["model"]: row["rate_of"] for row in rows if row["published"] == "no"} == {
        **{"Teacher": "", "20B": "", "20B-fp8": ""},
        **{"Pruned student": "20B", "2.5B": "20B", "5B": "20B"},
    }
    assert cli.main(["board", str(runs), "--runs", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 15 and any(line.startswith("No score: ") and "5B-nvfp4" in line for line in lines)
    assert {path.name for path in (runs / "board").iterdir()} == {"board.html", "board.csv"}


def test_a_part_of_a_runs_report_is_its_own_models(runs, tmp_path):
    (run,) = find_runs(["a"], runs=runs)
    spec = run.specs["report"]
    served = {"serve_bench": run.specs["serve_bench"].folder}
    report = gather(dataclasses.replace(spec, upstream={**spec.upstream, **served}))
    assert [model.title for model in report.board.models][-2:] == ["20B", "20B-fp8"]
    assert not any(model.published for model in report.board.models)
    write_report(report, tmp_path)
    text, page = (tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()
    said = "20B-fp8 generates 1.44 times the teacher's tokens/s from 47% of its weights, for"
    assert f"## What compression bought\n\n{said}" in text and page.count('class="front"') == 4
    assert "| 20B-fp8 | FP8 |" in text and (tmp_path / "board.csv").is_file()


def test_what_is_published_is_marked_in_a_terminal_without_colours(tmp_path, capsys):
    make_run(tmp_path / "runs", "c", skills=(0.0,), **{**OFFLINE, "exports": None})
    assert cli.main(["board", str(tmp_path / "runs")]) == 0
    said = capsys.readouterr().out
    assert said.count("Teacher ") == said.count("Teacher* ") == 1 and "Published (*): the study's" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["empty"], "'empty' is no folder of runs: no run's file, NAME.json, is in it."),
        (["aa"], "there is no folder 'aa', and no run of that name in 'runs'."),
        (["early"], "no model of these runs was evaluated yet: nemo-run status c shows how far c is."),
        (["runs", "--benchmark", "Maths"], "--benchmark Maths: no model was asked that. Did you mean 'Math'?"),
        (["runs", "--setting", "32768/1025"], "no rate was measured at that. Did you mean '32768/1024'?"),
        (["runs", "--setting", "9" * 5000 + "/5"], "a setting is INPUT/OUTPUT in tokens. Known: '32768/1024'."),
        (["runs", "--setting", "long"], "a setting is INPUT/OUTPUT in tokens. Known: '32768/1024'."),
        (["runs", "--setting", "32768/1024x8"], "with so many in flight. Did you mean '32768/1024x16'?"),
        (["runs", "--out", "board.csv"], "--out board.csv: the page is a file .html"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_a_sentence_and_nothing_is_written(
    runs, tmp_path, monkeypatch, capsys, arguments, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(runs)
    (tmp_path / "empty").mkdir()
    if arguments == ["early"]:
        run = make_run(tmp_path / "early", "c", skills=(0.0,), **OFFLINE)
        for spec in run.specs.values():
            if spec.name.startswith("evaluate-"):
                (spec.folder / SUCCESS).unlink()
    before = sorted(tmp_path.rglob("*"))
    shutil.rmtree(runs / "board", ignore_errors=True)
    assert cli.main(["board", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before and not (runs / "board").exists()
