import pytest
import torch

from evaluator.serve.checkpoint import verify_checkpoint
from nemo_distill.families import checkpoint
from nemo_distill.nemotron_h import mapping
from tests.nemo_distill.nemotron_h.test_shape import TINY


@pytest.fixture
def hf():
    g = torch.Generator().manual_seed(0)
    return {name: torch.randn(size, generator=g) for name, size in mapping.tensor_sizes(TINY).items()}


def test_there_and_back_is_the_same_to_the_bit(hf):
    back = mapping.to_hf(mapping.to_megatron(hf, TINY), TINY)
    assert back.keys() == hf.keys()
    assert all(torch.equal(back[name], hf[name]) for name in hf)


def test_query_key_and_value_of_a_group_lie_together_in_megatron(hf):
    qkv = mapping.to_megatron(hf, TINY)["decoder.layers.3.self_attention.linear_qkv.weight"]
    q, k, v = (hf[f"backbone.layers.3.mixer.{n}_proj.weight"] for n in "qkv")
    # two groups of two query heads of 8: 16 rows of q, 8 of k, 8 of v, and again
    assert torch.equal(qkv[:32], torch.cat([q[:16], k[:8], v[:8]]))
    assert torch.equal(qkv[32:], torch.cat([q[16:], k[8:], v[8:]]))


def test_rows_that_pad_the_vocabulary_are_cut_on_export(hf):
    megatron = mapping.to_megatron(hf, TINY)
    for name in ("embedding.word_embeddings.weight", "output_layer.weight"):
        megatron[name] = torch.cat([megatron[name], torch.zeros(64, TINY.hidden_size)])
    assert torch.equal(mapping.to_hf(megatron, TINY)["lm_head.weight"], hf["lm_head.weight"])


def test_missing_unknown_and_misshapen_tensors_are_refused_by_name(hf):
    name = "backbone.layers.0.mixer.in_proj.weight"
    with pytest.raises(ValueError, match=name):
        mapping.to_megatron({k: v for k, v in hf.items() if k != name}, TINY)
    with pytest.raises(ValueError, match=r"'backbone\.layers\.9\.oops'"):
        mapping.to_megatron(hf | {"backbone.layers.9.oops": torch.zeros(1)}, TINY)
    with pytest.raises(ValueError, match=name):
        mapping.to_megatron(hf | {name: hf[name][:-1]}, TINY)
    megatron = mapping.to_megatron(hf, TINY)
    del megatron["decoder.final_norm.weight"]
    with pytest.raises(ValueError, match=r"decoder\.final_norm\.weight"):
        mapping.to_hf(megatron, TINY)


@pytest.fixture
def folder(tmp_path, hf):
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tokenizer / name).write_text("{}")
    checkpoint.write_hf(tmp_path / "hf", TINY, hf, dtype="float32", tokenizer=tokenizer)
    return tmp_path / "hf"


def read(folder):
    return checkpoint.read_hf(folder, files=verify_checkpoint(folder))


def test_a_written_checkpoint_reads_back(folder, hf):
    shape, state = read(folder)
    assert shape.pattern == TINY.pattern
    assert all(torch.equal(state[name], hf[name]) for name in hf)


def test_shards_are_read_through_their_index(folder, hf):
    import json

    from safetensors.torch import save_file

    (folder / "model.safetensors").unlink()
    names = sorted(hf)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: hf[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert read(folder)[1].keys() == hf.keys()
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks the file .*model-2\.safetensors"):
        read(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_checkpoint_with_a_file_missing_or_cut_short_is_refused_by_name(folder, name):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{name}' is cut short"):
        read(folder)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"lacks the file .*{name}"):
        read(folder)
