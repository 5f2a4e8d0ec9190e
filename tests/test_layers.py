"""The layers of pyproject.toml: imports run down only, every room has a floor, frameworks stay behind their doors."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_no_import_runs_up_or_round_in_a_circle():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(lint), "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_contract_sees_an_arrow_that_runs_up(tmp_path):
    """A copy of the tree in which the ground floor imports the top one is refused, and says where."""
    for name in ("nemo_distill", "evaluator"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "teacher"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with open(tmp_path / "nemo_distill" / "errors.py", "a") as file:
        file.write("\n\ndef up():\n    from nemo_distill import cli\n\n    return cli\n")
    program = (
        "import sys; sys.path[:0] = ['.', 'evaluator']; from importlinter.cli import lint_imports_command as c; c()"
    )
    done = subprocess.run([sys.executable, "-c", program, "--no-cache"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "nemo_distill.errors -> nemo_distill.cli" in done.stdout
