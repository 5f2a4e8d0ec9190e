"""vLLM's contract, against a stand-in that has its command line, API and processes."""

import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluator.serve import vllm
from evaluator.serve.probe import probe
from evaluator.serve.processes import ProgramFailed, in_session, marked
from tests.evaluator.conftest import TEACHER
from tests.evaluator.serve.vllm_for_tests import VERSION, installed


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    return installed(tmp_path_factory.mktemp("vllm") / "venv")


@pytest.fixture
def found(environment, monkeypatch) -> vllm.Vllm:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    return vllm.find_vllm(str(environment))


@pytest.fixture
def started(found, tmp_path):
    """What serves, of this folder."""

    def start(**changes):
        given = {"model_id": "tiny-0123", "log": tmp_path / "server.log", "context": 512, "mark": str(tmp_path)}
        return vllm.serving(TEACHER, found, **given | changes)

    return start


def told(log: Path) -> dict:
    """What the stand-in was started with."""
    return json.loads(log.read_text().splitlines()[0])


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(*pids: int) -> bool:
    """Whether all of these have ended, within seconds."""
    deadline = time.monotonic() + 60
    while (left := any(map(is_alive, pids))) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not left


def test_it_serves_this_checkpoint_on_its_gpus_with_what_decides_an_answer(started, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    for name, value in {"VLLM_ATTENTION_BACKEND": "X", "JUDGE_API_KEY": "secret", "PYTHONPATH": "/ours"}.items():
        monkeypatch.setenv(name, value)
    with started() as (server, probed):
        assert probed == probe(server, "tiny-0123") and len(probed) == 8
        record = told(tmp_path / "server.log")
        said, engines = record["argv"], record["engines"]
        assert vllm.get(server, "/v1/models")[0] == 200
        assert server.token not in " ".join(said) and server.token not in repr(server)
    assert said[:2] == ["serve", str(TEACHER)]
    options = dict(itertools.pairwise(said))
    assert options["--served-model-name"] == "tiny-0123" and options["--host"] == "127.0.0.1"
    assert (options["--data-parallel-size"], options["--max-model-len"]) == ("2", "512")
    assert (options["--mamba-ssm-cache-dtype"], options["--generation-config"]) == ("float32", "vllm")
    assert "--no-enable-prefix-caching" in said
    passed = record["environment"]
    assert passed["VLLM_API_KEY"] == server.token and not {"JUDGE_API_KEY", "VLLM_ATTENTION_BACKEND"} & set(passed)
    assert "PYTHONPATH" not in passed
    assert gone(server.process.pid, *engines) and not marked(str(tmp_path))


@pytest.mark.parametrize("victim", ["keeper", "server", "engine"])
def test_nothing_is_left_whichever_process_is_killed(started, tmp_path, monkeypatch, victim):
    monkeypatch.setenv("STAND_IN", "strays")
    with pytest.raises(ProgramFailed, match=r"vLLM .*serving .* ended with"), started() as (server, _):
        keeper, engines = server.process.pid, told(tmp_path / "server.log")["engines"]
        (api,) = set(in_session(keeper)) - {keeper}
        killed = {"keeper": keeper, "server": api, "engine": engines[0]}[victim]
        os.kill(killed, signal.SIGKILL)
        assert gone(killed)
        if victim == "engine":  # vLLM's API server ends itself then
            os.kill(api, signal.SIGKILL)
        server.process.wait(timeout=60)
    assert gone(keeper, api, *engines) and not marked(str(tmp_path))


PARENT = """
import sys, time
from pathlib import Path
from evaluator.serve import vllm
with vllm.serving(Path(sys.argv[1]), vllm.find_vllm(sys.argv[2]), model_id="tiny", log=Path(sys.argv[3], "server.log"),
                  context=None, mark=sys.argv[3]) as (server, _):
    print(server.process.pid, flush=True)
    time.sleep(600)
"""


def test_nothing_is_left_when_its_parent_is_killed_and_what_is_left_of_all_is_ended_by_the_next(
    environment, started, tmp_path, monkeypatch
):
    monkeypatch.setenv("STAND_IN", "strays")
    command = [sys.executable, "-c", PARENT, str(TEACHER), str(environment), str(tmp_path)]
    for both in (False, True):
        parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        keeper = int(parent.stdout.readline())
        engines = told(tmp_path / "server.log")["engines"]
        if both:
            os.kill(keeper, signal.SIGSTOP)  # so that it cannot clean up before it is killed itself
        parent.kill()
        parent.wait()
        if both:
            os.kill(keeper, signal.SIGKILL)
            assert gone(keeper) and all(map(is_alive, engines))
        else:
            assert gone(keeper, *engines)
    with started(log=tmp_path / "next.log"):
        assert gone(*engines)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"STAND_IN": "never"}, r"was not ready after 1 s; the end of its log:\n"),
        ({"STAND_IN": "memory"}, r"ran out of GPU memory \(torch.OutOfMemoryError: CUDA out of memory.\); the end of"),
        ({"STAND_IN": "taken"}, r"found a GPU's memory taken by another process \(.*12.18/79.11 GiB"),
        ({"STAND_IN": "renamed"}, r"is to be asked as 'tiny-0123', and what listens at its port answers as 'another'"),
        ({"STAND_IN_SHIFT": "nan"}, r"cannot be believed: it gave log-probabilities that are none"),
    ],
)
def test_what_fails_is_a_sentence_with_the_end_of_the_log_and_leaves_nothing(
    started, tmp_path, monkeypatch, wrong, sentence
):
    if wrong.get("STAND_IN") == "never":
        monkeypatch.setattr(vllm, "READY_SECONDS", 1.0)
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ProgramFailed, match=sentence), started():
        pytest.fail("it served")
    assert not marked(str(tmp_path))


