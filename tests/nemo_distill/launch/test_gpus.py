"""Runs whose steps share the GPUs of a machine: made up, for the steps compute on the CPU, and dealt out as real ones
are."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting_for_tests import alive, wait_for

HERE = Path(__file__).resolve().parents[1]
STEPS = {"import", "distill-1", "distill-2", "evaluate-teacher", "evaluate-1", "evaluate-2"}


@pytest.fixture
def box(workplace, tmp_path, monkeypatch):
    """The recipe, and a folder of locks for this test."""
    shutil.copy(HERE / "gpu_recipe_for_tests.py", "recipes/box.py")
    monkeypatch.setenv("NEMO_DISTILL_GPU_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return workplace


def start(*words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "nemo_distill.cli", "recipes/box.py", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def notes(*runs: str) -> dict[tuple[str, str], dict]:
    """What each finished step has noted, by runs folder and name."""
    paths = itertools.chain(*(Path(folder).glob("*/*/note.json") for folder in runs))
    return {(path.parts[0], path.parts[1]): json.loads(path.read_text()) for path in paths}


def overlaps(first: dict, second: dict) -> bool:
    return first["begun"] < second["ended"] and second["begun"] < first["ended"]


def begun(step: str) -> list[dict]:
    path = Path("notes.jsonl")
    lines = path.read_text().splitlines() if path.exists() else []
    return [note for note in map(json.loads, lines) if note["step"] == step]


def test_two_commands_at_once_share_the_gpus_and_no_two_steps_one(box):
    commands = [start(f"runs={runs}", "executor.gpus=3") for runs in ("a", "b")]
    said = [command.communicate(timeout=300)[0] for command in commands]
    assert [command.returncode for command in commands] == [0, 0], "".join(said)
    found = notes("a", "b")
    assert set(found) == set(itertools.product("ab", STEPS))
    for name, note in found.items():
        least = 2 if "distill" in name[1] else 1
        assert len(note["gpus"].split(",")) >= least if "evaluate" in name[1] else len(note["gpus"].split(",")) == least
        assert set(note["gpus"].split(",")) <= {"0", "1", "2"}
    pairs = [pair for pair in itertools.combinations(found.values(), 2) if overlaps(*pair)]
    assert any(len({pair[0]["pid"], pair[1]["pid"]}) == 2 for pair in pairs)
    for one, other in pairs:
        assert not set(one["gpus"].split(",")) & set(other["gpus"].split(","))
    (unseeing,) = Path("a").glob("prepare/*/variables.json")
    assert json.loads(unseeing.read_text()) == {"CUDA_VISIBLE_DEVICES": ""}


def test_a_killed_command_frees_its_gpus_once_its_steps_have_ended(box, nemo_run):
    killed = start("box.seconds=60", "executor.gpus=4")
    wait_for(lambda: begun("import") and begun("evaluate-teacher"))
    (first,) = begun("import")
    assert begun("evaluate-teacher")[0]["gpus"] == "1,2"
    state = json.loads(nemo_run("status", "--json")[1])
    assert {step["name"]: step["gpus"] for step in state["steps"]}["import"] == ["0"]
    assert "GPU 0" in nemo_run("status")[1]
    waiting = start("runs=other", "box.seconds=0", "executor.gpus=0,7")
    line = next(line for line in waiting.stdout if "waits for" in line)
    assert f"distill-1 waits for 2 of 2 GPUs (0: process {killed.pid} has it)" in line
    os.kill(killed.pid, signal.SIGKILL)
    wait_for(lambda: begun("distill-1"))
    assert not alive(first["pid"])
    waiting.terminate()
    for command in (waiting, killed):
        command.communicate()
    assert begun("distill-1")[0]["gpus"] == "0,7"


def test_a_step_that_takes_more_gpus_than_there_are_is_refused_before_anything_runs(box, nemo_run):
    code, _, error = nemo_run("recipes/box.py", "executor.gpus=1")
    assert code == 2 and "distill-1 takes 2 GPUs" in error and error.count("\n") == 1
    assert not Path("runs").exists()
