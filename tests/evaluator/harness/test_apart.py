"""Each answer is judged by itself: what one says is nobody's loss but its own, and takes its time alone.

One program attacks from the three places where a harness runs what an answer says: what it could do is what is wrong.
"""

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from core_evals.nemo_distill.program import SANDBOX
from evaluator.harness import apart
from evaluator.harness.apart import ENDPOINT, NOTE
from evaluator.harness.asking import NOT_ANSWERED
from evaluator.harness.bubblewrap import limit, python_path, sandboxed
from evaluator.harness.evaluation import INSIDE, SINGLE_THREADED, Evaluation, check_ended_well
from evaluator.harness.watch import Overrun
from tests.evaluator.harness.test_hostile import calling

ATTACK = r"""
import ctypes, posix, socket as sockets, sys
folder, data, way, port = FOLDER, DATA, WAY, PORT
could = []
def tried(what, act):
    try:
        act()
    except OSError:
        return
    could.append(what)
libc = ctypes.CDLL(None, use_errno=True)
def called(name, *arguments):
    if getattr(libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), name)
def connected(kind, where):
    with sockets.socket(kind) as one:
        one.connect(where)
def opened(path):
    posix.close(posix.open(path, posix.O_RDWR | posix.O_CREAT))
tried("results", lambda: opened(folder + "/results.json"))
tried("a new file", lambda: opened(folder + "/new"))
tried("gone", lambda: posix.remove(folder + "/results.json"))
tried("expected answers", lambda: opened(data + "/test.jsonl"))
remount = (folder.encode(), None, 32 | 4096, None)
tried("writable again", lambda: called("mount", None, *remount))
tried("rights of its own", lambda: called("unshare", 0x10020000) or called("mount", None, *remount))
tried("what lies beneath", lambda: called("umount2", b"/tmp", 2))
tried("others", lambda: posix.kill(-1, 0))
tried("the harness", lambda: posix.kill(HARNESS, 0))
tried("memory", lambda: posix.open("/proc/%d/mem" % HARNESS, posix.O_RDWR))
tried("network", lambda: connected(sockets.AF_INET, ("127.0.0.1", port)))
tried("a way out", lambda: connected(sockets.AF_UNIX, way))
tried("a name without a file", lambda: connected(sockets.AF_UNIX, "\0harness"))
for number in range(3, 200):
    tried("a file that was open", lambda: posix.lseek(number, 0, 1))
assert posix.getpid() == 2, posix.getpid()
assert not could, could
"""
JUDGES = r"""
import json, os, socket, sys, time
from pathlib import Path
import sitecustomize
sitecustomize.CPU_SECONDS = 1
folder, attack, payload, fake = Path(sys.argv[1]), *sys.argv[2:]
listeners = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)]
listeners[1].bind("\0harness")
listeners[1].listen()
held = open(folder / "results.json")
attack = attack.replace("PORT", str(listeners[0].getsockname()[1])).replace("HARNESS", str(os.getpid()))
found = {}

from livecodebench.evaluation.compute_code_generation_metrics import evaluate_generations
tests = {"input_output": json.dumps({"inputs": ["1", "2"], "outputs": ["1", "4"]})}
programs = [attack + "\nprint(int(input()) ** 2)", "print(input())", fake, "while True: pass"]
programs[2] = fake.replace("RESULT", "[[true, true], {}]")
results, facts = evaluate_generations([tests] * 4, [[one] for one in programs], num_process_evaluate=2, timeout=1)
found["livecodebench"] = [results[place][0] for place in range(4)]
found["said"] = facts[0][0]

from scicode.__main__ import test_code
code = folder / "code/m/without_background"
code.mkdir(parents=True)
(code / "1.1_0.py").write_text(attack)
(code / "1.2_0.py").write_text("raise SystemExit(1)")
steps = [{"step_number": f"1.{n}", "test_cases": []} for n in (1, 2)]
test_code("m", folder / "code", folder / "logs", folder / "out", [{"problem_id": "1", "sub_steps": steps}])
found["scicode"] = [(folder / f"logs/m/without_background/1.{n}_0.txt").read_text() for n in (1, 2)]

from simple_evals.evals.math_grading.sympy_grader import grade_answer
(folder / "a").write_text(f"exec({attack + fake.replace('RESULT', 'true')!r}, {{}})")
pairs = [("\\frac{2}{4}x", "\\frac{x}{2}"), (payload, "\\frac{1}{2}"), ("8", "7")]
pairs += [("9**9**9**9", "\\frac{1}{2}"), ("0.5x", "x/2")]
found["math"] = [grade_answer(*pair) for pair in pairs]

from livecodebench.utils.extraction_utils import LMStyle, extract_code
style = LMStyle.GenericOAIServer
endless = "x```python\n" * 20_000
found["texts"] = [extract_code(text, style) for text in ("So\n```python\nprint(1)\n```", endless)]
from scicode.gen.models import extract_python_script
found["texts"] += [extract_python_script(text) for text in ("```python\nimport os\nx = 1\n```", "\n" * 10**5)]
found["left"] = sorted(path.name for path in folder.iterdir())
print(json.dumps(found))
"""
FAKE = """
import posix
def there(number):
    try:
        return bool(posix.fstat(number))
    except OSError:
        return False
posix.write(max(number for number in range(3, 200) if there(number)), b'RESULT')
posix._exit(0)
"""
"""Writes its own result into the pipe, and ends before the judge has a word."""


