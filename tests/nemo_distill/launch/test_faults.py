"""Faults of this machine: a full disk, a lost terminal, a killed command, damaged and stray files, few letters."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nemo_distill.run.manifest import State, find, state_of
from nemo_distill.run.signals import interrupts_kept, terminated_like_interrupted
from tests.nemo_distill.launch.test_launch import RECIPE, alive, start, step_pid, wait_for

HANG_SECONDS = 300


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[[str], Path]]:
    """Makes a disk of a size that the runs folder `runs` is on; a second call changes its size."""
    mounted: list[Path] = []

    def make(size: str) -> Path:
        options = ["-o", f"{'remount,' if mounted else ''}size={size}"]
        (tmp_path / "disk").mkdir(exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", tmp_path / "disk"], capture_output=True)
        if done.returncode:
            pytest.skip(f"a small disk takes root and the right to mount: {done.stderr.decode()}")
        mounted.append(tmp_path / "disk")
        return tmp_path / "disk" / "runs"

    yield make
    if mounted:
        subprocess.run(["umount", "--lazy", mounted[0]], check=True)


@contextlib.contextmanager
def no_hang() -> Iterator[None]:
    """Raise within the block once it has taken far too long."""

    def too_long(number, frame) -> None:
        raise TimeoutError("the command hangs")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("size", ["16k", "100k", "6m"])
def test_a_full_disk_ends_the_step_and_the_command_in_a_sentence(nemo_run, small_disk, size):
    runs = small_disk(size)
    command = (RECIPE, f"runs={runs}", "small.fail=disk")
    with no_hang():
        code, out, err = nemo_run(*command)
    assert code == 1 and "no space left on device" in (out + err).lower(), out + err
    assert "Traceback" not in out + err and "killed" not in out + err
    assert size == "16k" or "The same command goes on from here, once there is room." in out
    if size == "6m":
        failed = "distill-2 failed: OSError: [Errno 28] No space left on device"
        assert failed in out and failed.replace(" failed", "") in nemo_run("status", "--runs", str(runs))[1]
        small_disk("64m")
        code, out, err = nemo_run(*command)
        assert code == 0 and "6 steps of small" in out, out + err


def test_no_process_outlives_its_run(nemo_run):
    code, out, _ = nemo_run(RECIPE, "small.fail=leaves")
    assert code == 0, out
    (left,) = Path("runs").glob("distill-2/*/left.txt")
    wait_for(lambda: not alive(int(left.read_text().split()[0])), seconds=60)


def test_a_killed_command_takes_its_steps_with_it_even_one_that_hears_no_signal(workplace):
    def told() -> list[int]:
        return [int(pid) for path in Path("runs").glob("distill-2/*/left.txt") for pid in path.read_text().split()]

    command = start(RECIPE, "small.fail=deaf")
    wait_for(lambda: len(told()) == 2)
    command.kill()
    command.communicate(timeout=HANG_SECONDS)
    try:
        wait_for(lambda: not any(map(alive, told())), seconds=60)
    finally:
        for pid in filter(alive, told()):
            os.kill(pid, signal.SIGKILL)
    assert state_of(find("small", runs=Path("runs")).specs["distill-2"]) == State.CUT


def test_a_lost_terminal_ends_the_steps_and_the_same_command_goes_on(nemo_run, gate, attempts):
    def hang_up() -> None:
        wait_for(lambda: list(Path("runs").glob("distill-1/*/trail.txt")))
        os.kill(os.getpid(), signal.SIGHUP)

    beside = threading.Thread(target=hang_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        beside.start()
        code, _, err = nemo_run(RECIPE, f"small.gate={gate}")
        beside.join()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert code == 130 and "the same command goes on from here" in err
    assert not alive(step_pid("distill-1"))
    gate.touch()
    assert nemo_run(RECIPE, f"small.gate={gate}")[0] == 0
    assert attempts("runs", "distill-1") == 2 and attempts("runs", "world") == 1


def test_a_terminal_that_is_not_to_be_missed_is_not():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with terminated_like_interrupted(), interrupts_kept() as interrupted:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupted()
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupted()
    finally:
        signal.signal(signal.SIGHUP, before)


def damages(path: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Ways in which a file may lie there damaged: what it is called, and what makes it so."""
    whole = path.read_bytes()
    for what, text in {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "a list": b"[]",
        "an object": b"{}",
        "null": b"null",
        "no UTF-8": b"\xff\xfe{}",
        "nested": b"[" * 100_000,
        "other types": b'{"name": 7, "steps": {"a": 1}, "done": "x", "files": [], "error": {}, "refused": 1}',
    }.items():
        yield what, lambda text=text: path.write_bytes(text)
    yield "a folder", lambda: (path.unlink(), path.mkdir())
    yield "a link to itself", lambda: (path.unlink(), path.symlink_to(path))


