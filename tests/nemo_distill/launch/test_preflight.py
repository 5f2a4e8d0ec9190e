"""Preflights as processes of this machine, and what a dry one says."""

import json
import os
import shutil
from pathlib import Path

import pytest

from nemo_distill.preflight.results import CHECKS
from tests.nemo_distill.conftest import ROOT

COMMAND = ("preflight", "recipes/distill_v1v3.py", "--executor", "local")


@pytest.fixture
def recipe(workplace):
    shutil.copy(ROOT / "recipes" / "distill_v1v3.py", workplace / "recipes")
    return workplace


def test_a_dry_preflight_says_what_would_be_checked_and_writes_nothing(nemo_run, recipe, listing):
    before = listing(recipe)
    code, out, _ = nemo_run(*COMMAND, "--dryrun", "layout.gpus_per_node=2", "distill.micro_batch_size=8")
    assert code == 0 and "2 ranks on 1 node" in out
    assert "sums over all ranks, and their rate" in out and "Not covered: " in out
    assert listing(recipe) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("recipes/distill_v1v2.py",), "there is no recipe 'recipes/distill_v1v2.py'. Did you mean"),
        (("recipes/distill_v1v3.py", "distill.learning_rat=1"), "Did you mean 'distill.learning_rate'?"),
        (("recipes/distill_v1v3.py", "recipes/small.py"), "preflight takes one recipe at a time"),
        (("recipes/distill_v1v3.py", "layout.nodes=2", "distill.micro_batch_size=8"), "local has one machine"),
        (("recipes/small.py",), "this recipe starts its steps by itself"),
        (("recipes/distill_v1v3.py", "--iterations", "-1"), "greater than or equal to 0"),
    ],
)
def test_what_cannot_be_checked_is_refused_and_nothing_is_written(nemo_run, recipe, listing, words, said):
    before = listing(recipe)
    code, _, err = nemo_run("preflight", *words)
    assert code == 2 and said in err and "Traceback" not in err
    assert listing(recipe) == before


def test_on_this_machine_a_fault_is_no_go_and_the_same_command_checks_anew(nemo_run, recipe, monkeypatch, tmp_path):
    (tmp_path / "other" / "transformers-0.1.dist-info").mkdir(parents=True)
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", f"{tmp_path}/other:{os.environ['PYTHONPATH']}")
        code, out, _ = nemo_run(*COMMAND, "--iterations", "0")
    assert code == 1 and out.splitlines()[-2] == "NO-GO: versions"
    assert "versions: failed. transformers 0.1 (lock: " in out
    code, out, _ = nemo_run(*COMMAND, "--iterations", "0")
    assert code == 0 and out.splitlines()[-2] == "GO"
    record = json.loads(Path("runs/.preflight/distill_v1v3-debug/preflight.json").read_text())
    found = {check["name"]: check["outcome"] for check in record["checks"]}
    assert found == dict.fromkeys(CHECKS, "not checked") | dict.fromkeys(("job", "mounts", "versions", "writing"), "ok")