UNGUARDED = r"""
import json, os, subprocess, sys, sitecustomize
from types import SimpleNamespace
from core_evals.nemo_distill.program import passes
from evaluator.harness.apart import NotShutIn, call_apart
code = SimpleNamespace(run_test=lambda *_, **__: [[True], {}], check_correctness=True)
sitecustomize._livecodebench(code)
science = SimpleNamespace(subprocess=subprocess)
sitecustomize._scicode(science)
fork = os.fork
def no_fork():
    raise BlockingIOError(11, "Resource temporarily unavailable")
def without_processes():
    os.fork = no_fork
    call_apart(len, "a", seconds=60)
tries = {
    "livecodebench": lambda: code.check_correctness({"input_output": json.dumps({"inputs": ["1"]})}, "x", 1),
    "scicode": lambda: science.subprocess.run(["python", "/bin/true"], check=True, capture_output=True, timeout=60),
    "math": lambda: sitecustomize._Served("function = len")("a"),
    "own": lambda: passes("def f(x): return 1", "assert f(1)"),
    "no process": without_processes,
}
said = {}
for name, act in tries.items():
    try:
        act()
    except NotShutIn as error:
        said[name] = str(error)
print(json.dumps(said))
"""


def test_where_an_answer_cannot_be_judged_by_itself_none_is_scored_and_a_sentence_says_why(tmp_path):
    few = "echo 0 > /proc/sys/user/max_user_namespaces && exec "
    if subprocess.run(["unshare", "-Ur", "sh", "-c", f"{few} true"], capture_output=True).returncode:
        pytest.skip("needs namespaces of users")
    python = os.pathsep.join([str(INSIDE), str(Path(__file__).parents[3]), *filter(None, [python_path()])])
    told = {"PYTHONPATH": python, NOTE: str(tmp_path / NOT_ANSWERED), SANDBOX: "evaluator.harness.apart"}
    command = ["unshare", "-Ur", "sh", "-c", few + shlex.join([sys.executable, "-P", "-c", UNGUARDED])]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | told)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert list(said) == ["livecodebench", "scicode", "math", "own", "no process"], done.stderr
    why = {one.partition("none is: ")[2] for one in said.values()}
    assert len(why) == 2 and all("(unshare)" in one or "temporarily unavailable" in one for one in why)
    # Whatever the harness makes of it, and it may end well:
    ended = Evaluation(subprocess.Popen(["true"]), tmp_path, "scicode", Overrun())
    ended.wait()
    with pytest.raises(RuntimeError, match="scicode ended: an answer cannot be judged by itself, and so none is"):
        check_ended_well(ended)


