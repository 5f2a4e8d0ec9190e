"""No secret reaches what a run writes down, wherever it was: each kind of place, in a checkout of its own."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
HERE = ROOT / "tests/nemo_distill"
KNOWN = "hf_" + "aVerySecretToken" * 2
"""A token that can be told by its form."""
PLACES = ("site", "untracked", "environment", "recipe")
SECRETS = {place: f"correct-horse-{place}" for place in PLACES} | {f"known-{place}": KNOWN + place for place in PLACES}
"""Values that can be told by their name or their variable only, and known tokens, by where they are put."""
USER = ("-c", "user.name=t", "-c", "user.email=t@t")


def git(folder: Path, *words: str, ok: bool = True) -> str:
    done = subprocess.run(["git", "-C", folder, *USER, *words], capture_output=True, text=True)
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of this package with the small recipe, committed, and secrets in every place; the current folder."""
    folder = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "slurm.yaml")
    for name in ("nemo_distill", "evaluator", "recipes"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / ".gitignore", folder)
    recipe = Path(shutil.copy(HERE / "recipe_for_tests.py", folder / "recipes/small.py"))
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=all")
    variables = {"SITE_TOKEN": SECRETS["site"], "OTHER": SECRETS["known-site"]}
    (folder / "recipes/executors/local.yaml").write_text(yaml.safe_dump({"env_vars": variables}))
    for path in (folder / "notes.txt", folder / "nemo_distill/.env", folder / f"{SECRETS['known-untracked']}.txt"):
        path.write_text(f"password: {SECRETS['untracked']}\n{SECRETS['known-untracked']}\n")
    set_here = f'import os\n\nos.environ["RECIPE_TOKEN"] = "{SECRETS["recipe"]}"  # or {SECRETS["known-recipe"]}\n'
    first = "from dataclasses import dataclass\n"
    assert first in recipe.read_text()
    recipe.write_text(recipe.read_text().replace(first, set_here + first))
    other = folder / "recipes/distill_v3.py"
    other.write_text(f"{other.read_text()}\n# {SECRETS['environment']} and {SECRETS['known-environment']}\n")
    monkeypatch.setenv("MY_API_KEY", SECRETS["environment"])
    monkeypatch.setenv("PLAIN", SECRETS["known-environment"])
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{folder}/evaluator:{HERE}")
    monkeypatch.delenv("NEMORUN_HOME", raising=False)
    monkeypatch.chdir(folder)
    return folder


