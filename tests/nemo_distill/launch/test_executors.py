"""The executors, as a site's settings and the command line have them."""

import subprocess
import sys
from pathlib import Path

import pytest

from nemo_distill.errors import UserError
from nemo_distill.launch import executors
from nemo_distill.launch.context import Context
from nemo_distill.launch.slurm.commands import Tunnel

SHIPPED = Path(__file__).resolve().parents[3] / "recipes" / "executors"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Write recipes/executors/NAME.yaml in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes" / "executors").mkdir(parents=True)

    def write(name: str, text: str):
        (tmp_path / "recipes" / "executors" / f"{name}.yaml").write_text(text)

    return write


def chosen(*words: str):
    context = Context(name="test")
    context.choose_executor(list(words))
    return context.executor


def test_both_keep_to_the_protocol(site):
    site("slurm", "account: a\npartition: p\n")
    assert executors.names() == ["local", "slurm"]
    for name in executors.names():
        executor = chosen(f"executor={name}")
        assert isinstance(executor, executors.Executor) and executor.name == name
        assert executor.scale == {"local": "debug", "slurm": "full"}[name]


def test_steps_run_with_this_python_first_on_the_path(site):
    assert chosen("executor=local").env_vars["PATH"].startswith(f"{Path(sys.executable).parent}:")


def test_no_file_of_the_current_folder_is_a_librarys_module_to_a_step(site, tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('the recipe json.py, and not the library')\n")
    done = subprocess.run(
        [sys.executable, "-m", "nemo_distill.step", "nowhere/spec.json"],
        env=chosen("executor=local").env_vars, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert "json.py" not in done.stderr and "nowhere/spec.json" in done.stderr


def test_the_local_executor_needs_no_file(site):
    assert chosen().parallel_steps == 2


def test_the_command_line_comes_last(site):
    site("local", "parallel_steps: 3\nenv_vars: {A: '1'}\n")
    executor = chosen("executor=local", "executor.env_vars.B=2")
    assert executor.parallel_steps == 3
    assert executor.env_vars["A"] == "1" and executor.env_vars["B"] == "2" and "PATH" in executor.env_vars


def test_the_environment_resolves_in_site_settings(site, monkeypatch):
    monkeypatch.setenv("MY_ACCOUNT", "physics")
    site("slurm", "account: ${oc.env:MY_ACCOUNT}\npartition: ${oc.env:MY_PARTITION,batch}\n")
    executor = chosen("executor=slurm")
    assert (executor.account, executor.partition) == ("physics", "batch")
    assert executors.missing(executor) is None


def test_a_host_makes_an_ssh_tunnel(site):
    site("slurm", "account: a\npartition: p\ntunnel: {host: login, user: me}\n")
    assert chosen("executor=slurm").tunnel == Tunnel(host="login", user="me")
    assert chosen("executor=slurm", "executor.tunnel.host=other").tunnel == Tunnel(host="other", user="me")
    site("slurm", "account: a\npartition: p\ntunnel: {host: null}\n")
    assert chosen("executor=slurm").tunnel is None


@pytest.mark.parametrize(
    ("tunnel", "sentence"),
    [
        ("{hots: login}", r"slurm.yaml:3: there is no setting 'tunnel.hots'. Did you mean 'tunnel.host'\?"),
        ("{user: me}", "slurm.yaml:3: tunnel has user but no host."),
        ("login", "slurm.yaml:3: tunnel=login cannot be: it has to be {KEY: VALUE} of host, user, port"),
    ],
)
def test_a_tunnel_to_nowhere_is_refused(site, tunnel, sentence):
    site("slurm", f"account: a\npartition: p\ntunnel: {tunnel}\n")
    with pytest.raises(UserError, match=sentence):
        chosen("executor=slurm")


def test_a_site_that_names_no_account_is_told_to(site):
    site("slurm", "partition: p\n")
    assert "slurm.yaml:1: fill in account" in executors.missing(chosen("executor=slurm"))


def test_slurm_without_site_settings_is_refused(site):
    with pytest.raises(UserError, match="slurm.yaml"):
        chosen("executor=slurm")


def test_the_example_serves_until_a_site_has_its_own_file_wherever_that_is(site, tmp_path):
    site("slurm.example", "account: ???\npartition: example\n")
    assert executors.site_file("slurm") == Path("recipes/executors/slurm.example.yaml")
    executor = chosen("executor=slurm")
    assert executor.partition == "example"
    copy = "cp recipes/executors/slurm.example.yaml recipes/executors/slurm.yaml"
    assert copy in executors.missing(executor) and "fill in account there, on line 1" in executors.missing(executor)
    site("slurm", "account: a\npartition: here\n")
    with executors.settings_beside(tmp_path / "elsewhere" / "recipe.py"):
        assert chosen("executor=slurm").partition == "here"
    (tmp_path / "elsewhere/executors").mkdir(parents=True)
    (tmp_path / "elsewhere/executors/slurm.example.yaml").write_text("account: a\npartition: p\n")
    with executors.settings_beside(tmp_path / "elsewhere" / "recipe.py"):
        assert chosen("executor=slurm").partition == "here"  # filled in, if further away
        (tmp_path / "elsewhere/executors/slurm.yaml").write_text("account: a\npartition: beside\n")
        assert chosen("executor=slurm").partition == "beside"


def test_the_shipped_settings_leave_account_and_partition_to_the_site(site):
    site("slurm", (SHIPPED / "slurm.example.yaml").read_text())
    executor = chosen("executor=slurm", "executor.account=a")
    assert "fill in partition" in executors.missing(executor)
    executor = chosen("executor=slurm", "executor.account=a", "executor.partition=p")
    assert executors.missing(executor) is None
    assert executor.gpus_per_node == 8
