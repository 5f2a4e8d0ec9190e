"""What listens to a training, told by a training of files alone: its log, its checkpoints, its end."""

import errno
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from nemo_distill.config.held_out import Measuring
from nemo_distill.config.settings import Health
from nemo_distill.data.held_out import HeldOutDocument
from nemo_distill.errors import UserError
from nemo_distill.train.checkpoints import COMPLETE, Checkpoints, complete_checkpoints, remove_incomplete
from nemo_distill.train.course import Course
from nemo_distill.train.events import Audience, Iteration, Listener
from nemo_distill.train.health_gate import HealthGate
from nemo_distill.train.held_out import HeldOutLog, estimates
from nemo_distill.train.loss_log import LossLog
from nemo_distill.train.losses import read_losses

COURSE = Course.of_indices(max_iterations=20, global_batch_size=4, seq_length=8, seed=0)


class Killed(BaseException):
    """Stands for a kill in the middle of writing."""


class Files:
    """A backend whose checkpoints are files, and whose losses are a list (`train.events.View`)."""

    def __init__(self, *, iteration: int = 0, first_rank: bool = True, teacher: float = 0.1, overlaps: bool = False):
        self.iteration, self.first_rank, self.teacher = iteration, first_rank, teacher
        self.killed, self.overlaps, self.failed = False, overlaps, None
        self.being_saved: list = []

    def teacher_loss(self) -> float:
        return self.teacher

    def held_out(self, batches) -> list[np.ndarray]:
        """A divergence of 1, 2 and 3 a token, of each document as many as it has, less with every iteration."""
        return [np.outer(batch.mask.sum(axis=1), [1, 2, 3]) / (1 + self.iteration) for batch in batches]

    def state(self) -> dict:
        return {}

    def save(self, folder: Path, then) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "weights").write_text("half")
        if self.killed:
            raise Killed
        number = self.iteration

        def written() -> None:
            (folder / "weights").write_text(str(number))
            then()

        self.being_saved.append(written)
        if not self.overlaps:
            self.finish_saving()

    @property
    def saving(self) -> bool:
        return bool(self.being_saved)

    def finish_saving(self) -> None:
        while self.being_saved:
            self.being_saved.pop()()

    def wait_for_all(self) -> None:
        pass

    def stop(self, reason: str):
        raise UserError(reason)

    def train(self, listeners: list[Listener], losses: list[float]) -> None:
        audience = Audience(listeners)
        audience.start(self)
        for loss in losses:
            self.iteration += 1
            done = Iteration(
                number=self.iteration, loss=loss, learning_rate=1e-3, tokens=32 * self.iteration, seconds=0.5
            )
            audience.iteration_done(done)
        audience.end()


def test_the_newest_complete_checkpoint_is_kept_and_what_a_kill_left_of_one_goes(tmp_path):
    Files().train([Checkpoints(tmp_path, every=2, until=5)], [1.0] * 5)
    (kept,) = complete_checkpoints(tmp_path)
    assert kept.name == "iteration_0000005" and (kept / "weights").read_text() == "5"
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    (tmp_path / "iteration_0000006").mkdir()
    (tmp_path / "iteration_0000006" / "weights").touch()
    remove_incomplete(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]


def test_a_checkpoint_that_was_cut_is_not_gone_on_from_and_the_one_before_it_stays(tmp_path):
    training, checkpoints = Files(), Checkpoints(tmp_path, every=2, until=6)

    def found() -> dict[str, str]:
        return {path.name: (path / "weights").read_text() for path in complete_checkpoints(tmp_path)}

    training.train([checkpoints], [1.0] * 2)
    assert found() == {"iteration_0000002": "2"}
    training.killed = True
    with pytest.raises(Killed):
        training.train([checkpoints], [1.0] * 2)
    assert found() == {"iteration_0000002": "2"}
    remove_incomplete(tmp_path)
    assert not (tmp_path / "iteration_0000004").exists()
    training.killed, training.iteration = False, 2
    training.train([checkpoints], [1.0] * 2)
    assert found() == {"iteration_0000004": "4"}


