"""What was launched is what runs: jobs run a copy of the code, and the run's file says which."""

import dataclasses
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nemo_distill.errors import UserError
from nemo_distill.launch.slurm import own_copy
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
    assert folder == code.save(tmp_path) == tmp_path / ".code" / code.digest[:12]
    assert sorted(path.name for path in (tmp_path / ".code").iterdir()) == [folder.name]
    script = "import os, nemo_distill.run.step, evaluator.suites.suite, core_evals.nemo_distill as tasks"
    script += "; print(nemo_distill.__file__, evaluator.__file__, tasks.__path__[0], sep=chr(10))"
    script += "; home = os.path.dirname(nemo_distill.__path__[0]); print(oct(os.stat(home).st_mode & 0o777))"
    done = _run_a_copy(folder, code.digest, script, PYTHONPATH=str(folder))
    assert done.returncode == 0, done.stderr
    *where, mode = done.stdout.splitlines()
    assert mode == "0o700" and not any(line.startswith(str(folder)) for line in where)
    (private,) = {line.partition("/nemo-distill-")[2].partition("/")[0] for line in where}
    assert private and not list(Path(tempfile.gettempdir()).glob(f"nemo-distill-{private}"))
    assert _run_a_copy(folder, code.digest, "import os; os.kill(os.getpid(), 9)").returncode == -9


def _run_a_copy(folder: Path, digest: str, script: str, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-I", "-c", inspect.getsource(own_copy), digest, folder, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=folder, timeout=60)


def _change(folder: Path) -> None:
    file = folder / "nemo_distill/run/process.py"
    file.write_text("raise SystemExit('planted')\n" + file.read_text())


def _replace(folder: Path, make) -> None:
    (folder / "nemo_distill/run/process.py").unlink()
    make(folder / "nemo_distill/run/process.py")


PLANTS = {
    "process.py was changed": _change,
    "sitecustomize.py was changed, added": lambda folder: (folder / "sitecustomize.py").write_text("print('planted')"),
    "code.json was changed": lambda folder: (folder / "code.json").write_text("{}"),
    "process.py was changed, added or removed": lambda folder: (folder / "nemo_distill/run/process.py").unlink(),
    "process.py is no file": lambda folder: _replace(folder, os.mkfifo),
    "symbolic links": lambda folder: _replace(folder, lambda path: path.symlink_to(ROOT / "nemo_distill/run/step.py")),
    "planted is a link": lambda folder: (folder / "planted").symlink_to("/etc"),
    "it is a link": lambda folder: (folder.rename(folder.with_name("x")), folder.symlink_to("x")),
    "holds more than": lambda folder: os.truncate(folder / "code.json", 2**40),
}
"""What somebody does to the copy, by the word on it."""


@pytest.mark.parametrize("word", PLANTS)
def test_a_copy_that_was_changed_or_planted_is_run_by_no_job_and_believed_by_no_launch(tmp_path, word, monkeypatch):
    code = dataclasses.replace(Code.here(), git=None)
    few = {name: path for name, path in code.files.items() if name.startswith("nemo_distill/run/")}
    code = dataclasses.replace(code, files=few)
    folder = code.save(tmp_path)
    PLANTS[word](folder)
    with pytest.raises(UserError, match=rf"\.code/{folder.name} is not the code that is launched: .*{word}.*Remove it"):
        code.save(tmp_path)
    if word == "it is a link":  # of the very code: no harm in it for a job
        return
    done = _run_a_copy(folder, code.digest, "print('ran')", PYTHONPATH=str(folder), PYTHONSTARTUP=str(folder))
    assert done.returncode == 66 and done.stdout == ""
    assert f"{folder} is not the code that was launched: " in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_job_whose_code_is_changed_while_it_waits_runs_none_of_it_and_says_so(nemo_run, site, gate):
    site()
    code, out, _ = nemo_run(*RECIPE, f"small.gate={gate}", "--detach")
    assert code == 0, out
    (folder,) = Path("runs/.code").iterdir()
    wait_for(lambda: list(Path("runs").glob("distill-1/*/trail.txt")))
    _change(folder)
    gate.touch()
    run = find("small", runs=Path("runs"))
    wait_for(lambda: state_of(run.specs["distill-1"]) == State.DONE)
    sentence = f"distill-2: {folder.resolve()} is not the code that was launched: it was changed since. Remove it"
    wait_for(lambda: sentence in nemo_run("status", "small")[1], seconds=60)
    assert not list(Path("runs").glob("distill-2/*/log.txt"))
    code, _, error = nemo_run(*RECIPE)
    assert code == 2 and "process.py was changed" in error and error.count("\n") == 1
    shutil.rmtree(folder)
    assert nemo_run(*RECIPE)[0] == 0
