"""Steps that are forked from a process with their imports: a fork is what a fresh process is, or is not made."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nemo_distill.run import forkserver
from nemo_distill.run.manifest import State, state_of
from nemo_distill.run.step import Spec, Step, place
from tests.waiting_for_tests import alive, wait_for

MODULE = "forked_steps_for_tests"


@pytest.fixture
def environment(small_steps) -> dict[str, str]:
    """What the tests start steps with; OpenBLAS would have threads otherwise."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def server(environment, tmp_path):
    """The variables by which a step finds a server that has the imports of the module."""
    with forkserver.serving(("imported_for_tests",), environment, log=tmp_path / "server.txt") as variables:
        assert variables
        yield variables


@pytest.fixture
def step(tmp_path):
    def placed(name: str, **config) -> Spec:
        return place([Step(name, MODULE, config)], runs=tmp_path / "runs")[name]

    return placed


def start(spec: Spec, environment, *, python: str = sys.executable, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [python, "-m", "nemo_distill.step", str(spec.save())],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )


def run(spec: Spec, environment, **options) -> tuple[int, str]:
    process = start(spec, environment, **options)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def state(spec: Spec) -> dict:
    return json.loads((spec.folder / "state.json").read_text())


def provenance(spec: Spec) -> dict:
    return json.loads((spec.folder / "spec.json").read_text())["provenance"]


def test_a_fork_is_what_a_fresh_process_is(step, environment, server, tmp_path):
    specs = step("fresh"), step("forked")
    there = tmp_path / "a folder"
    there.mkdir()
    of_its_own = {"TORCHELASTIC_ERROR_FILE": "here", "PATH": f"/nowhere:{os.environ['PATH']}"}
    for spec, variables in zip(specs, ({}, server), strict=True):
        # this folder is first on sys.path, and so has to be the server's as well
        code, output = run(spec, environment | of_its_own | variables, umask=0o27)
        assert code == 0, output
        assert "to standard output" in output and "to standard error" in output
        log = (spec.folder / "log.txt").read_text()
        assert "to standard output" in log and "to standard error" in log
    fresh, forked = map(state, specs)
    assert provenance(specs[1])["forked_from"] == forked["parent"] and "forked_from" not in provenance(specs[0])
    assert provenance(specs[1])["pid"] == forked["pid"]
    assert provenance(specs[1])["argv"][1:] == ["-m", "nemo_distill.step", str(specs[1].folder / "spec.json")]
    assert forked["session"] == forked["group"] == forked["pid"] != fresh["session"]
    assert forked["argv"][1:] == [str(specs[1].folder / "spec.json")]
    assert forked["imported"] and not fresh["imported"]  # this step says it wants it, and never imports it
    assert forked["environment"] == fresh["environment"] | {"SET_BY_IMPORT": "yes"}
    for name in ("folder", "umask", "path", "main", "handlers", "descriptors", "threads", "input"):
        assert forked[name] == fresh[name], name


def test_forks_draw_other_random_numbers_whatever_their_python_is_called(step, environment, server):
    specs = step("a"), step("b")
    other = "python3" if Path(sys.executable).name != "python3" else "python"  # as the interpreter of a script may be
    for spec, python in zip(specs, (sys.executable, str(Path(sys.executable).with_name(other))), strict=True):
        assert run(spec, environment | server, python=python)[0] == 0
        assert "forked_from" in provenance(spec)
    ours, theirs = (state(spec)["random"] for spec in specs)
    assert len(ours) == 2 and not set(ours) & set(theirs)


def test_a_process_that_a_fork_spawns_loads_no_more_than_a_fresh_one_s(step, environment, server):
    specs = step("fresh", spawn=True), step("forked", spawn=True)
    for spec, variables in zip(specs, ({}, server), strict=True):
        code, output = run(spec, environment | variables)
        assert code == 0, output
    fresh, forked = (state(spec)["spawned"] for spec in specs)
    assert fresh == forked and "imported_for_tests" not in forked


@pytest.mark.parametrize(("fail", "code"), [("error", 1), ("killed", -signal.SIGKILL), ("exit", 7)])
def test_a_fork_that_fails_ends_as_a_fresh_process_does(step, environment, server, fail, code):
    for variables in ({}, server):
        spec = step("one", fail=fail)
        assert run(spec, environment | variables)[0] == code and not spec.done
        assert (state_of(spec) == State.FAILED) == (fail == "error")
    assert "forked_from" in provenance(spec)


