"""Megatron's model against transformers' NemotronHForCausalLM: the same logits, both ways, for any shape."""

import json

import pytest
import torch

from evaluator.serve.checkpoint import verify_checkpoint
from nemo_distill import backends
from nemo_distill.families import checkpoint
from nemo_distill.nemotron_h import mapping
from nemo_distill.nemotron_h.model import Runtime, checkpoint_name
from nemo_distill.nemotron_h.shape import Shape

pytestmark = pytest.mark.slow

SHAPES = {
    "as the debug teacher": Shape(
        pattern="M-M*-M-M*-", hidden_size=128, ffn_hidden_size=256, mamba_num_heads=8, mamba_head_dim=32,
        mamba_state_dim=16, mamba_num_groups=2, num_attention_heads=4, num_query_groups=2,
        kv_channels=32, vocab_size=640,
    ),
    "pruned to odd sizes": Shape(
        pattern="M-*MM-", hidden_size=112, ffn_hidden_size=200, mamba_num_heads=6, mamba_head_dim=20,
        mamba_state_dim=16, mamba_num_groups=2, num_attention_heads=4, num_query_groups=2,
        kv_channels=32, vocab_size=520,
    ),
    "one group, one key-value head": Shape(
        pattern="*-M", hidden_size=64, ffn_hidden_size=64, mamba_num_heads=3, mamba_head_dim=16,
        mamba_state_dim=8, mamba_num_groups=1, num_attention_heads=3, num_query_groups=1,
        kv_channels=16, vocab_size=100,
    ),
}  # fmt: skip


def random_checkpoint(folder, shape: Shape, tokenizer_folder) -> dict[str, torch.Tensor]:
    """Write a Hugging Face checkpoint of `shape` with random weights of a trained model's size; return its tensors."""
    g = torch.Generator().manual_seed(0)
    state = {}
    for name, size in mapping.tensor_sizes(shape).items():
        t = torch.randn(size, generator=g)
        if "norm" in name or name.endswith(".D"):
            t = 1 + 0.1 * t
        elif name.endswith("A_log"):
            t = torch.rand(size, generator=g).mul(15).add(1).log()
        elif name.endswith("dt_bias"):
            t = t - 4
        elif len(size) == 2:
            t = t / size[1] ** 0.5
        state[name] = t
    checkpoint.write_hf(folder, shape, state, dtype="float32", tokenizer=tokenizer_folder)
    return state


def own_gradients(module, tokens) -> dict[str, torch.Tensor]:
    """Of the mean loss of the next token (the first one after the last), of Megatron's model, by its names."""
    module.train()
    positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    module(tokens, positions, None, labels=tokens.roll(-1, 1)).mean().backward()
    weights = dict(module.named_parameters())
    found = {name: p.grad if p.grad is not None else p.main_grad for name, p in weights.items()}
    return {checkpoint_name(name, module): grad.float().cpu() for name, grad in found.items()}


def tokens_of(shape: Shape):
    tokens = torch.randint(0, shape.vocab_size, (2, 70), generator=torch.Generator().manual_seed(1))
    return tokens, torch.arange(70).expand_as(tokens)


@pytest.mark.parametrize("name", SHAPES)
def test_logits_agree_in_both_directions(backend, in_transformers, name, tokenizer_folder, tmp_path):
    shape = SHAPES[name]
    state = random_checkpoint(tmp_path / "hf", shape, tokenizer_folder)
    tokens, positions = tokens_of(shape)
    expected = in_transformers.logits(tmp_path / "hf", tokens)
    assert expected.abs().max() > 1
    runtime = Runtime(seq_length=128)
    with backend.session(runtime) as session, torch.no_grad():
        module = backend.build(session, shape, tokenizer=tokenizer_folder, runtime=runtime)
        backend.load(module, mapping.to_megatron(state, shape))
        megatron = module.eval()(tokens, positions, None)
        backend.save(session, module, tmp_path / "nemo")
    assert (megatron - expected).abs().max() < 1e-4

    assert (tmp_path / "nemo" / backends.BACKEND_FILE).read_text() == "nemo\n"
    assert backends.of(tmp_path / "nemo") is backend
    exported = mapping.to_hf(backend.read(tmp_path / "nemo"), shape)
    assert all(torch.equal(exported[key], state[key]) for key in state)
    checkpoint.write_hf(tmp_path / "again", shape, exported, dtype="float32", tokenizer=tokenizer_folder)
    assert (in_transformers.logits(tmp_path / "again", tokens) - megatron).abs().max() < 1e-4


def test_gradients_agree(backend, in_transformers, tokenizer_folder, tmp_path):
    shape = SHAPES["as the debug teacher"]
    state = random_checkpoint(tmp_path / "hf", shape, tokenizer_folder)
    tokens, _ = tokens_of(shape)
    expected = mapping.to_megatron(in_transformers.gradients(tmp_path / "hf", tokens), shape)
    runtime = Runtime(seq_length=128)
    with backend.session(runtime) as session:
        module = backend.build(session, shape, tokenizer=tokenizer_folder, runtime=runtime)
        backend.load(module, mapping.to_megatron(state, shape))
        made = own_gradients(module, tokens)
    assert made.keys() == expected.keys()
    for name, gradient in made.items():
        assert (gradient - expected[name]).norm() < 1e-4 * expected[name].norm(), name


def test_transformers_floor_under_dt_changes_logits_and_an_export_lifts_it(in_transformers, tokenizer_folder, tmp_path):
    """NVIDIA's configs say time_step_min 0.001; transformers reads it as a floor, nothing else does."""
    shape = SHAPES["as the debug teacher"]
    random_checkpoint(tmp_path / "hf", shape, tokenizer_folder)
    tokens, _ = tokens_of(shape)
    free = in_transformers.logits(tmp_path / "hf", tokens)
    config = tmp_path / "hf" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"time_step_min": 0.001}))
    assert (in_transformers.logits(tmp_path / "hf", tokens) - free).abs().max() > 1e-4
    again, _ = checkpoint.read_hf(tmp_path / "hf", files=verify_checkpoint(tmp_path / "hf"))
    config.write_text(json.dumps(again.to_hf_config(dtype="float32")))
    assert torch.equal(in_transformers.logits(tmp_path / "hf", tokens), free)


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_nemo_checkpoint_is_refused_by_name(backend, damage, tokenizer_folder, tmp_path):
    shape = SHAPES["one group, one key-value head"]
    runtime = Runtime(seq_length=128)
    with backend.session(runtime) as session:
        module = backend.build(session, shape, tokenizer=tokenizer_folder, runtime=runtime)
        backend.save(session, module, tmp_path / "nemo")
    weights = max((tmp_path / "nemo" / "weights").glob("*.distcp"), key=lambda path: path.stat().st_size)
    if damage == "missing":
        weights.unlink()
        with pytest.raises(ValueError, match=f"weights/{weights.name} is missing"):
            backend.read(tmp_path / "nemo")
    else:
        weights.write_bytes(weights.read_bytes()[:-200])
        with pytest.raises(ValueError, match="cut short or damaged"):
            backend.read(tmp_path / "nemo")
