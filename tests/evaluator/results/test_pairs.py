"""Benchmarks whose harness keeps no answers, beside ordinary ones: everything is shown, and nothing is made up."""

import csv
import dataclasses
import json
import math

import pytest

from evaluator.recount import main as recount
from evaluator.report.card import Card, render
from evaluator.report.comparison import Comparison, write_comparison
from evaluator.report.run import write_report
from evaluator.results.pairs import difference, difference_needed, difference_p
from evaluator.results.scores import CheckpointResult
from evaluator.stats.paired import paired_difference
from evaluator.text import fixed
from evaluator.verdicts.contrasts import OPEN, family
from evaluator.verdicts.judge import judge

REPORTED = "offline_math"


def forget(report, task: str = REPORTED):
    """`report` as it would be if the harness of `task` had kept no answers."""
    rows = []
    for row in report.rows:
        tasks = tuple(
            dataclasses.replace(one, questions=(), scores=(), reported=dataclasses.replace(one.summary, rerun_sd=None))
            if one.task == task
            else one
            for one in row.result.tasks
        )
        rows.append(dataclasses.replace(row, result=dataclasses.replace(row.result, tasks=tasks)))
    return dataclasses.replace(report, rows=tuple(rows))


def table(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def partly(report):
    return forget(report)


def test_a_score_without_answers_is_compared_as_a_score_and_so_less_exactly(report, partly):
    mine, theirs = (row.result.tasks[2] for row in partly.rows[-2:])
    kept, others = (row.result.tasks[2] for row in report.rows[-2:])
    found, paired = difference(mine, theirs), paired_difference(kept.table, others.table)
    assert found.mean == pytest.approx(paired.mean)
    assert found.stderr == pytest.approx(math.hypot(kept.summary.stderr, others.summary.stderr))
    assert found.stderr > paired.stderr
    assert difference_p(mine, theirs) == pytest.approx(math.erfc(abs(found.mean) / found.stderr / math.sqrt(2)))
    more = difference_needed(mine, theirs, significance=0.05)
    assert more.repeats is None and more.questions > 0
    # So many questions, with an error that goes with their root, are 2.8 errors of the difference away from none.
    assert abs(found.mean) / (found.stderr * math.sqrt(40 / more.questions)) == pytest.approx(2.8, abs=0.1)
    assert difference_needed(mine, mine, significance=0.05) is None
    assert difference(kept, theirs) == found  # one of the two is enough


def test_a_contrast_says_whether_it_is_paired(partly):
    columns = partly.columns
    contrasts = family(columns, [(("0.8M", "0.4M", "0.8M"), partly.rows[-1], partly.rows[-2])])
    assert [contrast.column for contrast in contrasts if not contrast.paired] == ["Math", "Average"]
    same = family(columns, [(("0.8M", "0.8M", "0.8M"), partly.rows[-1], partly.rows[-1])])
    assert {contrast.verdict for contrast in same} == {OPEN}


def test_the_report_shows_the_score_and_says_what_it_cannot_show(report, partly, tmp_path):
    write_report(partly, tmp_path)
    kept = tmp_path / "kept"
    kept.mkdir()
    write_report(report, kept)
    pages = [(tmp_path / name).read_text() for name in ("report.md", "report.html")]
    assert all("In Math no single answers were kept: there the difference is that of two scores" in p for p in pages)
    assert all("Math: the harness kept no single answers; the score is the one it reports" in page for page in pages)
    assert "<p>Not here: Math. The harness kept no single answers, only the score.</p>" in pages[1]
    assert 'id="sheet-offline-math"' not in pages[1] and 'id="sheet-offline-code"' in pages[1]
    assert "nan" not in (pages[0] + (tmp_path / "scores.csv").read_text()).lower()
    scores, before = (table(folder / "scores.csv") for folder in (tmp_path, kept))
    assert [(line["mean"], line["stderr"]) for line in scores] == [(line["mean"], line["stderr"]) for line in before]
    assert {line["rerun_sd"] for line in scores if line["benchmark"] == "Math"} == {""}
    asked = {line["benchmark"] for line in table(tmp_path / "questions.csv")}
    assert asked == {"Knowledge", "Science", "IFEval", "Code"}
    assert "no single answers" not in (kept / "report.html").read_text() + (kept / "report.md").read_text()


def test_where_no_harness_keeps_answers_there_is_still_a_report(report, tmp_path):
    for task, _ in report.columns:
        report = forget(report, task)
    write_report(report, tmp_path)
    assert "Not here: Knowledge, Science, Math, IFEval, Code." in (tmp_path / "report.html").read_text()


def test_two_runs_are_compared_and_the_unpaired_verdicts_are_marked(partly, tmp_path):
    judgement = judge({"one": partly, "other": partly})
    write_comparison(Comparison(judgement, {"one": "nemo-run report one", "other": "nemo-run report other"}), tmp_path)
    lines = table(tmp_path / "verdicts.csv")
    assert {line["benchmark"] for line in lines if line["paired"] == "no"} == {"Math", "Average"}
    for name in ("report.md", "report.html"):
        assert "In Math no single answers were kept" in (tmp_path / name).read_text()
    assert "Not here: Math." in (tmp_path / "report.html").read_text()


def test_runs_that_reported_other_numbers_of_questions_are_not_compared(partly):
    tasks = list(partly.rows[-1].result.tasks)
    tasks[2] = dataclasses.replace(tasks[2], reported=dataclasses.replace(tasks[2].reported, questions=41))
    row = dataclasses.replace(partly.rows[-1], result=dataclasses.replace(partly.rows[-1].result, tasks=tuple(tasks)))
    with pytest.raises(ValueError, match=r"'0.8M' was asked other questions, or more often, than 'teacher'"):
        judge({"one": dataclasses.replace(partly, rows=(*partly.rows[:-1], row))})


def test_recount_says_that_there_is_nothing_to_recount(partly, tmp_path, capsys):
    folders = []
    for row in (partly.rows[0], partly.rows[-1]):
        folders.append(tmp_path / row.result.label)
        folders[-1].mkdir()
        row.result.save(folders[-1])
        assert CheckpointResult.load(folders[-1]) == row.result
    assert recount([str(folders[1])]) == 0
    shown = capsys.readouterr().out
    summary = partly.rows[-1].summaries[REPORTED]
    line = next(line.split() for line in shown.splitlines() if line.startswith(REPORTED))
    assert line == [REPORTED, fixed(100 * summary.mean, 2), fixed(100 * summary.stderr, 2), "40", "4"]
    assert "Nothing to recount in offline_math: no single answers were kept." in shown
    assert recount(list(map(str, folders))) == 0
    assert "its differences are unpaired" in capsys.readouterr().out


def test_the_card_gives_the_reported_score_and_says_so(partly):
    row = partly.rows[-1]
    text = render(
        Card(name="a_blend 0.8M", report=partly, row=row, findings=(), why="Chosen.", command="nemo-run recipe.py")
    )
    assert "Math: the harness kept no single answers; the score is the one it reports" in text
    summary = row.summaries[REPORTED]
    assert f"{fixed(100 * summary.mean)} ± {fixed(100 * summary.stderr)}" in text


def test_results_are_json_that_others_can_read(partly, tmp_path):
    partly.rows[0].result.save(tmp_path)
    json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