def test_one_that_takes_its_time_is_waited_for(started, monkeypatch):
    monkeypatch.setenv("STAND_IN", "slow")
    with started() as (server, _):
        assert server.process.poll() is None


def test_a_port_that_somebody_took_in_between_is_said(started, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(vllm, "free_ports", lambda _: [taken.getsockname()[1]])
        with pytest.raises(ProgramFailed, match="found its port taken by another process"), started():
            pytest.fail("it served")


def test_a_gpu_that_somebody_else_is_on_is_refused_before_anything_starts(started, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA, [N/A]' >&2\nprintf '81000, 81559\\n12470, 81559\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,GPU-7")
    monkeypatch.setattr(vllm, "FREED_SECONDS", 0.0)
    with pytest.raises(ProgramFailed, match=r"GPU GPU-7 is taken .*: 12\.2 of its 79\.6 GiB are free"), started():
        pytest.fail("it served")
    assert not (tmp_path / "server.log").exists()


@pytest.mark.parametrize(("given", "gpus"), [("3", ("3",)), ("GPU-a, 1", ("GPU-a", "1")), ("0,-1,2", ("0",))])
def test_its_gpus_are_those_that_the_process_is_given(given, gpus):
    assert vllm.gpus_here({"CUDA_VISIBLE_DEVICES": given}) == gpus


@pytest.mark.parametrize("given", ["", "-1"])
def test_without_a_gpu_it_is_refused(given):
    with pytest.raises(ValueError, match=f"CUDA_VISIBLE_DEVICES='{given}' gives it no GPU"):
        vllm.gpus_here({"CUDA_VISIBLE_DEVICES": given})


def test_it_is_found_by_its_environment_or_executable_and_says_its_version(environment, tmp_path):
    by_folder = vllm.find_vllm(str(environment))
    assert by_folder == vllm.find_vllm(str(environment / "bin" / "vllm"))
    assert (by_folder.version, by_folder.program) == (VERSION, environment / "bin" / "vllm")
    packaged = tmp_path / "bin" / "vllm"  # asked of the interpreter in its first line, which knows the package
    python, info = tmp_path / "bin" / "python", tmp_path / "site" / "vllm-0.24.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.24.1\n")
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path / "site"} exec {sys.executable} "$@"\n')
    packaged.write_text(f"#!{python}\nraise SystemExit('it takes a minute to import')\n")
    for program in (python, packaged):
        program.chmod(0o755)
    assert vllm.find_vllm(str(packaged)).version == "0.24.1"


def test_one_that_is_not_there_cannot_run_is_too_old_or_says_nothing_is_a_sentence(tmp_path, monkeypatch):
    for folder in ("empty", "plain/bin", "mute/bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "plain" / "bin" / "vllm").write_text("#!/bin/sh\n")
    (tmp_path / "mute" / "bin" / "vllm").write_text("#!/bin/sh\necho 'no torch here' >&2\nexit 1\n")
    (tmp_path / "mute" / "bin" / "vllm").chmod(0o755)
    installed(tmp_path / "old", version="0.9.2")
    (tmp_path / "ls").symlink_to(shutil.which("ls"))
    sentences = {
        "nowhere": "there is no such file or folder: install vLLM 0.22 to 0.24 for torch 2.11",
        "empty": "this environment has no bin/vllm: install vLLM",
        "plain": "is no file that can be executed",
        "ls": r"does not say which version of vLLM it is: ",
        "mute": "does not say which version of vLLM it is: no torch here",
        "old": r"is vLLM 0.9.2, and 0.12 is the oldest .*evaluate.vllm=FOLDER",
    }
    for name, sentence in sentences.items():
        with pytest.raises(ValueError, match=sentence):
            vllm.find_vllm(str(tmp_path / name))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="there is no vllm beside this Python or in PATH: install vLLM"):
        vllm.find_vllm(None)


def test_who_does_not_bring_the_token_is_not_answered(started):
    with started() as (server, _):
        connection = http.client.HTTPConnection("127.0.0.1", int(server.root.rpartition(":")[2]), timeout=60)
        connection.request("GET", "/v1/models")
        assert connection.getresponse().status == 401
        connection.close()