def test_a_finished_step_is_not_forked(step, environment, server):
    spec = step("one")
    assert run(spec, environment | server)[0] == 0
    before = state(spec)
    code, output = run(spec, environment | server)
    assert code == 0 and "already done" in output and state(spec) == before


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_the_process_of_a_step_reaches_its_fork(step, environment, server, sent):
    spec = step("one", wait=True)
    process = start(spec, environment | server)
    wait_for(lambda: (spec.folder / "state.json").exists() and (spec.folder / "state.json").stat().st_size)
    fork = state(spec)["pid"]
    assert fork != process.pid
    os.killpg(process.pid, sent)
    process.wait(300)
    wait_for(lambda: not alive(fork))
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}.get(sent, -sent) or sent == signal.SIGINT
    assert not spec.done
    code, output = run(step("two"), environment | server)  # and the server goes on
    assert code == 0, output


def test_a_step_outlives_a_command_that_is_killed_and_its_server_waits_for_it(step, environment, tmp_path):
    spec = step("one", wait=True)
    code = (
        "import json, os, sys, time\n"
        "from nemo_distill.run import forkserver\n"
        "with forkserver.serving(('imported_for_tests',), dict(os.environ)) as variables:\n"
        "    print(json.dumps(variables), flush=True)\n"
        "    time.sleep(120)\n"
    )
    command = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    process = start(spec, environment | json.loads(command.stdout.readline()))
    wait_for(lambda: (spec.folder / "state.json").exists() and (spec.folder / "state.json").stat().st_size)
    server = state(spec)["parent"]
    command.kill()
    command.communicate()
    time.sleep(1.0)
    assert alive(server) and alive(state(spec)["pid"]) and process.poll() is None
    process.terminate()
    assert process.wait(300) == 143
    wait_for(lambda: not alive(server))


def test_a_step_goes_on_when_its_server_is_killed(step, environment, server):
    spec = step("one", spawn=True)
    process = start(spec, environment | server)
    wait_for(lambda: (spec.folder / "spec.json").exists() and "provenance" in (spec.folder / "spec.json").read_text())
    os.kill(provenance(spec)["forked_from"], signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and spec.done, output
    code, output = run(step("two"), environment | server)
    assert code == 0 and "[two] in a process of its own: " in output, output


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"SET_FOR_TESTS": "1"}, "its environment differs from that of the process to fork in SET_FOR_TESTS."),
        ({"PYTHONPATH": "/nowhere"}, "its sys.path is another than that of the process to fork."),
    ],
)
def test_a_step_of_another_environment_has_a_process_of_its_own(step, environment, server, changed, said, small_steps):
    if "PYTHONPATH" in changed:
        changed = {"PYTHONPATH": f"{environment['PYTHONPATH']}{os.pathsep}/nowhere"}
    spec = step("one")
    code, output = run(spec, environment | changed | server)
    assert code == 0 and f"[one] in a process of its own: {said}" in output, output
    assert "forked_from" not in provenance(spec)


@pytest.mark.parametrize(
    ("leaves", "said"),
    [
        ("thread", "what was imported has left threads behind"),
        ("error", "imported_for_tests cannot be imported ahead (ImportError: not on this machine)."),
    ],
)
def test_nothing_is_forked_from_a_process_with_a_thread_or_without_its_imports(step, environment, leaves, said):
    environment = environment | {"IMPORTED_FOR_TESTS": leaves}
    spec = step("one")
    with forkserver.serving(("imported_for_tests",), environment) as server:
        code, output = run(spec, environment | server)
    assert code == 0 and f"[one] in a process of its own: {said}" in output, output


def test_nothing_serves_where_there_is_nothing_to_import_or_a_gpu(environment, monkeypatch):
    with forkserver.serving((), environment) as variables:
        assert variables == {}
    monkeypatch.setattr(forkserver, "_gpus", lambda: ["/dev/nvidia0"])
    with forkserver.serving(("imported_for_tests",), environment) as variables:
        assert variables == {}
