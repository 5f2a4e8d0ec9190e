"""What goes into spec.json, and what must not."""

import subprocess
from importlib.metadata import version

import pytest

from nemo_distill.run.provenance import git_state, package_versions, redact


def git(folder, *arguments):
    subprocess.run(
        ["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@t", *arguments], check=True, capture_output=True
    )


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "code.py").write_text("x = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_a_clean_checkout_is_its_commit(checkout):
    state = git_state(checkout / "package")
    assert len(state["commit"]) == 40 and state["dirty"] is False and "diff" not in state


def test_a_dirty_checkout_keeps_the_diff_and_names_what_git_does_not_know(checkout):
    (checkout / "package" / "code.py").write_text("x = 2\n")
    (checkout / "new.py").touch()
    state = git_state(checkout / "package")
    assert "+x = 2" in state["diff"] and state["untracked"] == ["new.py"]


def test_a_copy_installed_inside_another_checkout_has_no_commit_of_its_own(checkout):
    (checkout / ".gitignore").write_text("venv\n")
    (checkout / "venv" / "package").mkdir(parents=True)
    assert git_state(checkout / "venv" / "package") is None


def test_a_folder_that_is_no_checkout_has_no_commit(tmp_path):
    assert git_state(tmp_path) is None


def test_package_versions_are_the_installed_ones():
    versions = package_versions()
    assert versions["filelock"] == version("filelock")
    assert versions["omegaconf"] == version("omegaconf")


def test_no_secret_is_kept():
    starred = redact(
        ["nemo-run", "executor.env_vars.HF_TOKEN=abc", "x=hf_abcdefgh", "--key", "nvapi-123456789", "seed=1"]
    )
    assert starred == ["nemo-run", "executor.env_vars.HF_TOKEN=***", "x=***", "--key", "***", "seed=1"]


def test_a_number_of_tokens_is_no_secret_so_that_the_command_can_be_given_again():
    words = ["evaluate.max_new_tokens=48", "prepare.tokens=0.5M", "prepare.tokens=2_000"]
    assert redact(words) == words
    assert redact(["tokens=abc", "X_TOKENS=k12", "HF_TOKEN=123"]) == ["tokens=***", "X_TOKENS=***", "HF_TOKEN=***"]
