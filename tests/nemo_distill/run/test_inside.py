"""A runs folder that others may write: what a file in it says starts nothing and leads nowhere else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from nemo_distill import cli
from nemo_distill.errors import UserError
from nemo_distill.run import inside
from nemo_distill.run.at_work import why_refused
from nemo_distill.run.manifest import Run, find, job_log, job_of_step, last_lines
from nemo_distill.run.progress import write_atomically
from nemo_distill.run.provenance import files_at, git_state
from nemo_distill.run.starred import copied_output
from nemo_distill.run.step import Spec, Step, damage, mark_done, place
from nemo_distill.run.terminal import Terminal

STEP = {"name": "prune", "module": "nemo_distill.steps.prune", "config": {}, "upstream": [], "fingerprint": "0"}


@pytest.fixture
def ran(tmp_path):
    """A file that a command of theirs would leave."""
    yield tmp_path / "ran"
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def runs(tmp_path) -> Path:
    (tmp_path / "runs/prune/0").mkdir(parents=True)
    return tmp_path / "runs"


def theirs(runs: Path, **changed) -> Path:
    record = {"name": "theirs", "executor": "slurm", "queued": 1, "steps": [{**STEP, "folder": "prune/0"}]}
    path = runs / "theirs.json"
    path.write_text(json.dumps(record | changed))
    return path


@pytest.fixture
def placed(runs, small_steps) -> dict[str, Spec]:
    specs = place([Step("a", small_steps, {}), Step("b", small_steps, {}, ("a",))], runs=runs)
    for spec in specs.values():
        spec.save()
    mark_done(specs["a"].folder)
    return specs


@pytest.mark.parametrize("how", ["config", "host"])
def test_a_tunnel_in_a_runs_file_is_no_way_that_ssh_goes(runs, ran, tmp_path, monkeypatch, capsys, how):
    monkeypatch.chdir(tmp_path)
    (runs / "ssh_config").write_text(f"Host *\n  ProxyCommand sh -c 'touch {ran}; exit 1'\n")
    ways = {
        "config": {"host": "login", "config": str(runs / "ssh_config")},
        "host": {"host": f"-oProxyCommand=touch {ran}"},
    }
    theirs(runs, tunnel=ways[how])
    (runs / "mine.json").write_text(json.dumps({"name": "mine", "executor": "slurm", "queued": 1, "steps": []}))
    (runs / "prune/0/job.json").write_text(json.dumps({"job": "17", "run": "theirs", "logs": ""}))
    for words in (["status"], ["status", "theirs"], ["cancel", "mine"], ["list"]):
        assert cli.main([*words, "--runs", str(runs)]) == 0
    assert cli.main(["cancel", "theirs", "--runs", str(runs)]) == 2
    said = capsys.readouterr()
    assert "which is not tunnel.host of the site's file here" in said.out + said.err


def test_a_way_of_ones_own_is_taken_to_the_host_that_a_runs_file_names_and_its_name_is_no_option(runs, site_of):
    from nemo_distill.launch.slurm.commands import Tunnel, ssh
    from nemo_distill.launch.slurm.ways import slurm_of

    site_of("login", user="me")
    run = Run.load(theirs(runs, tunnel={"host": "login", "config": "theirs", "user": "them"}))
    assert slurm_of(run).tunnel == Tunnel(host="login", user="me")
    assert ssh(Tunnel(host="-oProxyCommand=x"))[-2:] == ["--", "-oProxyCommand=x"]


@pytest.fixture
def site_of(tmp_path, monkeypatch):
    def write(host: str, **more: str) -> None:
        (tmp_path / "recipes/executors").mkdir(parents=True)
        said = "".join(f", {key}: {value}" for key, value in more.items())
        file = tmp_path / "recipes/executors/slurm.yaml"
        file.write_text(f"account: a\npartition: p\ntunnel: {{host: {host}{said}}}\n")

    monkeypatch.chdir(tmp_path)
    return write


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"name": "../../home/x"}, r"the run is called '\.\./\.\./home/x'"),
        ({"name": "/etc/x"}, "the run is called"),
        ({"name": "x\x1b]52;c;eA==\x07"}, "the run is called"),
        ({"steps": [{**STEP, "folder": "../prune/0"}]}, "no NAME/FINGERPRINT in"),
        ({"steps": [{**STEP, "folder": "prune/.."}]}, "no NAME/FINGERPRINT in"),
        ({"steps": [{**STEP, "folder": "/etc/x"}]}, "no NAME/FINGERPRINT in"),
        ({"steps": [{**STEP, "folder": "linked/0"}]}, "linked is a link to"),
        ({"steps": [{**STEP, "folder": "prune/linked"}]}, "linked is a link to"),
        ({"steps": [{**STEP, "folder": "prune/0", "name": "[/nope]"}]}, r"a step is called '\[/nope\]'"),
        ({"steps": [{**STEP, "folder": "prune/0", "module": "antigravity"}]}, "'antigravity' is no module of nemo_dis"),
        ({"steps": [{**STEP, "folder": "prune/0", "module": "nemo_distill.steps.."}]}, "is no module of"),
        ({"steps": [{**STEP, "folder": "prune/0", "upstream": ["elsewhere"]}]}, "is no run's file"),
    ],
)
def test_names_in_a_runs_file_are_names_and_folders_are_in_the_runs_folder(runs, tmp_path, changed, sentence):
    (tmp_path / "home/0").mkdir(parents=True)
    (runs / "linked").symlink_to(tmp_path / "home")
    (runs / "prune/linked").symlink_to(tmp_path / "home")
    path = theirs(runs, **changed)
    with pytest.raises(UserError, match=sentence):
        Run.load(path)
    assert find(None, runs=_with_mine(runs)).name == "mine"


def _with_mine(runs: Path) -> Path:
    (runs / "mine.json").write_text(json.dumps({"name": "mine", "steps": []}))
    return runs


def test_a_runs_file_that_is_a_link_is_none(runs, tmp_path):
    theirs(runs).rename(tmp_path / "elsewhere.json")
    (runs / "theirs.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UserError, match="is no run's file"):
        find("theirs", runs=runs)


def test_a_folder_that_is_a_link_is_refused_before_anything_is_written(tmp_path, small_steps):
    mine = tmp_path / "mine"
    (mine / "checkpoint").mkdir(parents=True)
    (mine / "checkpoint/weights").write_text("mine")
    step = [Step("one", small_steps, {})]
    spec = place(step, runs=tmp_path / "runs")["one"]
    spec.folder.parent.mkdir(parents=True)
    spec.folder.symlink_to(mine)
    for refused in (lambda: place(step, runs=tmp_path / "runs"), lambda: Spec.load(spec.folder / "spec.json")):
        with pytest.raises(UserError, match="is a link to .*mine, out of the runs folder perhaps: remove it"):
            refused()
    assert [str(path.relative_to(mine)) for path in mine.rglob("*")] == ["checkpoint", "checkpoint/weights"]
    (tmp_path / "short").symlink_to(tmp_path / "runs")  # the runs folder itself may be one
    spec.folder.unlink()
    assert place(step, runs=tmp_path / "short")["one"].folder == spec.folder


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"module": "antigravity"}, "'antigravity' is no module of nemo_distill.steps"),
        ({"module": "nemo_distill.steps.prune.os"}, "is no module of"),
        ({"upstream": {"a": "../../../secret/x"}}, "no NAME/FINGERPRINT in"),
        ({"upstream": {"a": "/etc"}}, "no NAME/FINGERPRINT in"),
        ({"config": {"seconds": 3}}, "is not what the folder is named by"),
        ({"upstream": {}}, "is not what the folder is named by"),
    ],
)
def test_a_spec_that_was_changed_while_its_job_waits_is_not_run(placed, changed, sentence):
    path = placed["b"].folder / "spec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(UserError, match=sentence):
        if refusal := why_refused(Spec.load(path)):
            raise UserError(refusal)


def test_a_step_that_is_refused_says_why_in_its_process(placed):
    path = placed["b"].folder / "spec.json"
    path.write_text(path.read_text().replace('"steps_for_tests"', '"antigravity"'))
    done = subprocess.run([sys.executable, "-m", "nemo_distill.step", path], capture_output=True, text=True)
    assert done.returncode == 66 and "is no module" in done.stderr and "Traceback" not in done.stderr


def test_outputs_that_are_links_out_of_the_runs_folder_are_damage_and_keep_a_step_from_starting(placed, tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "private/weights").write_text("x")
    one, other = placed["a"], placed["b"]
    (one.folder / "checkpoint").symlink_to(tmp_path / "private")
    record = json.loads((one.folder / "_SUCCESS").read_text())
    (one.folder / "_SUCCESS").write_text(json.dumps(record | {"files": {"checkpoint/weights": 1}}))
    assert "is a link out of the runs folder" in damage(one.folder)
    assert "is damaged" in why_refused(other)
    (one.folder / "checkpoint").unlink()
    (one.folder / "_SUCCESS").write_text(json.dumps(record))
    assert why_refused(other) is None
    (other.folder / "index").mkdir()
    (other.folder / "index/checkpoint").symlink_to(tmp_path / "private")
    assert "out of the runs folder: remove it" in why_refused(other)
    (other.folder / "index/checkpoint").unlink()
    (other.folder / "index/checkpoint").symlink_to(one.folder)  # within, it is nobody's loss
    assert why_refused(other) is None


def test_logs_are_not_written_or_read_through_links(placed, tmp_path):
    keys = tmp_path / "authorized_keys"
    keys.write_text("mine\n")
    log = placed["b"].folder / "log.txt"
    log.symlink_to(keys)
    with pytest.raises(OSError, match="symbolic links"), copied_output(log):
        print("ssh-ed25519 AAAA")
    assert keys.read_text() == "mine\n" and last_lines(log) == []
    record = tmp_path / "runs/x.json"
    (record.parent / f".x.json.{os.getpid()}.tmp").symlink_to(keys)
    with pytest.raises(OSError, match="symbolic links"):
        write_atomically(record, "theirs")
    assert keys.read_text() == "mine\n"


def test_a_jobs_number_is_a_number_and_its_logs_are_those_of_the_runs_folder(placed, tmp_path):
    spec = placed["b"]
    (tmp_path / "home").mkdir()
    (tmp_path / "home/log-x_17_0.out").write_text("private\n")
    (spec.folder / "job.json").write_text(json.dumps({"job": "17", "logs": str(tmp_path / "home")}))
    assert job_of_step(spec)["job"] == "17" and job_log(spec) is None
    (spec.runs / "logs").symlink_to(tmp_path / "home")
    (spec.folder / "job.json").write_text(json.dumps({"job": "17", "logs": str(spec.runs / "logs")}))
    assert job_log(spec) is None
    for number in ("-x", "17; touch x", "*", None, "1,2"):
        (spec.folder / "job.json").write_text(json.dumps({"job": number, "logs": ""}))
        assert job_of_step(spec) == {}


def test_git_starts_nothing_that_a_checkout_names_and_another_users_is_not_asked_about(tmp_path, ran):
    lab = tmp_path / "lab"
    package = lab / "venv/nemo_distill"
    package.mkdir(parents=True)
    (package / "x.py").touch()

    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", lab, *words], check=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "x")
    git("config", "core.fsmonitor", f"touch {ran}; false")
    git("config", "diff.x.textconv", f"touch {ran}; cat")
    git("config", "diff.x.command", f"touch {ran}; false")
    (lab / ".gitattributes").write_text("* diff=x\n")
    (package / "x.py").write_text("x = 1\n")
    state = git_state(package)
    assert "+x = 1" in state["diff"] and files_at(lab, state["commit"], "venv/nemo_distill/x.py") == ""
    if os.geteuid() == 0:
        for path in (lab, lab / ".git"):
            os.chown(path, 65534, 65534)
        assert git_state(package) is None and files_at(lab, state["commit"], "venv/nemo_distill/x.py") is None


def test_what_is_shown_is_text_and_nothing_that_a_terminal_obeys(capsys):
    said = "a\x1b]52;c;eA==\x1b\\ [link=file:///etc]b[/link] [/nope] \u202egpj\x9b31m"
    for console in (Terminal(width=200), Terminal(width=200, force_terminal=True)):
        console.print(said, highlight=False)
        out = capsys.readouterr().out
        assert out == r"a\x1b]52;c;eA==\x1b\ [link=file:///etc]b[/link] [/nope] \u202egpj\x9b31m" + "\n"
    assert isinstance(Terminal(), Console)
    assert cli.main(["status", "x\x1b]0;title\x07"]) == 2
    assert "\x1b]0;" not in capsys.readouterr().err


def test_a_folder_with_somebodys_recipes_is_looked_at_without_running_them(tmp_path, ran, monkeypatch, capsys):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/a.py").write_text(f'"""Harmless."""\nBLEND = __import__("os").system("touch {ran}") or None\n')
    monkeypatch.chdir(tmp_path)
    for words in (["--help"], ["status"], ["list"], ["report", "--published"]):
        cli.main(words)
    capsys.readouterr()


def test_a_module_of_ones_own_is_named_by_ones_own_environment(monkeypatch):
    monkeypatch.setenv(inside.OTHER_STEPS, "")
    with pytest.raises(UserError, match="no other is run"):
        inside.check_module("steps_for_tests")
    monkeypatch.setenv(inside.OTHER_STEPS, "one,steps_for_tests")
    assert inside.check_module("steps_for_tests") == "steps_for_tests"
