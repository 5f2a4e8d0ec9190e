"""What a kill while a checkpoint is written leaves to go on from."""

from types import SimpleNamespace

import pytest

from nemo_distill.backends.nemo import trainer as training

pytestmark = pytest.mark.slow  # imports NeMo


class Killed(BaseException):
    """Stands for a kill in the middle of writing."""


def trainer(*, killed: bool):
    """One that writes a checkpoint's weights, or is killed before their second half."""

    def save_checkpoint(target):
        target.mkdir(parents=True, exist_ok=True)
        (target / "weights").write_text("half")
        if killed:
            raise Killed
        (target / "weights").write_text("half and half")

    barrier = SimpleNamespace(barrier=lambda: None)
    return SimpleNamespace(is_global_zero=True, strategy=barrier, save_checkpoint=save_checkpoint)


def test_a_checkpoint_that_was_cut_is_not_gone_on_from_and_the_one_before_it_stays(tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    checkpoints = training.Checkpoints(tmp_path, every=2, until=6, context=context)

    def found() -> dict[str, str]:
        return {path.name: (path / "weights").read_text() for path in training.complete_checkpoints(tmp_path)}

    checkpoints.save(trainer(killed=False), 2)
    assert found() == {"iteration_0000002": "half and half"}
    with pytest.raises(Killed):
        checkpoints.save(trainer(killed=True), 4)
    assert found() == {"iteration_0000002": "half and half"}
    training.drop_incomplete(tmp_path)
    assert not (tmp_path / "iteration_0000004").exists()
    checkpoints.save(trainer(killed=False), 4)
    assert found() == {"iteration_0000004": "half and half"}
