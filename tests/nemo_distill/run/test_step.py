"""Fingerprints, folders, the mark of success, and a step's process."""

import io
import json
import os
import signal
import subprocess
import sys

import pytest
from rich.console import Console

from nemo_distill.config.plain import fingerprint, resolve_package_paths
from nemo_distill.errors import PassingError, UserError, bound_to_repeat
from nemo_distill.run.closing import print_failure
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import Spec, Step, damage, is_done, mark_done, place
from tests.waiting_for_tests import wait_for

CONFIG = {"b": [1, 2.5, None, True], "a": {"text": "é", "nested": {"x": 1e-4}}}


def start(spec: Spec, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "nemo_distill.step", str(spec.save())],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )


def run(spec: Spec) -> tuple[int, str]:
    process = start(spec)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def closing(spec: Spec) -> str:
    """The last line of what is said of a run in which the step failed."""
    said = io.StringIO()
    print_failure(Run(name="one", runs=spec.runs, specs={spec.name: spec}), Console(file=said, width=200))
    return said.getvalue().splitlines()[-1]


@pytest.fixture
def one(tmp_path, small_steps):
    def placed(**config) -> Spec:
        return place([Step("one", small_steps, config)], runs=tmp_path)["one"]

    return placed


def test_a_fingerprint_is_the_same_in_another_process_whatever_the_hash_seed():
    code = f"from nemo_distill.config.plain import fingerprint; print(fingerprint({CONFIG!r}))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout.strip()
        for seed in ("0", "1")
    }
    assert seen == {fingerprint(CONFIG)}


def test_a_fingerprint_does_not_depend_on_the_order_of_keys():
    assert fingerprint(CONFIG) == fingerprint(dict(reversed(CONFIG.items())))
    assert fingerprint([1, 2]) != fingerprint([2, 1])


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"f": object()}, "config.f is of type object"),
        ({"f": {"g": [1, {2, 3}]}}, r"config.f.g\[1\] is of type set"),
        ({"lr": float("nan")}, "config.lr is nan"),
        ({1: "x"}, "config has the key 1"),
        ({"where": os.path}, "config.where is of type module"),
    ],
)
def test_a_value_without_a_stable_form_is_refused_by_its_place(value, named):
    with pytest.raises(UserError, match=named):
        fingerprint(value)


def test_a_change_reaches_what_follows_and_nothing_else(tmp_path, small_steps):
    def folders(learning_rate):
        steps = [
            Step("prune", small_steps, {}),
            Step("distill", small_steps, {"learning_rate": learning_rate}, ("prune",)),
            Step("export", small_steps, {}, ("distill",)),
        ]
        return {name: spec.folder for name, spec in place(steps, runs=tmp_path).items()}

    before, after = folders(1e-4), folders(2e-4)
    assert before["prune"] == after["prune"]
    assert before["distill"] != after["distill"]
    assert before["export"] != after["export"]


