"""The code that jobs run: a copy of this package as it is at launch, with its uncommitted changes.

    code = Code.here()
    code.commit, code.changed, code.sha256
    folder = code.save(runs)             # RUNS/.code/DIGEST, made once; a job runs a copy of it

A job may start hours after its launch. Whatever happens to the checkout meanwhile, it runs what was launched. Others
may write in a shared runs folder: the copy there is compared at every launch, and again by each job that begins
(`nemo_distill.launch.slurm.own_copy`).
"""

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.errors import UserError
from nemo_distill.launch.slurm.own_copy import digest_of, files_in
from nemo_distill.run.provenance import PACKAGED, git_state, package_versions, tracked_files
from nemo_distill.run.secrets import held_in

CODE_FOLDER = ".code"
"""Inside the runs folder."""
TOP = ("nemo_distill", "evaluator")
TASKS = "core_evals.nemo_distill"
"""Our tasks for nemo-evaluator. A checkout has them below evaluator/, an installed package beside it."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """This package as it lies on the disk now."""

    files: dict[str, Path]
    """Path inside the copy -> the file."""
    git: dict | None
    """Commit, diff and untracked files (`provenance.git_state`); None for an installed package."""

    @classmethod
    def here(cls) -> "Code":
        """The code that this process was started from."""
        files = {}
        for package in (*TOP, TASKS):
            found = importlib.util.find_spec(package)
            assert found and found.submodule_search_locations, f"{package} is part of what is installed"
            root = Path(next(iter(found.submodule_search_locations)))
            prefix = "evaluator/core_evals/nemo_distill" if package == TASKS else package
            tracked = tracked_files(root)
            for path in sorted(root.rglob("*")):
                # Somebody's notes or .env, which lie here by chance, are no code.
                belongs = tracked is None or path in tracked or path.suffix == ".py"
                if belongs and path.is_file() and "__pycache__" not in path.parts:
                    files[f"{prefix}/{path.relative_to(root)}"] = path
        return cls(files=files, git=git_state(Path(__file__).resolve().parents[2]))

    @functools.cached_property
    def _contents(self) -> dict[str, bytes]:
        """What each file holds, read once: an edit meanwhile is in the copy and its digest, or in neither."""
        return {name: path.read_bytes() for name, path in self.files.items()}

    @functools.cached_property
    def sha256(self) -> str:
        """Twelve hex digits that stand for every byte of it."""
        return digest_of(self._contents)[:12]

    @functools.cached_property
    def _copy(self) -> dict[str, bytes]:
        """What a copy holds: the code, and what is known of it."""
        return self._contents | {PACKAGED: json.dumps(self.facts(), indent=1).encode()}

    @functools.cached_property
    def digest(self) -> str:
        """64 hex digits that stand for every byte of a copy."""
        return digest_of(self._copy)

    @property
    def folder(self) -> str:
        """Where a copy lies in the runs folder."""
        return f"{CODE_FOLDER}/{self.digest[:12]}"

    @property
    def commit(self) -> str | None:
        """The commit it stands on; None where git does not know it."""
        return self.git["commit"] if self.git else None

    @property
    def changed(self) -> bool:
        """Whether it differs from the commit it stands on."""
        return bool(self.git and self.git["dirty"])

    def secret(self) -> str | None:
        """FILE:LINE of a secret in what is changed and would be copied; None where there is none."""
        git = self.git or {}
        names = [line[6:] for line in (git.get("diff") or "").splitlines() if line.startswith("+++ b/")]
        changed = (*names, *(git.get("untracked") or ()))
        for name, path in self.files.items():
            if any(name.startswith(one) if one.endswith("/") else one.endswith(name) for one in changed):
                for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                    if held_in(line):
                        return f"{name}:{number}"
        return None

    def facts(self) -> dict:
        """What the run's file says of it, as plain JSON data."""
        packages = json.dumps(package_versions(), sort_keys=True)
        return {
            "sha256": self.sha256,
            "git": self.git,
            "packages_sha256": hashlib.sha256(packages.encode()).hexdigest()[:12],
        }

    def save(self, runs: Path) -> Path:
        """Copy it into the runs folder, unless it is there, and return the copy's folder.

        Raises `UserError` where something else has its name.
        """
        folder = runs / self.folder
        if not os.path.lexists(folder):
            self._write(folder)
        if why := self._differs(folder):
            raise UserError(f"{folder} is not the code that is launched: {why}. Remove it and give the command again.")
        return folder

    def _write(self, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
        try:
            for name, content in self._copy.items():
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                (scratch / name).write_bytes(content)
            scratch.chmod(0o755)
            os.rename(scratch, folder)
        except OSError:
            if not os.path.lexists(folder):  # and not: another command made it first
                raise
        finally:
            with contextlib.suppress(OSError):
                shutil.rmtree(scratch)

    def _differs(self, folder: Path) -> str:
        """In what a copy differs; empty: in nothing."""
        if folder.is_symlink() or folder.parent.is_symlink():
            return "it is a link"
        try:
            found = files_in(str(folder))
        except (OSError, ValueError) as error:
            return str(error)
        names = sorted({*found, *self._copy} - {name for name in found if found[name] == self._copy.get(name)})
        return f"{names[0]} was changed, added or removed by somebody who can write there" if names else ""
