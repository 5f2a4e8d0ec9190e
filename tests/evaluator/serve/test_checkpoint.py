import json

import pytest

from evaluator.serve.checkpoint import verify_checkpoint


def test_a_whole_checkpoint_passes(checkpoint):
    verify_checkpoint(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_missing_file_is_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(ValueError, match=f"lacks the file .*{name}"):
        verify_checkpoint(copied)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_short_is_named(copied, name, share):
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=name):
        verify_checkpoint(copied)


def test_a_file_with_bytes_too_many_is_named(copied):
    with open(copied / "model.safetensors", "ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match=r"model.safetensors' is damaged"):
        verify_checkpoint(copied)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint folder"):
        verify_checkpoint(tmp_path / "nothing")


@pytest.fixture
def sharded(copied):
    """The checkpoint saved anew, by transformers, in several files."""
    from transformers import NemotronHForCausalLM

    NemotronHForCausalLM.from_pretrained(copied).save_pretrained(copied, max_shard_size="200KB")
    (copied / "model.safetensors").unlink(missing_ok=True)
    assert len(list(copied.glob("*.safetensors"))) > 1
    return copied


def test_a_sharded_checkpoint_passes_when_whole_and_names_the_shard_that_is_missing(sharded):
    verify_checkpoint(sharded)
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ValueError, match=shard.name):
        verify_checkpoint(sharded)


def test_a_shard_that_lacks_a_tensor_is_named_with_it(sharded):
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    shard = next(iter(index["weight_map"].values()))
    index["weight_map"]["backbone.layers.99.norm.weight"] = shard
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"lacks the tensor backbone.layers.99.norm.weight"):
        verify_checkpoint(sharded)
