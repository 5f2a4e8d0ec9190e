"""What a run's file keeps of a launch on a cluster.

ClusterFacts.of(run).queued            # None: no job of it was queued
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_distill.run.manifest import Run
from nemo_distill.run.secrets import star_values


@dataclass(frozen=True, kw_only=True)
class Image:
    """What there is to tell a container image by."""

    name: str
    """Its name or file."""
    digest: str | None = None
    """The digest in its name; None: it has none, or is a file."""
    bytes: int | None = None
    """Size of the file in bytes; None: it is no file here."""
    modified: float | None = None
    """Time of the file's last change, in seconds since 1970."""
    head_sha256: str | None = None
    """Hash of the file's first megabyte: a squash file's first block names its tables and when they were made."""

    @classmethod
    def named(cls, name: str | None) -> "Image | None":
        """The image of that name or file; None without a name."""
        if not name:
            return None
        path = Path(name)
        if not path.is_file():
            digest = name.rpartition("@")[2] if "@sha256:" in name else None
            return cls(name=star_values(name), digest=digest)
        with path.open("rb") as file:
            head = hashlib.sha256(file.read(1 << 20)).hexdigest()
        return cls(name=name, bytes=path.stat().st_size, modified=path.stat().st_mtime, head_sha256=head)


@dataclass(frozen=True, kw_only=True)
class ClusterFacts:
    """How a run was launched on a cluster."""

    code: Mapping[str, Any] = field(default_factory=dict)
    """The code its jobs run (`snapshot.Code.facts`)."""
    modules: tuple[str, ...] = ()
    """Environment modules that its jobs load."""
    image: Image | None = None
    """The container image; None: no container."""
    host: str | None = None
    """Host, as the site's file had it, through which jobs were queued; None: the one that `nemo-run` ran on. Something
    to compare with: how to get there is said by the site's file of who asks (`ways`)."""
    queued: float | None = None
    """Time at which jobs were last queued, in seconds since 1970; None: none was."""

    @classmethod
    def of(cls, run: Run) -> "ClusterFacts":
        """Those of `run`; of a run that no cluster has, all that they may lack."""
        record = run.facts.launched
        return cls(
            code=record.get("code") or {},
            modules=tuple(record.get("modules") or ()),
            image=Image(**record["image"]) if record.get("image") else None,
            host=(record.get("tunnel") or {}).get("host"),
            queued=record.get("queued"),
        )

    def kept_in(self, run: Run) -> Run:
        """`run` with these facts."""
        record = dataclasses.asdict(self)
        host = record.pop("host")
        record["tunnel"] = {"host": host} if host else None
        return dataclasses.replace(run, facts=dataclasses.replace(run.facts, launched=record))
