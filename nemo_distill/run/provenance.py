"""What produced an output: code, packages, machine and command, for `spec.json`. No environment, no secrets.

>>> from nemo_distill.run.provenance import redact
>>> redact(["nemo-run", "recipe.py", "executor.env_vars.HF_TOKEN=hf_abc", "seed=1"])
['nemo-run', 'recipe.py', 'executor.env_vars.HF_TOKEN=***', 'seed=1']

The diff of uncommitted changes leaves out every folder `executors`, where site settings are, and passes `secrets.star`.
"""

import json
import os
import platform
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from nemo_distill.config.rules import HIDDEN
from nemo_distill.run.secrets import SECRET_KEY, STARS, is_secret_name, star

PACKAGED = "code.json"
"""Beside a copy of this package made at a launch (`nemo_distill.launch.slurm.snapshot`): git's state of the
original."""

_COUNT = re.compile(r"(?:.*[._])?(?:max_new_)?tokens=[\d_.,]+[KMBT]?", re.IGNORECASE)
"""A number of tokens that are no secret: `evaluate.max_new_tokens=48`."""
_REFERENCE = re.compile(r"\$\{oc\.env:\w+\}")
"""What stands for a variable of the environment."""
LOCK = "requirements/lock.txt"
"""The lock file, in the checkout."""
_LOCKED = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)")
_SETTINGS = ("-c", "core.fsmonitor=", "-c", "core.hooksPath=/dev/null")
"""Git's words to start nothing that a checkout's configuration names."""
_BESIDE_SITE_SETTINGS = (".", ":(exclude,glob)**/executors/**")
"""Git's words for every file but the site's settings: they are no code, and their `env_vars` may hold tokens."""


def provenance() -> dict:
    """Commit (and the diff when dirty), package versions, Python, host, process and Slurm job, as plain JSON data."""
    job = slurm_allocation()
    return {
        "git": git_state(Path(__file__).resolve().parents[1]),
        "packages": package_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "argv": redact(sys.orig_argv),
        **({"slurm": job} if job else {}),
    }


_NAMED = ("nemo_run", "nemo_toolkit", "megatron_core", "nvidia_modelopt", "torch", "nemo_evaluator")
"""Distributions that a version line names."""


def version_line() -> str:
    """Our version and commit, Python's, and those of the packages that the work rests on."""
    git = git_state(Path(__file__).resolve().parents[1]) or {}
    known = {name.replace("-", "_").lower(): version for name, version in package_versions().items()}
    commit = f" ({git['commit'][:12]}{', changed' if git['dirty'] else ''})" if git.get("commit") else ""
    others = [f"{name} {known[name]}" for name in _NAMED if name in known]
    return ", ".join(
        [f"nemo-distill {known.get('nemo_distill', 'unknown')}{commit}", f"Python {platform.python_version()}", *others]
    )


def slurm_allocation() -> dict | None:
    """Job, nodes, restarts and environment modules of the Slurm job this process is in; None outside of one."""
    if "SLURM_JOB_ID" not in os.environ:
        return None
    return {
        "job": os.environ["SLURM_JOB_ID"],
        "restarts": int(os.environ.get("SLURM_RESTART_COUNT", 0)),
        "nodes": os.environ.get("SLURM_JOB_NODELIST"),
        "modules": [name for name in os.environ.get("LOADEDMODULES", "").split(":") if name],
        "image": os.environ.get("NEMO_DISTILL_IMAGE"),
    }


