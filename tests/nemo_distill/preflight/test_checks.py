"""Every check with a planted fault, and what it says; what a job that ended in a check leaves."""

import dataclasses
import math
import os
import re
import resource
import signal
from pathlib import Path

import pytest

from nemo_distill.config.resolved import Parallelism
from nemo_distill.nemotron_h.shape import NANO_9B_V2
from nemo_distill.preflight import access, machines, rates
from nemo_distill.preflight.machines import Machine, Surroundings
from nemo_distill.preflight.results import CHECKS, Check, Outcome, Record, verdict_of
from nemo_distill.run.ranks import Ranks
from nemo_distill.train.course import Course
from tests.nemo_distill.preflight.judge_for_tests import judge_served
from tests.nemo_distill.segments import COURSE

GIB = 2**30
FREE = ("NVIDIA H100 80GB HBM3", 78 * GIB, int(79.1 * GIB))
LOCK = {"torch": "2.13.0", "transformers": "5.0", "rich": "14.0"}
NODE = Machine(host="a1", token="t", python="3.11.9", packages=LOCK | {"torch": "2.13.0+cu128"}, gpus=(FREE, FREE))
OTHER = dataclasses.replace(NODE, host="a2")
LAYOUT = Parallelism(gpu="H100", nodes=2, gpus_per_node=2)
IMAGE = Surroundings(image="lab/nemo@sha256:1", mounts=("/shared/data:/data",))


def but(**changes) -> list[Machine]:
    """Two nodes, the second of which is otherwise."""
    return [NODE, dataclasses.replace(OTHER, **changes)]


def in_image(machine: Machine) -> Machine:
    return dataclasses.replace(machine, image=IMAGE.image)


def test_nodes_with_nothing_wrong_pass_every_check():
    nodes = [NODE, OTHER]
    found = [
        machines.image(IMAGE, list(map(in_image, nodes))),
        machines.mounts(IMAGE, nodes, token="t", runs="/runs"),
        machines.versions(LOCK, ("torch",), nodes),
        machines.gpus(LAYOUT, nodes),
    ]
    assert [check.outcome for check in found] == [Outcome.OK] * 4, found
    assert machines.image(Surroundings(), nodes).outcome == Outcome.UNCHECKED
    assert machines.versions(None, (), nodes).outcome == Outcome.UNCHECKED
    assert machines.gpus(Parallelism(), nodes).outcome == Outcome.UNCHECKED


def _gpu(**changes) -> Check:
    name, free, whole = FREE
    made = (changes.get("name", name), changes.get("free", free), changes.get("whole", whole))
    return machines.gpus(LAYOUT, but(gpus=(FREE, made)))


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda: machines.image(IMAGE, [in_image(NODE), OTHER]), "a2 runs in no container, and lab/nemo@sha256:1 was"),
        (lambda: machines.image(IMAGE, but(image="lab/old")), "a1 runs in no container"),
        (lambda: machines.mounts(IMAGE, but(token=""), token="t", runs="/runs"), "a2 did not see .* written to /runs"),
        (lambda: machines.mounts(IMAGE, but(token="old"), token="t", runs="/runs"), "a2 did not see"),
        (lambda: machines.mounts(IMAGE, but(missing=("/data",)), token="t", runs="/runs"), "a2 has no /data"),
        (lambda: machines.versions(LOCK, ("torch",), but(packages=LOCK)), "a1 and a2 differ in torch"),
        (lambda: machines.versions(LOCK, ("torch",), but(python="3.12.1")), "a1 and a2 differ in Python"),
        (lambda: machines.versions(LOCK | {"torch": "2.12.0"}, ("torch",), [NODE]), r"torch 2.13.0\+cu128 .lock: 2.12"),
        (lambda: machines.versions(LOCK | {"nemo-toolkit": "2"}, ("nemo_toolkit",), [NODE]), "nemo-toolkit missing"),
        (lambda: machines.gpus(LAYOUT, but(gpus=(FREE,))), "a2 shows 1 GPUs, and layout.gpus_per_node=2"),
        (lambda: _gpu(name="NVIDIA A100-SXM4-80GB"), "GPU 1 of a2 is a NVIDIA A100.* layout.gpu=H100"),
        (lambda: _gpu(whole=40 * GIB, free=40 * GIB), "GPU 1 of a2 has 40 GiB, .* part of one"),
        (lambda: _gpu(free=60 * GIB), "GPU 1 of a2 has 19 GiB in use: somebody else"),
        (lambda: rates.all_reduce(Ranks(size=16, local_size=8), LAYOUT, [30e9, 4e9]), "2 nodes .* network has, 50 GB"),
        (lambda: rates.all_reduce(Ranks(size=8, local_size=8), LAYOUT, [50e9] * 8), "NVLink has, 450 GB/s"),
    ],
)  # fmt: skip
def test_a_planted_fault_fails_its_check_and_is_named(check, said):
    made = check()
    assert made.outcome == Outcome.FAILED
    assert re.search(said, made.why), made


