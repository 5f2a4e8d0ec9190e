"""The iterations of a preflight, through NeMo's own distillation, from random weights on random tokens."""

import contextlib
import dataclasses

import pytest

from nemo_distill.config.resolved import Parallelism
from nemo_distill.make_teacher import SHAPE
from nemo_distill.preflight.results import Outcome
from nemo_distill.run.ranks import Ranks
from nemo_distill.train.course import Course
from tests.nemo_distill.segments import COURSE, KD

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def alone():
    """Process groups that a training leaves, and how it counted micro batches, are torn down."""
    import torch
    from megatron.core import num_microbatches_calculator, parallel_state

    try:
        yield
    finally:
        num_microbatches_calculator.unset_num_microbatches_calculator()
        if torch.distributed.is_initialized():
            parallel_state.destroy_model_parallel()
            torch.distributed.destroy_process_group()


def test_iterations_from_nothing_are_made_and_a_planted_fault_is_found(backend, tmp_path):
    from nemo_distill.preflight.iterations import Trial, iterations, train

    student = dataclasses.replace(SHAPE, hidden_size=96, ffn_hidden_size=320)
    trial = Trial(
        iterations=3, course=Course(**COURSE), kd=KD, intermediate_layers=(), teacher=SHAPE, student=student,
        layer_spec="local",
    )  # fmt: skip
    told = {"folder": tmp_path, "ranks": Ranks(), "layout": Parallelism(recompute="mlp"), "tuned": tmp_path / "tuned"}
    with alone():
        made = train(trial, **told)
    found = iterations(trial, [made])
    assert found.outcome == Outcome.OK and found.why.startswith("3 of 8 sequences of 64 tokens")
    assert made[0]["loss"] > 0.01 and list(tmp_path.iterdir()) == []
    lost = dataclasses.replace(trial, course=dataclasses.replace(trial.course, learning_rate=1e30, clip_grad=1e30))
    with alone():
        found = iterations(lost, [train(lost, **told)])
    assert found.outcome == Outcome.FAILED and "The loss of iteration" in found.why
