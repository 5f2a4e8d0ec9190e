"""No secret reaches what a run leaves or shows: twenty-odd kinds of them planted at once, and all of it searched."""

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from nemo_distill import cli
from nemo_distill.launch.slurm.snapshot import Code

ROOT = Path(__file__).resolve().parents[3]
HERE = ROOT / "tests/nemo_distill"
KNOWN = "hf_" + "aVerySecretToken" * 2
"""A token that can be told by its form."""
IN_THE_ENVIRONMENT = {
    "WANDB_KEY": "0c4d9e17b2f8a6",
    "AWS_ACCESS_KEY_ID": "BQIDW4X7TRZE",
    "NGC_AUTH": base64.b64encode(b"$oauthtoken:mZx81kQpLw").decode(),
    "HTTPS_PROXY": "http://me:p4ss-of-a-proxy@127.0.0.1:9",
    "PIP_INDEX_URL": "https://me:p4ss%20of%2Fan-index@pypi.example/simple",
    "JUDGE_API_KEY": "key-of-the-judge",
    "MLFLOW_TRACKING_PASSWORD": "Tr4cking&<pass>",
    "HF_TOKEN": KNOWN,
    "PLAIN": "nvapi-" + "OfAPlainVariable" * 2,
}
IN_THE_SITES_FILE = {
    "OF_NO_NAME": "correct horse battery",
    "OF_LINES": "first line of it\nsecond line of it",
    "OF_QUOTES": """it's "so" $x `y` %20 \\ é""",
    "SHORT_TOKEN": "k7q2",
}
ELSEWHERE = {
    "typed": "typed-on-the-command-line",
    "recipe's environment": "staple-of-a-recipe",
    "recipe's executor": "executor of a recipe",
    ".netrc": "7f3b5c0e9d1a",
    "hub's login": "login-of-the-hub",
    "untracked file": "hf_" + "InAnUntrackedFile" * 2,
    "git's remote": "glpat-" + "x1" * 10,
    "header": "opaque-value-of-a-header",
}
ON_SLURM = {
    "exported": "exported by a line",
    "sourced": "sourced from a file",
    "for a step": "in the steps of a dict",
}
SITES = {"site's file": "setting of a site's file"}
USER = ("-c", "user.name=t", "-c", "user.email=t@t")


def git(folder: Path, *words: str, ok: bool = True) -> str:
    done = subprocess.run(["git", "-C", folder, *USER, *words], capture_output=True, text=True)
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


BY_FORM = ("untracked file", "git's remote", "header")
"""Of no variable: told by what they look like or what stands before them, and so in one form alone."""
DECODED = {
    "NGC_AUTH": ["mZx81kQpLw"],
    "HTTPS_PROXY": ["me:p4ss-of-a-proxy"],
    "PIP_INDEX_URL": ["p4ss%20of%2Fan-index", "p4ss of/an-index"],
}
"""What is secret of values that are not secret as they are, or say something else as well."""


def said(secrets: dict[str, str]) -> list[str]:
    """Everything that a program may print of them."""
    secrets = {name: value for name, value in secrets.items() if name != "for a step"}  # which another one has
    by_form = [secrets[name] for name in BY_FORM if name != "header"]
    encoded = [base64.b64encode(b"me:" + one.encode()).decode() for one in (raw(secrets)) if len(one) >= 8]
    every = [form for one in raw(secrets) for form in forms(one)]
    return [f"({one})" for one in (*every, *encoded, *by_form)] + [f"Authorization: Bearer {secrets['header']}"]


def raw(secrets: dict[str, str]) -> list[str]:
    """The values of variables that are to be found nowhere."""
    return [part for name, value in secrets.items() if name not in BY_FORM for part in parts(name, value)]


def parts(name: str, value: str) -> list[str]:
    """What is secret of the value: itself and its lines, and what is in it."""
    return list(dict.fromkeys([*([] if "://" in value else [value, *value.splitlines()]), *DECODED.get(name, [])]))


