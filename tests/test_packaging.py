"""What an installed nemo-distill offers, and that it declares what it imports."""

import ast
import importlib.metadata
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("nemo_distill", "evaluator", "recipes", "benchmarks", "tests")
LIGHT = (
    "nemo_distill",
    "nemo_distill.config.blend",
    "nemo_distill.config.sources",
    "nemo_distill.config.schedule",
    "nemo_distill.step",
)
HEAVY = {"torch", "nemo", "megatron", "modelopt", "transformers", "nemo_evaluator", "nemo_run"}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra: str | None = None) -> dict[str, str]:
    """Requirements of the installed package, of one extra or of none, by name."""
    found = {}
    for text in importlib.metadata.requires("nemo-distill"):
        requirement, _, marker = text.partition(";")
        if (f'extra == "{extra}"' in marker) if extra else not marker:
            found[normalised(re.match(r"[\w.-]+", requirement)[0])] = requirement
    return found


def test_nemo_evaluator_finds_our_tasks_in_the_namespace():
    import core_evals

    assert "nemo_distill" in {module.name for module in pkgutil.iter_modules(core_evals.__path__)}


@pytest.mark.slow
def test_nemo_evaluator_lists_our_tasks():
    command = [str(Path(sys.executable).parent / "nemo-evaluator"), "ls"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ours = listed.partition("nemo_distill:")[2]
    for task in ("knowledge", "science", "math", "ifeval", "code"):
        assert f"* offline_{task}\n" in ours


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Programs of a new environment that holds a wheel of this tree, what it depends on, and not the checkout."""
    root = tmp_path_factory.mktemp("installed")
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "nemo_distill", "evaluator", "*.toml",
         "README.md", "LICENSE"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, tracked.split("\0")):
        (root / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / "tree" / name)
    build = f"import setuptools.build_meta as build; build.build_wheel({str(root)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=root / "tree", capture_output=True, check=True)
    venv.create(root / "env", with_pip=False)
    python, (wheel,) = root / "env" / "bin" / "python", root.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-qq", "--no-deps", str(wheel)]
    subprocess.run(pip, check=True)
    (packages,) = root.glob("env/lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.rmtree(root / "tree")
    return root / "env" / "bin"


@pytest.mark.slow
def test_who_has_only_the_package_has_a_study_to_start_from_and_the_studys_whole_report(installed, tmp_path):
    def nemo_run(*words: str, cwd: Path = tmp_path) -> str:
        done = subprocess.run([installed / "nemo-run", *words], cwd=cwd, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [installed / "python", "-c", "import nemo_distill; print(nemo_distill.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert Path(where).is_relative_to(installed.parent)
    assert "nemo-run new my_study" in nemo_run("--help")
    nemo_run("new", "my_study")
    assert "Blend balanced" in nemo_run("recipes/balanced.py", "--dryrun", cwd=tmp_path / "my_study")
    nemo_run("report", "--published")
    report = (tmp_path / "runs/published/report.md").read_text(encoding="utf-8")
    assert report.count("Made of, up to ") == 5 and "| science-rqa | 2% | 1.61B | 0.278B | 5.79 | published |" in report


def test_nemo_run_is_the_console_script():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="nemo-run")
    assert script.value == "nemo_distill.cli:main"


@pytest.mark.parametrize("module", LIGHT)
def test_what_plans_a_run_imports_nothing_heavy(module):
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert HEAVY & set(loaded) == set()


def test_every_package_that_is_imported_is_declared():
    distributions = importlib.metadata.packages_distributions()
    optional = {normalised(name) for extra in ("gpu", "harnesses", "test", "dev") for name in declared(extra)}
    shared = {path.stem for path in (ROOT / "tests").rglob("*_for_tests.py")}  # which benchmarks import, too
    missing = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            for name in {name.partition(".")[0] for name in names}:
                # What is not installed here, as nothing for GPUs is, goes by its own name.
                by_name = [name.removesuffix("_torch"), f"{name}-skinny"]
                owners = {normalised(owner) for owner in distributions.get(name, by_name)}
                known = owners & (set(declared()) | optional | {"nemo-distill"})
                ours = name in PACKAGES or name in shared or (path.parent / f"{name}.py").exists()
                if name not in sys.stdlib_module_names and not ours and not known:
                    missing.add(f"{path.relative_to(ROOT)} imports {name}")
    assert missing == set()


def set_up(*words: str, path: str | None = None, **variables: str) -> subprocess.CompletedProcess:
    """`make setup` where it has to stop before it installs anything: the environment would be in a new folder."""
    environment = os.environ | variables | ({"PATH": path} if path else {})
    return subprocess.run(["make", "setup", *words], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture
def programs(tmp_path):
    """A folder with the programs that setting up asks for, but git, and a Python of another version."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "make", "uname", "df", "awk", "dirname"):
        (folder / name).symlink_to(shutil.which(name))
    (folder / "python3.13").write_text("#!/bin/sh\necho 3.13\n")
    (folder / "python3.13").chmod(0o755)
    return folder


def test_make_alone_lists_every_target_and_makes_none():
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    declared = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[1].split()
    listed = dict(line.split(maxsplit=1) for line in said.splitlines() if line.startswith("  "))
    assert set(listed) == {target for target in declared if not target.startswith("test-")}
    assert "make demo" in said and "make check" in said


def test_another_system_than_linux_is_refused_in_a_sentence(programs, tmp_path):
    (programs / "uname").unlink()
    (programs / "uname").write_text("#!/bin/sh\necho Darwin\n")
    (programs / "uname").chmod(0o755)
    stopped = set_up(f"VENV={tmp_path / 'env'}", path=f"{programs}:{os.environ['PATH']}")
    assert stopped.returncode == 2 and "runs on Linux, and this is Darwin: take a Linux machine" in stopped.stderr
    assert not (tmp_path / "env").exists()


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"VENV": "my env"}, "VENV='my env' is no one name: the environment cannot be in a folder with a space"),
        ({"VENV": ""}, "VENV='' is no one name"),
        ({"PYTHON": "nope"}, "needs Python 3.11 or 3.12, and there is no 'nope': name one with PYTHON=..."),
        ({"PYTHON": "python3.13"}, "needs Python 3.11 or 3.12, and 'python3.13' is 3.13: name another with PYTHON=..."),
        ({"PYTHON": "true"}, "needs Python 3.11 or 3.12, and 'true' is no Python"),
        ({"NEEDS_GIB": "99999999"}, "needs 99999999 GiB of disk for its packages, and "),
        ({}, "needs git, which is not here"),
    ],
    ids=str,
)
def test_what_setting_up_needs_is_checked_before_anything_is_installed(variables, sentence, programs, tmp_path):
    words = {"PYTHON": sys.executable, "VENV": str(tmp_path / "env")} | variables
    without_git = {} if variables else {"path": str(programs)}
    path = without_git.get("path", f"{programs}:{os.environ['PATH']}")
    stopped = set_up(*(f"{key}={value}" for key, value in words.items()), path=path, **variables)
    assert stopped.returncode == 2 and sentence in stopped.stderr, stopped.stdout + stopped.stderr
    assert not (tmp_path / "env").exists() and "Setting up" not in stopped.stdout
