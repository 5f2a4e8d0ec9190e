"""The debug world's teacher is trained through the door that distillation trains through."""

import dataclasses

import pytest
from safetensors.torch import load_file

from evaluator.serve.checkpoint import verify_checkpoint
from nemo_distill import make_teacher
from nemo_distill.families.checkpoint import read_hf
from nemo_distill.nemotron_h import mapping
from nemo_distill.train.losses import read_losses


@pytest.mark.slow
def test_a_teacher_is_trained_from_scratch_and_shipped(tmp_path):
    work, folder = tmp_path / "work", tmp_path / "teacher"
    work.mkdir()
    folder.mkdir()
    size = dataclasses.replace(make_teacher.SIZES["debug"], iterations=2, batch=4, micro_batch=2, documents=30)
    for path in make_teacher.SHIPPED.glob("*.json"):
        if path.name not in ("config.json", "made.json"):
            (folder / path.name).write_bytes(path.read_bytes())
    (folder / "chat_template.jinja").write_bytes((make_teacher.SHIPPED / "chat_template.jinja").read_bytes())
    prefixes = make_teacher.make_data(work, folder, size.documents)
    weights = make_teacher.train(work, folder, prefixes, size)
    losses = read_losses(work / "log.jsonl")
    assert [line["iteration"] for line in losses] == [1, 2]
    assert 6.5 < losses[0]["loss"] < 7.5, "near a guess among 1,024 tokens"
    make_teacher.ship(weights, work, folder, size)
    shape, state = read_hf(folder, files=verify_checkpoint(folder))
    assert shape.parameters() == make_teacher.SHAPE.parameters()
    assert mapping.to_hf(load_file(weights), shape).keys() == state.keys()