def forms(value: str) -> Iterator[str]:
    """The value in the forms in which nobody may read it."""
    yield value
    if len(value) >= 8:
        yield from (quote(value, safe=""), repr(value)[1:-1], json.dumps(value)[1:-1], value.encode().hex())
        yield from (base64.b64encode(value.encode()).decode().rstrip("="), value.replace("'", "'\"'\"'"))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of this package with the small recipe, committed, and secrets in every place; the current folder."""
    folder, home = tmp_path / "checkout", tmp_path / "home"
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "slurm.yaml")
    for name in ("nemo_distill", "evaluator", "recipes"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / ".gitignore", folder)
    recipe = Path(shutil.copy(HERE / "recipe_for_tests.py", folder / "recipes/small.py"))
    git(folder, "init", "--quiet")
    git(folder, "remote", "add", "origin", "https://me:{git's remote}@host.example/x.git".format(**ELSEWHERE))
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=all")
    site = yaml.safe_dump({"env_vars": {**IN_THE_SITES_FILE, "SITE_SETTING": SITES["site's file"]}}, allow_unicode=True)
    (folder / "recipes/executors/local.yaml").write_text(site)
    for path in (folder / "notes.txt", folder / "nemo_distill/.env", folder / f"{ELSEWHERE['untracked file']}.txt"):
        path.write_text(f"password: hunter2\n{ELSEWHERE['untracked file']}\n")
    text, in_recipe, in_executor = recipe.read_text(), ELSEWHERE["recipe's environment"], ELSEWHERE["recipe's executor"]
    for after, more in {
        "from dataclasses import dataclass\n": f'import os\nos.environ["RECIPE_TOKEN"] = "{in_recipe}"\n',
        "    folder = Path(runs).resolve()\n": f'    ctx.executor.env_vars["R"] = "{in_executor}"\n',
    }.items():
        assert text.count(after) == 1
        text = text.replace(after, after + more)
    recipe.write_text(text)
    other = folder / "recipes/distill_v3.py"
    comments = "".join(f"# {value!r}\n" for value in (*IN_THE_ENVIRONMENT.values(), *IN_THE_SITES_FILE.values()))
    other.write_text(f"{other.read_text()}\n{comments}")
    (home / ".cache/huggingface").mkdir(parents=True)
    (home / ".cache/huggingface/token").write_text(ELSEWHERE["hub's login"])
    (home / ".netrc").write_text(f"machine api.wandb.ai login user password {ELSEWHERE['.netrc']}\n")
    (home / ".netrc").chmod(0o600)
    # A tracker's library that says all it knows: the real one is not installed everywhere, and says less.
    (tmp_path / "chatty").mkdir()
    (tmp_path / "chatty/mlflow.py").write_text("import os\nprint(os.environ)\nraise RuntimeError(dict(os.environ))\n")
    for name, value in {**IN_THE_ENVIRONMENT, "HOME": str(home)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{folder}/evaluator:{HERE}:{tmp_path}/chatty")
    for name in ("NEMORUN_HOME", "HF_HOME", "HF_TOKEN_PATH", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return folder


class Watched:
    """What a command and its processes leave and show."""

    def __init__(self, place: Path, words: list[str], secrets: dict[str, str]):
        self.place, self.secrets = place, secrets
        (place / "said.json").write_text(json.dumps(said(secrets)))
        (place / "said.txt").write_text("\n".join(said(secrets)))
        self.command = [sys.executable, *words]
        self.arguments: set[bytes] = set()
        self.code, self.output = self._run()

    def _run(self) -> tuple[int, str]:
        ended = threading.Event()
        process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

        def look() -> None:
            while not ended.wait(0.1):
                for path in Path("/proc").glob("[0-9]*/cmdline"):
                    with contextlib.suppress(OSError):
                        self.arguments.add(path.read_bytes())

        looker = threading.Thread(target=look)
        looker.start()
        try:
            output, _ = process.communicate(timeout=300)
        finally:
            ended.set()
            looker.join()
        # What is typed is seen, while the command runs and in what it forks: that is said to who types it.
        self.arguments.discard("\0".join([*self.command, ""]).encode())
        return process.returncode, output

    def found(self) -> dict[str, list[str]]:
        """The secrets that stand in what was left or shown, with the places."""
        runs = self.place / "checkout/runs"
        seen = {str(path.relative_to(runs)): unpacked(path) for path in runs.rglob("*") if path.is_file()}
        seen |= {"terminal": self.output.encode(), "arguments": b"\n".join(self.arguments)}
        hidden = {
            name: [
                pattern(form) for part in parts(name, value) for form in ([part] if name in BY_FORM else forms(part))
            ]
            for name, value in self.secrets.items()
        }
        found: dict[str, list[str]] = {}
        for place, content in seen.items():
            for name, patterns in hidden.items():
                if any(one.search(place.encode() + b"\n" + content) for one in patterns):
                    found.setdefault(name, []).append(place)
        return found


def pattern(form: str) -> re.Pattern[bytes]:
    """What finds the form, a short one as a word of its own."""
    return re.compile((rf"(?<!\w){re.escape(form)}(?!\w)" if len(form) < 8 else re.escape(form)).encode())


def unpacked(path: Path) -> bytes:
    """What the file holds, NeMo-Run's packed configurations unpacked."""
    content = path.read_bytes()
    for packed in re.findall(rb"eJ[\w=-]{40,}", content):  # how base64 of zlib begins
        content += zlib.decompress(base64.urlsafe_b64decode(packed))
    return content


