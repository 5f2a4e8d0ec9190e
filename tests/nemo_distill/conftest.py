"""What the tests of the machinery share: steps that do next to nothing, and a recipe of them in a folder of its own."""

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

import nemo_distill
from tests.nemo_distill.launch.slurm import cluster_for_tests

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


@pytest.fixture
def small_steps(monkeypatch):
    """Make `steps_for_tests` importable here and in the processes that run steps; returns the module's name."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]))
    yield "steps_for_tests"
    sys.modules.pop("steps_for_tests", None)
    sys.modules.pop("one_rank_steps_for_tests", None)


@pytest.fixture
def workplace(tmp_path, monkeypatch, small_steps):
    """A folder with recipes/small.py, recipes/executors and nothing else; the current one, and HOME is empty."""
    place = tmp_path / "work"
    (place / "recipes").mkdir(parents=True)
    shutil.copy(HERE / "recipe_for_tests.py", place / "recipes" / "small.py")
    ours = shutil.ignore_patterns("slurm.yaml")  # as on a fresh clone
    shutil.copytree(ROOT / "recipes" / "executors", place / "recipes" / "executors", ignore=ours)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NEMORUN_HOME", raising=False)
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def nemo_run(workplace, capsys):
    """Run the command in this process; returns exit code, standard output and error."""
    from nemo_distill import cli

    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def backend():
    """NeMo as the training framework, prepared: what imports Megatron or ModelOpt comes after it."""
    from nemo_distill import backends

    return backends.prepared()


@pytest.fixture(scope="session")
def tokenizer_folder() -> Path:
    """Any tokenizer will do where only tensors are compared: the debug world's."""
    return Path(nemo_distill.__file__).parent / "debug" / "teacher"


@pytest.fixture(scope="session")
def course(tmp_path_factory):
    """A folder with the small course of `segments`: what comes before it, the uncut segment `distill-whole`, and
    `distill-1`, cut at the milestone; each trained on one rank."""
    from tests.nemo_distill import segments

    folder = tmp_path_factory.mktemp("course")
    whole, cut = segments.segment("distill-whole"), segments.segment("distill-1", until=segments.CUT)
    placed = segments.placed(folder, whole, cut)
    segments.run_all([placed["import-teacher"], placed["prune"]], [placed["prepare"]])
    segments.run(placed["index"])
    segments.run_all([placed["distill-whole"]], [placed["distill-1"]])
    for name in ("import-teacher", "prune", "index", "distill-whole", "distill-1"):
        log = (placed[name].folder / "log.txt").read_text()
        assert "in a process of its own" not in log, log[:300]
    return folder


@pytest.fixture
def attempts():
    """How often the step of that name was run, over all its folders, in a runs folder."""

    def count(runs: Path, step: str) -> int:
        return sum(len(path.read_text().splitlines()) for path in Path(runs).glob(f"{step}/*/attempts.txt"))

    return count


@pytest.fixture
def listing():
    """Every file below a folder with its size, to compare before and after."""

    def files(folder: Path) -> str:
        return json.dumps(sorted((str(path), path.stat().st_size) for path in Path(folder).rglob("*")), indent=1)

    return files


@pytest.fixture(scope="session")
def slurm_installed():
    """Slurm's programs are here."""
    _need(cluster_for_tests.unavailable())


@pytest.fixture(scope="session")
def slurm(slurm_installed, tmp_path_factory):
    """A real Slurm of two nodes on this machine, for the whole session; its commands find it by the environment."""
    with contextlib.ExitStack() as stack:
        try:
            cluster = stack.enter_context(cluster_for_tests.Cluster(tmp_path_factory.mktemp("slurm")))
        except (AssertionError, OSError) as error:
            _need(f"Slurm is installed and does not come up on this machine: {error}")
        yield cluster


@pytest.fixture
def forgetful_slurm(site, tmp_path, monkeypatch):
    """Another cluster, which the site is on: it keeps accounts, and the queue forgets what ended in seconds."""
    programs, packages = cluster_for_tests.ACCOUNTING_PROGRAMS, cluster_for_tests.ACCOUNTING_PACKAGES
    _need(cluster_for_tests.unavailable(programs, packages))
    with cluster_for_tests.Cluster(tmp_path / "slurm", job_age=2, accounting=True) as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        yield cluster


@pytest.fixture
def login_node(slurm, site, tmp_path):
    """The ssh configuration of a host called `login`, which alone has Slurm's environment: this shell has lost it."""
    _need(cluster_for_tests.unavailable(("sshd", "ssh"), cluster_for_tests.SSH_PACKAGES))
    variables = {name: os.environ[name] for name in ("SLURM_CONF", "PYTHONPATH", "NEMO_DISTILL_STEPS")}
    with cluster_for_tests.ssh_server(tmp_path / "ssh", variables) as configuration:
        os.environ["SLURM_CONF"] = "/nowhere"
        yield configuration


def _need(reason: str | None) -> None:
    if reason:
        (pytest.fail if os.environ.get("TESTS_NEED_SLURM") else pytest.skip)(reason)


@pytest.fixture
def site(workplace, slurm, monkeypatch):
    """The workplace, on the cluster: `site(time="00:02:00")` fills in recipes/executors/slurm.yaml."""
    import yaml

    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)

    def fill_in(**settings):
        settings = {"account": "tests", "partition": "batch", "poll_seconds": 0.5, **settings}
        Path("recipes/executors/slurm.yaml").write_text(yaml.safe_dump(settings))
        return workplace

    fill_in()
    return fill_in


@pytest.fixture
def gate(workplace):
    """Where segments wait in their middle, given `small.gate=GATE`, until there is a file there."""
    return workplace.parent / "gate"


@pytest.fixture
def local_hub(tmp_path, monkeypatch):
    """A hub on this machine that `huggingface_hub` asks, with an empty cache and no token."""
    from huggingface_hub import constants

    from nemo_distill.data import hub
    from tests.nemo_distill.data.hub_for_tests import Hub

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", hub.MIRROR, hub.STREAMING):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    hub.forget()
    with Hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served
    hub.forget()
