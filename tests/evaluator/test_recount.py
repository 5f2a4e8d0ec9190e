import dataclasses

import pytest

from evaluator.recount import main
from evaluator.text import fixed


@pytest.fixture
def folders(report, tmp_path):
    """Folders of the evaluations of the teacher and of the last milestone."""
    found = []
    for row in (report.rows[0], report.rows[-1]):
        found.append(tmp_path / row.result.label)
        found[-1].mkdir()
        row.result.save(found[-1])
    return found


def test_the_scores_of_a_report_come_out_of_the_answers_again(report, folders, capsys):
    assert main([str(folders[1])]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == "0.8M"
    row = report.rows[-1]
    for line, (task, summary) in zip(lines, row.summaries.items()):
        numbers = (summary.mean, summary.stderr, summary.rerun_sd)
        assert line.split() == [task, *(fixed(100 * number, 2) for number in numbers), "40", "4"]
    assert lines[-1].split() == ["average", fixed(100 * row.average.mean, 2), fixed(100 * row.average.stderr, 2)]


def test_two_folders_give_the_paired_differences_of_the_report(report, folders, capsys):
    assert main([str(folders[1]), str(folders[0])]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    _, differences = list(report.changes())[-1]
    shown = [(fixed(100 * one.mean, 2, signed=True), fixed(100 * one.stderr, 2)) for one in differences]
    assert [tuple(line[1:3]) for line in lines] == shown


def test_what_cannot_be_counted_is_refused_in_a_sentence(report, folders, tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "is no evaluation's folder: it has no results.json" in capsys.readouterr().err
    other = tmp_path / "other"
    other.mkdir()
    tasks = tuple(dataclasses.replace(task, questions=("x",) * 40) for task in report.rows[0].result.tasks)
    dataclasses.replace(report.rows[0].result, tasks=tasks).save(other)
    assert main([str(folders[0]), str(other)]) == 2
    assert "were not asked the same questions" in capsys.readouterr().err
    assert main([]) == 2