def variables_seen(runs: Path) -> dict:
    (path,) = runs.glob("prune/*/variables.json")
    seen = json.loads(path.read_text())
    path.unlink()  # the step was told to write them down
    return seen


def test_no_secret_is_in_what_a_run_on_this_machine_leaves_or_shows(checkout, capsys):
    planted = {**IN_THE_ENVIRONMENT, **IN_THE_SITES_FILE, **ELSEWHERE, **SITES}
    names = [*IN_THE_SITES_FILE, "TYPED", "R", "RECIPE_TOKEN", "SITE_SETTING"]
    words = ["recipes/small.py", "run.executor=local", "--yes", f"run.executor.env_vars.TYPED={ELSEWHERE['typed']}"]
    told = [f"small.variables={' '.join(names)}", "small.fail=says", f"small.says={checkout.parent}/said.json"]
    run = Watched(checkout.parent, [*words, *told], planted)
    assert run.code == 1 and "distill-2 failed: RuntimeError: " in run.output, run.output
    arrived = [*IN_THE_SITES_FILE.values(), ELSEWHERE["typed"], ELSEWHERE["recipe's executor"]]
    arrived += [ELSEWHERE["recipe's environment"], SITES["site's file"]]
    assert [*variables_seen(Path("runs")).values()] == arrived  # what they are there for
    for command in (["list"], ["status", "small"], ["reproduce", "small"], ["diff", "small", "small"]):
        assert cli.main(command) in (0, 1, 2)
        run.output += "".join(capsys.readouterr())
    assert run.found() == {}
    assert "the value of TYPED is in the command: `ps` shows it" in run.output and "'${oc.env:TYPED}'" in run.output
    (configuration,) = Path("runs").rglob("_CONFIG")
    assert b"SITE_SETTING" in unpacked(configuration)  # it can be read here: the names are there
    assert configuration.parent.stat().st_mode & 0o777 == 0o700
    (spec,) = Path("runs").glob("world/*/spec.json")
    record = json.loads(spec.read_text())
    assert "run.executor.env_vars.TYPED=***" in record["command"]
    state = record["provenance"]["git"]
    assert '+os.environ["RECIPE_TOKEN"] = "***"' in state["diff"] and "executors" not in state["diff"]
    assert '+    ctx.executor.env_vars["R"] = "***"' in state["diff"]
    assert sorted(state["untracked"]) == ["***.txt", "nemo_distill/.env", "notes.txt"]
    (log,) = Path("runs").glob("distill-2/*/log.txt")
    shown = log.read_bytes().decode()
    assert shown.count("(***)") > 400 and "Authorization: Bearer ***" in shown and "progress (***)\r" in shown
    assert b"RuntimeError: {" in Path("runs/.track/0123456789ab/mlflow.log").read_bytes()
    assert list(Path("runs/.track/tensorboard").rglob("events.*"))