def test_a_raised_version_is_another_fingerprint(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    seen = set()
    for version in (1, 2):
        (tmp_path / f"versioned_{version}.py").write_text(f"VERSION = {version}\n")
        (tmp_path / "versioned.py").write_text(f"VERSION = {version}\n")
        seen.add(place([Step("one", "versioned", {})], runs=tmp_path)["one"].fingerprint)
    assert len(seen) == 2


def test_planning_does_not_import_a_step(tmp_path, monkeypatch):
    (tmp_path / "heavy_step.py").write_text("VERSION = 1\nraise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert place([Step("one", "heavy_step", {})], runs=tmp_path)["one"].fingerprint


def test_a_path_inside_the_package_is_found_wherever_the_package_is():
    resolved = resolve_package_paths({"teacher": ["package:step.py", "other"]})
    assert os.path.isabs(resolved["teacher"][0]) and os.path.isfile(resolved["teacher"][0])
    assert resolved["teacher"][1] == "other"


def test_a_runs_folder_can_be_moved_whole(tmp_path, small_steps):
    specs = place([Step("a", small_steps, {}), Step("b", small_steps, {}, ("a",))], runs=tmp_path / "here")
    for spec in specs.values():
        spec.save()
    (tmp_path / "here").rename(tmp_path / "there")
    moved = Spec.load(tmp_path / "there" / "b" / specs["b"].fingerprint / "spec.json")
    assert moved.upstream["a"] == tmp_path / "there" / "a" / specs["a"].fingerprint


def test_damage_names_the_file_that_is_missing_or_cut_short(tmp_path):
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / "model.bin"
    file.write_bytes(b"0123456789")
    mark_done(tmp_path, fingerprint="x")
    assert is_done(tmp_path) and damage(tmp_path) is None
    file.write_bytes(b"0123")
    assert damage(tmp_path) == f"{file} has 4 bytes where 10 were written"
    file.unlink()
    assert damage(tmp_path) == f"{file} is missing"


def test_a_step_leaves_its_output_its_log_and_where_they_come_from(one):
    spec = one(lines=2)
    code, output = run(spec)
    assert code == 0 and spec.done
    assert (spec.folder / "output.txt").read_text() == "one()"
    log = (spec.folder / "log.txt").read_text()
    assert "line 1 of one" in log and "line 1 of one" in output
    record = json.loads((spec.folder / "spec.json").read_text())
    assert record["config"] == {"lines": 2}
    assert record["provenance"]["packages"]["filelock"]
    assert set(record["provenance"]) == {"git", "packages", "python", "platform", "host", "pid", "argv"}


def test_a_finished_step_is_not_run_again(one, attempts, tmp_path):
    spec = one()
    assert run(spec)[0] == 0
    code, output = run(spec)
    assert code == 0 and "already done" in output
    assert attempts(tmp_path, "one") == 1


def test_a_step_refuses_to_start_before_its_upstream_is_done(tmp_path, small_steps):
    steps = place([Step("a", small_steps, {}), Step("b", small_steps, {}, ("a",))], runs=tmp_path)
    code, output = run(steps["b"])
    assert code == 66 and "its upstream step a is not done" in output
    assert not steps["b"].done and not (steps["b"].folder / "output.txt").exists()


def test_a_step_refuses_an_upstream_whose_output_was_cut_short(tmp_path, small_steps):
    steps = place([Step("a", small_steps, {}), Step("b", small_steps, {}, ("a",))], runs=tmp_path)
    assert run(steps["a"])[0] == 0
    (steps["a"].folder / "output.txt").write_text("")
    code, output = run(steps["b"])
    assert code == 66 and f"{steps['a'].folder / 'output.txt'} has 0 bytes where 3 were written" in output


@pytest.mark.parametrize(("fail", "said"), [("error", "RuntimeError: the disk"), ("exit", "SystemExit: 0")])
def test_a_step_that_raises_or_exits_is_not_done(one, fail, said):
    spec = one(fail=fail)
    code, output = run(spec)
    assert code == 1 and not spec.done
    assert said in output and said in (spec.folder / "log.txt").read_text()
    assert closing(spec) == "The same command goes on from here."


def test_a_step_says_a_users_mistake_without_a_traceback_and_that_it_would_be_made_again(one):
    spec = one(fail="user")
    code, output = run(spec)
    assert code == 1 and "Did you mean 'math'?" in output and "Traceback" not in output
    assert closing(spec) == "As it is, it would end alike: that has to be mended first. What is done stays done."


@pytest.mark.parametrize(
    ("error", "lasting"),
    [
        (UserError("a value"), True),
        (AssertionError("Invalid choice"), True),
        (KeyError("weight_map"), True),
        (ValueError("Seed must be between 0 and 2**32 - 1"), True),
        (PassingError("the hub"), False),
        (OSError(28, "No space left on device"), False),
        (ConnectionError(), False),
        (RuntimeError("NCCL"), False),
        (MemoryError(), False),
    ],
    ids=repr,
)
def test_what_comes_of_values_or_code_is_bound_to_repeat_and_what_comes_of_the_world_is_not(error, lasting):
    assert bound_to_repeat(error) is lasting


def test_a_killed_step_leaves_no_mark_and_no_lock_and_runs_again(one, attempts, tmp_path):
    gate = tmp_path / "gate"
    spec = one(gate=str(gate))
    process = start(spec)
    wait_for(lambda: attempts(tmp_path, "one") == 1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not spec.done
    gate.touch()
    path = spec.folder / "spec.json"
    done = subprocess.run([sys.executable, "-m", "nemo_distill.step", str(path)], timeout=300)
    assert done.returncode == 0 and spec.done and attempts(tmp_path, "one") == 2


def test_of_two_processes_on_one_folder_the_second_waits_and_finds_it_done(one, attempts, tmp_path):
    gate = tmp_path / "gate"
    spec = one(gate=str(gate))
    first = start(spec)
    wait_for(lambda: (spec.folder / "progress.json").exists())
    second = start(spec)
    assert "waiting: another process works on" in second.stdout.readline()
    gate.touch()
    outputs = [process.communicate(timeout=300)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    assert "already done" in outputs[1]
    assert attempts(tmp_path, "one") == 1


def test_a_terminated_step_says_so_and_can_be_resumed(one):
    spec = one(seconds=30)
    process = start(spec)
    wait_for(lambda: (spec.folder / "progress.json").exists())
    process.terminate()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 143 and "terminated" in output
    assert not spec.done and not (spec.folder / "_FAILED").exists()


def test_the_machinery_of_a_step_starts_without_what_is_heavy():
    code = "import nemo_distill.run.process, sys; assert not {'torch', 'nemo_run', 'rich', 'numpy'} & set(sys.modules)"
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True)
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.6