def test_a_save_that_overlaps_with_the_training_is_complete_when_it_is_on_disk_and_one_is_written_at_a_time(tmp_path):
    training, checkpoints = Files(overlaps=True), Checkpoints(tmp_path, every=2, until=6)

    def found() -> list[int]:
        return [int(path.name[-7:]) for path in complete_checkpoints(tmp_path)]

    complete = []
    watching = Listener()
    watching.iteration_done = lambda iteration: complete.append((found(), len(training.being_saved)))
    training.train([checkpoints, watching], [1.0] * 6)
    assert complete == [([], 0), ([], 1), ([], 1), ([2], 1), ([2], 1), ([4], 1)]
    assert found() == [6] and (tmp_path / "iteration_0000006" / "weights").read_text() == "6"


def test_what_a_run_is_ended_for_waits_for_the_checkpoint_that_is_being_written(tmp_path):
    gate = HealthGate(Health(), [], vocabulary=1024, folder=tmp_path)
    with pytest.raises(UserError, match=r"the loss is nan at iteration 3: .* iteration_0000002 is kept\."):
        Files(overlaps=True).train([gate, Checkpoints(tmp_path, every=2, until=5)], [1.0, 1.0, math.nan])


@pytest.mark.parametrize(("full_at", "kept", "told"), [(2, [], 2), (3, [2], 4), (4, [2], 4), (6, [4], 6), (7, [6], 7)])
def test_a_disk_that_is_full_for_the_log_ends_the_run_once_the_checkpoint_that_is_being_written_is_complete(
    tmp_path, full_at, kept, told
):
    log, number = LossLog(tmp_path / "losses.jsonl", COURSE), []
    write = log.iteration_done

    def written(iteration: Iteration) -> None:
        number.append(iteration.number)
        if iteration.number == full_at:
            raise OSError(errno.ENOSPC, "full")
        write(iteration)

    log.iteration_done = written
    with pytest.raises(OSError, match="full"):
        Files(overlaps=True).train([log, Checkpoints(tmp_path, every=2, until=7)], [1.0] * 7)
    assert [int(path.name[-7:]) for path in complete_checkpoints(tmp_path)] == kept and number[-1] == told


def test_a_checkpoint_that_cannot_be_let_go_at_once_is_not_complete_any_more(tmp_path, monkeypatch):
    def cut(folder: Path) -> None:
        raise Killed

    training, checkpoints = Files(), Checkpoints(tmp_path, every=2, until=6)
    training.train([checkpoints], [1.0] * 2)
    monkeypatch.setattr(shutil, "rmtree", cut)
    with pytest.raises(Killed):
        training.train([checkpoints], [1.0] * 2)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["iteration_0000004"]


def test_another_rank_than_the_first_marks_and_removes_nothing(tmp_path):
    Files(first_rank=False).train(
        [LossLog(tmp_path / "losses.jsonl", COURSE), Checkpoints(tmp_path, every=2, until=5)], [1.0] * 5
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"iteration_{n:07d}" for n in (2, 4, 5)]
    assert not list(tmp_path.rglob(COMPLETE))


def test_lines_past_the_checkpoint_that_a_segment_goes_on_from_are_cut(tmp_path):
    log = tmp_path / "losses.jsonl"
    Files().train([LossLog(log, COURSE)], [3.0, 2.0, 9.0])
    Files(iteration=2).train([LossLog(log, COURSE)], [1.0, 0.5])
    assert [(line["iteration"], line["loss"]) for line in read_losses(log)] == [(1, 3.0), (2, 2.0), (3, 1.0), (4, 0.5)]
    assert json.loads(log.read_text().splitlines()[0]) == {
        "iteration": 1, "loss": 3.0, "learning_rate": 1e-3, "tokens": 32, "seconds": 0.5,
    }  # fmt: skip


