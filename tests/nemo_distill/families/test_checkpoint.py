"""Hugging Face folders as they are written: for others of the group, in shards, in JSON that strict readers take."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

import nemo_distill
from evaluator.serve.checkpoint import verify_checkpoint
from nemo_distill.errors import UserError
from nemo_distill.families import checkpoint
from nemo_distill.nemotron_h import mapping
from tests.nemo_distill.nemotron_h.test_shape import TINY

DEBUG = Path(nemo_distill.__file__).parent / "debug" / "teacher"


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return {name: torch.randn(size, generator=g) for name, size in mapping.tensor_sizes(TINY).items()}


@pytest.fixture
def umask():
    """What other users of the group may do, as a cluster has it."""
    before = os.umask(0o002)
    yield
    os.umask(before)


def read(folder: Path):
    return checkpoint.read_hf(folder, files=verify_checkpoint(folder))


@pytest.mark.parametrize("shard_bytes", [5_000_000_000, 20_000])
def test_all_files_are_the_groups_to_read_and_write(state, tmp_path, umask, shard_bytes):
    folder = tmp_path / "hf"
    checkpoint.write_hf(folder, TINY, state, dtype="float32", tokenizer=DEBUG, shard_bytes=shard_bytes)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir() if path.suffix != ".jinja"} == {
        path.name: "0o664" for path in folder.iterdir() if path.suffix != ".jinja"
    }
    assert (len(list(folder.glob("*.safetensors"))) > 3) == (shard_bytes < 1_000_000)


def test_shards_are_as_large_as_told_and_hold_what_one_file_would(state, tmp_path):
    checkpoint.write_hf(tmp_path / "whole", TINY, state, dtype="bfloat16", tokenizer=DEBUG)
    checkpoint.write_hf(tmp_path / "shards", TINY, state, dtype="bfloat16", tokenizer=DEBUG, shard_bytes=20_000)
    assert [path.name for path in (tmp_path / "whole").glob("*.safetensors*")] == ["model.safetensors"]
    whole, shards = read(tmp_path / "whole")[1], read(tmp_path / "shards")[1]
    assert whole.keys() == shards.keys()
    assert all(torch.equal(whole[name], shards[name]) for name in whole)
    index = json.loads((tmp_path / "shards" / checkpoint.INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in whole.values())
    assert all(path.stat().st_size < 20_000 + 2_000 for path in (tmp_path / "shards").glob("*.safetensors"))


def test_transformers_reads_the_shards(state, tmp_path):
    from transformers import NemotronHForCausalLM

    checkpoint.write_hf(tmp_path / "hf", TINY, state, dtype="float32", tokenizer=DEBUG, shard_bytes=20_000)
    model, loaded = NemotronHForCausalLM.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(loaded[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(model.lm_head.weight, state["lm_head.weight"])


def test_every_json_is_one_to_a_strict_reader(state, tmp_path):
    def refuse(constant: str):
        raise AssertionError(constant)

    checkpoint.write_hf(tmp_path / "hf", TINY, state, dtype="float32", tokenizer=DEBUG, shard_bytes=20_000)
    for path in (tmp_path / "hf").glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_tensors_that_do_not_fit_the_config_are_named(state, tmp_path):
    checkpoint.write_hf(tmp_path / "hf", TINY, state, dtype="float32", tokenizer=DEBUG)
    config = json.loads((tmp_path / "hf/config.json").read_text()) | {"intermediate_size": 50}
    (tmp_path / "hf/config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"up_proj.weight is \(48, 32\) where its config.json asks for \(50, 32\)"):
        read(tmp_path / "hf")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 17776454656\n"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            {"model.safetensors": POINTER},
            r"model.safetensors' is a pointer of Git LFS, not the file itself: run `git lfs",
        ),
        ({"tokenizer.json": POINTER}, r"tokenizer.json' is a pointer of Git LFS"),
        ({"model.safetensors": None}, r"lacks the file '.*model.safetensors'"),
        (
            {
                "model.safetensors": None,
                "model-00001-of-00002.safetensors": b"",
                "model-00002-of-00002.safetensors": b"",
            },
            r"has 2 shards \(model-00001-of-00002.safetensors, ...\) and no model.safetensors.index.json",
        ),
        ({"model.safetensors": None, "pytorch_model.bin": b"x"}, r"has its weights in pytorch_model.bin, a pickle"),
        ({"model.safetensors.index.json": b"{}"}, r"index.json' has no weight_map"),
        ({"model.safetensors.index.json": b'{"weight_map": {"a": 1}}'}, r"index.json' has no weight_map"),
        ({"model.safetensors.index.json": b"[]"}, r"index.json' is damaged: it holds no JSON object"),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"lm_head.weigt": "model.safetensors"}}'},
            r"lacks the tensor lm_head.weigt that 'model.safetensors.index.json' says it holds",
        ),
        ({"model.safetensors": b"\x02" + bytes(7) + b"[]"}, r"its header is not that of a safetensors file"),
        ({"model.safetensors": b"\x09" + bytes(7) + b'{"a": 12}'}, r"its header is not that of a safetensors file"),
    ],
)
def test_what_is_there_in_place_of_a_checkpoint_is_named_for_what_it_is(tmp_path, files, sentence):
    shutil.copytree(DEBUG, tmp_path / "hf")
    for name, content in files.items():
        (tmp_path / "hf" / name).unlink(missing_ok=True)
        if content is not None:
            (tmp_path / "hf" / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        verify_checkpoint(tmp_path / "hf")


def test_quantised_weights_are_refused_by_their_type(state, tmp_path):
    from safetensors.torch import load_file, save_file

    checkpoint.write_hf(tmp_path / "hf", TINY, state, dtype="float32", tokenizer=DEBUG)
    weights = load_file(tmp_path / "hf/model.safetensors")
    name = "backbone.layers.1.mixer.up_proj.weight"
    weights[name] = weights[name].to(torch.float8_e4m3fn)
    save_file(weights, tmp_path / "hf/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="up_proj.weight as F8_E4M3: its weights are quantised"):
        verify_checkpoint(tmp_path / "hf")