def test_packages_that_decide_nothing_are_named_and_fail_nothing():
    made = machines.versions(LOCK | {"rich": "13.0", "typer": "1"}, ("torch", "transformers"), [NODE])
    assert made.outcome == Outcome.OK and "2 that decide nothing are others or missing: rich, typer" in made.why


def test_a_network_at_more_than_a_fifth_of_its_rate_passes():
    made = rates.all_reduce(Ranks(size=16, local_size=8), LAYOUT, [11e9] * 16)
    assert (made.outcome, made.figure) == (Outcome.OK, "11 GB/s")


# -- writing


def test_a_sample_is_written_to_the_disk_and_removed(tmp_path):
    seconds, why = rates.write_sample(tmp_path, rank=0, size=5_000_001)
    assert seconds > 0 and why == "" and list(tmp_path.iterdir()) == []
    made = rates.writing(tmp_path, [(2.0, ""), (4.0, "")], sample=10**9, checkpoint=2e9)
    assert (made.outcome, made.figure) == (Outcome.OK, "0.5 GB/s")
    assert "takes 4 s (whole)" in made.why


def test_a_disk_that_takes_no_more_fails_with_its_own_words(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
        written = rates.write_sample(tmp_path, rank=3, size=5_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    made = rates.writing(tmp_path, [(1.0, ""), written], sample=5_000_000, checkpoint=1e7)
    assert made.outcome == Outcome.FAILED and "rank 1 could not write" in made.why and "File too large" in made.why
    assert list(tmp_path.iterdir()) == []
    assert rates.write_sample(tmp_path / "gone", rank=0, size=1)[1] == "No such file or directory"


def test_a_checkpoint_that_has_no_room_or_takes_long_fails(tmp_path):
    assert "two checkpoints" in rates.writing(tmp_path, [(1.0, "")], sample=10**9, checkpoint=1e18).why
    made = rates.writing(tmp_path, [(1.0, "")], sample=10**3, checkpoint=1e6)
    assert made.outcome == Outcome.FAILED and "would take 17 min" in made.why


# -- sources and judge


def test_a_gated_source_is_had_with_the_right_token_only(local_hub, monkeypatch, tmp_path):
    local_hub.add("lab/open", {"a.jsonl": b'{"text": "x"}\n'})
    local_hub.add("lab/secret", {"a.jsonl": b'{"text": "x"}\n'}, gated=True, readers={"hf_good"})
    local_hub.add("lab/model", {"config.json": b"{}"})
    entries = [{"name": name, "field": "text", "dataset": f"lab/{name}", "files": ["*.jsonl"]}
               for name in ("open", "secret")]  # fmt: skip
    known = {"teacher": "lab/model", "prepared": False, "elsewhere": False}
    made = access.sources(entries, **known)
    assert made.outcome == Outcome.FAILED
    assert "lab/secret is gated and no token is set" in made.why and "open" not in made.why
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    assert "has no access" in access.sources(entries, **known).why
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    made = access.sources(entries, **known)
    assert (made.outcome, made.figure) == (Outcome.OK, "3 asked for")
    assert local_hub.fetched() == []
    assert "there is no model lab/none" in access.sources([], **(known | {"teacher": "lab/none"})).why


def test_a_hub_out_of_reach_fails_only_what_needs_it(local_hub, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    entries = [{"name": "open", "field": "text", "dataset": "lab/open", "files": ["*.jsonl"]}]
    made_here = [{"name": "world", "field": "text", "files": ["world:corpora/math.jsonl"]}]
    (tmp_path / "own.jsonl").write_text('{"text": "x"}\n')
    own = [{"name": "own", "field": "text", "path": str(tmp_path / "own.jsonl")}]
    known = {"teacher": "", "prepared": False, "elsewhere": False}
    assert access.sources(entries, **known).outcome == Outcome.FAILED
    many = [entry | {"name": f"open-{number}"} for entry in entries for number in range(9)]
    assert access.sources(many, **known).why.count("could not be reached") == 1
    assert access.sources(entries, **(known | {"elsewhere": True})).outcome == Outcome.UNCHECKED
    assert access.sources(entries, **(known | {"prepared": True})).outcome == Outcome.UNCHECKED
    assert access.sources(made_here, **known).outcome == Outcome.UNCHECKED
    assert access.sources(own, **known).outcome == Outcome.OK
    (tmp_path / "own.jsonl").unlink()
    assert access.sources(own, **known).outcome == Outcome.FAILED


def test_a_judge_has_to_answer_with_its_key_and_its_model():
    with judge_served(model="judge", key="right") as url:
        asked = {"url": url, "model": "judge", "key": "right"}
        assert access.judge(["MATH-500"], **asked).outcome == Outcome.OK
        for changes, said in (
            ({"key": "wrong"}, "answers 401"),
            ({"model": "other"}, "answers 404 Not Found for other"),
            ({"url": "http://127.0.0.1:9/v1"}, "does not answer"),
            ({"url": "nonsense"}, "does not answer"),
            ({"url": f"{url}/empty"}, "no choices"),
            ({"unready": "say executor.evaluation.judge_url."}, "say executor"),
            ({"model": ""}, "MATH-500 is judged by a model, and none is named"),
        ):
            made = access.judge(["MATH-500"], **(asked | changes))
            assert made.outcome == Outcome.FAILED and said in made.why, (changes, made)
    assert access.judge([], url="", model="", key="").outcome == Outcome.UNCHECKED


# -- iterations


def test_iterations_that_are_lost_slow_or_too_few_fail():
    from nemo_distill.preflight.iterations import Trial, iterations

    trial = Trial(
        iterations=4, course=Course(**COURSE), kd={}, intermediate_layers=(), teacher=NANO_9B_V2, student=NANO_9B_V2,
        layer_spec="local", expected_seconds=1.0,
    )  # fmt: skip
    assert Trial.of({**trial.record(), "expected_seconds": 1.0}) == trial
    made = [{"loss": 1.0, "seconds": seconds, "memory": GIB} for seconds in (30.0, 1.0, 1.5, 1.2)]
    found = iterations(trial, [made, [one | {"memory": 3 * GIB} for one in made]])
    assert (found.outcome, found.figure) == (Outcome.OK, "1.2 s each"), found
    assert "peak memory 3.0 GiB" in found.why and "the preview says 1 s" in found.why
    assert "after 3 of 4 iterations" in iterations(trial, [made[:3]]).why
    assert (
        "The loss of iteration 2 is nan" in iterations(trial, [[made[0], made[1] | {"loss": math.nan}, *made[2:]]]).why
    )
    slow = iterations(trial, [[one | {"seconds": 2.1} for one in made]])
    assert slow.outcome == Outcome.FAILED and "reckons with 1 s" in slow.why


# -- the record


def test_a_job_that_ends_in_a_check_says_which_and_what_it_had_not_come_to(tmp_path):
    record = Record(tmp_path / "preflight.json")
    record.add(Check.ok("mounts", "Seen."))
    with pytest.raises(RuntimeError), record.under_way("all-reduce"):
        raise RuntimeError("NCCL timed out")
    found = Record.read(record.path).ended("RuntimeError: NCCL timed out")
    assert list(found) == list(CHECKS) and verdict_of(found) == "NO-GO"
    assert found["job"].why == "It ended in the check of all-reduce."
    assert found["all-reduce"].outcome == Outcome.FAILED and "NCCL timed out" in found["all-reduce"].why
    assert found["mounts"].outcome == Outcome.OK and found["iterations"].why == "The job ended before."


def test_a_job_that_never_began_and_one_that_came_to_its_end(tmp_path):
    found = Record.read(tmp_path / "none.json").ended("job 7: was cancelled.")
    assert found["job"] == Check.failed("job", "job 7: was cancelled.") and verdict_of(found) == "NO-GO"
    assert {check.outcome for name, check in found.items() if name != "job"} == {Outcome.UNCHECKED}
    record = Record(Path(tmp_path, "preflight.json"))
    for name in CHECKS:
        record.add(Check.ok(name, "Well."))
    assert verdict_of(Record.read(record.path).ended("")) == "GO"
    assert os.listdir(tmp_path) == ["preflight.json"]
