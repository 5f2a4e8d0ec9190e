"""The page "Your model, your data, your box": its recipe and previews are what it says."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from nemo_distill import cli, make_teacher

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "guides" / "yours.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (nemo-run recipes/.*?)(?: +#.*)?$", PAGE.replace("\\\n", ""), re.MULTILINE)
PREVIEWS = [command for command in COMMANDS if "--dryrun" in command]


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> Path:
    """A folder that holds what the page asks for, and no more."""
    folder = tmp_path_factory.mktemp("mine")
    assert cli.main(["new", str(folder / "new")]) == 0
    made = folder / "new" / "data"
    for name in ("data", "recipes", "questions"):
        (folder / name).mkdir()
    (folder / "recipes" / "mine.py").write_text(re.search(r"^```python\n(.*?)^```", PAGE, re.M | re.S)[1])
    (folder / "questions" / "quiz.jsonl").write_text(re.search(r'^    (\{"question".*\n)', PAGE, re.M)[1] * 2)
    shutil.copy(made / "sums" / "part0.jsonl", folder / "data" / "tickets.jsonl")
    shutil.copy(made / "notes.jsonl.gz", folder / "data")
    shutil.copytree(make_teacher.SHIPPED, folder / "models" / "mine")
    shutil.rmtree(folder / "new")
    return folder


def test_its_recipe_is_previewed_as_the_page_shows_it_and_nothing_is_written(mine, monkeypatch, capsys):
    monkeypatch.chdir(mine)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = sorted(mine.rglob("*"))
    said = []
    for command in PREVIEWS:
        assert cli.main(shlex.split(command)[1:]) == 0, command
        said.append(capsys.readouterr().out)
    assert len(said) == 3 and all("Blend mine" in text for text in said)
    shown = re.search(r"^    (7 steps: .*?)\n    \.\.\.\n    (Memory .*?)\n    (.*?)\n", PAGE, re.MULTILINE)
    for line in shown.groups():
        assert line in said[-1]
    assert sorted(path for path in mine.rglob("*") if "__pycache__" not in path.parts) == before
