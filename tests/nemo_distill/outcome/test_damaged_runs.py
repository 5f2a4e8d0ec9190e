"""Finished runs that were damaged, cut or swapped: `report` and `card` refuse them in one sentence, and leave nothing.

The runs are two real ones, packed by tests/old_runs.py. Each damage is done in place and taken back. A step's mark of
success says the size of every file, so what changes a size is found by that; the others are done with a mark that is
written anew, as a hand that edits a file would not, to see that what is read is looked at as well.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nemo_distill import cli
from nemo_distill.run.step import SUCCESS, mark_done
from tests import old_runs
from tests.damage_for_tests import deep, empty, folder, gone, pipe, zeros

NAMES = ("distill_v1v3-debug", "distill_v3-debug")
LAST, TEACHER, PRUNED = "evaluate-0.61M", "evaluate-teacher", "evaluate-pruned"
OTHER = "evaluate-0.3M"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return old_runs.unpack(tmp_path_factory.mktemp("old") / "runs")


def step_of(runs: Path, name: str) -> Path:
    """Folder of a step of the first run."""
    steps = json.loads((runs / f"{NAMES[0]}.json").read_text())["steps"]
    return runs / next(step["folder"] for step in steps if step["name"] == name)


def edit(change: Callable[[dict], object]):
    """The JSON in a file is changed."""

    def done(path: Path) -> None:
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return done


def task(**changed):
    """Fields of the first benchmark become this."""
    return edit(lambda record: record["tasks"][0].update(changed))


def score(value):
    """One score becomes this."""
    return edit(lambda record: record["tasks"][1]["scores"][3].__setitem__(0, value))


def percent(record: dict) -> None:
    for one in record["tasks"]:
        one["scores"] = [[100 * value for value in row] for row in one["scores"]]


def texts(record: dict) -> None:
    for one in record["tasks"]:
        one["scores"] = [[str(value) for value in row] for row in one["scores"]]


def reported(**changed):
    """The first benchmark has no answers, and this score in their place."""
    summary = {"mean": 0.5, "stderr": 0.1, "rerun_sd": None, "questions": 40, "repeats": 4} | changed
    return task(questions=[], scores=[], reported=summary)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def latin(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:60] + b"\xe9" + content[61:])


def a_list(path: Path) -> None:
    path.write_text("[[1]]")


def every_line(change: Callable[[dict], object]):
    """The JSON in each line of a file is changed."""

    def done(path: Path) -> None:
        records = [json.loads(line) for line in path.read_text().splitlines()]
        for record in records:
            change(record)
        path.write_text("".join(json.dumps(record) + "\n" for record in records))

    return done


RESULTS = [
    *(cut, empty, folder, latin, zeros, a_list, deep),
    *(score(value) for value in ("1.0", None, -5, 3, 100.0, float("nan"), float("inf"), True, [1.0])),
    edit(percent),
    edit(texts),
    edit(lambda record: record["tasks"][0]["scores"][0].pop()),
    edit(lambda record: record["tasks"][0]["scores"].pop()),
    edit(lambda record: record["tasks"][0]["scores"].__setitem__(0, [])),
    edit(lambda record: [row.pop() for row in record["tasks"][0]["scores"]]),
    edit(lambda record: record["tasks"][0]["questions"].__setitem__(1, record["tasks"][0]["questions"][0])),
    edit(lambda record: record["tasks"][0]["questions"].__setitem__(1, 7)),
    edit(lambda record: record["tasks"].reverse()),
    edit(lambda record: record["tasks"].pop()),
    edit(lambda record: record["tasks"].append(record["tasks"][0])),
    edit(lambda record: record.update(tasks=[])),
    edit(lambda record: record.update(tasks=None)),
    edit(lambda record: record.update(label="teacher")),
    edit(lambda record: record.update(label=None)),
    edit(lambda record: record.update(seed=4321)),
    edit(lambda record: record.update(seed="1234")),
    edit(lambda record: record.update(suite="study")),
    edit(lambda record: record.update(seconds="long")),
    edit(lambda record: record.update(command="nemo-evaluator")),
    edit(lambda record: record.update(novelty=1)),
    edit(lambda record: record.pop("label")),
    edit(lambda record: record["tasks"][0].pop("scores")),
    task(novelty=1),
    task(task=None),
    task(task="offline_code"),
    task(mean_tokens=-1),
    task(mean_tokens="7"),
    task(cut_share=1.5),
    task(cut_share=float("nan")),
    task(empty_share=-0.1),
    task(failed_requests=-1),
    task(most=100),
    task(most=2.0),
    task(clusters=["a"]),
    task(reported={"mean": 0.5}),
    reported(mean=50.0),
    reported(stderr=-0.1),
    reported(repeats=0),
    reported(questions=39),
    reported(novelty=1),
]
"""What may be wrong with results.json."""

ANSWERS = [
    *(cut, latin, zeros, a_list),
    every_line(lambda record: record.pop("prompt")),
    every_line(lambda record: record.update(novelty=1)),
    every_line(lambda record: record.update(prompt=None)),
    every_line(lambda record: record["answers"][0].update(text=7)),
    every_line(lambda record: record["answers"][0].update(score="1.0")),
    every_line(lambda record: record["answers"][0].pop("score")),
    every_line(lambda record: record.update(answers="none")),
]
"""What may be wrong with answers.jsonl."""

LOSSES = [
    *(cut, latin, zeros),
    every_line(lambda record: record.pop("loss")),
    every_line(lambda record: record.update(loss="1.0")),
    every_line(lambda record: record.update(tokens=-1)),
    every_line(lambda record: record.update(iteration=None)),
]

OTHERS = [
    *(("prune", "layers.json", change) for change in (cut, empty, zeros, a_list)),
    ("prune", "layers.json", edit(lambda record: record.pop("dropped"))),
    ("prune", "layers.json", edit(lambda record: record.update(parameters_after="7B"))),
    *(("prune", "candidates.json", change) for change in (cut, zeros)),
    ("prune", "candidates.json", lambda path: path.write_text("[1]")),
    *(("prepare", "sources.json", change) for change in (cut, a_list)),
    ("prepare", "sources.json", edit(lambda record: record.clear())),
    ("prepare", "sources.json", edit(lambda record: [one.update(tokens="many") for one in record.values()])),
    *(("contamination", "contamination.json", change) for change in (cut, pipe, a_list)),
    *((LAST, "spec.json", change) for change in (cut, empty, gone, folder, pipe, zeros, a_list)),
    (LAST, "spec.json", edit(lambda record: record.update(name="evaluate-teacher"))),
    (LAST, "spec.json", edit(lambda record: record.update(fingerprint="0" * 12))),
    (LAST, "spec.json", edit(lambda record: record.update(config=None))),
    (LAST, "spec.json", edit(lambda record: record.pop("upstream"))),
    *((step, "_SUCCESS", change) for step in (LAST, "prune") for change in (cut, empty, gone, folder, zeros, a_list)),
    (LAST, "_SUCCESS", edit(lambda record: record.update(files=["results.json"]))),
    (LAST, "_SUCCESS", edit(lambda record: record.update(files={}))),
    ("prune", "_SUCCESS", edit(lambda record: record["files"].pop("layers.json"))),
    (LAST, "_SUCCESS", edit(lambda record: record["files"].update({"results.json": "16631"}))),
    (LAST, "_SUCCESS", edit(lambda record: record.update(fingerprint="0" * 12))),
    ("report", "_SUCCESS", zeros),
    ("report", "scores.csv", zeros),
]

DAMAGES = [
    *((LAST, "results.json", change, True) for change in RESULTS),
    *((LAST, "answers.jsonl", change, True) for change in ANSWERS),
    *(("distill-0.61M", "losses.jsonl", change, True) for change in LOSSES),
    *((step, name, change, name not in ("_SUCCESS", "spec.json")) for step, name, change in OTHERS),
    *((step, "results.json", change, False) for step in (TEACHER, PRUNED) for change in (cut, gone, folder)),
    *((LAST, "answers.jsonl", change, False) for change in (cut, gone, empty)),
    *(("distill-0.3M", "losses.jsonl", change, False) for change in (cut, gone)),
    ("report", "report.html", cut, False),
    ("report", "questions.csv", gone, False),
]
"""Step, file, what is done to it, and whether its mark of success is written anew afterwards."""
ONLY_COMPARED = ("answers.jsonl",)
"""Files that a card does not need."""


@pytest.mark.parametrize("number", range(len(DAMAGES)))
def test_damage_is_refused_in_a_sentence_that_names_it_and_nothing_is_left_behind(runs, tmp_path, capsys, number):
    step, name, change, marked = DAMAGES[number]
    where = step_of(runs, step)
    shutil.copytree(where, tmp_path / "kept", ignore=lambda _, names: [one for one in names if one in LARGE])
    try:
        change(where / name)
        if marked:
            sizes = json.loads((where / SUCCESS).read_text())["files"]
            mark_done(where, fingerprint=where.name, seconds=1.0)
            assert set(json.loads((where / SUCCESS).read_text())["files"]) <= set(sizes)
        commands = [["report", *NAMES], ["card", NAMES[0]]]
        if step == "report":
            commands = [["report", NAMES[0]]]
        for command in commands:
            if command[0] == "card" and marked and name in ONLY_COMPARED:
                continue
            code = cli.main([*command, "--runs", str(runs)])
            said = capsys.readouterr()
            assert code == 2, (command, said.out[-500:])
            assert said.err.count("\n") == 1 and "Traceback" not in said.err, said.err
            assert step.rpartition("-")[2] in said.err or name in said.err or where.name in said.err, said.err
            assert not (runs / "comparisons").exists() and not (runs / "cards").exists()
    finally:
        for path in (tmp_path / "kept").iterdir():
            if (where / path.name).is_dir() and not path.is_dir():
                (where / path.name).rmdir()
            if (where / path.name).is_fifo():
                (where / path.name).unlink()
            if path.is_file():
                shutil.copy2(path, where / path.name)


@pytest.mark.parametrize(("step", "name"), [("report", "scores.csv"), ("sources/*", "card.json")])
@pytest.mark.parametrize("damaged", [pipe, a_list, deep])
def test_who_looks_at_runs_waits_for_no_file_of_theirs(runs, tmp_path, capsys, step, name, damaged):
    kept = {path: path.read_bytes() for path in runs.glob(f"{step}/*/{name}")}
    assert kept
    try:
        for path in kept:
            damaged(path)
        for command in (["list"], ["diff", *NAMES]):
            assert cli.main([*command, "--runs", str(runs)]) == 0
            assert "Traceback" not in capsys.readouterr().err
    finally:
        for path, content in kept.items():
            path.unlink()
            path.write_bytes(content)


LARGE = {"nemo_evaluator", "hf", "checkpoints", "model", "data"}
"""Folders of steps that no report reads."""


def test_a_swapped_checkpoint_is_found_though_every_size_is_right(runs, capsys):
    """Another milestone's results in the place of the last one's, with marks that fit."""
    last, other = step_of(runs, LAST), step_of(runs, OTHER)
    kept = {name: (last / name).read_bytes() for name in ("results.json", SUCCESS)}
    try:
        shutil.copy(other / "results.json", last / "results.json")
        mark_done(last, fingerprint=last.name)
        assert cli.main(["card", NAMES[0], "--runs", str(runs)]) == 2
        assert f"'{last}/results.json' is of label '0.3M', not '0.61M'" in capsys.readouterr().err
    finally:
        for name, content in kept.items():
            (last / name).write_bytes(content)


def test_another_runs_results_of_the_same_milestone_and_size_are_told_by_the_answers_beside_them(runs, capsys):
    mine = step_of(runs, LAST)
    (theirs,) = (folder for folder in mine.parent.iterdir() if folder != mine)
    kept = (mine / "results.json").read_bytes()
    assert len(kept) == (theirs / "results.json").stat().st_size
    try:
        shutil.copy(theirs / "results.json", mine / "results.json")
        for command in (["report", *NAMES], ["card", NAMES[0]]):
            assert cli.main([*command, "--runs", str(runs)]) == 2
            assert "than the results.json beside it" in capsys.readouterr().err
    finally:
        (mine / "results.json").write_bytes(kept)


@pytest.mark.parametrize("damaged", [cut, empty, latin, zeros, a_list, folder])
def test_a_damaged_file_of_the_run_itself_is_named(runs, capsys, damaged):
    path = runs / f"{NAMES[0]}.json"
    kept = path.read_bytes()
    try:
        damaged(path)
        for command in (["report", *NAMES], ["card", NAMES[0]]):
            assert cli.main([*command, "--runs", str(runs)]) == 2
            assert f"{path} is no run's file" in capsys.readouterr().err
    finally:
        if path.is_dir():
            path.rmdir()
        path.write_bytes(kept)


def test_an_evaluation_that_is_gone_is_named(runs, tmp_path, capsys):
    for name in (LAST, TEACHER):
        where = step_of(runs, name)
        where.rename(tmp_path / "away")
        try:
            for command in (["report", *NAMES], ["report", NAMES[0]], ["card", NAMES[0]]):
                assert cli.main([*command, "--runs", str(runs)]) == 2
                assert f"{name} of {NAMES[0]} is not done" in capsys.readouterr().err
        finally:
            (tmp_path / "away").rename(where)
    assert not (runs / "comparisons").exists() and not (runs / "cards").exists()


def test_a_comparison_that_stands_is_kept_when_a_later_one_cannot_be_made(runs, capsys):
    assert cli.main(["report", *NAMES, "--runs", str(runs)]) == 0
    page = runs / "comparisons" / "-vs-".join(NAMES) / "report.html"
    stood = page.read_bytes()
    answers = step_of(runs, LAST) / "answers.jsonl"
    kept, mark = answers.read_bytes(), (answers.parent / SUCCESS).read_bytes()
    try:
        zeros(answers)
        assert cli.main(["report", *NAMES, "--runs", str(runs)]) == 2
        assert "answers.jsonl', line 1, is no whole JSON" in capsys.readouterr().err
        assert page.read_bytes() == stood
    finally:
        answers.write_bytes(kept)
        (answers.parent / SUCCESS).write_bytes(mark)
        shutil.rmtree(runs / "comparisons")
