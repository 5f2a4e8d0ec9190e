"""`nemo-run new`: what it writes runs as it is, and nothing of anybody's is written over."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_distill import cli
from nemo_distill.config.files import recipe_files

RUFF = Path(sys.executable).with_name("ruff")
RULES = ["--isolated", "--no-cache", "--line-length=120", "--target-version=py311"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A study, as the command writes it."""
    folder = tmp_path_factory.mktemp("new") / "my_study"
    assert cli.main(["new", str(folder)]) == 0
    return folder


@pytest.fixture
def nemo_run(made, monkeypatch, capsys):
    """Run a command in the study; returns exit code and what it said, in one line."""
    monkeypatch.chdir(made)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(*words: str) -> tuple[int, str]:
        code = cli.main(list(words))
        out, err = capsys.readouterr()
        return code, " ".join((out + err).split())

    return call


def listed(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("executor", ["local", "slurm"])
def test_every_recipe_of_a_new_study_is_previewed_and_nothing_is_written(made, nemo_run, executor):
    before = listed(made)
    code, said = nemo_run("recipes/balanced.py", "recipes/mostly_facts.py", "--executor", executor, "--dryrun")
    assert code == 0, said
    assert "Blend balanced" in said and "Blend mostly_facts" in said
    for row in ("sums 45 own", "facts 80 own", "notes 10 own"):
        assert row in said
    assert ("recipes/executors/slurm.yaml:4: fill in account" in said) == (executor == "slurm")
    assert listed(made) == before


def test_a_new_study_is_listed_with_what_its_recipes_say_of_themselves(made, nemo_run):
    assert [path.name for path in recipe_files()] == ["balanced.py", "mostly_facts.py"]
    code, said = nemo_run("--help")
    assert code == 0 and "As many sums as facts." in said and "writes some" not in said


def test_what_is_written_passes_ruff(made):
    for how in (["check", "--select=E,F,W,I,UP,B,SIM,RUF"], ["format", "--check"]):
        done = subprocess.run([RUFF, *how, *RULES, "."], cwd=made, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_the_readme_names_all_that_is_there_and_nothing_else(made):
    text = (made / "README.md").read_text()
    named = set(re.findall(r"`((?:recipes|data|questions)/[\w./]+)`", text))
    assert named == {name for name in named if (made / name).exists()}
    files = {path for path in listed(made) if (made / path).is_file()} - {"README.md"}
    assert {path for path in files if not any(path.startswith(name.rstrip("/")) for name in named)} == set()


def test_the_same_study_is_written_again_byte_for_byte(made, tmp_path):
    assert cli.main(["new", str(tmp_path / "in" / "another")]) == 0
    other = tmp_path / "in" / "another"
    files = [name for name in listed(made) if (made / name).is_file()]
    assert [name for name in files if (made / name).read_bytes() != (other / name).read_bytes()] == []


def test_what_is_there_is_not_written_over(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine_2").touch()
    os.symlink("nowhere", "link")
    for name, free in (("mine", "mine_3"), ("mine_2", "mine_2_2"), ("link", "link_2")):
        assert cli.main(["new", name]) == 2
        sentence = f"{name} is there already, and nothing is written over. Did you mean '{free}'?"
        assert capsys.readouterr().err == f"nemo-run: {sentence}\n"
    assert cli.main(["new", "mine_2/inside"]) == 2
    assert capsys.readouterr().err == "nemo-run: mine_2/inside cannot be written: mine_2 is no folder.\n"
    assert listed(tmp_path) == ["link", "mine", "mine_2"]


def test_where_there_is_no_recipe_it_is_said_how_to_come_by_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main([]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "There is no recipe in ./recipes; `nemo-run new my_study` writes some" in shown
    assert cli.main(["recipes/distill_v1v3.py"]) == 2
    said = capsys.readouterr().err
    assert "no recipe or command 'recipes/distill_v1v3.py'. There is no recipe in ./recipes; `nemo-run new" in said
