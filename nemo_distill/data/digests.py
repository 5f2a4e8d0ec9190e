"""SHA-256 of files, computed once: a large file's is kept in the user's cache folder while its size and time stay.

digests_of([Path("corpora/math.jsonl"), Path("corpora/code.parquet")])      # ["sha256:...", "sha256:..."]
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nemo_distill.run.progress import write_atomically

_SMALL = 16 << 20
"""Bytes up to which a file is hashed each time."""
_RECENT = 5.0
"""Seconds for which a file that was changed may be changed again within one tick of its clock."""


def digests_of(paths: Sequence[Path]) -> list[str]:
    """`digest_of` each, as many at once as there are cores."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        return list(threads.map(digest_of, paths))


def digest_of(path: Path) -> str:
    """What stands for the bytes of the file at `path`: `sha256:` and 64 hex digits."""
    state = os.stat(path)
    if state.st_size <= _SMALL:
        return _hashed(path)
    seen = [state.st_size, state.st_mtime_ns, state.st_ino]
    record = _folder() / f"{hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(record.read_text())
        if kept["seen"] == seen:
            return kept["digest"]
    digest = _hashed(path)
    if time.time() - state.st_mtime > _RECENT:
        with contextlib.suppress(OSError):  # a home that cannot be written to costs time, no more
            record.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(record, json.dumps({"path": str(path), "seen": seen, "digest": digest}))
    return digest


def _hashed(path: Path) -> str:
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nemo-distill" / "digests"
