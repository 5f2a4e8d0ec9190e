"""What a deterministic training began under is kept, and anything else is refused in a sentence that names both."""

import dataclasses
import json
import os

import pytest

from nemo_distill.config.resolved import Parallelism
from nemo_distill.errors import UserError
from nemo_distill.run.conditions import FILE, Conditions

TWO = Parallelism(nodes=1, gpus_per_node=2, tensor_parallel=2)
BEGUN = Conditions.of(TWO, device="NVIDIA H200", versions={"torch": "2.11.0", "NCCL": "2.28.9"})


def test_conditions_are_read_as_they_were_written(tmp_path):
    kept = dataclasses.replace(BEGUN, kernels={"mamba_ssm.ops.scan": "BLOCK_SIZE_H: 8"})
    assert Conditions.read(tmp_path) is None
    kept.write(tmp_path)
    assert Conditions.read(tmp_path) == kept
    BEGUN.check(kept, "distill-5B")  # kernels are of the versions


@pytest.mark.parametrize(
    ("here", "said"),
    [
        (
            {"layout": {"nodes": 1, "gpus_per_node": 1, "tensor_parallel": 1}},
            "distill-5B began with layout.nodes=1 layout.gpus_per_node=2 layout.tensor_parallel=2 "
            "layout.context_parallel=1, and here is layout.nodes=1 layout.gpus_per_node=1 layout.tensor_parallel=1 "
            "layout.context_parallel=1. Say the former.",
        ),
        ({"device": "NVIDIA H100 80GB HBM3"}, "distill-5B began on NVIDIA H200, and here is NVIDIA H100 80GB HBM3."),
        (
            {"versions": {"torch": "2.13.0", "NCCL": "2.28.9"}},
            "distill-5B began with torch 2.11.0, and here is 2.13.0.",
        ),
        ({"versions": {"torch": "2.11.0"}}, "distill-5B began with NCCL 2.28.9, and here is none."),
    ],
)
def test_other_conditions_are_refused_by_what_they_were(here, said):
    with pytest.raises(UserError, match="bit for bit") as refused:
        dataclasses.replace(BEGUN, **here).check(BEGUN, "distill-5B")
    assert str(refused.value).endswith(said)


def test_a_launch_knows_its_layout_alone_and_compares_that(tmp_path):
    begun = tmp_path / "distill-5B"
    begun.mkdir()
    BEGUN.write(begun)
    folders = {"distill-5B": begun, "distill-20B": tmp_path / "not there"}
    Conditions.of(dataclasses.replace(TWO, recompute="mlp")).check_all(folders)
    with pytest.raises(UserError, match="layout.gpus_per_node=2"):
        Conditions.of(dataclasses.replace(TWO, nodes=2)).check_all(folders)


def test_a_record_of_before_there_was_context_parallelism_is_one_of_whole_sequences(tmp_path):
    layout = {"nodes": 1, "gpus_per_node": 2, "tensor_parallel": 2}
    (tmp_path / FILE).write_text(json.dumps({"layout": layout}))
    Conditions.of(TWO).check_all({"distill-5B": tmp_path})
    shared = dataclasses.replace(TWO, tensor_parallel=1, context_parallel=2)
    with pytest.raises(UserError, match="context_parallel=1, and here .* layout.context_parallel=2. Say"):
        Conditions.of(shared).check_all({"distill-5B": tmp_path})


DAMAGES = ["", "[]", "{", '{"layout": 1, "other": 2}', "[" * 9999, '{"layout": 1}', '{"layout": {}, "device": 1}']


@pytest.mark.parametrize("damage", [*DAMAGES, None])
def test_a_damaged_record_is_one_sentence(tmp_path, damage):
    if damage is None:
        os.mkfifo(tmp_path / FILE)  # another user's, which is not waited for
    else:
        (tmp_path / FILE).write_text(damage)
    with pytest.raises(UserError, match="does not say under what"):
        Conditions.read(tmp_path)
