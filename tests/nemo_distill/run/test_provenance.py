"""What goes into spec.json, and what must not."""

import subprocess
from importlib.metadata import version

import pytest

from nemo_distill.config.settings import Prepare
from nemo_distill.run.provenance import git_state, package_versions, redact
from nemo_distill.run.secrets import secrets_within, star


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


HUGGING_FACE, NVIDIA = "hf_" + "aBcDeFgHiJkL" * 2, "nvapi-" + "0123456789ab" * 3


def test_no_secret_is_kept(monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "correct-horse")
    words = ["nemo-run", "executor.env_vars.HF_TOKEN=abc", f"x={HUGGING_FACE}", "--key", NVIDIA, "y=correct-horse"]
    starred = ["nemo-run", "executor.env_vars.HF_TOKEN=***", "x=***", "--key", "***", "y=***", "seed=1"]
    assert redact([*words, "seed=1"]) == starred


def test_all_below_what_is_hidden_is_starred_in_a_command_and_a_reference_is_kept():
    words = {
        "executor.env_vars.NCCL_DEBUG=INFO": "executor.env_vars.NCCL_DEBUG=***",
        "executor.env_vars={'HF_TOKEN': 'abc'}": "executor.env_vars=***",
        "run.executor.setup_lines=export A=b": "run.executor.setup_lines=***",
        "executor.steps={'prune': {'env_vars': {'A': 'b'}}}": "executor.steps=***",
        "executor.env_vars.HF_TOKEN=${oc.env:HF_TOKEN}": "executor.env_vars.HF_TOKEN=${oc.env:HF_TOKEN}",
        "WANDB_KEY=abc": "WANDB_KEY=***",
        "blend.shares.key-facts=5": "blend.shares.key-facts=5",
        "executor.partition=gpu": "executor.partition=gpu",
    }
    assert redact(list(words)) == list(words.values())


@pytest.mark.parametrize(
    ("line", "starred"),
    [
        ('os.environ["HF_TOKEN"] = "short"', 'os.environ["HF_TOKEN"] = "***"'),
        ("  HF_TOKEN: short  # mine", "  HF_TOKEN: ***  # mine"),
        ("export WANDB_API_KEY='a \\' b'", "export WANDB_API_KEY='***'"),
        ('os.environ["WANDB_KEY"] = "abc"; NGC_AUTH=x', 'os.environ["WANDB_KEY"] = "***"; NGC_AUTH=***'),
        ('{"accessToken": "x y", "n": 1}', '{"accessToken": "***", "n": 1}'),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("git+https://me:pw@host/x", "git+https://***@host/x"),
        (f"see {HUGGING_FACE}.", "see ***."),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nx", "***\nx"),
        ("max_new_tokens=48, tokens: 300K, tokenizer = load(path)", None),
        ("bos_token_id=1, token: str, token = None, # a token for each word", None),
        ("def tokens_drawn(self, tokens: int) -> dict[str, float]:", None),
        ("hf_hub_download(repo), sk-learn, hf_checkpoint", None),
    ],
)
def test_a_line_of_a_diff_keeps_all_but_its_secrets(line, starred):
    assert star(line) == (line if starred is None else starred)


def test_a_variables_value_is_starred_wherever_it_stands_unless_it_is_a_plain_word(checkout, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "correct-horse")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(checkout / "package"))
    (checkout / "package" / "code.py").write_text(f"x = ['correct-horse', 'false', '{checkout}/package']\n")
    (checkout / "correct-horse.py").touch()
    state = git_state(checkout / "package")
    assert f"+x = ['***', 'false', '{checkout}/package']" in state["diff"] and state["untracked"] == ["***.py"]


def test_what_a_site_fills_in_is_neither_in_the_diff_nor_a_change(checkout):
    for folder in ("recipes/executors", "mine/executors"):
        (checkout / folder).mkdir(parents=True)
        (checkout / folder / "local.yaml").write_text("env_vars: {}\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "site settings")
    for path in checkout.glob("*/executors/local.yaml"):
        path.write_text("env_vars: {A: plain}\n")
        path.with_name("slurm.yaml").write_text("account: secret")
    assert git_state(checkout / "package")["dirty"] is False
    (checkout / "package" / "code.py").write_text("x = 2\n")
    state = git_state(checkout / "package")
    assert "+x = 2" in state["diff"] and "plain" not in state["diff"] and state["untracked"] == []


def test_settings_that_hold_a_secret_are_named_by_their_keys(monkeypatch):
    monkeypatch.setenv("MY_SECRET", "correct-horse")
    data = {"a": {"b": [f"x {NVIDIA}"]}, "token": "plain", "c": "correct-horse", "d": 1, "e": None}
    assert list(secrets_within(data)) == ["a.b", "c"]
    assert list(secrets_within({"prepare": Prepare(tokens="1K", questions=f"/data/{NVIDIA}")})) == ["prepare.questions"]


def test_a_number_of_tokens_is_no_secret_so_that_the_command_can_be_given_again():
    words = ["evaluate.max_new_tokens=48", "prepare.tokens=0.5M", "prepare.tokens=2_000"]
    assert redact(words) == words
    assert redact(["tokens=abc", "X_TOKENS=k12", "HF_TOKEN=123"]) == ["tokens=***", "X_TOKENS=***", "HF_TOKEN=***"]
