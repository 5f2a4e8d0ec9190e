"""The whole run as a user makes it: every step real, once undisturbed and once with `kill -9` on every kind of step.

Both runs go on at the same time, one step at a time each, on the two cores. The schedule is shorter than the demo's.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nemo_distill.backends.nemo.trainer import read_losses
from nemo_distill.run.progress import Progress

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
NEMO_RUN = Path(sys.executable).parent / "nemo-run"
SETTINGS = (
    "distill.milestones=(20, 60)",
    "distill.max_iterations=60",
    "evaluate.repeats=2",
    "executor.parallel_steps=1",
)
LIMIT_SECONDS = 900


def command(runs: Path, *words: str) -> list[str]:
    return [str(NEMO_RUN), "recipes/distill_v1v3.py", "--executor", "local", f"runs={runs}", *SETTINGS, *words]


def start(runs: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        command(runs, *words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def kind_of(folder: Path) -> str:
    """`distill` for `distill-0.4M`, and so on: steps of a kind share their code."""
    name = folder.parent.name
    return next((kind for kind in ("distill", "export", "evaluate") if name.startswith(kind)), name)


def far_enough(kind: str, folder: Path) -> bool:
    """Whether the step in `folder` is in the middle of its work, as far as that can be told from outside."""
    if kind == "distill":
        return len(read_losses(folder / "losses.jsonl")) >= 3
    if kind in ("evaluate", "prune"):
        return (Progress.read(folder) or {"done": 0})["done"] > 0
    return True


def kill_one(runs: Path, spared: set[str]) -> str | None:
    """`kill -9` a running step whose kind is not in `spared`; returns the kind."""
    for spec in runs.glob("*/*/spec.json"):
        folder, record = spec.parent, json.loads(spec.read_text())
        kind = kind_of(folder)
        if kind in spared or "provenance" not in record or (folder / "_SUCCESS").exists():
            continue
        if far_enough(kind, folder):
            os.kill(record["provenance"]["pid"], signal.SIGKILL)
            return kind
    return None


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """The folders of the two finished runs, and of the kinds of steps that were killed, `killed.json`."""
    root = tmp_path_factory.mktemp("runs")
    folders = {"undisturbed": root / "undisturbed", "killed": root / "killed"}
    calm = start(folders["undisturbed"])
    killed: list[str] = []
    began = time.monotonic()
    harried = start(folders["killed"])
    while harried is not None:
        assert time.monotonic() - began < LIMIT_SECONDS
        kind = kill_one(folders["killed"], spared=set(killed))
        if kind is not None:
            killed.append(kind)
            output, _ = harried.communicate(timeout=LIMIT_SECONDS)
            assert harried.returncode == 1, output
            assert "failed" in output and "The same command goes on from here." in output
            harried = start(folders["killed"])
        elif harried.poll() is not None:
            output, _ = harried.communicate()
            assert harried.returncode == 0, output
            harried = None
        time.sleep(0.05)
    output, _ = calm.communicate(timeout=LIMIT_SECONDS)
    assert calm.returncode == 0, output
    (root / "output.txt").write_text(output)
    (root / "killed.json").write_text(json.dumps(killed))
    return folders | {"root": root}


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def averages(folder: Path) -> dict[str, float]:
    """Suite average, 0-100, by row of the report's table."""
    with open(only(folder, "report/*/scores.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    by_row: dict[str, list[float]] = {}
    for row in rows:
        if row["benchmark"].lower() != "average":
            by_row.setdefault(row["checkpoint"], []).append(100 * float(row["mean"]))
    return {checkpoint: sum(scores) / len(scores) for checkpoint, scores in by_row.items()}


def test_the_teacher_solves_its_tasks_pruning_breaks_it_and_distillation_mends_it(runs):
    scores = averages(runs["undisturbed"])
    teacher, pruned, *milestones = scores.values()
    assert list(scores)[:2] == ["Teacher", "Pruned student"]
    assert teacher >= 80
    assert pruned <= 40
    assert (milestones[-1] - pruned) / (teacher - pruned) >= 0.6


def test_the_student_has_about_three_quarters_of_the_teacher_s_parameters(runs):
    layers = json.loads(only(runs["undisturbed"], "prune/*/layers.json").read_text())
    assert 0.70 <= layers["parameters_after"] / layers["parameters_before"] <= 0.75
    candidates = json.loads(only(runs["undisturbed"], "prune/*/candidates.json").read_text())
    assert len(candidates) == 10 and candidates[0]["chosen"]


def test_the_run_ends_with_its_table_and_the_path_of_its_report(runs):
    output = (runs["root"] / "output.txt").read_text()
    assert "tokens/s" in output and "left" in output
    assert str(only(runs["undisturbed"], "report/*/report.html")) in output
    for name in ("report.md", "learning_curves.png"):
        assert only(runs["undisturbed"], f"report/*/{name}").stat().st_size > 1000


def test_every_kind_of_step_was_killed_and_losses_and_scores_equal_the_undisturbed_run_s(runs):
    kinds = {"world", "prepare", "index", "contamination", "import-teacher", "prune", "distill", "export", "evaluate"}
    assert set(json.loads((runs["root"] / "killed.json").read_text())) == kinds | {"report"}
    for segment in ("distill-81K", "distill-0.24M"):
        undisturbed, killed = (
            [
                {key: value for key, value in line.items() if key != "seconds"}
                for line in read_losses(only(runs[run], f"{segment}/*/losses.jsonl"))
            ]
            for run in ("undisturbed", "killed")
        )
        assert undisturbed and undisturbed == killed
    scores = [only(runs[run], "report/*/scores.csv").read_text() for run in ("undisturbed", "killed")]
    assert scores[0] == scores[1]


def test_the_same_command_again_does_nothing(runs):
    marks = {path: path.stat().st_mtime for path in runs["undisturbed"].glob("*/*/_SUCCESS")}
    process = start(runs["undisturbed"])
    output, _ = process.communicate()
    assert process.returncode == 0 and "Nothing to do" in output, output
    assert {path: path.stat().st_mtime for path in runs["undisturbed"].glob("*/*/_SUCCESS")} == marks


def test_another_blend_trains_again_and_prunes_nothing(runs):
    process = start(runs["undisturbed"], "blend.shares.stem=5", "blend.shares.science-mcq=8", "--dryrun")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    rows = {words[0]: words[1] for line in output.splitlines() if len(words := line.split()) > 1}
    assert rows["prune"] == rows["import-teacher"] == "skip"
    assert rows["distill-81K"] in ("run", "wait")


def test_a_report_whose_files_are_gone_is_said_to_be_damaged(runs):
    scores = only(runs["undisturbed"], "report/*/scores.csv")
    words = [str(NEMO_RUN), "report", "distill_v1v3-debug", "--runs", str(runs["undisturbed"])]
    for taken, code in ((True, 2), (False, 0)):
        if taken:
            scores.rename(scores.with_name("elsewhere.csv"))
        else:
            scores.with_name("elsewhere.csv").rename(scores)
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert ("the report of distill_v1v3-debug is damaged: " in done.stderr) == taken, done.stderr
        assert done.stderr.count("\n") <= 1
