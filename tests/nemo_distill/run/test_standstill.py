"""When a step stands still, whose fault it is and which ranks are slow, told of ranks that are made up."""

import dataclasses
import json
import os
import subprocess

import pytest

from nemo_distill.run import beats, watchdog
from nemo_distill.run.beats import Beat, Note, Phase
from nemo_distill.run.display import about_ranks
from nemo_distill.run.standstill import (
    NODE_FILE,
    STACKS_FILE,
    STALLED,
    Patience,
    Seen,
    judge,
    ranks_of,
    record_of,
    slow_ranks,
)
from nemo_distill.run.watchdog import Watchdog, in_groups

PATIENCE = Patience(seconds=600, iterations=20, phase_seconds=3600)


def ranks(count: int = 8, *, per_node: int = 2, **what) -> list[Seen]:
    """Ranks that all wait in iteration 57, whose iterations take 3 s."""
    usual = {"position": 101, "iteration": 57, "phase": Phase.ITERATION, "quiet": 601.0, "median": 3.0, "own": 2.0}
    return [
        Seen(rank=rank, node=rank // per_node, host=f"node{rank // per_node}", **{**usual, **what})
        for rank in range(count)
    ]


def other(seen: list[Seen], rank: int, **what) -> list[Seen]:
    """The same, but for one rank."""
    return [dataclasses.replace(one, **what) if one.rank == rank else one for one in seen]


def test_a_step_may_pause_for_ten_minutes_and_no_longer():
    assert judge(ranks(quiet=600.0), PATIENCE) is None
    found = judge(ranks(quiet=601.0), PATIENCE)
    assert str(found) == (
        "no progress of any of 8 ranks for 601 s in iteration 57, where 600 s are allowed (health.stall_*): "
        "no rank is behind the others."
    )
    assert found.exclude == ()
    assert judge(other(ranks(), 3, quiet=5.0), PATIENCE) is None  # one of them gets on


def test_where_iterations_take_minutes_twenty_of_them_are_waited_for():
    assert judge(ranks(quiet=1999.0, median=100.0), PATIENCE) is None
    assert judge(ranks(quiet=2001.0, median=100.0), PATIENCE).limit == 2000.0


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.SAVING, Phase.MEASURING, Phase.ENDING])
def test_what_is_no_iteration_has_an_hour(phase):
    assert judge(ranks(phase=phase, quiet=3599.0), PATIENCE) is None
    assert judge(ranks(phase=phase, quiet=3601.0), PATIENCE)
    assert judge(other(ranks(quiet=3599.0), 0, phase=phase), PATIENCE) is None  # the first rank writes, others wait


def test_a_rank_that_is_stopped_is_waited_for_in_no_phase():
    seen = other(ranks(phase=Phase.SAVING), 5, state="stopped", quiet=700.0)
    assert judge(seen, PATIENCE).exclude == ("node2",)
    assert judge(other(ranks(phase=Phase.SAVING, quiet=10.0), 5, state="stopped", quiet=700.0), PATIENCE) is None


def test_who_has_noted_least_is_the_one_that_the_others_wait_for():
    found = judge(other(ranks(), 5, position=100, quiet=603.0), PATIENCE)
    assert [one.rank for one in found.lagging] == [5] and found.exclude == ("node2",)
    assert str(found).endswith("rank 5 on node2 lags.")
    found = judge(other(other(ranks(), 5, position=100), 4, position=100), PATIENCE)
    assert str(found).endswith("rank 4 on node2, rank 5 on node2 lag.")


def test_a_machine_that_is_not_heard_of_comes_before_ranks_that_are_behind():
    seen = [one.later(90.0, silent=True) if one.node == 3 else one for one in other(ranks(), 0, position=100)]
    found = judge(seen, PATIENCE)
    assert found.exclude == ("node3",) and "rank 6 on node3 (nothing is heard of its node)" in str(found)


def test_no_more_than_half_of_the_machines_are_left_out_and_the_only_one_is():
    behind = ranks(4, position=100) + ranks(8)[4:]
    assert judge(behind, PATIENCE).exclude == ("node0", "node1")
    assert judge(ranks(6, position=100) + ranks(8)[6:], PATIENCE).exclude == ()
    (one,) = ranks(1, per_node=1)
    assert judge([one], PATIENCE).exclude == ("node0",)
    assert str(judge([one], PATIENCE)).startswith("no progress for 601 s in iteration 57")


def test_slow_ranks_are_told_by_the_time_before_they_wait():
    seen = other(other(ranks(), 6, own=3.0), 1, own=2.3)
    ((slow, times),) = slow_ranks(seen)
    assert slow.rank == 6 and times == 1.5
    assert list(about_ranks(seen)) == [
        "no progress for 10:01.",
        "rank 6 on node3 takes 3.00 s of its own in an iteration, 1.50 times the median of all ranks.",
    ]
    assert slow_ranks(ranks(own=0.0)) == [] and list(about_ranks([])) == []


@pytest.fixture
def clock():
    """A clock that is set by hand."""

    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    return Clock()


