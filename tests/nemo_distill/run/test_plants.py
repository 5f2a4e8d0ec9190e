"""A runs folder of two users: what one of them lays there ends in a sentence of the other's command, and soon."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from nemo_run.config import get_nemorun_home

from nemo_distill.errors import UserError
from nemo_distill.launch.records import check_own, keep_records
from nemo_distill.launch.slurm.undo import undone_if_refused
from tests.nemo_distill.launch.slurm.users_for_tests import GROUP, USERS, as_user, visible_to_all

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]

LAYS = """
import json, os, shutil, sys
from pathlib import Path
from nemo_distill.run.step import Step, place
os.umask(0o002)

HOW = {
    "pipe": lambda path: os.mkfifo(path),
    "folder": lambda path: path.mkdir(),
    "unreadable": lambda path: (path.write_text("{}"), path.chmod(0)),
    "link": lambda path: path.symlink_to(f"{PRIVATE}/key"),
    "nested": lambda path: path.write_text("[" * 10**5),
    "endless": lambda path: (path.touch(), os.truncate(path, 2**40)),
}
ROOT, PRIVATE = Path(sys.argv[1]), sys.argv[2]
for name, file, how in json.loads(sys.argv[3]):
    runs = ROOT / name
    runs.mkdir(mode=0o2775)
    if name.endswith("-sticky"):
        runs.chmod(0o3775)
    spec = place([Step("one", "steps_for_tests", {})], runs=runs)["one"]
    spec.save()
    path = runs / file.replace("FOLDER", f"one/{spec.fingerprint}")
    if path == spec.folder:
        shutil.rmtree(path)
    path.unlink(missing_ok=True) if not path.is_dir() else None
    HOW[how](path)
"""
MEETS = """
import contextlib, io, json, os, signal, sys
from pathlib import Path
from nemo_distill import cli
from nemo_distill.errors import UserError
from nemo_distill.run import process
from nemo_distill.run.manifest import Run
from nemo_distill.run.facts import RunFacts
from nemo_distill.run.step import Step, place
ROOT, said = Path(sys.argv[1]), {}

def late(*_):
    raise SystemExit("it waits")

signal.signal(signal.SIGALRM, late)

def of(act):
    out = io.StringIO()
    signal.alarm(20)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = act()
    except BaseException as error:
        code = f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    return [code, out.getvalue()]

for name, file, how in json.loads(sys.argv[2]):
    runs = ROOT / name
    if file != "small.json":
        try:
            specs = place([Step("one", "steps_for_tests", {})], runs=runs)
        except UserError as error:
            said[name] = {"launch": [2, str(error)]}
            continue
        run = Run(name="small", runs=runs, specs=specs, facts=RunFacts())
        of(lambda: run.save() or 0)
    said[name] = {
        "status": of(lambda: cli.main(["status", "small", "--runs", str(runs)])),
        "list": of(lambda: cli.main(["list", "--runs", str(runs)])),
    }
    if file != "small.json":
        folder = next(iter(specs.values())).folder
        said[name]["step"] = of(lambda: process.main([str(folder / "spec.json")]))
print(json.dumps(said))
"""
PLANTS = [
    *((f"{what}-{how}", f"FOLDER/{what}", how) for what in ("spec.json", "_SUCCESS", "_FAILED", "log.txt", ".lock")
      for how in ("pipe", "folder", "unreadable", "link")),
    *((f"{what}-{how}", f"FOLDER/{what}", how) for what in ("job.json", "progress.json") for how in ("pipe", "nested")),
    *((f"run-{how}", "small.json", how) for how in ("pipe", "folder", "unreadable", "link", "nested", "endless")),
    ("spec.json-endless", "FOLDER/spec.json", "endless"),
    ("folder-pipe", "FOLDER", "pipe"),
    ("folder-link", "FOLDER", "link"),
    ("log.txt-unreadable-sticky", "FOLDER/log.txt", "unreadable"),
    ("run-unreadable-sticky", "small.json", "unreadable"),
]  # fmt: skip
"""Runs folder, what one user lays there, and how."""


@pytest.fixture
def met(tmp_path):
    """What the second user's commands said, by plant and command: exit code and all that was printed."""
    if os.geteuid() != 0:
        pytest.skip("it takes root to be several users")
    one, other = USERS
    with tempfile.TemporaryDirectory(prefix="plants-") as name:
        scratch, folder, private = Path(name), Path(name, "runs"), Path(name, "private")
        scratch.chmod(0o755)
        for made, owner, mode in ((folder, one, 0o2775), (private, other, 0o755)):
            made.mkdir()
            shutil.chown(made, owner, GROUP)
            made.chmod(mode)
        (private / "key").write_text("PRIVATE")
        shutil.chown(private / "key", other, GROUP)
        variables = {"PYTHONPATH": f"{ROOT}:{ROOT}/evaluator:{HERE}", "NEMO_DISTILL_STEPS": "steps_for_tests"}
        variables |= {"HOME": str(private), "OMP_NUM_THREADS": "1"}

        def call(user: str, program: str, *arguments: str) -> str:
            words = [sys.executable, "-W", "ignore", "-c", program, *arguments]
            process = as_user(user, words, within=within, cwd=private, env=variables)
            said, _ = process.communicate(timeout=300)
            assert process.returncode == 0, said
            return said

        try:
            with visible_to_all(sys.base_prefix, sys.prefix, ROOT, scratch=scratch) as within:
                call(one, LAYS, str(folder), str(private), json.dumps(PLANTS))
                said = json.loads(call(other, MEETS, str(folder), json.dumps(PLANTS)).splitlines()[-1])
        except OSError as error:
            pytest.skip(str(error))
        assert sorted(path.name for path in private.iterdir()) == ["key"]
        assert (private / "key").read_text() == "PRIVATE"
        yield said


