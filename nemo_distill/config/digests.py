"""SHA-256 of large files, computed once: kept in the user's cache folder, by the file's path, size and times.

    unhashed(files)                  # bytes of those whose digest is not known
    digests_of(files)                # {path: 64 hex digits}; what is not known is hashed now, several files at once
    digest_of(file)                  # of one

`python -m nemo_distill.config.digests FOLDER` hashes the files of a folder beforehand.

A file below `SMALL` bytes is hashed every time, and nothing is kept of it. Of a larger one a note is kept in
$XDG_CACHE_HOME/nemo-distill/digests (~/.cache by default), which a file that was written since does not agree with:
whoever sets a time of modification back changes the time of that change. A note that cannot be written is done without.
"""

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SMALL = 16 << 20
"""Size in bytes below which a digest takes no time worth saving."""
_SETTLED_SECONDS = 2.0
"""Age below which a file could change again within the same tick of its file system's clock."""
_FILES_AT_ONCE = 8


def unhashed(files: Iterable[Path]) -> int:
    """Bytes of the `files` that `digests_of` would have to read for a while."""
    return sum(file.stat().st_size for file in files if file.stat().st_size >= SMALL and _noted(file) is None)


def digests_of(files: Iterable[Path]) -> dict[Path, str]:
    """The SHA-256 of each of the `files`, in hex."""
    listed = list(dict.fromkeys(files))
    with ThreadPoolExecutor(max_workers=min(_FILES_AT_ONCE, os.cpu_count() or 1)) as pool:
        return dict(zip(listed, pool.map(digest_of, listed), strict=True))


def digest_of(file: Path) -> str:
    """The SHA-256 of a file, in hex."""
    if noted := _noted(file):
        return noted
    before = _times(file)
    with open(file, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    settled = time.time_ns() - before["changed"] > 1e9 * _SETTLED_SECONDS
    if before["size"] >= SMALL and settled and _times(file) == before:
        _note(file, before | {"sha256": digest})
    return digest


def _times(file: Path) -> dict[str, int]:
    """What tells whether a file is still the one that was hashed."""
    found = file.stat()
    return {
        "size": found.st_size,
        "modified": found.st_mtime_ns,
        "changed": found.st_ctime_ns,
        "inode": found.st_ino,
    }


def _noted(file: Path) -> str | None:
    """The digest that is known of a file as it is now."""
    try:
        record = json.loads(_place(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    digest = record.pop("sha256", None) if isinstance(record, dict) else None
    known = isinstance(digest, str) and record == {"path": str(file.resolve()), **_times(file)}
    return digest if known else None


def _note(file: Path, record: dict) -> None:
    place = _place(file)
    scratch = place.with_suffix(f".{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps({"path": str(file.resolve()), **record}), encoding="utf-8")
        scratch.replace(place)


def _place(file: Path) -> Path:
    """Where the note on a file is kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "nemo-distill" / "digests" / f"{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:32]}.json"


def main(arguments: list[str]) -> None:
    """Hash the files of the folders named, and say their digests."""
    for folder in arguments:
        for file, digest in digests_of(sorted(path for path in Path(folder).iterdir() if path.is_file())).items():
            print(f"{digest}  {file}")


if __name__ == "__main__":
    main(sys.argv[1:])
