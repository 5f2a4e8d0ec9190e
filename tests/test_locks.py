"""The locks: every file that is installed is named by its hash, and what the locks name is what is declared."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "requirements"
LOCKS = sorted(path.name for path in FOLDER.glob("*.txt") if path.name != "excludes.txt")
CUDA = re.compile(r"triton|cuda-toolkit|nvidia-(cu|nc|nv)")


class Pin(NamedTuple):
    version: str
    hashes: frozenset[str]


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(name: str) -> dict[str, Pin]:
    """What a lock holds, by name; every line of it has to be one of a pin, of its hashes, or a comment."""
    found: dict[str, Pin] = {}
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if pin := re.fullmatch(r"([a-z0-9-]+)==([^\s;=]+) \\", line):
            assert pin[1] not in found, f"{name} has {pin[1]} twice"
            package = pin[1]
            found[package] = Pin(pin[2], frozenset())
        elif hashed := re.fullmatch(r"    --hash=sha256:([0-9a-f]{64})( \\)?", line):
            found[package] = found[package]._replace(hashes=found[package].hashes | {hashed[1]})
        else:
            assert re.match(r" *#", line), f"{name}: {line}"
    return found


def declared(group: str | None = None) -> list[Requirement]:
    """What pyproject.toml asks for: by itself, in an extra, or in a dependency group."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = settings["dependency-groups"] | settings["project"]["optional-dependencies"]
    return [Requirement(text) for text in (groups[group] if group else settings["project"]["dependencies"])]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_a_version_and_a_hash_of_every_package_and_no_host(name):
    locked = pins(name)
    assert locked and all(pin.hashes for pin in locked.values())
    assert "://" not in (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "groups"), [("lock.txt", (None, "test", "dev", "harnesses")), ("docs.txt", ("docs",))], ids=str
)
def test_a_lock_is_what_pyproject_declares(name, groups):
    locked = pins(name)
    for requirement in (each for group in groups for each in declared(group)):
        assert locked[plain(requirement.name)].version in requirement.specifier, requirement


def test_the_lock_names_no_package_of_cuda_so_that_either_build_of_torch_meets_it():
    locked = pins("lock.txt")
    assert not [name for name in locked if CUDA.match(name)]
    assert "torch" not in pins("docs.txt")
    cpu, cuda = pins("torch-cpu.txt"), pins("torch-cuda.txt")
    assert list(cpu) == ["torch"] and cpu["torch"].version == f"{locked['torch'].version}+cpu"
    assert len(cpu["torch"].hashes) == 2  # of Python 3.11's and 3.12's
    excluded = [line for line in (FOLDER / "excludes.txt").read_text().splitlines() if not line.startswith("#")]
    assert set(excluded) <= set(cuda) - set(locked)


@pytest.mark.parametrize("name", ["torch-cuda.txt", "build.txt", "source.txt"])
def test_a_lock_beside_the_lock_says_the_same_of_what_both_have(name):
    locked = pins("lock.txt")
    assert {package: pin for package, pin in pins(name).items() if locked.get(package, pin) != pin} == {}


def wheel(folder: Path, name: str, content: str = "") -> str:
    """Makes a package of one empty module, of version 1; its hash."""
    files = {
        f"{name}.py": content,
        f"{name}-1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{name}-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [
        f"{path},sha256={urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}"
        for path, text in files.items()
    ]
    made = folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in (files | {f"{name}-1.dist-info/RECORD": "\n".join(record)}).items():
            archive.writestr(zipfile.ZipInfo(path), text)  # of one date, so of one hash
    return sha256(made.read_bytes()).hexdigest()


