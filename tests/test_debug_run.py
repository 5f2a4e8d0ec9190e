"""The whole run as a user makes it: every step real, and `kill -9` on every kind of step, to the digits of version 0.1.

The run is version 0.1's, packed in `old_runs`, up to its second milestone: its losses and scores are the golden ones.
All commands fork their steps from one process, that of the tests.
"""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nemo_distill.run.progress import Progress
from nemo_distill.train.losses import read_losses
from tests import old_runs
from tests.forks_for_tests import ENVIRONMENT, forks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
NEMO_RUN = Path(sys.executable).parent / "nemo-run"
MILESTONES = "distill.milestones=(25, 75)"
NAME = "distill_v1v3-debug-milestones25_75"
SEGMENTS = ("distill-0.1M", "distill-0.3M")
CHECKPOINT = "iteration_0000050"
"""The last segment's, in its middle."""
FORKED = {"import-teacher", "prune", "index", *SEGMENTS, "export-pruned", *(f"export-{name[8:]}" for name in SEGMENTS)}
"""Steps that import NeMo or PyTorch for seconds."""
LIMIT_SECONDS = 3600


def command(runs: Path, *words: str) -> list[str]:
    return [str(NEMO_RUN), "recipes/distill_v1v3.py", "--executor", "local", f"runs={runs}", MILESTONES, *words]


