"""Distillation as it runs: real steps in real processes, cut at milestones, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nemo_distill.debug import corpora
from nemo_distill.step import Spec, Step, place
from nemo_distill.training import read_losses

pytestmark = pytest.mark.slow

ITERATIONS, CUT = 12, 5
SHARES = {"sft-code": 40.0, "science-mcq": 60.0}
COURSE = {
    "max_iterations": ITERATIONS,
    "global_batch_size": 8,
    "micro_batch_size": 4,
    "seq_length": 64,
    "learning_rate": 2e-3,
    "min_learning_rate": 1e-4,
    "warmup_iterations": 3,
    "weight_decay": 0.01,
    "clip_grad": 1.0,
    "seed": 7,
    "precision": "32",
}


def segment(name: str, *, first: int, until: int, after: str | None = None, **config) -> Step:
    return Step(
        name,
        "nemo_distill.steps.distill",
        {
            "course": COURSE,
            "first": first,
            "until": until,
            "shares": SHARES,
            "intermediate_layers": [],
            "save_interval": 2,
            **config,
        },
        upstream=("import-teacher", "prune", "prepare", *([after] if after else [])),
    )


def steps(folder: Path) -> list[Step]:
    files = {}
    for name in SHARES:
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(document) + "\n" for document in corpora.documents(name, seed=0, count=400)))
        files[name] = {"name": name, "field": corpora.STAND_INS[name].field, "files": [str(path)]}
    runtime = {"precision": "32", "layer_spec": "local", "seq_length": 64}
    teacher = "package:debug/teacher"
    return [
        Step("import-teacher", "nemo_distill.steps.import_teacher", {"checkpoint": teacher, **runtime}),
        Step("prepare", "nemo_distill.steps.prepare", {"tokenizer": teacher, "sources": list(files.values())}),
        Step(
            "prune",
            "nemo_distill.steps.prune",
            {
                "request": {"export_config": {"ffn_hidden_size": 192}, "divisors": {"ffn_hidden_size_divisor": 32}},
                "score": "next_token_loss",
                "calibration": {"source": files["sft-code"], "sequences": 16, "seq_length": 64},
                "precision": "32",
                "student_runtime": runtime,
            },
            upstream=("import-teacher",),
        ),
        segment("distill-whole", first=0, until=ITERATIONS),
        segment("distill-1", first=0, until=CUT),
        segment("distill-2", first=CUT, until=ITERATIONS, after="distill-1"),
        segment("distill-killed", first=0, until=ITERATIONS, save_interval=3),
        segment("distill-hidden", first=0, until=2, intermediate_layers=[["decoder.final_norm", "decoder.final_norm"]]),
    ]


def start(spec: Spec) -> subprocess.Popen:
    path = spec.save()
    return subprocess.Popen(
        [sys.executable, "-m", "nemo_distill.step", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def run(spec: Spec) -> None:
    process = start(spec)
    output, _ = process.communicate()
    assert process.returncode == 0, output[-3000:]


def run_all(*chains: list[Spec]) -> None:
    """Run chains of steps at the same time, each chain one step after another."""

    def run_chain(chain: list[Spec]) -> None:
        for spec in chain:
            run(spec)

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(run_chain, chain) for chain in chains]:
            done.result()


@pytest.fixture(scope="module")
def specs(tmp_path_factory) -> dict[str, Spec]:
    """The steps placed; done are those before distillation, the uncut segment and the two it can be cut into."""
    folder = tmp_path_factory.mktemp("distill")
    placed = place(steps(folder), runs=folder / "runs")
    run_all([placed["import-teacher"], placed["prune"]], [placed["prepare"]])
    run_all([placed["distill-whole"], placed["distill-hidden"]], [placed["distill-1"], placed["distill-2"]])
    return placed


@pytest.fixture(scope="module")
def whole(specs) -> list[dict]:
    """The losses of the uncut run."""
    return losses(specs["distill-whole"])


def losses(spec: Spec) -> list[dict]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_losses(spec.folder / "losses.jsonl")]


def test_the_loss_falls_and_every_iteration_is_logged(whole):
    assert [line["iteration"] for line in whole] == list(range(1, ITERATIONS + 1))
    assert whole[-1]["tokens"] == ITERATIONS * 8 * 64
    assert whole[-1]["loss"] < whole[0]["loss"]


def test_a_run_cut_at_a_milestone_has_the_losses_and_learning_rates_of_the_uncut_one(specs, whole):
    assert losses(specs["distill-1"]) + losses(specs["distill-2"]) == whole


def test_the_learning_rate_is_the_schedule_s(whole):
    from nemo_distill.schedule import Schedule

    schedule = Schedule(
        seq_length=64,
        global_batch_size=8,
        max_iterations=ITERATIONS,
        warmup_iterations=3,
        learning_rate=2e-3,
        min_learning_rate=1e-4,
    )
    for line in whole:
        assert line["learning_rate"] == pytest.approx(schedule.learning_rate_after(line["iteration"] - 1), rel=1e-9)


def test_a_run_killed_mid_segment_resumes_to_the_same_losses(specs, whole):
    spec = specs["distill-killed"]
    process = start(spec)
    log = spec.folder / "losses.jsonl"
    while len(read_losses(log)) < 8:  # past the checkpoints at 3 and 6
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not spec.done
    (spec.folder / "iteration_0000009").mkdir(exist_ok=True)  # and a checkpoint of which the kill left half
    run(spec)
    assert "going on from" in (spec.folder / "log.txt").read_text()
    assert losses(spec) == whole


def test_hidden_states_can_be_matched_too(specs, whole):
    assert losses(specs["distill-hidden"])[0]["loss"] > whole[0]["loss"]  # the logits' loss and the hidden states'