def test_on_slurm_secrets_are_in_job_scripts_only_which_are_their_owners(checkout, slurm, monkeypatch):
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    planted = {**IN_THE_ENVIRONMENT, **IN_THE_SITES_FILE, **ELSEWHERE, **SITES, **ON_SLURM}
    (checkout.parent / "sourced.sh").write_text(f"export FROM_A_FILE='{ON_SLURM['sourced']}'\n")
    site = {
        **{"account": "tests", "partition": "batch", "poll_seconds": 0.5},
        "env_vars": {**IN_THE_SITES_FILE, "SITE_SETTING": SITES["site's file"]},
        "setup_lines": f"export EXPORTED='{ON_SLURM['exported']}'\nsource {checkout.parent}/sourced.sh",
    }
    Path("recipes/executors/slurm.yaml").write_text(yaml.safe_dump(site, allow_unicode=True))
    monkeypatch.setenv("OF_A_STEP", ON_SLURM["for a step"])
    names = [*IN_THE_SITES_FILE, "TYPED", "R", "EXPORTED", "FROM_A_FILE"]
    words = ["-m", "nemo_distill.cli", "recipes/small.py", "--executor", "slurm", "small.fail=says"]
    words += [f"executor.env_vars.TYPED={ELSEWHERE['typed']}"]
    words += ["executor.steps={'world': {'env_vars': {'IN_A_DICT': '${oc.env:OF_A_STEP}'}}}"]
    told = [f"small.variables={' '.join(names)}", f"small.says={checkout.parent}/said.json"]
    run = Watched(checkout.parent, [*words, *told], planted)
    assert run.code == 1 and "distill-2 failed: RuntimeError: " in run.output, run.output
    seen = variables_seen(Path("runs"))
    assert (seen["EXPORTED"], seen["FROM_A_FILE"]) == (ON_SLURM["exported"], ON_SLURM["sourced"])
    assert {name: seen[name] for name in IN_THE_SITES_FILE} == IN_THE_SITES_FILE
    assert "TYPED is in the command" in run.output and "IN_A_DICT is" not in run.output
    found = run.found()
    assert {"site's file", "typed", "recipe's executor", "exported", "for a step"} <= found.keys()
    assert not found.keys() & {*IN_THE_ENVIRONMENT, "sourced", ".netrc", "hub's login"}
    for path in {path for paths in found.values() for path in paths}:
        assert re.fullmatch(r"\.nemo-run/experiments/small/.*_sbatch\.sh", path)
        assert any(above.stat().st_mode & 0o777 == 0o700 for above in Path("runs", path).parents)
    assert not list(Path("runs/.code").rglob(".env"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([f"small.variables={KNOWN}"], "prune.variables holds what looks like a token"),
        (["executor.srun_args=['--export=ALL,A_KEY=secret']"], "srun_args has --export with the value of A_KEY"),
        (["executor.additional_parameters={export: 'A=secret'}"], "additional_parameters has --export with the value"),
        (["executor.container_image=docker://me:secret-word@host/image"], "executor.container_image holds what looks"),
        (["executor.env_vars=[A_KEY=secret]"], "executor.env_vars=*** cannot be: it has to be KEY: VALUE pairs"),
    ],
)
def test_what_cannot_be_hidden_is_refused_before_anything_is_written_and_not_repeated(nemo_run, words, said):
    code, out, err = nemo_run("recipes/small.py", "--executor", "slurm", "--dryrun", *words)
    assert code == 2 and said in err and not Path("runs").exists(), out + err
    assert "secret" not in err.replace("looks like a secret", "") and KNOWN not in err