def test_a_file_of_another_hash_ends_the_set_up(tmp_path):
    """By the script that `make setup` calls, of a lock that holds the hash of a package before it was changed."""
    meant = wheel(tmp_path, "torch")
    planted = wheel(tmp_path, "torch", "print('not what was locked')")
    (tmp_path / "locks").mkdir()
    script = tmp_path / "locks" / "install.sh"
    script.write_text((FOLDER / "install.sh").read_text())
    for build in ("cpu", "cuda"):
        (tmp_path / "locks" / f"torch-{build}.txt").write_text(f"torch==1 --hash=sha256:{meant}\n")
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    stopped = subprocess.run(
        ["bash", str(script), sys.executable, str(tmp_path / "env")],
        env=os.environ | index, capture_output=True, text=True,
    )  # fmt: skip
    assert stopped.returncode == 1 and "DO NOT MATCH THE HASHES" in stopped.stderr, stopped.stderr
    assert meant in stopped.stderr and planted in stopped.stderr
    assert not list(tmp_path.glob("env/lib/*/site-packages/torch*"))
    # The control: the same command takes what was locked.
    wheel(tmp_path, "torch")
    (pip,) = tmp_path.glob("env/bin/python")
    words = [pip, "-m", "pip", "install", "-qq", "--no-deps", "--require-hashes", "--requirement"]
    subprocess.run([*words, tmp_path / "locks" / "torch-cpu.txt"], env=os.environ | index, check=True)
    assert list(tmp_path.glob("env/lib/*/site-packages/torch.py"))


