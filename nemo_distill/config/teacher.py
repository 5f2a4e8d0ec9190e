"""The teacher's checkpoint: where it is, and what tells it from another.

>>> from nemo_distill.config.teacher import Teacher
>>> Teacher.at("nvidia/NVIDIA-Nemotron-Nano-9B-v2").sha256 is None
True

A folder that a user names is told by the digest of its files, wherever it lies: a config holds `FOLDER` in its place,
and the path is told to a step beside its config (`path_of`). So a teacher that is moved, or another user's copy of it,
makes nothing again.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.config import digests
from nemo_distill.config.plain import PACKAGE_PREFIX, fingerprint, resolve_package_paths
from nemo_distill.errors import UserError

FOLDER = "folder:"
"""What a config holds in place of the path of a folder that a user named."""
AT_ONCE = 256 << 20
"""Bytes that a preview hashes; where there are more to read, it leaves open what follows from them."""
STAND_IN = "not hashed yet"
"""The digest of a folder that has more to read."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A Hugging Face checkpoint."""

    checkpoint: str
    """A hub id, `FOLDER`, a folder of a scale's own, or `package:PATH` inside this package: what a config holds."""
    path: str
    """Hub id, perhaps with its revision, or folder: where it is, and what it is called."""
    sha256: str | None
    """Hash of the files of a folder, so that another teacher is another run; None: it is on the hub."""
    unhashed: int = 0
    """Bytes that are still to be hashed; until they are, `sha256` is `STAND_IN`."""

    @property
    def on_hub(self) -> bool:
        """Whether it has to be fetched."""
        return not Path(self.path).is_dir()

    @classmethod
    def at(cls, checkpoint: str, *, at_once: bool = False) -> "Teacher":
        """The teacher that a scale names. Where it would take long to hash, `at_once` leaves that to `hashed`."""
        return cls._of(checkpoint, resolve_package_paths(checkpoint), at_once)

    @classmethod
    def chosen(cls, checkpoint: str, *, at_once: bool = False) -> "Teacher":
        """The teacher that a user names: a folder, or a model of the hub, `ORG/NAME` or `ORG/NAME@REVISION`.

        Raises `UserError` for what is neither.
        """
        if checkpoint.startswith(PACKAGE_PREFIX):
            return cls.at(checkpoint, at_once=at_once)
        path = Path(checkpoint).expanduser()
        if path.is_dir():
            return cls._of(FOLDER, str(path.resolve()), at_once)
        if path.exists():
            raise UserError(f"teacher={checkpoint} is a file; a teacher is a folder with config.json and safetensors.")
        if not _HUB_NAME.fullmatch(checkpoint) or checkpoint.startswith("."):
            raise UserError(
                f"teacher={checkpoint}: there is no such folder, and a model of the hub is ORG/NAME or "
                "ORG/NAME@REVISION."
            )
        return cls._of(checkpoint, checkpoint, at_once)

    def hashed(self) -> "Teacher":
        """The same with its digest, however long that takes."""
        return self._of(self.checkpoint, self.path, at_once=False)

    @classmethod
    def _of(cls, checkpoint: str, path: str, at_once: bool) -> "Teacher":
        files = sorted(Path(path).iterdir()) if Path(path).is_dir() else []
        files = [file for file in files if file.is_file()]
        left = digests.unhashed(files) if at_once else 0
        if left > AT_ONCE:
            return cls(checkpoint=checkpoint, path=path, sha256=STAND_IN, unhashed=left)
        hashes = {file.name: digest for file, digest in digests.digests_of(files).items()}
        return cls(checkpoint=checkpoint, path=path, sha256=fingerprint(hashes) if hashes else None)


def path_of(checkpoint: str, folder: str) -> str:
    """The hub id or folder that `checkpoint`, of a step's config, stands for; `folder` is told beside the config."""
    return folder if checkpoint == FOLDER else checkpoint
