"""What listens to a training, told by a training of files alone: its log, its checkpoints, its end."""

import json
import math
from pathlib import Path

import pytest

from nemo_distill.config.settings import Health
from nemo_distill.errors import UserError
from nemo_distill.train.checkpoints import COMPLETE, Checkpoints, complete_checkpoints, remove_incomplete
from nemo_distill.train.course import Course
from nemo_distill.train.events import Iteration, Listener
from nemo_distill.train.health_gate import HealthGate
from nemo_distill.train.loss_log import LossLog
from nemo_distill.train.losses import read_losses

COURSE = Course.of_indices(max_iterations=20, global_batch_size=4, seq_length=8, seed=0)


class Killed(BaseException):
    """Stands for a kill in the middle of writing."""


class Files:
    """A backend whose checkpoints are files, and whose losses are a list (`train.events.View`)."""

    def __init__(self, *, iteration: int = 0, first_rank: bool = True, teacher: float = 0.1):
        self.iteration, self.first_rank, self.teacher = iteration, first_rank, teacher
        self.killed = False

    def teacher_loss(self) -> float:
        return self.teacher

    def state(self) -> dict:
        return {}

    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "weights").write_text("half")
        if self.killed:
            raise Killed
        (folder / "weights").write_text(str(self.iteration))

    def wait_for_all(self) -> None:
        pass

    def stop(self, reason: str):
        raise UserError(reason)

    def train(self, listeners: list[Listener], losses: list[float]) -> None:
        for listener in listeners:
            listener.start(self)
        for loss in losses:
            self.iteration += 1
            done = Iteration(
                number=self.iteration, loss=loss, learning_rate=1e-3, tokens=32 * self.iteration, seconds=0.5
            )
            for listener in listeners:
                listener.iteration_done(done)
        for listener in listeners:
            listener.end()


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
