"""Preflights as jobs of two nodes on a real Slurm: nothing wrong, several faults at once, and an image that is none."""

import json
import shutil
from pathlib import Path

import pytest

from tests.nemo_distill.conftest import ROOT

LAYOUT = ("scale=debug", "layout.nodes=2", "layout.gpus_per_node=1", "distill.micro_batch_size=2")
SMALL = ("distill.global_batch_size=4", "distill.seq_length=64")
GATED = """
from nemo_distill import Blend, Context, Settings, entrypoint, run_experiment
from nemo_distill.config.sources import Source

SECRET = Source(name="secret", dataset="lab/secret", field="text", files=("data/*.jsonl",))


@entrypoint
def gated(ctx: Context, settings: Settings = Settings(blend=Blend.of("gated", (SECRET, 100, "a test")))) -> None:
    run_experiment(ctx, settings)
"""


@pytest.fixture
def preflight(nemo_run, site):
    """A preflight of a recipe, by default the study's, on both nodes: exit code, what each check found, and output."""
    shutil.copy(ROOT / "recipes" / "distill_v1v3.py", "recipes")

    def call(*words: str, recipe: str = "distill_v1v3") -> tuple[int, dict[str, dict], str]:
        code, out, err = nemo_run("preflight", f"recipes/{recipe}.py", "--executor", "slurm", *LAYOUT, *SMALL, *words)
        found = list(Path("runs/.preflight").glob("*/preflight.json"))
        assert len(found) == 1, (code, out, err)
        record = json.loads(found[0].read_text())
        assert record["verdict"] in out
        return code, {check["name"]: check for check in record["checks"]}, out

    return call


def outcomes(found: dict[str, dict]) -> dict[str, str]:
    return {name: check["outcome"] for name, check in found.items()}


@pytest.mark.slow
def test_two_nodes_with_nothing_wrong_are_go(preflight):
    code, found, out = preflight("--iterations", "0")
    assert code == 0, (found, out)
    assert outcomes(found) == {
        **dict.fromkeys(("job", "mounts", "versions", "writing", "all-reduce"), "ok"),
        **dict.fromkeys(("image", "GPUs", "sources", "judge", "iterations"), "not checked"),
    }
    assert "node1, node2" in found["mounts"]["why"]
    assert "2 ranks on 2 nodes" in found["all-reduce"]["why"] and found["all-reduce"]["figure"].endswith("GB/s")
    assert list(Path("runs").rglob("*.tmp")) == []


def test_each_of_several_faults_is_found_by_its_own_check(preflight, site, local_hub, tmp_path):
    Path("recipes/gated.py").write_text(GATED)
    local_hub.add("lab/secret", {"data/a.jsonl": b'{"text": "x"}\n'}, gated=True)
    (tmp_path / "other" / "transformers-0.1.dist-info").mkdir(parents=True)
    site(
        container_mounts=[f"{tmp_path}:/no/such/folder"],
        setup_lines=f'export PYTHONPATH="{tmp_path}/other:$PYTHONPATH"\nulimit -f 4300',
        evaluation={"hostname": "login", "account": "a", "partition": "p", "judge_url": "http://127.0.0.1:9/v1",
                    "judge_model": "judge"},
    )  # fmt: skip
    judged = ("evaluate.suite=study", "evaluate.tasks=AA_math_test_500", "evaluate.max_new_tokens=64")
    code, found, out = preflight("--iterations", "0", "layout.gpu=H100", *judged, recipe="gated")
    assert code == 1, (found, out)
    failing = ("mounts", "versions", "GPUs", "sources", "judge", "writing", "all-reduce")
    assert outcomes(found) == {
        "job": "ok",
        "image": "not checked",
        **dict.fromkeys(failing, "failed"),
        "iterations": "not checked",
    }
    assert out.splitlines()[-2] == f"NO-GO: {', '.join(failing)}"
    said = {
        "mounts": "node1 has no /no/such/folder, which was to be mounted.",
        "versions": "transformers 0.1 (lock: ",
        "GPUs": "node1 shows 0 GPUs, and layout.gpus_per_node=1.",
        "sources": "the data set lab/secret is gated and no token is set",
        "judge": "http://127.0.0.1:9/v1 does not answer: ",
        "writing": "rank 0 could not write ",
        "all-reduce": "exchange less than 20% of what the network has, 50 GB/s a GPU",
    }
    for name, words in said.items():
        assert words in found[name]["why"], found[name]


def test_an_image_that_cannot_be_had_ends_the_job_and_the_next_attempt_begins_anew(preflight, site):
    site(container_image="nowhere/none:latest")
    code, found, out = preflight("--iterations", "0")
    assert code == 1 and found["job"]["outcome"] == "failed", (found, out)
    assert set(outcomes(found).values()) == {"failed", "not checked"}
    assert "container-image" in out  # what srun says of it, from the job's log
    assert out.splitlines()[-2] == "NO-GO: job"
