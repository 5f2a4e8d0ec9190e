"""Code that a model writes is executed where it can do no harm: the code itself tries, and says what it could do."""

import dataclasses
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluator.harness import bubblewrap as sandbox
from evaluator.harness.bubblewrap import check_sandbox, sandboxed
from evaluator.harness.evaluation import evaluating, run_config
from evaluator.harness.gateway import gateway
from evaluator.harness.read import read_direct
from evaluator.harness.requirements import Means, prepare_suite
from evaluator.serve.ports import free_ports
from evaluator.suites.catalogue import HARNESS_CODE
from evaluator.suites.datasets import question_ids
from tests.evaluator.endpoints import answering

HUB = Path(__file__).parents[1] / "data" / "hub"
CODE = dataclasses.replace(
    HARNESS_CODE,
    name="code",
    benchmarks=tuple(
        dataclasses.replace(benchmark, params=benchmark.params | {"parallelism": 2, "num_process_evaluate": 2})
        for benchmark in HARNESS_CODE.benchmarks
        if benchmark.title == "LCB v6"
    ),
)
MEANS = Means(datasets=HUB, execute_generated_code=True)


def test_code_is_executed_only_where_that_is_allowed():
    with pytest.raises(ValueError, match=r"executes what the model writes \(LCB v6.*execute_generated_code=true"):
        prepare_suite(CODE, Means(datasets=HUB))


def test_without_bubblewrap_no_code_is_executed(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        ValueError, match=r"no bwrap here \(apt install bubblewrap\): without a sandbox LCB v6 cannot be asked"
    ):
        prepare_suite(CODE, MEANS)


def test_without_a_folder_of_data_sets_there_is_nothing_to_ask_in_a_sandbox(monkeypatch):
    monkeypatch.setattr("evaluator.harness.requirements.check_sandbox", lambda advice: None)
    with pytest.raises(ValueError, match="'code' needs evaluate.datasets: a sandbox has no way to the hub"):
        prepare_suite(CODE, Means(execute_generated_code=True))


PROBE = """
import os, socket, sys
found = []
def could(what, act):
    try:
        act()
    except BaseException as error:
        found.append(f"{what}: {type(error).__name__}")
    else:
        found.append(f"{what}: yes")
outside, endpoint, secret = sys.argv[1:]
could("reach another port", lambda: socket.create_connection(("127.0.0.1", int(outside)), 3))
could("reach the network", lambda: socket.create_connection(("1.1.1.1", 53), 3))
could("reach the endpoint", lambda: socket.create_connection(("127.0.0.1", int(endpoint)), 3))
could("read a file", lambda: open(secret).read())
could("write the system", lambda: open("/usr/written", "w"))
could("write the package", lambda: open(os.path.join(sys.prefix, "written"), "w"))
could("write its folder", lambda: open("written", "w"))
could("fill the memory", lambda: bytearray(16 * 2**30))
could("read a key", lambda: os.environ["JUDGE_API_KEY"])
print("; ".join(found))
"""


@pytest.mark.usefixtures("bubblewrap")
def test_the_sandbox_lets_code_reach_the_endpoint_and_its_folder_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("JUDGE_API_KEY", "a secret")
    secret, folder = tmp_path / "secret", tmp_path / "out"
    secret.write_text("a secret")
    folder.mkdir()
    check_sandbox()
    with answering(lambda body: "") as endpoint, answering(lambda body: "") as other:
        port, outside = (int(re.search(r":(\d+)/", url)[1]) for url in (endpoint, other))
        with gateway(f"{endpoint}/chat/completions", headers={}) as socket:
            command = sandboxed(
                [sys.executable, "-c", PROBE, str(outside), str(port), str(secret)],
                writable=folder,
                readable=[],
                ways={port: socket},
                environment={"PATH": "/usr/bin"},
                folder=folder,
            )
            done = subprocess.run(command, capture_output=True, text=True, preexec_fn=sandbox.limit)
    assert done.returncode == 0, done.stderr
    could = dict(item.split(": ") for item in done.stdout.strip().split("; "))
    assert {what for what, result in could.items() if result == "yes"} == {"reach the endpoint", "write its folder"}
    assert could["reach another port"] == "ConnectionRefusedError"
    assert could["fill the memory"] == "MemoryError"
    assert could["read a key"] == "KeyError"
    assert (folder / "written").exists()


RIGHT = "```python\nprint(2 * int(input()))\n```"
NOSY = """```python
import socket
numbers = input().split()
try:
    socket.create_connection(("127.0.0.1", {outside}), 2)
    print("the sandbox leaks")
except OSError:
    print(sum(map(int, numbers)))
```"""


@pytest.mark.usefixtures("bubblewrap")
@pytest.mark.slow
def test_livecodebench_runs_in_the_sandbox_and_its_answers_are_read_back(tmp_path):
    suite = prepare_suite(CODE.with_repeats(2), MEANS)
    (benchmark,) = suite.benchmarks
    assert benchmark.questions == 2  # of the three in the file one is from before August 2024
    where, began = tmp_path / benchmark.task, time.time()
    where.mkdir()
    with answering(lambda body: "") as other:
        outside = re.search(r":(\d+)/", other)[1]

        def reply(body: dict) -> str:
            return RIGHT if "twice" in body["messages"][-1]["content"] else NOSY.replace("{outside}", outside)

        with answering(reply) as endpoint:
            url = f"{endpoint}/chat/completions"
            config = run_config(suite, [benchmark], url=url, model_id="debug", folder=where, seed=0, judge=None)
            (port,) = free_ports(1)
            with evaluating(config, adapter_port=port, datasets=HUB, named=benchmark.datasets) as evaluation:
                code = evaluation.wait()
    assert code == 0, (where / "log.txt").read_text()[-3000:]
    ids = question_ids(HUB, suite)
    (reading,) = read_direct(tmp_path, suite, model_id="debug", started=began, ids=ids)
    assert reading.result.questions == ("small_a", "small_b")
    assert reading.result.scores == ((1.0, 1.0), (1.0, 1.0))
