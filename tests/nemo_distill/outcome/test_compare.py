"""What a command refuses of runs before anything is written; what it writes is the evaluator's to test."""

import pytest

from benchmarks.made_up_runs import make_run
from evaluator.suites.catalogue import get_suite
from nemo_distill import cli
from nemo_distill.outcome.compare import comparison_name
from nemo_distill.run.step import mark_done


@pytest.fixture
def runs(tmp_path):
    """Two finished runs whose reports have a file, and one that has not been reported yet."""
    for name in ("a", "b", "early"):
        run = make_run(tmp_path, name, suite=get_suite("offline"), skills=(-1.0, 0.0), shares={"stem": 100})
        folder = run.specs["report"].folder
        (folder / "report.md").write_text("# Scores\n")
        mark_done(folder, seconds=1.0)
        if name == "early":
            (folder / "_SUCCESS").unlink()
    return tmp_path


@pytest.mark.parametrize("command", [["report", "a", "early"], ["report", "early"], ["card", "early"]])
def test_a_run_without_its_report_is_named_with_the_command_that_says_how_far_it_is(runs, command, capsys):
    assert cli.main([*command, "--runs", str(runs)]) == 2
    assert "early has no report yet: nemo-run status early shows how far it is" in capsys.readouterr().err
    assert not (runs / "comparisons").exists() and not (runs / "cards").exists()


@pytest.mark.parametrize("command", [["report", "b", "a"], ["report", "a"], ["card", "a"]])
def test_a_report_that_lost_a_file_is_neither_shown_nor_compared_nor_made_a_card_of(runs, command, capsys):
    for path in runs.glob("report/*/report.md"):
        path.unlink()
    assert cli.main([*command, "--runs", str(runs)]) == 2
    said = capsys.readouterr().err
    assert "is damaged" in said and "give the run's command again" in said
    assert not (runs / "comparisons").exists() and not (runs / "cards").exists()


def test_a_run_is_not_compared_with_itself(runs, capsys):
    assert cli.main(["report", "a", "a", "--runs", str(runs)]) == 2
    assert "'a' is named twice" in capsys.readouterr().err
    assert not (runs / "comparisons").exists()


def test_the_folder_of_a_comparison_has_a_name_that_a_file_system_takes():
    assert comparison_name(["a", "b"]) == "a-vs-b"
    long = [f"{letter * 60}" for letter in "abc"]
    assert len(comparison_name(long)) == 120 and comparison_name(long) != comparison_name(long[:2] + ["d" * 60])
