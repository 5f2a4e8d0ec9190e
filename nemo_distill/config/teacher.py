"""The teacher's checkpoint: where it is, and what tells it from another.

>>> from nemo_distill.config.teacher import Teacher
>>> Teacher.at("nvidia/NVIDIA-Nemotron-Nano-9B-v2").sha256 is None
True
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.config.plain import fingerprint, resolve_package_paths


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A Hugging Face checkpoint."""

    checkpoint: str
    """A hub id, a folder, or `package:PATH` inside this package: what a config holds."""
    path: str
    """The same with the package's folder in place of `package:`."""
    sha256: str | None
    """Hash of the files of a folder, so that another teacher is another run; None: it is on the hub."""

    @classmethod
    def at(cls, checkpoint: str) -> "Teacher":
        """The teacher that a scale names."""
        path = resolve_package_paths(checkpoint)
        files = sorted(Path(path).iterdir()) if Path(path).is_dir() else []
        hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}
        return cls(checkpoint=checkpoint, path=path, sha256=fingerprint(hashes) if hashes else None)