def test_what_a_run_is_ended_for_is_in_its_log_and_in_no_checkpoint(tmp_path):
    listeners = [
        LossLog(tmp_path / "losses.jsonl", COURSE),
        HealthGate(Health(), [], vocabulary=1024, folder=tmp_path),
        Checkpoints(tmp_path, every=2, until=5),
    ]
    with pytest.raises(UserError, match=r"the loss is nan at iteration 4: .* iteration_0000002 is kept\."):
        Files().train(listeners, [1.0, 1.0, 1.0, math.nan, 1.0])
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["iteration_0000002"]
    assert len(read_losses(tmp_path / "losses.jsonl")) == 4


def test_a_teacher_that_guesses_ends_the_run_before_it_begins(tmp_path):
    gate = HealthGate(Health(), [], vocabulary=1024, folder=tmp_path)
    with pytest.raises(UserError, match=r"is 6\.90 nats, where a guess among all 1,024 tokens has 6\.93"):
        Files(teacher=6.9).train([gate], [1.0])


DOCUMENTS = {
    "a": [HeldOutDocument(place, np.arange(length)) for place, length in enumerate((5, 3, 9))],
    "b": [HeldOutDocument(0, np.arange(4), np.array([0, 0, 1, 1]))],
}


def held_out_log(path: Path, *, until: int = 6, recorded=()) -> HeldOutLog:
    plan = Measuring(every=2, tokens=128)
    return HeldOutLog(path, COURSE, plan, DOCUMENTS, until=until, recorded=recorded)


def iterations_in(path: Path) -> list[int]:
    return [line["iteration"] for line in read_losses(path)]


def test_held_out_documents_are_measured_before_the_first_iteration_at_intervals_and_at_the_end(tmp_path):
    path = tmp_path / "held_out.jsonl"
    Files().train([held_out_log(path, until=5)], [1.0] * 5)
    assert iterations_in(path) == [0, 2, 4, 5]
    sources = read_losses(path)[1]["sources"]
    assert [sources["a"][name] for name in ("kl", "loss", "teacher_loss")] == pytest.approx([1 / 3, 2 / 3, 1])
    assert (sources["a"]["documents"], sources["a"]["tokens"]) == (3, 4 + 2 + 8)
    assert (sources["b"]["tokens"], sources["b"]["kl_stderr"]) == (2, None)  # of one document there is no error
    Files(iteration=5).train([held_out_log(tmp_path / "next.jsonl", until=8)], [1.0] * 3)
    assert iterations_in(tmp_path / "next.jsonl") == [6, 8]


def test_what_was_measured_at_the_checkpoint_is_not_measured_again_and_what_came_after_is_cut(tmp_path):
    path = tmp_path / "held_out.jsonl"
    Files().train([held_out_log(path)], [1.0] * 5)
    resumed, asked = Files(iteration=2), []
    resumed.held_out = lambda batches: asked.append(resumed.iteration) or Files.held_out(resumed, batches)
    resumed.train([held_out_log(path, recorded=[0, 2, 4])], [1.0] * 4)
    assert asked == [4, 6] and iterations_in(path) == [0, 2, 4, 6]
    Files(iteration=2, first_rank=False).train([held_out_log(path, recorded=[0, 2])], [1.0] * 4)
    assert iterations_in(path) == [0, 2, 4, 6]


def test_the_error_of_a_mean_over_tokens_is_that_of_drawing_documents_again():
    draw = np.random.default_rng(0)
    counts = draw.integers(5, 60, 300).astype(float)
    sums = np.stack([counts * draw.normal(1 + counts / 50, 0.4) for _ in range(3)], axis=1)
    made = estimates(sums, counts)
    again = draw.integers(0, 300, (4_000, 300))
    means = sums[again, 0].sum(axis=1) / counts[again].sum(axis=1)
    assert made["kl"] == pytest.approx(sums[:, 0].sum() / counts.sum())
    assert made["kl_stderr"] == pytest.approx(means.std(), rel=0.06)
