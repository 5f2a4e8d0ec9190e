"""What tells one teacher's folder from another: computed once, and never believed of a file that changed."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest

import nemo_distill
from nemo_distill.config import digests
from nemo_distill.config.plain import fingerprint
from nemo_distill.config.teacher import AT_ONCE, Teacher

DEBUG = Path(nemo_distill.__file__).parent / "debug" / "teacher"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nemo-distill" / "digests"


@pytest.fixture
def large(tmp_path, monkeypatch) -> Path:
    """A file that counts as large, and as settled."""
    monkeypatch.setattr(digests, "SMALL", 1000)
    monkeypatch.setattr(digests, "_SETTLED_SECONDS", 0.0)
    path = tmp_path / "shard.safetensors"
    path.write_bytes(b"a" * 5000)
    time.sleep(0.01)
    return path


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def reads_of(path: Path, monkeypatch) -> list[str]:
    """What `digests_of` hashes of it, from now on."""
    seen: list[str] = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: seen.append(file.name) or real(file, kind))
    return seen


def test_a_large_file_is_read_once(large, cache, monkeypatch):
    seen = reads_of(large, monkeypatch)
    assert digests.unhashed([large]) == 5000
    for _ in range(3):
        assert digests.digests_of([large]) == {large: sha(large)}
    assert len(seen) == 1 and digests.unhashed([large]) == 0
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("change", ["content", "content with its old time", "longer", "another file in its place"])
def test_a_file_that_changed_is_read_again(large, cache, change):
    before = large.stat()
    digests.digests_of([large])
    if change == "another file in its place":
        other = large.with_suffix(".new")
        other.write_bytes(b"b" * 5000)
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(large)
    else:
        large.write_bytes(b"b" * (6000 if change == "longer" else 5000))
    if change == "content with its old time":
        os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert large.stat().st_mtime_ns == before.st_mtime_ns
    assert digests.unhashed([large]) == large.stat().st_size
    assert digests.digests_of([large]) == {large: sha(large)}


def test_nothing_is_noted_of_a_file_that_may_still_be_written_or_is_small(large, cache, monkeypatch):
    monkeypatch.setattr(digests, "_SETTLED_SECONDS", 60.0)
    digests.digests_of([large])
    monkeypatch.setattr(digests, "SMALL", 10_000)
    digests.digests_of([large])
    assert not cache.exists() and digests.unhashed([large]) == 0


@pytest.mark.parametrize("note", ["", "{", "[]", '{"sha256": 1}', '{"sha256": "' + "0" * 64 + '"}'])
def test_a_note_that_is_damaged_is_not_believed(large, cache, note):
    digests.digests_of([large])
    (kept,) = cache.iterdir()
    kept.write_text(note)
    assert digests.digests_of([large]) == {large: sha(large)}


def test_a_cache_that_cannot_be_written_is_done_without(large, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert digests.digests_of([large]) == {large: sha(large)}


def test_the_identity_of_a_folder_is_the_one_it_always_had(cache):
    hashes = {path.name: sha(path) for path in sorted(DEBUG.iterdir())}
    assert Teacher.at(str(DEBUG)).sha256 == fingerprint(hashes)
    assert not cache.exists()


def test_a_dry_run_leaves_open_what_follows_from_a_teacher_that_is_not_hashed(
    nemo_run, workplace, listing, tmp_path, monkeypatch
):
    shutil.copy(Path(__file__).resolve().parents[3] / "recipes/distill_v1v3.py", "recipes")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_SETTLED_SECONDS", 0.0)
    teacher = tmp_path / "teacher"
    shutil.copytree(DEBUG, teacher)
    size = AT_ONCE + 4
    header = json.dumps({"weight": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    with open(teacher / "model.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    command = ["recipes/distill_v1v3.py", "--dryrun", f"teacher={teacher}"]

    def previewed() -> tuple[str, dict[str, str]]:
        code, out, _ = nemo_run(*command)
        assert code == 0
        table = out[out.index("\nSteps ") :].splitlines()
        return out, {words[0]: " ".join(words[1:4]) for line in table if (words := line.split())}

    before = listing(tmp_path)
    out, does = previewed()
    assert listing(tmp_path) == before
    assert "0.3 GB that have not been hashed yet" in out
    assert {does[step] for step in ("import-teacher", "prune", "prepare", "evaluate-0.1M")} == {"skip or run"}
    assert does["world"].startswith("run") and does["contamination"].startswith("wait")
    digests.main([str(teacher)])
    out, does = previewed()
    assert "skip or run" not in out and does["import-teacher"].startswith("run not done")
    with open(teacher / "model.safetensors", "r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"other")
    assert previewed()[1]["import-teacher"] == "skip or run"