def test_what_another_user_lays_in_a_shared_folder_ends_in_a_sentence_and_nothing_waits_for_it(met):
    wrong = {}
    for plant, commands in met.items():
        for command, (code, said) in commands.items():
            ended_well = code in (0, 2, 66)
            if not ended_well or "Traceback" in said or "PRIVATE" in said or (code and not said.strip()):
                wrong[plant, command] = code, said[-400:]
    assert not wrong, json.dumps({str(key): value for key, value in wrong.items()}, indent=1)
    assert len(met) == len(PLANTS)


def test_what_a_launch_puts_back_is_no_file_that_a_link_led_to(tmp_path):
    (tmp_path / "key").write_text("PRIVATE")
    (folder := tmp_path / "one" / "0123").mkdir(parents=True)
    (folder / "_FAILED").symlink_to(tmp_path / "key")
    (folder / "job.json").write_text("{}")
    os.mkfifo(folder / "spec.json")
    files = [folder / name for name in ("_FAILED", "job.json", "spec.json")]
    with pytest.raises(UserError), undone_if_refused(files):
        (folder / "_FAILED").unlink()  # as a launch does
        (folder / "job.json").write_text("{}, changed")
        raise UserError("refused")
    assert (folder / "job.json").read_text() == "{}"
    assert not (folder / "_FAILED").exists()


@pytest.mark.parametrize("name", [".nemo-run", ".nemo-run/experiments", ".nemo-run/experiments/small"])
@pytest.mark.parametrize("lay", [os.mkfifo, lambda path: path.symlink_to("/tmp"), Path.touch])
def test_nemo_run_keeps_no_record_where_others_lead_it(tmp_path, monkeypatch, name, lay):
    monkeypatch.delenv("NEMORUN_HOME", raising=False)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lay(path)
    with pytest.raises(UserError, match=f"{path} is no folder, and NeMo-Run would write there: remove it"):
        keep_records(tmp_path, "small")


@pytest.mark.parametrize("name", [".slurm_jobs", ".local_jobs.json"])
@pytest.mark.parametrize("lay", [os.mkfifo, lambda path: path.symlink_to("/tmp/x"), Path.mkdir])
def test_nemo_run_adds_to_no_file_that_others_have_put_in_the_place_of_its_own(tmp_path, monkeypatch, name, lay):
    monkeypatch.delenv("NEMORUN_HOME", raising=False)
    (tmp_path / ".nemo-run").mkdir()
    lay(tmp_path / ".nemo-run" / name)
    with pytest.raises(UserError, match=f"{name} is no file, and NeMo-Run would write there: remove it"):
        keep_records(tmp_path, "small")


def test_the_records_of_a_folder_that_a_group_may_write_are_where_it_may_not(monkeypatch):
    monkeypatch.delenv("NEMORUN_HOME", raising=False)
    with tempfile.TemporaryDirectory(prefix="records-") as name:
        home, runs = Path(name, "home"), Path(name, "runs")
        Path(name).chmod(0o755)
        for folder, mode in ((home, 0o755), (runs, 0o2775), (runs / "own", 0o2775)):
            folder.mkdir()
            if os.geteuid() == 0:
                shutil.chown(folder, group=GROUP)
            folder.chmod(mode)
        monkeypatch.setenv("HOME", str(home))
        keep_records(runs, "small")
        records = Path(get_nemorun_home())
        assert records.parent == home / ".nemo-run" and records.name.startswith("runs-")
        assert [folder.stat().st_mode & 0o777 for folder in (records.parent, records)] == [0o700, 0o700]
        assert sorted(path.name for path in runs.iterdir()) == ["own"]
        if os.geteuid() == 0:
            moved = {
                path: as_user(USERS[1], ["mv", str(path), f"{path}-moved"], within=[], cwd=runs, env={}).wait()
                for path in (runs / "own", records.parent, records)
            }
            assert list(moved.values()) == [0, 1, 1]
        home.chmod(0o777)
        with pytest.raises(UserError, match=f"others may write your home, {home}, .*set NEMORUN_HOME to a folder"):
            keep_records(runs, "small")


def test_a_folder_of_job_scripts_is_ones_own_or_none(tmp_path):
    tmp_path.chmod(0o700)
    check_own(str(tmp_path))
    for mode in (0o770, 0o702):
        tmp_path.chmod(mode)
        with pytest.raises(UserError, match="was made by somebody else: give the command again"):
            check_own(str(tmp_path))
    tmp_path.chmod(0o700)
    if os.geteuid() == 0:
        shutil.chown(tmp_path, USERS[0])
        with pytest.raises(UserError, match="was made by somebody else"):
            check_own(str(tmp_path))