def test_what_a_rank_notes_is_read_by_another(tmp_path, clock):
    beat = Beat(tmp_path / "0", rank=3, clock=clock)
    assert beats.read(tmp_path / "0") == beat.note and beats.read(tmp_path / "1") is None
    for number, now in enumerate([30.0, 33.0, 36.0], 1):  # the first iteration has kernels to compile
        beat.begin(number)
        clock.now = now
        beat.arrive()
        beat.done(30.0 if number == 1 else 3.0, own=2.0)
    with beat.within(Phase.SAVING):
        assert beats.read(tmp_path / "0").phase == Phase.SAVING
    note = beats.read(tmp_path / "0")
    assert (note.rank, note.iteration, note.phase, note.since) == (3, 3, Phase.ITERATION, 36.0)
    assert (note.median, note.own) == (3.0, 2.0)
    assert note.pid == os.getpid() and beats.state_of(note) == ""
    assert beats.state_of(note._replace(born=note.born - 1)) == "gone"  # another process has its number


def test_a_rank_whose_gpu_has_not_arrived_is_behind_one_whose_gpu_has(clock):
    waits, lags, passed = Beat(clock=clock), Beat(clock=clock), Beat(clock=clock)
    for beat in (waits, lags, passed):
        beat.begin(1)
    waits.reached, lags.reached = lambda: 3, lambda: 2
    for beat in (waits, lags):
        beat.look()
        beat.look()
    assert waits.note.position == lags.note.position + 1
    for beat in (waits, lags, passed):
        beat.done(3.0)
    assert waits.note.position == lags.note.position == passed.note.position


def test_what_status_reads_is_fresh_and_whole(tmp_path):
    files = [tmp_path / NODE_FILE.format(node=node) for node in range(4)]
    for node, path in enumerate(files):
        path.write_text(json.dumps({"ranks": record_of(ranks()[2 * node : 2 * node + 2])}))
    files[1].write_text(files[1].read_text()[:40])
    files[2].write_text(json.dumps({"ranks": [{**record_of(ranks())[4], "host": 7}]}))
    now = files[0].stat().st_mtime
    os.utime(files[3], (now - 121, now - 121))
    assert [one.rank for one in ranks_of(tmp_path, now=now)] == [0, 1]


@pytest.mark.parametrize(
    "lay",
    [
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.write_text("[" * 10**5),
        lambda path: path.write_text('{"attempt": "a", "look": 1, "asked": true, "ranks": [7], "stacks": [7]}'),
        lambda path: path.write_text('{"attempt": "a"}'),
        lambda path: path.write_bytes(b"\xff"),
    ],
    ids=["pipe", "link", "nested", "damaged", "short", "no text"],
)
def test_what_another_user_lays_in_the_place_of_a_watchdog_s_file_is_not_waited_for(tmp_path, monkeypatch, lay):
    monkeypatch.setattr(watchdog, "ANSWER_SECONDS", 0.0)
    (notes := tmp_path / "notes").mkdir()
    for name in (NODE_FILE.format(node=0), STACKS_FILE.format(node=0), STALLED):
        lay(tmp_path / name)
    assert ranks_of(tmp_path) == []
    dog = Watchdog(
        folder=str(tmp_path), attempt="a", notes=str(notes), node=1, nodes=2, per_node=1, host="node1", job="17 0",
        log="log.txt", failed="_FAILED", patience=vars(PATIENCE),
    )  # fmt: skip
    dog._began -= 1e6
    assert dog.look()
    assert "no progress of any of 2 ranks" in (tmp_path / STALLED).read_text()


def test_stacks_that_are_alike_are_shown_once_and_those_that_differ_last():
    stacks = {"0": "Thread 0x7f1 (most recent\n  a.py 0x1", "1": "Thread 0x7f2 (most recent\n  a.py 0x1", "2": "b.py"}
    assert list(in_groups(stacks, 4)) == [
        "Stacks of ranks 0-1 of 4:",
        "  Thread 0x (most recent",
        "    a.py 0x1",
        "Stacks of rank 2 of 4:",
        "  b.py",
        "Stacks of rank 3 of 4:",
        "  Its node has not said.",
    ]


def test_where_the_first_machine_is_silent_the_next_one_judges_and_kills_its_own_ranks(tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog, "ANSWER_SECONDS", 0.0)
    (notes := tmp_path / "notes").mkdir()
    rank = subprocess.Popen(["sleep", "900"])
    note = Note(rank.pid, beats.born(rank.pid), 1, 100, 57, Phase.ITERATION, -1e6, 3.0, 2.0)
    (notes / "0").write_bytes(beats._LAYOUT.pack(*note))
    dog = Watchdog(
        folder=str(tmp_path), attempt="a", notes=str(notes), node=1, nodes=2, per_node=1, host="node1", job="17 0",
        log="log.txt", failed="_FAILED", patience=vars(PATIENCE),
    )  # fmt: skip
    try:
        assert dog.look()
        assert rank.wait(10) < 0
    finally:
        rank.kill()
    dog.close()
    job, attempt, sentence = (tmp_path / "_STALLED").read_text().splitlines()
    assert (job, attempt) == ("17 0 -", "a")  # a machine that has never said its name cannot be left out
    assert "rank 0 on machine 0 (it has never begun) lags" in sentence
    assert json.loads((tmp_path / "_FAILED").read_text())["error"] == sentence
    assert "what the kernel says of its process" in (tmp_path / "log.txt").read_text()
    assert not notes.exists()