IFEVAL = r"""
import json, sitecustomize
sitecustomize.CPU_SECONDS = 1
from pathlib import Path
from lm_eval import utils
node = type("Node", (), {"value": "utils.process_results"})
loader = type("Loader", (), {"construct_scalar": lambda self, node: node.value})()
judge = utils.import_function(loader, node, yaml_path=Path(utils.__file__).parent / "tasks/ifeval/ifeval.yaml")
asked = {"key": 1, "prompt": "?", "kwargs": [{}, {"num_bullets": 1}],
         "instruction_id_list": ["punctuation:no_comma", "detectable_format:number_bullet_lists"]}
print(json.dumps([judge(asked, [text]) for text in ("* One", "One, two", "\n" * 10**5)]))
"""


@pytest.mark.slow  # its harness takes seconds to import, twice
def test_ifeval_gives_up_on_an_answer_that_its_patterns_never_end_with():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(INSIDE), *filter(None, [python_path()])])}
    done = subprocess.run([sys.executable, "-P", "-c", IFEVAL], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    right, wrong, endless = json.loads(done.stdout.splitlines()[-1])
    names = [f"{level}_level_{how}_acc" for level in ("prompt", "inst") for how in ("strict", "loose")]
    assert right == {name: [True, True] if "inst" in name else True for name in names}
    assert wrong["inst_level_strict_acc"] == [False, False] and not wrong["prompt_level_loose_acc"]
    assert endless == {name: [False, False] if "inst" in name else False for name in names}


@pytest.mark.usefixtures("bubblewrap")
def test_what_an_answer_says_changes_no_other_s_result_no_expected_answer_and_no_file(tmp_path):
    folder, data, way = tmp_path / "out", tmp_path / "data", tmp_path / f"{ENDPOINT}x"
    for made in (folder, data, way):
        made.mkdir()
    (folder / "results.json").write_text("[false]")
    (data / "test.jsonl").write_text("expected")
    h5py.File(data / "test_data.h5", "w").close()
    attack = ATTACK.replace("FOLDER", repr(str(folder))).replace("DATA", repr(str(data)))
    attack = attack.replace("WAY", repr(str(way / "socket")))
    payload = calling(f"exec(open('{folder}/a').read())")
    python = os.pathsep.join(filter(None, [str(INSIDE), python_path()]))
    environment = {"PYTHONPATH": python, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": "/tmp"}
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(way / "socket"))
        listening.listen()
        command = sandboxed(
            [sys.executable, "-P", "-c", JUDGES, str(folder), attack, payload, FAKE],
            writable=folder,
            readable=[data],
            ways={40_123: way / "socket"},
            environment=environment | SINGLE_THREADED | {"DATA_CACHE_DIR": str(data), "PYTHONSAFEPATH": "1"},
            folder=folder,
        )
        done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    # What attacks is right where it could do nothing; what writes a result has its own, and no other's.
    assert found["livecodebench"] == [[True, True], [True, -2], [True, True], [-3]], found["said"]
    assert found["scicode"] == ["pass", "fail"], done.stdout
    assert found["math"] == [True, True, False, False, True]
    assert found["texts"] == ["print(1)", "", "\nx = 1\n", ""]
    assert found["left"] == ["a", "code", "logs", "out", "results.json"]
    assert (folder / "results.json").read_text() == "[false]" and (data / "test.jsonl").read_text() == "expected"


def test_the_seconds_of_an_answer_begin_when_it_is_shut_in(tmp_path, monkeypatch):
    slow = tmp_path / "python"  # as a machine is that is busy with others
    slow.write_text(f'#!/bin/sh\nsleep 1.5\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setattr(apart.sys, "executable", str(slow))
    said = apart.run_apart(["cat"], input="an answer", capture_output=True, text=True, timeout=1)
    assert (said.returncode, said.stdout) == (0, "an answer")
    with pytest.raises(subprocess.TimeoutExpired):
        apart.run_apart(["sleep", "60"], timeout=0.5)
    with pytest.raises(subprocess.CalledProcessError):
        apart.run_apart(["false"], check=True)
    monkeypatch.setattr(apart, "START_SECONDS", 0.5)
    with pytest.raises(apart.NotShutIn, match="ended before it was"):
        apart.run_apart(["cat"], input="an answer", capture_output=True, text=True, timeout=10)