def run(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def holding(runs: Path) -> dict[str, list[str]]:
    """The secrets that stand in a file or a file's name below `runs`, with the files."""
    contents = {path: str(path).encode() + readable(path) for path in runs.rglob("*") if path.is_file()}
    found = {
        place: [str(path.relative_to(runs)) for path, content in contents.items() if secret.encode() in content]
        for place, secret in SECRETS.items()
    }
    return {place: paths for place, paths in found.items() if paths}


def readable(path: Path) -> bytes:
    """What the file holds, NeMo-Run's packed configurations unpacked."""
    content = path.read_bytes()
    for packed in re.findall(rb"eJ[\w=-]{40,}", content):  # how base64 of zlib begins
        content += zlib.decompress(base64.urlsafe_b64decode(packed))
    return content


def variables_seen(runs: Path) -> dict:
    (path,) = runs.glob("prune/*/variables.json")
    seen = json.loads(path.read_text())
    path.unlink()  # the step was told to write them down
    return seen


NEMO_RUN, RECIPE = ("-m", "nemo_distill.cli", "recipes/small.py"), ("recipes/small.py", "run.executor=local", "--yes")


@pytest.mark.parametrize("entry", [NEMO_RUN, RECIPE], ids=["nemo-run", "recipe"])
def test_a_run_on_this_machine_writes_no_secret_down(checkout, entry):
    run(*entry, "small.variables=SITE_TOKEN RECIPE_TOKEN", "small.lines=1")
    seen = variables_seen(Path("runs"))
    assert seen == {"SITE_TOKEN": SECRETS["site"], "RECIPE_TOKEN": SECRETS["recipe"]}  # what they are there for
    assert holding(Path("runs")) == {}
    (configuration,) = Path("runs").rglob("_CONFIG")
    assert b"SITE_TOKEN" in readable(configuration)  # it can be read here: the names are there
    (spec,) = Path("runs").glob("world/*/spec.json")
    state = json.loads(spec.read_text())["provenance"]["git"]
    assert '+os.environ["RECIPE_TOKEN"] = "***"  # or ***' in state["diff"] and "executors" not in state["diff"]
    assert sorted(state["untracked"]) == ["***.txt", "nemo_distill/.env", "notes.txt"]


def test_a_run_on_slurm_writes_secrets_into_the_job_scripts_only_which_are_their_owners(checkout, slurm, monkeypatch):
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", f"{checkout}:{checkout}/evaluator:{HERE}")
    variables = {"SITE_TOKEN": SECRETS["site"], "OTHER": SECRETS["known-site"]}
    site = {"account": "tests", "partition": "batch", "poll_seconds": 0.5, "env_vars": variables}
    Path("recipes/executors/slurm.yaml").write_text(yaml.safe_dump(site))
    run("-m", "nemo_distill.cli", "recipes/small.py", "--executor", "slurm", "small.variables=SITE_TOKEN")
    assert variables_seen(Path("runs")) == {"SITE_TOKEN": SECRETS["site"]}
    found = holding(Path("runs"))
    assert found.keys() == {"site", "known-site"}
    for paths in (found["site"], found["known-site"]):
        assert all(re.fullmatch(r"\.nemo-run/experiments/small/.*_sbatch\.sh", path) for path in paths)
        for path in paths:
            assert any(above.stat().st_mode & 0o777 == 0o700 for above in Path("runs", path).parents)
    assert not list(Path("runs/.code").rglob(".env"))


def test_a_setting_that_holds_a_token_is_refused_before_anything_is_written(checkout):
    command = [sys.executable, "-m", "nemo_distill.cli", "recipes/small.py", f"small.variables={KNOWN}"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2 and "prune.variables holds what looks like a token" in refused.stderr
    assert KNOWN not in refused.stderr and not Path("runs").exists()


AS_IT_WAS = (HERE / "launch/data/slurm_of_0.1.0.yaml").read_text()
"""The file as 0.1.0 tracked it."""


@pytest.fixture
def upgraded(tmp_path):
    """(upstream, a site's clone of it from before): since then upstream has the example in place of slurm.yaml."""
    upstream, site = tmp_path / "upstream", tmp_path / "site"
    (upstream / "recipes/executors").mkdir(parents=True)
    git(upstream, "init", "--quiet")
    (upstream / "recipes/executors/slurm.yaml").write_text(AS_IT_WAS)
    (upstream / ".gitignore").write_text("runs/\n")
    git(upstream, "add", "--all")
    git(upstream, "commit", "--quiet", "--message=before")
    git(tmp_path, "clone", "--quiet", str(upstream), str(site))
    git(upstream, "rm", "recipes/executors/slurm.yaml")
    (upstream / "recipes/executors").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "recipes/executors/slurm.example.yaml", upstream / "recipes/executors")
    shutil.copy(ROOT / ".gitignore", upstream)
    git(upstream, "add", "--all")
    git(upstream, "commit", "--quiet", "--all", "--message=after")
    return upstream, site


def guide(first_words: str) -> list[str]:
    """The commands of a block in the Slurm guide that begins with these words."""
    lines = (ROOT / "docs/guides/slurm.md").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"    {first_words}"))
    end = next(number for number in range(start, len(lines)) if not lines[number].startswith("    "))
    return [line.strip() for line in lines[start:end] if line.startswith("    ")]


FILLED = AS_IT_WAS.replace("account: ???", "account: physics").replace("partition: ???", "partition: gpu")


@pytest.mark.parametrize("how", ["changed", "changed, rebasing", "committed", "stashed"])
def test_a_filled_slurm_yaml_of_before_survives_the_upgrade(upgraded, how):
    _, site = upgraded
    file = site / "recipes/executors/slurm.yaml"
    file.write_text(FILLED)
    if how.startswith("changed"):
        git(site, "config", "pull.rebase", str(how == "changed, rebasing").lower())
        said = git(site, "pull", ok=False)
        assert "local changes" in said or "unstaged changes" in said
        assert file.read_text() == FILLED  # the pull has changed nothing
        for command in guide("cp recipes/executors/slurm.yaml "):
            subprocess.run(command, cwd=site, shell=True, check=True, capture_output=True)
    else:
        if how == "committed":
            git(site, "commit", "--quiet", "--all", "--message=ours")
            said = git(site, "pull", "--no-rebase", ok=False)
        else:
            git(site, "stash")
            git(site, "pull")
            said = git(site, "stash", "pop", ok=False)
        assert "CONFLICT (modify/delete)" in said and file.read_text() == FILLED
        (forget,) = guide("git rm --cached ")
        subprocess.run(forget, cwd=site, shell=True, check=True, capture_output=True)
        if how == "committed":
            git(site, "commit", "--no-edit")
    assert file.read_text() == FILLED
    assert (site / "recipes/executors/slurm.example.yaml").is_file()
    assert git(site, "status", "--porcelain") == "" and "slurm.yaml" in git(site, "check-ignore", str(file))
    assert git(site, "rev-parse", "HEAD:recipes/executors/slurm.example.yaml")


def test_a_clone_that_never_filled_it_in_pulls_the_example_and_is_told_the_copy_command(upgraded, monkeypatch):
    from nemo_distill.launch import executors

    _, site = upgraded
    git(site, "pull")
    monkeypatch.chdir(site)
    assert executors.site_file("slurm") == Path("recipes/executors/slurm.example.yaml")
    assert os.listdir("recipes/executors") == ["slurm.example.yaml"]
