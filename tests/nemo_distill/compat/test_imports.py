"""Importing the project changes nothing of anybody else's code."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("imports_for_tests.py")


MEDDLING = """\
import torch, transformers
torch.cuda.synchronize = lambda: None
torch.Tensor.cuda = lambda tensor: tensor
del torch.overrides.get_default_nowrap_functions
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory) -> dict[str, list[str]]:
    """Attributes changed by importing every module of the project, and by then running a module that meddles."""
    meddling = tmp_path_factory.mktemp("planted") / "meddling.py"
    meddling.write_text(MEDDLING)
    done = subprocess.run([sys.executable, "-W", "ignore", str(SCRIPT), meddling], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.partition(" ") for line in done.stdout.splitlines()]
    print(done.stdout, done.stderr)  # shown beside a failure
    return {who: [name for by, _, name in lines if by == who] for who in ("changed", "planted")}


@pytest.mark.slow
def test_importing_every_module_of_the_project_changes_no_attribute_of_third_party_code(changed):
    assert changed["changed"] == []


@pytest.mark.slow
def test_a_module_that_changes_something_when_it_is_imported_is_seen(changed):
    assert sorted(changed["planted"]) == [
        "torch.Tensor.cuda",
        "torch.cuda.synchronize",
        "torch.overrides.get_default_nowrap_functions",
    ]