def git_state(folder: Path) -> dict | None:
    """Commit and uncommitted diff of the checkout that tracks `folder`; None when git does not know it.

    A checkout that holds an installed copy (a virtual environment inside some other project) does not count:
    its commit says nothing about our code.
    """
    packaged = folder.parent / PACKAGED
    if packaged.is_file():
        return json.loads(packaged.read_text(encoding="utf-8"))["git"]
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or _git(folder, "check-ignore", "--quiet", str(folder)) is not None:
        return None
    root = Path(top.strip())
    status = _git(root, "status", "--porcelain", "--", *_BESIDE_SITE_SETTINGS) or ""
    state: dict[str, Any] = {
        "commit": (_git(root, "rev-parse", "--verify", "HEAD") or "").strip() or None,
        "dirty": bool(status),
    }
    if status:
        diff = _git(root, "diff", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD", "--", *_BESIDE_SITE_SETTINGS)
        state["diff"] = star(diff or "")
        state["untracked"] = [star(line[3:]) for line in status.splitlines() if line.startswith("??")]
    return state


def tracked_files(folder: Path) -> set[Path] | None:
    """The files below `folder` that its git checkout tracks, absolute; None where git does not know the folder."""
    listed = _git(folder, "ls-files", "-z", "--cached", "--", ".")
    return {folder / name for name in listed.split("\0") if name} if listed else None


def knows_commit(checkout: Path, commit: str) -> bool | None:
    """Whether the history of `checkout` has `commit`; None where that is no git checkout."""
    if _git(checkout, "rev-parse", "--show-toplevel") is None:
        return None
    return _git(checkout, "cat-file", "-e", f"{commit}^{{commit}}") is not None


def files_at(checkout: Path, commit: str, path: str) -> str | None:
    """The text of the file at `path`, from the top of the checkout, in `commit`; None where it has none."""
    return _git(checkout, "cat-file", "blob", f"{commit}:{os.path.normpath(path)}")


def package_versions() -> dict[str, str]:
    """Name and version of every distribution on the path, read off the metadata folders' names (milliseconds)."""
    versions = {}
    for entry in reversed(sys.path):
        if os.path.isdir(entry):
            for name in os.listdir(entry):
                if name.endswith(".dist-info"):
                    distribution, _, version = name.removesuffix(".dist-info").rpartition("-")
                    versions[distribution] = version
    return dict(sorted(versions.items()))


def plain_name(package: str) -> str:
    """The name of a package as indices and lock files write it.

    >>> plain_name("nemo_toolkit"), plain_name("Jinja2")
    ('nemo-toolkit', 'jinja2')
    """
    return re.sub(r"[-_.]+", "-", package).lower()


def locked_versions(lock: str) -> dict[str, str]:
    """The versions in the text of a lock file, by plain name."""
    return {plain_name(name): version for name, version in _LOCKED.findall(lock)}


def redact(argv: list[str]) -> list[str]:
    """`argv` with every known secret starred, and the value of every `key=value` whose key speaks of one or is hidden.

    Of what is hidden (`config.rules.HIDDEN`) a reference to the environment, `${oc.env:NAME}`, is kept: it is no value.
    """
    starred = []
    for word in argv:
        key, equals, value = word.partition("=")
        if equals and hides(key, value) and _REFERENCE.fullmatch(value):
            starred.append(word)
            continue
        if equals and (hides(key, value) or _speaks_of_one(key)) and not _COUNT.fullmatch(word):
            value = STARS
        starred.append(star(key + equals + value))
    return starred


def hides(key: str, value: str) -> bool:
    """Whether a word of a command, `key=value`, sets what is nobody's to read."""
    parts = key.lstrip("-").removeprefix("run.").split(".")
    return parts[0] == "executor" and any(name in parts or name in value for name in HIDDEN)


def _speaks_of_one(key: str) -> bool:
    return bool(SECRET_KEY.search(key)) or (key.isupper() and is_secret_name(key))


def _trust(folder: Path) -> list[str]:
    """Git's words to trust the checkout around `folder`, if it belongs to the owner of this package's files, whose code
    we run anyway. Git itself trusts those of ours, and refuses all others for what their configuration may start."""
    root = next((above for above in (folder, *folder.parents) if (above / ".git").exists()), None)
    ours = Path(__file__).stat().st_uid
    if root is None or any(path.lstat().st_uid != ours for path in (root, root / ".git")):
        return []
    return ["-c", f"safe.directory={root.resolve()}"]


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command, or None when git is not there or says no."""
    try:
        words = ["git", *_SETTINGS, *_trust(folder), "-C", str(folder), *arguments]
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
