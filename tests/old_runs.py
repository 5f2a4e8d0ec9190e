"""Runs that version 0.1 made, packed to test that a later version goes on from them.

    runs = unpack(tmp_path / "runs")               # two finished debug runs: distill_v1v3-debug and distill_v3-debug

They were made by commit dbb32a4, on two CPU cores, with nothing set:

    nemo-run recipes/distill_v1v3.py --executor local
    nemo-run recipes/distill_v3.py --executor local
    python tests/old_runs.py pack runs             # then wrote tests/data/runs_of_0_1.tar.xz

Specs, marks, scores, reports and losses are whole, and so is what the last segment of the first run reads: teacher,
student, tokens, indices and one checkpoint with its optimizer. Of all other files only the size is kept, which is what
a mark of success is checked by: `unpack` fills them with zeros.
"""

import io
import json
import math
import sys
import tarfile
from pathlib import Path

from nemo_distill.train.losses import read_losses

PACKED = Path(__file__).parent / "data" / "runs_of_0_1.tar.xz"
NEEDED = ("import-teacher/*", "prune/*", "distill-0.3M/72eae0ea2b88", "sources/*", "index/*")
"""Folders whose large files the last segment reads."""
LARGE = 300_000
"""Bytes from which a file is left out that nothing reads."""
LEFT_OUT = (".nemo-run", ".lock", "log.txt", "progress.json", "samples.jsonl", "learning_curves.png")


def pack(runs: Path) -> None:
    """Write `PACKED` from the runs folder, where both runs are finished."""
    needed = {folder for pattern in NEEDED for folder in runs.glob(pattern)}
    with tarfile.open(PACKED, "w:xz", preset=9) as archive:
        for path in sorted(runs.rglob("*")):
            name = path.relative_to(runs)
            if not path.is_file() or any(part in LEFT_OUT for part in name.parts) or name.parts[0].startswith("."):
                continue
            if path.stat().st_size >= LARGE and not needed & set(path.parents):
                continue
            entry = tarfile.TarInfo(str(name))
            content = path.read_bytes()
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))


def unpack(runs: Path) -> Path:
    """Make the runs folder anew at `runs`, and return it."""
    runs.mkdir(parents=True)
    with tarfile.open(PACKED) as archive:
        archive.extractall(runs, filter="data")
    for mark in runs.glob("*/*/_SUCCESS"):
        for name, size in json.loads(mark.read_text())["files"].items():
            path = mark.parent / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(path, "wb") as file:
                    file.truncate(size)
    return runs


def losses(folder: Path) -> list[dict]:
    """The lines of a segment's log of losses, but for how long each took and the memory it took."""
    lines = read_losses(folder / "losses.jsonl")
    return [{name: value for name, value in line.items() if name not in ("seconds", "memory_gib")} for line in lines]


def same_arithmetic() -> bool:
    """Whether this machine computes as the one that made the runs did: its CPU has AVX-512."""
    return "avx512f" in Path("/proc/cpuinfo").read_text()


def assert_same_losses(ours: list[dict], theirs: list[dict]) -> None:
    """To the last digit; on another kind of CPU, whose sums are in another order, as near as float32 stays."""
    if same_arithmetic():
        assert ours == theirs
        return
    assert [line["iteration"] for line in ours] == [line["iteration"] for line in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert math.isclose(one["loss"], other["loss"], rel_tol=1e-3)


if __name__ == "__main__":
    verb, folder = sys.argv[1:]
    {"pack": pack, "unpack": unpack}[verb](Path(folder))
