"""Inputs that attack whoever evaluates a checkpoint: a model's answers, what a sandbox leaves, files among data sets.

Each ends in a refusal, or in nothing happening.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from evaluator.harness import bubblewrap, watch
from evaluator.harness.bubblewrap import limit, sandboxed
from evaluator.harness.evaluation import Evaluation, _linked, check_ended_well, evaluating, run_config
from evaluator.harness.gateway import gateway
from evaluator.harness.left import last_lines, refuse_links
from evaluator.harness.read import read_direct
from evaluator.harness.relay import TASKS
from evaluator.harness.relay import __file__ as relay_file
from evaluator.harness.requirements import Means, prepare_suite
from evaluator.harness.watch import Overrun, watched
from evaluator.serve.ports import free_ports
from evaluator.suites.catalogue import HARNESS, HARNESS_CODE, OFFLINE
from evaluator.suites.judge import judge_of
from tests.evaluator.endpoints import answering

HUB = Path(__file__).parents[1] / "data" / "hub"
CHECKOUT = Path(__file__).parents[3]
SECRETS = {"HF_TOKEN": "hf_of_the_user", "JUDGE_API_KEY": "key_of_the_judge", "WANDB_API_KEY": "key_of_wandb"}


@contextlib.contextmanager
def running(code: str, folder: Path, *arguments: object, ways=None, readable=(), **more):
    """The process of `code` in a sandbox that may write `folder`, which is made."""
    folder.mkdir()
    command = sandboxed(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        writable=folder,
        readable=readable,
        ways=ways or {},
        environment={"PATH": os.environ["PATH"]},
        folder=folder,
        **more,
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdout=pipe, stderr=subprocess.STDOUT, text=True, preexec_fn=limit, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


TRIES = """
import json, os, sys
could = {}
def tried(what, act):
    try:
        could[what] = act()
    except (OSError, KeyError) as error:
        could[what] = None
home, checkout, runs, data = sys.argv[1:]
tried("key beside the step", lambda: open(home + "/.ssh/id").read())
tried("site file", lambda: os.listdir(checkout + "/recipes"))
tried("git", lambda: os.listdir(checkout + "/.git"))
tried("tests beside the package", lambda: os.listdir(checkout + "/tests"))
tried("job scripts beside the evaluation", lambda: os.listdir(runs + "/.nemo-run"))
tried("what lies beside the package", lambda: sorted(set(os.listdir(checkout)) - {"evaluator", ".venv"}) or None)
tried("home", lambda: os.listdir(os.path.expanduser("~root")) or None)
def written(path, size=1):
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    os.remove(path)
    return "written"
tried("write /", lambda: written("/x"))
tried("write /dev", lambda: written("/dev/x"))
tried("write the package", lambda: written(checkout + "/evaluator/x"))
assert open(data + "/test.jsonl").read() == "expected"
tried("write the expected answers", lambda: open(data + "/test.jsonl", "a"))
tried("replace the expected answers", lambda: os.rename(data, data + "2") or os.mkdir(data))
tried("fill /dev/shm", lambda: written("/dev/shm/x", 2**25))
tried("fill /tmp", lambda: written("/tmp/x", 2**25))
tried("fill /run", lambda: written("/run/x", 2**25))
print(json.dumps(could))
"""


@pytest.mark.usefixtures("bubblewrap")
def test_a_sandbox_shows_what_is_named_and_nothing_that_lies_beside_it(tmp_path, monkeypatch):
    home, runs = tmp_path / "home", tmp_path / "runs"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id").write_text("PRIVATE")
    (runs / ".nemo-run").mkdir(parents=True)
    (data := tmp_path / "datasets" / "set").mkdir(parents=True)
    (data / "test.jsonl").write_text("expected")
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "path", [str(home), "", *sys.path])
    monkeypatch.setenv("PYTHONPATH", f"{home}{os.pathsep}{CHECKOUT}")
    monkeypatch.setattr(bubblewrap, "TMP_BYTES", 2**24)
    assert bubblewrap.python_path() == str(CHECKOUT)
    with running(TRIES, runs / "evaluation", home, CHECKOUT, runs, data, readable=[data]) as process:
        said = process.communicate(timeout=60)[0]
    could = json.loads(said.splitlines()[-1])
    assert could and set(could.values()) == {None}, could


SLEEPERS = """
import subprocess, sys, time
made = [subprocess.Popen(["/bin/sleep", "60"], start_new_session=True) for _ in range(40)]
time.sleep(60)
"""
MEMORY = """
import os, time
held = bytearray(2**23)
for _ in range(7):
    if not os.fork():
        held = os.urandom(2**23)
        break
