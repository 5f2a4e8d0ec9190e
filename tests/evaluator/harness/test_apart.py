"""Each answer is judged by itself: what one says is nobody's loss but its own, and takes its time alone.

One program attacks from the three places where a harness runs what an answer says: what it could do is what is wrong.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from evaluator.harness.apart import ENDPOINT
from evaluator.harness.bubblewrap import limit, python_path, sandboxed
from evaluator.harness.evaluation import INSIDE, SINGLE_THREADED
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
sitecustomize.GRADE_CPU_SECONDS = 1
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
    assert found["left"] == ["a", "code", "logs", "out", "results.json"]
    assert (folder / "results.json").read_text() == "[false]" and (data / "test.jsonl").read_text() == "expected"
