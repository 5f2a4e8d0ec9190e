"""What a step says of how far it is."""

import json
import os

import pytest

from nemo_distill.run import progress as module
from nemo_distill.run.progress import Progress, write_atomically


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    monkeypatch.setattr(module.time, "monotonic", lambda: Clock.now)
    return Clock


def test_nothing_said_is_none(tmp_path):
    assert Progress.read(tmp_path) is None


def test_time_left_counts_only_what_this_process_did(tmp_path, clock):
    progress = Progress(tmp_path)
    progress.update(done=50, total=100)  # resumed half-way
    assert Progress.read(tmp_path)["seconds_left"] is None
    clock.now += 10
    progress.update(done=60, total=100)
    assert Progress.read(tmp_path)["seconds_left"] == pytest.approx(40)


def test_a_new_unit_starts_a_new_clock(tmp_path, clock):
    progress = Progress(tmp_path)
    progress.update(done=0, total=10, unit="documents")
    clock.now += 100
    progress.update(done=0, total=5, unit="iterations")
    clock.now += 2
    progress.update(done=1, total=5, unit="iterations")
    assert Progress.read(tmp_path)["seconds_left"] == pytest.approx(8)


def test_updates_are_throttled_but_the_last_is_always_written(tmp_path, clock):
    progress = Progress(tmp_path)
    for done in range(100):
        progress.update(done=done, total=100)
    assert Progress.read(tmp_path)["done"] == 0
    progress.update(done=100, total=100, note="saved")
    assert Progress.read(tmp_path)["done"] == 100
    assert Progress.read(tmp_path)["note"] == "saved"


def test_no_scratch_file_is_left(tmp_path):
    Progress(tmp_path).update(done=1, total=1)
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]
    assert json.loads((tmp_path / "progress.json").read_text())["total"] == 1


def test_a_file_is_replaced_whole_and_stays_as_it_was_when_its_writer_is_stopped(tmp_path, monkeypatch):
    path = tmp_path / "spec.json"
    write_atomically(path, "first")
    with path.open() as reader:
        write_atomically(path, "second")
        assert reader.read() == "first"  # who has opened it reads what it was
    assert path.read_text() == "second"

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "third")
    assert path.read_text() == "second"