time.sleep(60)
"""
IN_SHARED_MEMORY = "import os, time\nopen('/dev/shm/x', 'wb').write(bytes(2**26))\ntime.sleep(60)"
DISK = "import time\nfor n in range(8): open(f'fill{n}', 'wb').write(bytes(2**23))\ntime.sleep(60)"
FILES = "import time\nfor n in range(200): open(f'fill{n}', 'wb')\ntime.sleep(60)"


@pytest.mark.usefixtures("bubblewrap")
@pytest.mark.parametrize(
    ("code", "most", "why"),
    [
        (SLEEPERS, {"processes": 20}, r"it ran \d\d processes at a time; a sandbox has 20"),
        (MEMORY, {"memory": 2**26}, r"it used 0\.\d GiB of memory"),
        (IN_SHARED_MEMORY, {"memory": 2**26}, r"it used 0\.\d GiB of memory"),
        (DISK, {"disk": 2**25}, r"it wrote 0\.\d GiB into its folder"),
        (FILES, {"files": 100}, "it wrote more than 100 files into its folder"),
    ],
    ids=["processes", "memory of many", "shared memory", "disk", "files"],
)
def test_what_a_sandbox_takes_all_together_is_bounded(tmp_path, monkeypatch, code, most, why):
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(watch, "DISK_EVERY", 1)
    folder = tmp_path / "out"
    with running(code, folder) as process, watched(process, writable=folder, **most) as overrun:
        process.wait(timeout=30)
    evaluation = Evaluation(process, folder, "codegeneration", overrun)
    with pytest.raises(RuntimeError, match=f"nemo-evaluator's codegeneration ended: {why}"):
        check_ended_well(evaluation)


FORKS = """
import subprocess
made = []
try:
    for _ in range(300):
        made.append(subprocess.Popen(["/bin/sleep", "60"]))
except BlockingIOError:
    print(len(made))
for process in made:
    process.kill()
"""


@pytest.mark.usefixtures("bubblewrap")
@pytest.mark.skipif(not bubblewrap._counts_tasks(), reason="needs Linux 5.14")
def test_an_ordinary_user_s_sandbox_makes_no_more_processes_than_it_may_and_goes_on():
    python = "/usr/bin/python3" if os.getuid() == 0 else sys.executable  # root is held by the watch alone
    if not Path(python).exists():
        pytest.skip("needs a Python of the system's")
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    command = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    command += ["--setenv", TASKS, "100", "--", python, "-c", Path(relay_file).read_text(), "--", python, "-c", FORKS]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", **nobody)
    assert done.returncode == 0, done.stderr
    assert 80 < int(done.stdout) < 100


def test_what_an_evaluation_shares_is_counted_once(tmp_path):
    code = "import os, time\nheld = os.urandom(2**25)\nfor _ in range(5):\n    if not os.fork():\n        break\n"
    process = subprocess.Popen([sys.executable, "-c", code + "print(flush=True)\ntime.sleep(60)"], stdout=-1)
    try:
        for _ in range(6):
            process.stdout.readline()
        tree = watch.below(process.pid)
        assert len(tree) == 6
        assert 2**25 < watch.memory_of(tree, enough=0) < 3 * 2**25 < watch.memory_of(tree, enough=2**40)
    finally:
        for each in watch.below(process.pid):
            os.kill(each, 9)
        process.wait()


LEAVES_LINKS = """
import os, sys
from pathlib import Path
key, out = sys.argv[1], Path(sys.argv[2])
for folder, name in (("generated_code", "1.1_0.py"), ("prompt", "1.1.txt")):
    (out / "scicode_results" / folder / "m/without_background").mkdir(parents=True)
