"""What was launched is what runs: jobs run a copy of the code, and the run's file says which."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_distill.launch.slurm.facts import ClusterFacts
from nemo_distill.launch.slurm.snapshot import Code
from nemo_distill.run.manifest import State, find, state_of
from tests.nemo_distill.launch.slurm.cluster_for_tests import wait_for

ROOT = Path(__file__).resolve().parents[4]
RECIPE = ("recipes/small.py", "--executor", "slurm")


@pytest.fixture
def checkout(tmp_path, site, monkeypatch):
    """A checkout of this package, committed, that the command and its jobs import."""
    folder = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
    for name in ("nemo_distill", "evaluator"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message=all")
    here = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{folder}/evaluator:{here}")
    return folder


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def nemo_run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "nemo_distill.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_jobs_run_the_code_as_it_was_at_launch_with_its_uncommitted_changes(checkout, gate):
    process = checkout / "nemo_distill" / "run" / "process.py"
    original = process.read_text()
    process.write_text(original.replace("started in", "STARTED WITH A CHANGE in"))
    launched = nemo_run(*RECIPE, f"small.gate={gate}", "--detach")
    assert launched.returncode == 0, launched.stderr
    assert "uncommitted changes packaged" in launched.stdout
    process.write_text("raise SystemExit('what was not launched runs')")
    gate.touch()
    shutil.move(checkout / "nemo_distill", checkout / "gone")  # the checkout may go altogether
    run = find("small", runs=Path("runs"))
    wait_for(lambda: all(spec.done for spec in run.specs.values()))
    assert {state_of(spec) for spec in run.specs.values()} == {State.DONE}
    for spec in run.specs.values():
        assert "STARTED WITH A CHANGE in" in (spec.folder / "log.txt").read_text()
        state = json.loads((spec.folder / "spec.json").read_text())["provenance"]["git"]
        assert state["commit"] == git(checkout, "rev-parse", "HEAD")
        assert '+    print(f"[{spec.name}] STARTED WITH A CHANGE in' in state["diff"].replace(
            "        print", "    print"
        )


def test_uncommitted_changes_are_refused_where_the_site_says_so(checkout, site):
    place = site(uncommitted="refuse")
    assert nemo_run(*RECIPE, "--dryrun").returncode == 0
    (checkout / "nemo_distill" / "new.py").touch()
    refused = nemo_run(*RECIPE)
    assert refused.returncode == 2 and "nemo_distill/new.py" in refused.stderr and refused.stderr.count("\n") == 1
    assert not (place / "runs").exists()


def test_the_runs_file_holds_code_packages_image_and_modules(nemo_run, site):
    site(modules=[], setup_lines="export LOADEDMODULES=cuda/12.8:hpcx")
    assert nemo_run(*RECIPE)[0] == 0
    facts = ClusterFacts.of(find("small", runs=Path("runs")))
    assert facts.code["sha256"] == Code.here().sha256
    assert len(facts.code["git"]["commit"]) == 40 and len(facts.code["packages_sha256"]) == 12
    assert facts.modules == () and facts.image is None
    (folder,) = Path("runs/prune").iterdir()
    assert json.loads((folder / "spec.json").read_text())["provenance"]["slurm"]["modules"] == ["cuda/12.8", "hpcx"]


def test_the_copy_of_the_code_is_made_once_and_named_by_what_is_in_it(tmp_path):
    code = Code.here()
    folder = code.save(tmp_path)
    assert folder == code.save(tmp_path) == tmp_path / ".code" / code.sha256
    assert sorted(path.name for path in (tmp_path / ".code").iterdir()) == [code.sha256]
    script = "import nemo_distill.run.step, evaluator.suites.suite, core_evals.nemo_distill as tasks"
    script += "; print(nemo_distill.__file__); print(evaluator.__file__); print(tasks.__path__[0])"
    environment = {"PYTHONPATH": f"{folder}:{folder}/evaluator"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd="/")
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(folder)) for line in done.stdout.splitlines())
