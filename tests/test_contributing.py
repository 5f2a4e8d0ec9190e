"""The examples of docs/contributing.md are real: their diffs apply to this tree, and what they add works."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
DIFFS = {
    heading: diff
    for heading, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    if (diff := "".join(re.findall(r"^```diff\n(.*?)^```", text, re.DOTALL | re.MULTILINE)))
}
EVALUATE = """
import json, sys
from pathlib import Path
import evaluator
from evaluator.harness.run import run_suite
from evaluator.suites.catalogue import get_suite
assert Path(evaluator.__file__).is_relative_to(Path.cwd())
result = run_suite(Path(sys.argv[1]), suite=get_suite(sys.argv[2]), folder=Path(sys.argv[3]), label="teacher", seed=0)
print(json.dumps([[task.task, task.questions, task.scores] for task in result.tasks]))
"""


def changed(*headings: str, folder: Path) -> Path:
    """A copy of the tree in `folder` to which the sections' diffs have been applied."""
    left_out = shutil.ignore_patterns("__pycache__", "*.xz", "hub")
    for name in ("nemo_distill", "evaluator", "recipes", "tests", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name, **({"ignore": left_out} if copy is shutil.copytree else {}))
    for heading in headings:
        done = subprocess.run(["git", "apply", "-"], input=DIFFS[heading], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


def run(folder: Path, *arguments: str) -> str:
    """What python prints for `arguments` in the changed tree, which comes before this one; it has to end well."""
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{folder / 'evaluator'}"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("heading", DIFFS)
def test_the_diff_of_an_example_applies_to_this_tree(heading, tmp_path):
    folder = changed(heading, folder=tmp_path)
    for name in re.findall(r"^\+\+\+ b/(.+)$", DIFFS[heading], re.MULTILINE):
        before = (ROOT / name).read_bytes() if (ROOT / name).exists() else b""
        assert (folder / name).read_bytes() != before


@pytest.mark.slow
def test_the_benchmark_of_the_example_is_asked_through_nemo_evaluator(tmp_path):
    folder = changed("A benchmark", folder=tmp_path)
    (tmp_path / "out").mkdir()
    teacher = ROOT / "nemo_distill" / "debug" / "teacher"
    printed = run(folder, "-c", EVALUATE, str(teacher), "doubling", str(tmp_path / "out"))
    ((task, questions, scores),) = json.loads(printed.splitlines()[-1])
    assert task == "offline_doubling" and len(questions) == 4
    assert scores == [[1.0] * 4] * 4  # the teacher knows sums of three digits
    answers = (tmp_path / "out" / "answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["reference"] for line in answers] == ["246", "496", "620", "804"]


def test_the_statistic_of_the_example_passes_its_own_test(tmp_path):
    folder = changed("A statistic", folder=tmp_path)
    test = "tests/evaluator/stats/test_paired.py"
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--doctest-modules", "evaluator/stats/paired.py", test]
    printed = run(folder, *arguments, "-k", "effect_size")
    assert "2 passed" in printed


def test_the_executor_of_the_example_writes_its_script(tmp_path):
    folder = changed("An executor", folder=tmp_path)
    command = ("-m", "nemo_distill.cli", "recipes/distill_v1v3.py", "--executor", "script", "executor.python=python9")
    assert f"Script: {folder}/runs/distill_v1v3-debug.sh" in run(folder, *command).replace("\n", "")
    first, *lines = (folder / "runs/distill_v1v3-debug.sh").read_text().splitlines()
    specs = [Path(line.removeprefix("python9 -m nemo_distill.step ")) for line in lines]
    assert first == "set -e" and len(specs) == 19
    assert all(json.loads(spec.read_text())["layout"]["nodes"] == 1 for spec in specs)
    assert "0 of 19 steps done" in run(folder, "-m", "nemo_distill.cli", "status")


def test_the_gpu_of_the_example_is_planned_for_and_said_not_to_have_run(tmp_path):
    folder = changed("A kind of GPU", folder=tmp_path)
    wanted = ("scale=full", "layout.gpu=B300", "layout.tensor_parallel=4")
    printed = run(folder, "-m", "nemo_distill.cli", "recipes/distill_v1v3.py", "--dryrun", *wanted)
    assert "Cost on 96 x 8 B300, tensor parallel 4" in printed and "Such a layout has never run" in printed


def test_the_tests_of_the_other_examples_pass_in_the_tree_that_they_change(tmp_path):
    of_examples = {
        "A loss": "tests/nemo_distill/kd/test_losses.py",
        "A pruning score": "tests/nemo_distill/prune/test_scores.py",
        "A kind of source": "tests/nemo_distill/data/test_documents.py",
        "A schema of chats": "tests/nemo_distill/data/test_chats.py",
        "A schedule": "tests/nemo_distill/config/test_schedule.py",
    }
    folder = changed(*of_examples, folder=tmp_path)
    printed = run(folder, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-m", "not slow", *of_examples.values())
    for heading, file in of_examples.items():
        added = re.findall(r"^\+def (test_\w+)", DIFFS[heading], re.MULTILINE) or [r"test_\w+"]
        assert all(re.search(rf"{file}::{name}\b.* PASSED", printed) for name in added), heading