def test_code_with_a_secret_is_not_copied_for_jobs(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_AUTH", "correct-horse-battery")
    names = {"changed": "x = 1\ny = 'correct-horse-battery'\n", "new": f"z = '{KNOWN}'\n", "same": f"z = '{KNOWN}'\n"}
    for name, text in names.items():
        (tmp_path / f"{name}.py").write_text(text)
    files = {f"nemo_distill/{name}.py": tmp_path / f"{name}.py" for name in names}
    git_says = {"commit": "0" * 40, "dirty": True, "diff": "+++ b/nemo_distill/changed.py\n", "untracked": []}
    assert Code(files=files, git=git_says).secret() == "nemo_distill/changed.py:2"
    assert Code(files=files, git={**git_says, "diff": "", "untracked": ["nemo_distill/new.py"]}).secret() == (
        "nemo_distill/new.py:1"
    )
    assert Code(files=files, git={**git_says, "diff": ""}).secret() is None
    assert Code(files=files, git=None).secret() is None


AS_IT_WAS = (HERE / "launch/data/slurm_of_0.1.0.yaml").read_text()
"""The file as 0.1.0 tracked it."""


@pytest.fixture
def upgraded(tmp_path):
    """(upstream, a site's clone of it from before): since then upstream has the example in place of slurm.yaml."""
    upstream, site = tmp_path / "upstream", tmp_path / "site"
    (upstream / "recipes/executors").mkdir(parents=True)
    git(upstream, "init", "--quiet")
    (upstream / "recipes/executors/slurm.yaml").write_text(AS_IT_WAS)
    (upstream / ".gitignore").write_text("runs/\n")
    git(upstream, "add", "--all")
    git(upstream, "commit", "--quiet", "--message=before")
    git(tmp_path, "clone", "--quiet", str(upstream), str(site))
    git(upstream, "rm", "recipes/executors/slurm.yaml")
    (upstream / "recipes/executors").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "recipes/executors/slurm.example.yaml", upstream / "recipes/executors")
    shutil.copy(ROOT / ".gitignore", upstream)
    git(upstream, "add", "--all")
    git(upstream, "commit", "--quiet", "--all", "--message=after")
    return upstream, site


def guide(first_words: str) -> list[str]:
    """The commands of a block in the Slurm guide that begins with these words."""
    lines = (ROOT / "docs/guides/slurm.md").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"    {first_words}"))
    end = next(number for number in range(start, len(lines)) if not lines[number].startswith("    "))
    return [line.strip() for line in lines[start:end] if line.startswith("    ")]


FILLED = AS_IT_WAS.replace("account: ???", "account: physics").replace("partition: ???", "partition: gpu")


@pytest.mark.parametrize("how", ["changed", "changed, rebasing", "committed", "stashed"])
def test_a_filled_slurm_yaml_of_before_survives_the_upgrade(upgraded, how):
    _, site = upgraded
    file = site / "recipes/executors/slurm.yaml"
    file.write_text(FILLED)
    if how.startswith("changed"):
        git(site, "config", "pull.rebase", str(how == "changed, rebasing").lower())
        said = git(site, "pull", ok=False)
        assert "local changes" in said or "unstaged changes" in said
        assert file.read_text() == FILLED  # the pull has changed nothing
        for command in guide("cp recipes/executors/slurm.yaml "):
            subprocess.run(command, cwd=site, shell=True, check=True, capture_output=True)
    else:
        if how == "committed":
            git(site, "commit", "--quiet", "--all", "--message=ours")
            said = git(site, "pull", "--no-rebase", ok=False)
        else:
            git(site, "stash")
            git(site, "pull")
            said = git(site, "stash", "pop", ok=False)
        assert "CONFLICT (modify/delete)" in said and file.read_text() == FILLED
        (forget,) = guide("git rm --cached ")
        subprocess.run(forget, cwd=site, shell=True, check=True, capture_output=True)
        if how == "committed":
            git(site, "commit", "--no-edit")
    assert file.read_text() == FILLED
    assert (site / "recipes/executors/slurm.example.yaml").is_file()
    assert git(site, "status", "--porcelain") == "" and "slurm.yaml" in git(site, "check-ignore", str(file))
    assert git(site, "rev-parse", "HEAD:recipes/executors/slurm.example.yaml")


def test_a_clone_that_never_filled_it_in_pulls_the_example_and_is_told_the_copy_command(upgraded, monkeypatch):
    from nemo_distill.launch import executors

    _, site = upgraded
    git(site, "pull")
    monkeypatch.chdir(site)
    assert executors.site_file("slurm") == Path("recipes/executors/slurm.example.yaml")
    assert os.listdir("recipes/executors") == ["slurm.example.yaml"]