def test_nothing_is_installed_without_its_hash():
    """Every call of pip in the set-up and beside it asks for hashes, but those that install what is here."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    script = (FOLDER / "install.sh").read_text(encoding="utf-8").replace("\\\n", "")
    makefile = makefile.replace("$(HASHED)", re.search(r"^HASHED := (.*)", makefile, flags=re.MULTILINE)[1])
    calls = re.findall(r"^.*\bpip (?:install|wheel|download)\b.*$", makefile + script, flags=re.MULTILINE)
    assert len(calls) >= 5
    for call in (call for call in calls if "--require-hashes" not in call):
        assert "--editable ." in call or "--no-index" in call, call


def test_pins_that_are_behind_are_those_of_the_locks_and_have_a_reason():
    locked = {(package, pin.version) for name in LOCKS for package, pin in pins(name).items()}
    for entry in tomllib.loads((FOLDER / "behind.toml").read_text(encoding="utf-8"))["behind"]:
        assert (entry["package"], entry["version"]) in locked, f"{entry['package']}: is behind.toml still right?"
        assert entry["ids"] and entry["held"].endswith(".") and entry["here"].endswith(".")


def audit(folder: Path, *records: dict) -> subprocess.CompletedProcess:
    """The audit of four pins by a database of some records."""
    (folder / "lock.txt").write_text(
        "urllib3==1.26.20 --hash=sha256:0\nJinja2==3.1.6\ntorch==2.13.0+cpu\nurllib3==2.8.0\n"
    )
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for record in records:
            archive.writestr(f"{record['id']}.json", json.dumps(record))
    command = [
        sys.executable,
        str(FOLDER / "audit.py"),
        str(folder / "lock.txt"),
        "--database",
        str(folder / "all.zip"),
    ]
    return subprocess.run(command, capture_output=True, text=True)


def vulnerability(name: str, package: str, *events: dict[str, str], **other) -> dict:
    affected = {"package": {"ecosystem": "PyPI", "name": package}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    return {"id": name, "affected": [affected], **other}


def test_an_audit_tells_what_is_named_from_what_is_new(tmp_path):
    start = {"introduced": "0"}
    named = vulnerability("GHSA-1", "urllib3", start, {"fixed": "2.6.0"}, aliases=["CVE-2025-66471"])
    mended = vulnerability("GHSA-2", "jinja2", start, {"fixed": "3.1.6"})
    later = vulnerability("GHSA-3", "torch", {"introduced": "2.13.1"})
    gone = vulnerability("GHSA-4", "jinja2", start, withdrawn="2026-01-01T00:00:00Z")
    done = audit(tmp_path, named, mended, later, gone)
    assert done.returncode == 0, done.stderr
    assert "behind: urllib3 1.26.20: CVE-2025-66471, GHSA-1, mended in 2.6.0. torchx 0.7.0" in done.stdout
    assert "4 packages, 1 vulnerabilities, 0 of them not named in behind.toml." in done.stdout
    new = vulnerability("GHSA-5", "torch", {"introduced": "2.0.0"}, {"last_affected": "2.13.0"})
    done = audit(tmp_path, named, new)
    assert done.returncode == 1
    assert "NEW: torch 2.13.0: GHSA-5, mended in no version\n" in done.stdout


def test_a_database_that_cannot_be_read_is_no_clean_audit(tmp_path):
    audit(tmp_path)
    (tmp_path / "all.zip").write_text("not a zip")
    command = [sys.executable, str(FOLDER / "audit.py"), str(tmp_path / "lock.txt"), "--database"]
    for database in (tmp_path / "all.zip", tmp_path / "none.zip"):
        done = subprocess.run([*command, str(database)], capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.startswith("The audit cannot read what it was given: ")


def steps(dockerfile: str) -> list[tuple[str, str]]:
    """Instruction and words of each step of a Dockerfile, without comments and line ends."""
    lines = (line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line]


def test_the_container_is_the_environment_of_the_locks():
    """As far as can be seen without building it: it names what the locks name, takes all else from them, and its shell
    steps are shell."""
    made = steps((ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8"))
    assert [word for word, _ in made[:2]] == ["ARG", "FROM"]
    copied = {name for word, rest in made if word == "COPY" for name in rest.split()[:-1]}
    assert copied and not [name for name in copied if not (ROOT / name).exists()]
    shell = [rest for word, rest in made if word == "RUN"]
    for step in shell:
        assert subprocess.run(["bash", "-n", "-c", step], capture_output=True).returncode == 0, step
    assert "bash requirements/install.sh python3.12 /opt/environment gpu" in shell

    named = dict(re.findall(r"([a-z0-9-]+)==([^\s]+)", " ".join(shell)))
    locked = {**pins("lock.txt"), **pins("torch-gpu.txt"), **pins("source-gpu.txt")}
    assert named == {name: locked[name].version for name in named}
    figures = {
        "torch",
        "triton",
        "transformer-engine",
        "mamba-ssm",
        "causal-conv1d",
        "megatron-core",
        "nvidia-modelopt",
    }
    assert figures <= set(named)
    fetching = [step for step in shell if re.search(r"\bpip (install|download|wheel)\b", step)]
    assert all("--no-index" in step or "--editable ." in step for step in fetching)
    assert not re.search(r"curl|wget|git clone|://", " ".join(shell))


def test_what_the_gpu_extra_declares_is_what_is_locked_for_gpus():
    locked = {**pins("lock.txt"), **pins("torch-gpu.txt"), **pins("source-gpu.txt")}
    both = {requirement.name: requirement for requirement in (*declared(), *declared("gpu"))}
    for name in ("torch", *(requirement.name for requirement in declared("gpu"))):
        assert locked[plain(name)].version in both[name].specifier, name
    assert pins("lock.txt")["torch"].version in both["torch"].specifier
    # Of each package but torch, one version: the locks are installed one over the other.
    assert {*pins("torch-gpu.txt"), *pins("source-gpu.txt")} & {*pins("lock.txt")} == {"torch"}


@pytest.mark.parametrize("name", ["torch", "transformer-engine", "mamba-ssm", "causal-conv1d"])
def test_the_cards_name_the_versions_that_are_locked_for_gpus(name):
    cards = " ".join((ROOT / "docs" / "verification.md").read_text(encoding="utf-8").split())
    machine = re.search(r"\*\*G\*\* (.*?)\*\*S\*\*", cards)[1].lower().replace(" ", "-")
    locked = {**pins("torch-gpu.txt"), **pins("source-gpu.txt")}
    assert f"{name}-{locked[name].version}" in machine