def start(runs: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        command(runs, *words), cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def kind_of(folder: Path) -> str:
    """`distill` for `distill-0.4M`, and so on: steps of a kind share their code."""
    name = folder.parent.name
    return next((kind for kind in ("distill", "export", "evaluate") if name.startswith(kind)), name)


def far_enough(kind: str, folder: Path) -> bool:
    """Whether the step in `folder` is in the middle of its work, as far as that can be told from outside."""
    if kind == "distill":  # past the last segment's first checkpoint, and on; the first segment has but its last
        return (folder / CHECKPOINT / "_COMPLETE").exists() and len(read_losses(folder / "losses.jsonl")) > 25
    if kind in ("evaluate", "prune"):
        return (Progress.read(folder) or {"done": 0})["done"] > 0
    return True


def kill_one(runs: Path, spared: set[str]) -> str | None:
    """`kill -9` a running step whose kind is not in `spared`; returns the kind."""
    for spec in runs.glob("*/*/spec.json"):
        folder, kind = spec.parent, kind_of(spec.parent)
        if kind in spared or (folder / "_SUCCESS").exists():
            continue
        record = json.loads(spec.read_text())
        if "provenance" in record and far_enough(kind, folder):
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(record["provenance"]["pid"], signal.SIGKILL)
                return kind
    return None


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder with the finished run in `runs`, what the commands said in `output.txt`, and the kinds of steps that
    were killed in `killed.json`."""
    root = tmp_path_factory.mktemp("debug")
    began, killed, said = time.monotonic(), [], []
    while True:
        before = len(killed)
        with open(root / "output.txt", "w") as file:
            words, environment = command(root / "runs"), ENVIRONMENT | forks()
            process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
            try:
                while process.poll() is None:
                    assert time.monotonic() - began < LIMIT_SECONDS
                    kind = kill_one(root / "runs", spared=set(killed))
                    killed += [kind] if kind else []
                    time.sleep(0.05)
            finally:
                process.terminate()  # and its steps with it, where this was interrupted
                process.wait()
        said.append((root / "output.txt").read_text())
        if process.returncode == 0:
            break
        assert process.returncode == 1 and len(killed) > before, said[-1]
        assert "failed" in said[-1] and "The same command goes on from here." in said[-1]
    (root / "output.txt").write_text("".join(said))
    (root / "killed.json").write_text(json.dumps(killed))
    return root


@pytest.fixture(scope="module")
def runs(root) -> Path:
    return root / "runs"


@pytest.fixture(scope="module")
def golden(tmp_path_factory) -> Path:
    """The run of version 0.1."""
    return old_runs.unpack(tmp_path_factory.mktemp("golden") / "runs")


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def scores(report: Path) -> dict[str, dict[str, float]]:
    """Mean scores by checkpoint and benchmark."""
    by_checkpoint: dict[str, dict[str, float]] = {}
    with open(report / "scores.csv", newline="") as file:
        for row in csv.DictReader(file):
            by_checkpoint.setdefault(row["checkpoint"], {})[row["benchmark"]] = float(row["mean"])
    return by_checkpoint


def test_the_teacher_solves_its_tasks_pruning_breaks_it_and_distillation_mends_it(runs):
    averages = {checkpoint: row["Average"] for checkpoint, row in scores(only(runs, "report/*")).items()}
    assert list(averages) == ["Teacher", "Pruned student", "0.1M", "0.3M"]
    teacher, pruned, *milestones = averages.values()
    assert teacher >= 0.8
    assert pruned <= 0.4
    assert (milestones[-1] - pruned) / (teacher - pruned) >= 0.6


def test_the_student_has_about_three_quarters_of_the_teacher_s_parameters(runs):
    layers = json.loads(only(runs, "prune/*/layers.json").read_text())
    assert 0.70 <= layers["parameters_after"] / layers["parameters_before"] <= 0.75
    candidates = json.loads(only(runs, "prune/*/candidates.json").read_text())
    assert len(candidates) == 10 and candidates[0]["chosen"]


def test_the_run_ends_with_its_table_and_the_path_of_its_report(root, runs):
    output = (root / "output.txt").read_text()
    assert "tokens/s" in output and "left" in output
    assert str(only(runs, "report/*/report.html")) in output
    for name in ("report.md", "learning_curves.png"):
        assert only(runs, f"report/*/{name}").stat().st_size > 1000


def test_every_kind_of_step_was_killed_and_losses_and_scores_equal_those_of_version_0_1(root, runs, golden):
    kinds = {"world", "prepare", "index", "contamination", "import-teacher", "prune", "distill", "export", "evaluate"}
    assert set(json.loads((root / "killed.json").read_text())) == kinds | {"report"}
    for segment in SEGMENTS:
        folder = only(runs, f"{segment}/*")
        ours, theirs = (old_runs.losses(there / folder.relative_to(runs)) for there in (runs, golden))
        old_runs.assert_same_losses(ours, theirs)
    assert f"/{CHECKPOINT}" in (folder / "log.txt").read_text()  # gone on from
    (report,) = (
        folder for folder in golden.glob("report/*") if '"30pre_70post_v1v3 (' in (folder / "spec.json").read_text()
    )
    ours, theirs = scores(only(runs, "report/*")), scores(report)
    if old_runs.same_arithmetic():
        assert ours == {checkpoint: theirs[checkpoint] for checkpoint in ours}


def test_steps_that_import_nemo_were_forked_and_no_others(runs):
    forked = set()
    for spec in runs.glob("*/*/spec.json"):
        if "forked_from" in json.loads(spec.read_text())["provenance"]:
            forked.add(spec.parent.parent.name)
    assert forked == FORKED


def test_the_same_command_again_does_nothing(runs):
    marks = {path: path.stat().st_mtime for path in runs.glob("*/*/_SUCCESS")}
    process = start(runs)
    output, _ = process.communicate()
    assert process.returncode == 0 and "Nothing to do" in output, output
    assert {path: path.stat().st_mtime for path in runs.glob("*/*/_SUCCESS")} == marks


def test_another_blend_trains_again_and_prunes_nothing(runs):
    process = start(runs, "blend.shares.stem=5", "blend.shares.science-mcq=8", "--dryrun")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    rows = {words[0]: words[1] for line in output.splitlines() if len(words := line.split()) > 1}
    assert rows["prune"] == rows["import-teacher"] == "skip"
    assert rows["distill-0.1M"] in ("run", "wait")


def test_a_report_whose_files_are_gone_is_said_to_be_damaged(runs):
    taken_away = only(runs, "report/*/scores.csv")
    words = [str(NEMO_RUN), "report", NAME, "--runs", str(runs)]
    for taken, code in ((True, 2), (False, 0)):
        if taken:
            taken_away.rename(taken_away.with_name("elsewhere.csv"))
        else:
            taken_away.with_name("elsewhere.csv").rename(taken_away)
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert (f"the report of {NAME} is damaged: " in done.stderr) == taken, done.stderr
        assert done.stderr.count("\n") <= 1


def test_tensorboard_has_every_iteration_and_every_score_once(runs):
    (folder,) = (runs / ".track" / "tensorboard").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    lines = [line for name in SEGMENTS for line in read_losses(only(runs, f"{name}/*") / "losses.jsonl")]
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert losses == [(line["iteration"], float(np.float32(line["loss"]))) for line in lines]
    teacher, *students = (row["Average"] for row in scores(only(runs, "report/*")).values())
    assert [event.value for event in events.Scalars("teacher/Average")] == [pytest.approx(100 * teacher, abs=0.1)]
    found = sorted((event.step, event.value) for event in events.Scalars("scores/Average"))
    assert [value for _, value in found] == [pytest.approx(100 * score, abs=0.1) for score in students]
