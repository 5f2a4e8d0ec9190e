"""Two users with a runs folder in common, on a real Slurm: what one begins, the other attaches to and goes on with."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nemo_distill.run.manifest import State, find, state_of
from tests.nemo_distill.launch.slurm.cluster_for_tests import Cluster, wait_for
from tests.nemo_distill.launch.slurm.users_for_tests import GROUP, USERS, as_user, visible_to_all

HERE = Path(__file__).resolve().parents[2]
ROOT = HERE.parents[1]
RECIPE = ("recipes/small.py", "--executor", "slurm")


@pytest.fixture(scope="module")
def shared():
    """A folder that the users' group may write, with the small recipe in it."""
    if os.geteuid() != 0:
        pytest.skip("it takes root to be several users")
    with tempfile.TemporaryDirectory(prefix="shared-") as name:
        folder = Path(name)
        (folder / "recipes/executors").mkdir(parents=True)
        shutil.copy(HERE / "recipe_for_tests.py", folder / "recipes" / "small.py")
        (folder / "recipes/executors/slurm.yaml").write_text("{account: tests, partition: batch, poll_seconds: 0.5}")
        shutil.chown(folder, group=GROUP)
        folder.chmod(0o2775)
        yield folder


@pytest.fixture(scope="module")
def users_cluster(shared, slurm_installed):
    """A cluster whose jobs may be anybody's, and the words that start a command where everybody gets to the code."""
    scratch = shared / "cluster"
    scratch.mkdir(mode=0o755)
    try:
        with (
            visible_to_all(sys.base_prefix, sys.prefix, ROOT, scratch=scratch) as within,
            Cluster(scratch / "slurm", within=within) as cluster,
        ):
            yield cluster, within
    except OSError as error:
        pytest.skip(str(error))


@pytest.fixture
def start(shared, users_cluster):
    """`start(user, *words)`: nemo-run with these words, begun by that user in the shared folder."""
    cluster, within = users_cluster
    variables = {
        "PYTHONPATH": f"{ROOT}:{ROOT}/evaluator:{HERE}",
        "NEMO_DISTILL_STEPS": os.environ["NEMO_DISTILL_STEPS"],
        **cluster.environment,
    }

    def start_as(user: str, *words: str) -> subprocess.Popen:
        nemo_run = [sys.executable, "-W", "ignore", "-m", "nemo_distill.cli", *words]
        home = shared / f"home-of-{user}"
        if not home.exists():
            home.mkdir(mode=0o700)
            shutil.chown(home, user)
        return as_user(user, nemo_run, within=within, cwd=shared, env=variables | {"HOME": str(home)})

    return start_as


@pytest.fixture
def private_jobs(users_cluster):
    """The cluster shows a user his own jobs only."""
    cluster, _ = users_cluster
    with open(cluster.folder / "slurm.conf", "a") as configuration:
        configuration.write("PrivateData=jobs\n")
    cluster.run("scontrol", "reconfigure")
    return cluster


def ended(process: subprocess.Popen) -> tuple[int, str]:
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def test_of_two_users_at_once_one_runs_and_the_other_attaches_and_may_go_on_with_it(start, shared, attempts):
    gate, broken, runs = shared / "gate", shared / "broken", shared / "runs"
    broken.touch()
    command = (*RECIPE, f"small.gate={gate}", "small.fail=unless-mended")
    both = {user: start(user, *command) for user in USERS}
    wait_for(lambda: list(runs.glob("distill-1/*/trail.txt")))
    owner = next(runs.glob("distill-1/*/trail.txt")).owner()
    (guest,) = set(USERS) - {owner}
    code, out = ended(start(guest, "cancel", "small"))
    assert code == 0 and f"Left alone, for they are {owner}'s" in out and "Cancelled" not in out, out
    gate.touch()
    said = {user: ended(process) for user, process in both.items()}
    for code, out in said.values():
        assert code == 1 and "distill-2 failed: RuntimeError: broken" in out and "ermission" not in out, out
    assert f" of {owner})" in said[guest][1].partition("In the queue already:")[2]
    assert "In the queue already" not in said[owner][1]
    broken.unlink()
    code, out = ended(start(guest, *command))  # in the folders that the other has made
    assert code == 0 and "ermission" not in out, out
    run = find("small", runs=runs)
    assert {state_of(spec) for spec in run.specs.values()} == {State.DONE}
    assert {name: attempts(runs, name) for name in run.specs} == dict.fromkeys(run.specs, 1) | {"distill-2": 2}
    assert (run.specs["distill-2"].folder / "output.txt").owner() == guest
    assert not (runs / ".nemo-run").exists()  # a script there could be replaced before Slurm has it
    for user in USERS:
        (records,) = (shared / f"home-of-{user}" / ".nemo-run").iterdir()
        assert (records.owner(), records.stat().st_mode & 0o777) == (user, 0o700)
        assert list(records.glob("experiments/small/*/*_sbatch.sh"))
    assert not list(runs.rglob("*.tmp")) and not list(runs.glob(".code/.tmp*"))


def test_a_runs_folder_that_is_not_shared_is_said_to_be_another_s(start, shared):
    one, other = USERS
    own = shared / "own"
    own.mkdir()
    shutil.chown(own, one, GROUP)
    own.chmod(0o755)
    code, out = ended(start(other, *RECIPE, f"runs={own}"))
    assert code == 2 and f"no permission in {own}. It belongs to {one}, who may share it" in out, out
    assert out.count("\n") == 1
    assert not list(own.iterdir())


@pytest.mark.slow
def test_users_who_do_not_see_each_other_s_jobs_do_no_step_twice_and_both_see_the_run_end(
    private_jobs, start, shared, attempts
):
    gate, runs = shared / "second-gate", shared / "private"
    command = (*RECIPE, f"small.gate={gate}", f"runs={runs}")
    one, other = USERS
    both = [start(one, *command)]
    wait_for(lambda: list(runs.glob("distill-1/*/trail.txt")))
    both.append(start(other, *command))
    wait_for(lambda: private_jobs.run("squeue", "--noheader", f"--user={other}"))
    (job,) = runs.glob("evaluate-2/*/job.json")
    wait_for(lambda: job.owner() == other)
    gate.touch()
    for code, out in map(ended, both):
        assert code == 0, out
    run = find("small", runs=runs)
    assert {name: attempts(runs, name) for name in run.specs} == dict.fromkeys(run.specs, 1)
