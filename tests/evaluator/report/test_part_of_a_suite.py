"""A pruned student that was asked a part of the suite: its scores are shown, and nothing is made up of the others."""

import csv
import dataclasses
import math

import pytest
from rich.console import Console

from benchmarks.made_up_runs import make_run
from evaluator.report.run import panels, terminal_table, write_report
from evaluator.results.run import Report, check_rows
from evaluator.results.scores import CheckpointResult, TaskResult
from evaluator.suites.catalogue import get_suite
from nemo_distill.outcome.compare import write_comparison_report
from nemo_distill.outcome.gather import gather
from nemo_distill.run.manifest import find
from nemo_distill.run.step import mark_done

ASKED = 2


@pytest.fixture(scope="module")
def partly(report) -> Report:
    rows = list(report.rows)
    tasks = [
        task if place < ASKED else TaskResult.not_asked(task.task, questions=len(task.questions), repeats=4)
        for place, task in enumerate(rows[1].result.tasks)
    ]
    rows[1] = dataclasses.replace(rows[1], result=dataclasses.replace(rows[1].result, tasks=tuple(tasks)))
    return dataclasses.replace(report, rows=tuple(rows))


@pytest.fixture(scope="module")
def folder(partly, tmp_path_factory):
    check_rows(partly)
    folder = tmp_path_factory.mktemp("report")
    write_report(partly, folder)
    return folder


def test_its_scores_are_on_the_page_and_the_others_are_dashes(partly, folder):
    markdown, page = (folder / "report.md").read_text(), (folder / "report.html").read_text()
    assert "nan" not in markdown and ">nan" not in page
    (line,) = (line for line in markdown.splitlines() if line.startswith("| Pruned student | "))
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    assert ["±" in cell for cell in cells] == [False, True, True, False, False, False]
    assert {cells[0], *cells[3:]} == {"–", "**–**"}
    assert "pruned it scored" not in markdown and "of the gap" not in markdown and "of the gap" not in page
    assert partly.recovered(partly.milestones[-1]) is None and not partly.without_answers
    with open(folder / "scores.csv", newline="") as file:
        means = [line["mean"] for line in csv.DictReader(file) if line["role"] == "pruned"]
    assert [bool(mean) for mean in means] == [True, True, False, False, False, False]
    console = Console(width=100)
    with console.capture() as capture:
        console.print(terminal_table(folder))
    assert "–" in capture.get() and "nan" not in capture.get()


def test_questions_of_all_benchmarks_are_shown_by_those_that_were_asked(report, folder):
    with open(folder / "questions.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["benchmark"] for line in lines} == {title for _, title in report.columns}
    with_pruned = {line["benchmark"] for line in lines if line["Pruned student"]}
    assert with_pruned == {title for _, title in report.columns[:ASKED]}
    assert all(line["Teacher"] and line["0.8M"] for line in lines)


def test_curves_have_no_point_where_there_is_no_score(partly):
    for place, panel in enumerate(panels(partly)):
        (curve,) = panel.curves
        assert all(map(math.isfinite, curve.means)) and len(curve.means) == len(curve.tokens)
        asked = 0 < place <= ASKED  # the average is the first
        assert len(panel.lines) == (2 if asked else 1)


def test_runs_whose_pruned_student_was_asked_a_part_are_gathered_and_compared(tmp_path):
    suite = get_suite("offline")
    for name, strengths in (("a", {}), ("b", {suite.benchmarks[4].task: 4.0})):
        run = make_run(tmp_path, name, suite=suite, skills=(0.0, 1.0), shares={"stem": 100}, strengths=strengths)
        spec = run.specs["evaluate-pruned"]
        spec.config["tasks"] = [benchmark.task for benchmark in suite.benchmarks[:ASKED]]
        spec.save()
        result = CheckpointResult.load(spec.folder)
        dataclasses.replace(result, tasks=result.tasks[:ASKED]).save(spec.folder)
        mark_done(spec.folder, seconds=1.0)
    runs = [find(name, runs=tmp_path) for name in ("a", "b")]
    pruned = gather(runs[0].specs["report"]).row("pruned")
    assert [task.asked for task in pruned.result.tasks] == [True] * ASKED + [False] * (5 - ASKED)
    _, folder = write_comparison_report(runs, tmp_path)
    page = (folder / "report.html").read_text()
    assert "Pruned student" in page and ">nan" not in page and "nan ±" not in (folder / "report.md").read_text()