@contextlib.contextmanager
def as_it_was(path: Path) -> Iterator[None]:
    """Restore what lies at `path` when the block ends."""
    whole = path.read_bytes()
    try:
        yield
    finally:
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        path.write_bytes(whole)


LOOKING = (["status", "small"], ["list"], ["diff", "small", "small"], ["status"], ["reproduce", "small"])
LOOKING += (["status", "--json"], [RECIPE, "small.fail=error", "--dryrun"], ["list", "--json"], ["clean"])


def test_damaged_and_stray_files_among_the_runs_do_no_harm(nemo_run):
    nemo_run(RECIPE, "small.fail=error")
    run = find("small", runs=Path("runs"))
    failed, done = run.specs["distill-2"].folder, run.specs["distill-1"].folder
    (failed / "job.json").write_text('{"job": 7, "run": "small", "logs": "/nowhere"}')
    files = [run.path, *(failed / name for name in ("_FAILED", "progress.json", "spec.json", "job.json", "log.txt"))]
    files += [done / name for name in ("_SUCCESS", "spec.json", "output.txt")]
    commands = itertools.cycle(LOOKING)
    for path in files:
        for what, make in damages(path):
            with as_it_was(path):
                make()
                for command in itertools.islice(commands, 2):
                    code, out, err = nemo_run(*command)
                    assert code == 0 or (code == 2 and err.count("\n") == 1), (path, what, command, out, err)
                    if path != run.path and command[0] in ("status", "list"):
                        assert code == 0 and "small" in out, (path, what, command, out, err)
    runs = Path("runs")
    (runs / "zz.json").write_bytes(b"\xff\x00")
    (runs / "folder.json").mkdir()
    (runs / "link.json").symlink_to("nowhere")
    (runs / "loop.json").symlink_to("loop.json")
    (runs / "evaluate-2").rename(runs / "elsewhere")
    (runs / "evaluate-2").write_text("a file where a step's folder would be")
    for command in (["status"], ["status", "--json"], ["list"]):
        code, out, err = nemo_run(*command)
        assert code == 0 and "small" in out, (command, out, err)
    code, _, err = nemo_run(RECIPE)
    assert code == 2 and "runs/evaluate-2" in err and err.count("\n") == 1


def test_a_broken_recipe_beside_does_no_harm(nemo_run, workplace):
    recipes = workplace / "recipes"
    for name, text in {
        "syntax.py": b"x = (", "letters.py": b"\xff\xfe", "null.py": b"a\0b", "deep.py": b"(" * 100_000,
        "minus.py": b"x=" + b"-" * 100_000 + b"1", "[b]markup.py": b'"""[red]a[/blue] x"""',
    }.items():  # fmt: skip
        (recipes / name).write_bytes(text)
    (recipes / "link.py").symlink_to("nowhere")
    (recipes / "folder.py").mkdir()
    code, out, err = nemo_run("--help")
    assert code == 0 and "nested too deeply" in out and "[red]a[/blue] x" in out, out + err
    for command in ([RECIPE, "--dryrun"], ["report", "--published"]):
        code, out, err = nemo_run(*command)
        assert code == 0, (command, out, err)
    code, _, err = nemo_run("statu")
    assert code == 2 and err.count("\n") == 1


def test_output_that_has_few_letters_or_nowhere_to_go_changes_no_outcome(workplace):
    Path(os.fsdecode(b"recipes/\xff.py")).write_text('"""±"""')

    def said(words: str, **variables: str) -> subprocess.CompletedProcess:
        command = f"{sys.executable} -m nemo_distill.cli {words}"
        return subprocess.run(
            command, shell=True, capture_output=True, env=os.environ | variables, timeout=HANG_SECONDS
        )

    plain = said("--help", PYTHONIOENCODING="ascii")
    assert plain.returncode == 0 and b"recipes/?.py" in plain.stdout and b"+-" in plain.stdout
    full = said("--help > /dev/full")
    assert full.returncode == 1 and full.stderr.decode().splitlines() == [
        "nemo-run: what this says could not be written: No space left on device."
    ]
    closed = said("--help >&- 2>&-")
    assert closed.returncode == 0
