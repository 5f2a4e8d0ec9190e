"""Runs of small steps through NeMo-Run itself: order, concurrency, skipping, failure, kills, interrupts."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nemo_distill.launch.slurm.snapshot import Code
from nemo_distill.run.manifest import State, find, state_of
from nemo_distill.run.step import Step, place
from tests.waiting_for_tests import wait_for

RECIPE = "recipes/small.py"


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "nemo_distill.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def step_pid(step: str) -> int | None:
    """Process id of the step's newest attempt."""
    lines = [line for path in Path("runs").glob(f"{step}/*/attempts.txt") for line in path.read_text().splitlines()]
    return int(lines[-1].split()[0]) if lines else None


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def seconds_of(step: str) -> tuple[float, float]:
    """When the step's only attempt began and when it was marked."""
    (folder,) = Path("runs", step).iterdir()
    begun = float((folder / "attempts.txt").read_text().split()[1])
    return begun, json.loads((folder / "_SUCCESS").read_text())["finished"]


def test_a_run_makes_every_step_and_the_same_command_again_makes_none(nemo_run, attempts, tmp_path):
    here = Code.here()
    for planted in (".code", here.folder, f"{here.folder}/evaluator", f"{here.folder}/nemo_distill"):
        for name in ("nemo_distill/__init__.py", "nemo_distill/step.py", "sitecustomize.py", "yaml.py"):
            file = Path("runs", planted, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    code, out, _ = nemo_run(RECIPE)
    assert not (tmp_path / "ran").exists()  # on this machine no copy of the code is run, whoever has put one there
    assert code == 0 and "evaluate-2: done" in out and ": 6 steps of small." in out
    run = find("small", runs=Path("runs"))
    assert {state_of(spec) for spec in run.specs.values()} == {State.DONE}
    assert (run.specs["evaluate-2"].folder / "output.txt").read_text() == (
        "evaluate-2(distill-2(distill-1(prune(world()))))"
    )
    code, out, _ = nemo_run(RECIPE)
    assert code == 0 and "Nothing to do: all 6 steps of small are done." in out
    assert [attempts("runs", step) for step in run.specs] == [1] * 6


def test_everything_a_run_writes_is_in_its_runs_folder(nemo_run, workplace, listing):
    nemo_run(RECIPE)
    assert listing(workplace.parent / "home") == "[]"
    assert sorted(path.name for path in workplace.iterdir()) == ["recipes", "runs"]
    assert not list(workplace.glob("recipes/**/__pycache__"))


def test_another_setting_runs_what_follows_from_it_only(nemo_run, attempts):
    nemo_run(RECIPE)
    code, _, _ = nemo_run(RECIPE, "distill.learning_rate=2e-3")
    assert code == 0
    assert {step: attempts("runs", step) for step in ("world", "prune", "distill-1", "evaluate-2")} == {
        "world": 1,
        "prune": 1,
        "distill-1": 2,
        "evaluate-2": 2,
    }


def test_a_milestone_is_evaluated_while_the_next_segment_trains_unless_told_otherwise(nemo_run, gate):
    def hold_the_second() -> None:
        try:
            wait_for(lambda: list(Path("runs").glob("distill-1/*/_SUCCESS")))
            gate.unlink()  # the second is not in its middle yet, which is a second away
            wait_for(lambda: list(Path("runs").glob("evaluate-1/*/_SUCCESS")))
        finally:
            gate.touch()

    gate.touch()
    with ThreadPoolExecutor() as beside:
        held = beside.submit(hold_the_second)
        assert nemo_run(RECIPE, "small.seconds=2", f"small.gate={gate}")[0] == 0
        held.result()
    assert seconds_of("evaluate-1")[0] < seconds_of("distill-2")[1]


def test_a_process_does_not_go_on_where_something_else_has_failed(nemo_run, attempts):
    code, out, _ = nemo_run(RECIPE, "small.seconds=2", "small.module=going_on_steps_for_tests", "small.beside=true")
    assert code == 1 and "beside failed: RuntimeError" in out, out
    assert state_of(find("small", runs=Path("runs")).specs["distill-1"]) == State.DONE
    assert attempts("runs", "distill-2") == 0


def test_a_process_goes_on_while_its_milestone_is_evaluated_and_a_kill_leaves_that_finished(nemo_run, attempts, gate):
    command = (RECIPE, "small.seconds=2", f"small.gate={gate}", "small.module=going_on_steps_for_tests")
    gate.touch()
    process = start(*command)
    wait_for(lambda: step_pid("distill-2"))
    gate.unlink()  # its middle is a second away
    wait_for(lambda: list(Path("runs").glob("evaluate-1/*/_SUCCESS")))
    run = find("small", runs=Path("runs"))
    assert [state_of(run.specs[f"distill-{part}"]) for part in (1, 2)] == [State.DONE, State.RUNNING]
    os.kill(step_pid("distill-2"), signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "distill-2 failed: its process ended without a word" in output, output
    assert [state_of(run.specs[f"distill-{part}"]) for part in (1, 2)] == [State.DONE, State.CUT]
    assert step_pid("distill-1") == step_pid("distill-2")
    gate.touch()
    code, output, _ = nemo_run(*command, "layout.keep_process=false")
    assert code == 0 and (attempts("runs", "distill-1"), attempts("runs", "distill-2")) == (1, 2), output


def test_steps_run_one_at_a_time_when_told(nemo_run):
    nemo_run(RECIPE, "small.seconds=0.5", "executor.parallel_steps=1")
    spans = sorted(
        seconds_of(step) for step in ("world", "prune", "distill-1", "distill-2", "evaluate-1", "evaluate-2")
    )
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_the_process_of_a_step_loads_neither_nemo_run_nor_torch_for_itself(tmp_path, small_steps):
    (spec,) = place([Step("a", small_steps, {})], runs=tmp_path).values()
    code = (
        "import sys\n"
        "from nemo_distill.run.process import main\n"
        "failed = main(sys.argv[1:])\n"
        "sys.exit(failed or str({'nemo_run', 'torch', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, spec.save()], capture_output=True, text=True)
    assert spec.done and done.stderr.strip() == "set()"


def test_a_failing_step_fails_the_run_shows_its_log_and_starts_nothing_more(nemo_run, attempts):
    code, out, _ = nemo_run(RECIPE, "small.fail=error", "small.lines=30")
    assert code == 1
    assert "distill-2 failed: RuntimeError: the disk of the tests is full" in out
    assert "line 29 of distill-2" in out and "line 3 of distill-2" not in out
    assert out.count("the disk of the tests is full") == 1 and "raised at" in out
    assert "evaluate-2" in out.partition("Not started:")[2]
    assert "evaluate-2 failed" not in out
    assert attempts("runs", "evaluate-2") == 0


def test_a_failed_run_goes_on_where_it_failed(nemo_run, attempts):
    Path("broken").touch()
    assert nemo_run(RECIPE, "small.fail=unless-mended")[0] == 1
    Path("broken").unlink()
    assert nemo_run(RECIPE, "small.fail=unless-mended")[0] == 0
    assert (attempts("runs", "distill-1"), attempts("runs", "distill-2")) == (1, 2)


def test_damaged_output_of_a_finished_step_is_refused_by_name_and_nothing_is_written(nemo_run, workplace, listing):
    nemo_run(RECIPE)
    damaged = find("small", runs=Path("runs")).specs["distill-1"].folder / "output.txt"
    damaged.write_text("")
    before = listing(workplace)
    code, _, err = nemo_run(RECIPE)
    assert code == 2 and f"{damaged} has 0 bytes" in err and "Remove" in err
    assert listing(workplace) == before


def test_status_tells_what_became_of_a_run(nemo_run):
    nemo_run(RECIPE, "small.fail=error")
    code, out, _ = nemo_run("status")
    rows = {line.split()[0]: line.split()[1] for line in out.splitlines()[1:7]}
    assert code == 0
    assert rows["distill-1"] == "done" and rows["distill-2"] == "failed" and rows["evaluate-2"] == "waiting"
    assert "distill-2: RuntimeError: the disk of the tests is full" in out
    assert nemo_run("status", "small")[1] == out
    assert nemo_run("status", "runs/small.json")[1] == out


def test_nemo_runs_own_commands_find_the_experiment(workplace, nemo_run):
    nemo_run(RECIPE)
    process = start("experiment", "list", "small")
    assert "small_" in process.communicate(timeout=300)[0] and process.returncode == 0


def test_an_unwritable_runs_folder_is_said_in_a_sentence(nemo_run):
    for runs, reason in (("/proc/runs", "holds no files that stay"), ("recipes/small.py/x", "is no folder")):
        code, _, err = nemo_run(RECIPE, f"runs={runs}")
        assert code == 2 and reason in err and err.count("\n") == 1


def test_a_killed_step_fails_the_run_and_the_same_command_finishes_it(nemo_run, attempts, gate):
    command = (RECIPE, f"small.gate={gate}")
    process = start(*command)
    wait_for(lambda: step_pid("distill-1"))
    os.kill(step_pid("distill-1"), signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "distill-1 failed: its process ended without a word" in output
    assert not step_pid("distill-2") and not step_pid("evaluate-1")
    gate.touch()
    assert nemo_run(*command)[0] == 0
    assert attempts("runs", "distill-1") == 2 and attempts("runs", "world") == 1


def test_ctrl_c_ends_the_steps_and_exits_130(workplace):
    process = start(RECIPE, "small.seconds=90")
    wait_for(lambda: step_pid("distill-1") and list(Path("runs").glob("distill-1/*/log.txt")))
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130 and "the same command goes on from here" in output
    wait_for(lambda: not alive(step_pid("distill-1")))
    assert state_of(find("small", runs=Path("runs")).specs["distill-1"]) == State.CUT


def test_steps_with_imports_are_forked_from_one_process_that_ends_with_the_command(nemo_run, gate):
    command = (RECIPE, "small.module=forked_steps_for_tests", f"small.gate={gate}")

    def states() -> dict[str, dict]:
        paths = Path("runs").glob("*/*/state.json")
        return {path.parts[1]: json.loads(text) for path in paths if (text := path.read_text())}

    process = start(*command)
    wait_for(lambda: "distill-1" in states())
    forks = states()
    servers = {one["parent"] for one in forks.values()}
    assert len(servers) == 1 and set(forks) == {"world", "prune", "distill-1"}
    process.terminate()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130 and "the same command goes on from here" in output, output
    wait_for(lambda: not any(map(alive, {forks["distill-1"]["pid"], *servers})))
    gate.touch()
    code, output, _ = nemo_run(*command)
    assert code == 0 and "evaluate-2: done" in output, output
    logs = list(Path("runs/.nemo-run").rglob("forkserver.log"))
    assert len(logs) == 2 and all("imported ahead in" in log.read_text() for log in logs)
    said = Path("runs/.nemo-run").rglob("combined.log")
    assert sum("to standard output" in log.read_text() for log in said) == 7  # each task's, where NeMo-Run keeps it
    assert states()["world"]["environment"]["OMP_NUM_THREADS"] == "1"


def test_an_interrupt_that_meets_nemo_run_looking_up_a_state_is_not_lost(nemo_run, monkeypatch):
    from nemo_run.run.torchx_backend.runner import Runner

    look_up = Runner.status

    def interrupted_once(runner, handle):
        if step_pid("distill-1"):
            monkeypatch.setattr(Runner, "status", look_up)
            os.kill(os.getpid(), signal.SIGTERM)  # the handler runs here, inside NeMo-Run's `finally: return`
        return look_up(runner, handle)

    monkeypatch.setattr(Runner, "status", interrupted_once)
    code, _, err = nemo_run(RECIPE, "small.seconds=90")
    assert code == 130 and "interrupted" in err
    assert not alive(step_pid("distill-1"))


def test_of_two_commands_at_once_the_second_waits_and_has_nothing_to_do(workplace, attempts, gate):
    command = (RECIPE, f"small.gate={gate}")
    first = start(*command)
    wait_for(lambda: step_pid("distill-1"))
    second = start(*command)
    said = next(line for line in second.stdout if "Another nemo-run" in line)
    assert "Another nemo-run is at work on small" in said
    gate.touch()
    outputs = [process.communicate(timeout=300)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    assert "Done in" in outputs[1] and "started" not in outputs[1]
    assert [attempts("runs", step) for step in ("world", "distill-2", "evaluate-2")] == [1, 1, 1]


def test_nemo_runs_own_way_to_start_a_recipe_works_and_fails_alike(workplace):
    def python(*arguments):
        return subprocess.run([sys.executable, RECIPE, *arguments], capture_output=True, text=True, timeout=300)

    assert python("run.executor=local").returncode == 0
    assert state_of(find("small", runs=Path("runs")).specs["evaluate-2"]) == State.DONE
    refused = python("run.executor=local", "distil.learning_rate=1")
    assert refused.returncode == 2 and "Did you mean 'distill.learning_rate'" in refused.stderr
    assert python("run.executor=local", "small.fail=error").returncode == 1


def test_a_step_whose_process_cannot_even_start_is_explained(nemo_run, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    code, out, _ = nemo_run(RECIPE)
    assert code == 1 and "world failed: its process ended without a word" in out
    assert "encodings" in out and "combined.log" in out


def test_a_name_that_is_no_file_name_is_refused(nemo_run, workplace):
    code, _, err = nemo_run(RECIPE, "--name", "my/run")
    assert code == 2 and "cannot be called 'my/run'" in err
    assert not (workplace / "runs").exists()


def test_a_run_whose_step_folder_was_removed_still_has_a_status(nemo_run):
    nemo_run(RECIPE)
    shutil.rmtree("runs/evaluate-2")
    code, out, _ = nemo_run("status")
    assert code == 0 and "small: 5 of 6 steps done" in out


def test_a_file_that_is_no_runs_is_refused(nemo_run):
    Path("other.json").write_text('{"name": "x"}')
    code, _, err = nemo_run("status", "other.json")
    assert code == 2 and "other.json is no run's file" in err


def test_folders_may_have_spaces_in_their_names_the_environments_too(workplace, attempts):
    place = workplace.rename(workplace.with_name("folder with space"))
    os.chdir(place)
    (place / "its own venv").symlink_to(sys.prefix)
    words = (RECIPE, "runs=it's my runs", "layout.nodes=1", "layout.gpus_per_node=2")
    for said in ("6 of 6 steps", "Nothing to do"):
        command = [place / "its own venv/bin/python", "-m", "nemo_distill.cli", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0 and said in done.stdout, done.stdout + done.stderr
    runs = Path("it's my runs")
    assert [attempts(runs, step) for step in ("world", "distill-1", "distill-2", "evaluate-2")] == [1, 1, 1, 1]
    (ranks,) = runs.glob("distill-1/*/spec.json")
    assert json.loads(ranks.read_text())["ranks"] == 2
    assert "its own venv/bin/python" in json.loads(ranks.read_text())["provenance"]["argv"][0]