os.symlink(key, out / "scicode_results/prompt/m/without_background/1.1.txt")
try:
    open(key)
    print("read")
except OSError:
    print("out of reach")
"""


@pytest.mark.usefixtures("bubblewrap")
def test_a_link_that_a_sandbox_left_is_not_followed(tmp_path):
    key, folder = tmp_path / "id", tmp_path / "scicode"
    key.write_text("PRIVATE")
    with running(LEAVES_LINKS, folder, key, folder) as process:
        assert process.communicate(timeout=60)[0] == "out of reach\n"
    suite = HARNESS_CODE.with_benchmarks(one for one in HARNESS_CODE.benchmarks if one.harness == "scicode")
    with pytest.raises(ValueError, match=r"1\.1\.txt' is a link out of the evaluation's folder: nothing there is read"):
        read_direct(tmp_path, suite, model_id="m", started=0)


def test_whatever_else_is_laid_in_an_evaluation_s_folder_is_not_followed_either(tmp_path):
    key, folder = tmp_path / "id", tmp_path / "out"
    key.write_text("PRIVATE")
    (folder / "cache").mkdir(parents=True)
    (folder / "inside").symlink_to("cache")
    (folder / "nowhere").symlink_to("/no/such/file")
    (folder / "circle").symlink_to("circle")
    refuse_links(folder)  # none of these leads to anything that the folder does not hold
    for name, lay in (
        ("cache/cache.db", lambda path: path.symlink_to(key)),
        ("cache.sqlite", lambda path: path.symlink_to(tmp_path)),
        ("relative", lambda path: path.symlink_to("../id")),
        ("results.yml", os.mkfifo),
    ):
        lay(folder / name)
        with pytest.raises(ValueError, match=f"{name}' is "):
            refuse_links(folder)
        (folder / name).unlink()
    for name in ("log.txt", "not_answered.txt"):
        (folder / name).symlink_to(key)
        assert last_lines(folder / name) == ""
    os.mkfifo(folder / "pipe")
    assert last_lines(folder / "pipe") == ""  # and does not wait for a writer
    failed = subprocess.Popen(["/bin/false"])
    failed.wait()
    with pytest.raises(RuntimeError) as error:
        check_ended_well(Evaluation(failed, folder, "scicode", Overrun()))
    assert "PRIVATE" not in str(error.value)


def test_a_harness_finds_the_data_sets_that_are_named_and_nothing_beside_them(tmp_path):
    datasets = tmp_path / "datasets"
    for name in ("opencompass/AIME2025", "opencompass/other", "stranger/set"):
        (datasets / name).mkdir(parents=True)
    (datasets / "yaml.py").write_text("raise SystemExit")
    (datasets / "opencompass" / "__init__.py").touch()
    found = {"opencompass/AIME2025": datasets / "opencompass/AIME2025"}
    folder = _linked(found, tmp_path / "started_in")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == ["opencompass", *found]


def test_what_comes_out_of_a_sandbox_reaches_one_address_with_the_key_that_stays_outside(tmp_path):
    asked = []

    def reply(body: dict) -> str:
        asked.append(body)
        return "Yes"

    def ask(port: int, path: str = "/v1/chat/completions", **body):
        headers = {"Authorization": "Bearer of the sandbox", "Host": "169.254.169.254"}
        return requests.post(f"http://127.0.0.1:{port}{path}", json={"model": "judge"} | body, headers=headers)

    with answering(reply) as url, gateway(f"{url}/chat/completions", headers={}, model="judge") as socket:
        (port,) = free_ports(1)
        relay = subprocess.Popen([sys.executable, "-P", relay_file, f"{port}={socket}", "--", "/bin/sleep", "60"])
        try:
            while True:
                with contextlib.suppress(requests.ConnectionError):
                    assert ask(port, text="?").json()["choices"][0]["message"]["content"] == "Yes"
                    break
            for path in ("/health", "/v1/models", "/v1/chat/completions/..", "//elsewhere/v1", "http://elsewhere/"):
                assert ask(port, path if path.startswith("/") else "/" + path).status_code == 404
            refusal = ask(port, model="a dearer one")
            assert refusal.status_code == 403 and "'judge', not 'a dearer one'" in refusal.text
            assert requests.post(f"http://127.0.0.1:{port}/v1/chat/completions", data=b"[" * 10**5).status_code == 403
        finally:
            relay.kill()
            relay.wait()
    assert [body["text"] for body in asked] == ["?"]


def test_every_harness_that_is_not_ours_is_refused_without_a_sandbox_and_the_demo_needs_none(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    for name in ("JUDGE_URL", "JUDGE_MODEL_ID", "JUDGE_API_KEY"):
        monkeypatch.setenv(name, "x")
    for benchmark in HARNESS_CODE.benchmarks:
        suite = HARNESS_CODE.with_benchmarks([dataclasses.replace(benchmark, executes_code=False)])
        with pytest.raises(ValueError, match=f"no bwrap here .*without a sandbox {benchmark.title} cannot be asked"):
            prepare_suite(suite, Means(datasets=HUB))
    assert prepare_suite(OFFLINE, Means()) == OFFLINE


ROMAN = dict(zip("dicl", "\u217e\u2170\u217d\u217c", strict=True))
DOC = f"''.__{ROMAN['d']}o{ROMAN['c']}__"


def _spelt(text: str) -> str:
    known = "".__doc__ or ""
    quoted = {"'": '"' + "'" + '"'}
    return "+".join(
        f"{DOC}[{known.index(letter)}]" if letter.isalpha() and letter in known else quoted.get(letter, f"'{letter}'")
        for letter in text
    )


def running_a_command(command: str) -> str:
    """An answer by which MATH-500's grader runs a command."""
    return calling(f"__import__('os').system('{command}')")


