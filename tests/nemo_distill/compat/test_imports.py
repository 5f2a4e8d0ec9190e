"""Importing the project changes nothing of anybody else's code."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("imports_for_tests.py")


def changed(*arguments: str) -> list[str]:
    done = subprocess.run([sys.executable, "-W", "ignore", str(SCRIPT), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line.removeprefix("changed ") for line in done.stdout.splitlines() if line.startswith("changed ")]


@pytest.mark.slow
def test_importing_every_module_of_the_project_changes_no_attribute_of_third_party_code():
    assert changed() == []


@pytest.mark.slow
def test_a_module_that_changes_something_when_it_is_imported_is_seen(tmp_path):
    (tmp_path / "meddling.py").write_text(
        "import torch, transformers\n"
        "torch.cuda.synchronize = lambda: None\n"
        "torch.Tensor.cuda = lambda tensor: tensor\n"
        "del torch.overrides.get_default_nowrap_functions\n"
    )
    assert sorted(changed("--planted", str(tmp_path / "meddling.py"))) == [
        "torch.Tensor.cuda",
        "torch.cuda.synchronize",
        "torch.overrides.get_default_nowrap_functions",
    ]
