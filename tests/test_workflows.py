"""The workflows are ones that GitHub would take, and do nothing but call `make`, as .ci/run does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONLINT = str(Path(sys.executable).parent / "actionlint")


def commands(workflow: Path) -> list[str]:
    """What the steps of a workflow run, in order."""
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actionlint_has_nothing_to_say(workflow):
    done = subprocess.run([ACTIONLINT, str(workflow)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_actionlint_would_have_something_to_say(tmp_path):
    broken = tmp_path / "broken.yml"
    text = WORKFLOWS[0].read_text(encoding="utf-8")
    broken.write_text(text.replace("matrix.python }}\n          cache", "matrix.snake }}\n          cache"))
    done = subprocess.run([ACTIONLINT, str(broken)], capture_output=True, text=True)
    assert done.returncode == 1 and '"snake" is not defined' in done.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_targets_of_make_only(workflow):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    called = commands(workflow)
    assert called
    assert [command for command in called if not re.fullmatch(r"make \w+", command)] == []
    assert {command.removeprefix("make ") for command in called} <= targets


def test_what_the_fast_tests_leave_out_is_there():
    (long,) = re.findall(r"^LONG := ((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert [path for path in long.replace("\\", " ").split() if not (ROOT / "tests" / path).exists()] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_what_a_workflow_calls_our_own_ci_calls_too(workflow):
    here = re.findall(r"^make (.+)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), flags=re.MULTILINE)
    targets = {target for line in here for target in line.split() if not target.startswith("-")}
    called = {command.removeprefix("make ") for command in commands(workflow)}
    assert called - {"setup"} == targets  # every other target sets up first