def calling(call: str) -> str:
    """An answer by which MATH-500's grader makes a call: Roman numerals, no letters to it, spell what is evaluated."""
    return f"[(1).{ROMAN['d']}{ROMAN['i']}ff][0]({_spelt(call)})"


@pytest.mark.slow
@pytest.mark.usefixtures("bubblewrap")
def test_an_answer_that_runs_a_command_in_math_500_s_grader_leaves_nothing_and_the_evaluation_goes_on(
    tmp_path, monkeypatch
):
    datasets, folder = tmp_path / "datasets", tmp_path / "out"
    data = datasets / "HuggingFaceH4" / "MATH-500"
    data.mkdir(parents=True)
    folder.mkdir()
    (tmp_path / "id").write_text("PRIVATE")
    row = {"problem": "x?", "solution": "s", "answer": "\\frac{1}{2}", "subject": "Algebra", "level": 1}
    (data / "test.jsonl").write_text(json.dumps(row | {"unique_id": "t/1.json"}) + "\n")
    (datasets / "yaml.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    # A tab, as the grader drops blanks. That it runs, and what it could do, is test_apart's.
    payload = running_a_command(f"env>{folder}/seen;touch\t{tmp_path}/touched;cat\t{tmp_path}/id>{folder}/copied")
    with answering(lambda body: "No", model="judge") as judge, answering(lambda body: f"\\boxed{{{payload}}}") as url:
        for name, value in {"JUDGE_URL": judge, "JUDGE_MODEL_ID": "judge", **SECRETS}.items():
            monkeypatch.setenv(name, value)
        suite = HARNESS.with_benchmarks(one for one in HARNESS.benchmarks if one.judged).with_repeats(1)
        suite = prepare_suite(suite, Means(datasets=datasets))
        (math,) = suite.benchmarks
        config = run_config(
            suite, [math], url=f"{url}/chat/completions", model_id="m", folder=folder, seed=0, judge=judge_of(suite)
        )
        (port,) = free_ports(1)
        with evaluating(
            config, adapter_port=port, datasets=datasets, named=math.datasets, token="token of the model"
        ) as evaluation:
            evaluation.wait(timeout=300)
            check_ended_well(evaluation)
    left = "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())
    assert not [secret for secret in (*SECRETS.values(), "token of the model") if secret in left]
    written = (folder / "seen", folder / "copied", tmp_path / "touched", tmp_path / "imported")
    assert not any(path.exists() for path in written)
    assert (folder / "results.yml").exists()
