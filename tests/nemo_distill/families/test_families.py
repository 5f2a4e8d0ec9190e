"""Which models can be a teacher, and what the others are called."""

import json

import pytest

from nemo_distill import families
from nemo_distill.errors import UserError
from nemo_distill.families.checkpoint import shape_in
from nemo_distill.nemotron_h.published import PUBLISHED
from tests.nemo_distill.nemotron_h.test_shape import TINY

LAYERS = {"M": "mamba", "*": "attention", "-": "mlp"}
PARAMETERS = {
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": 8_888_227_328,
    "nvidia/NVIDIA-Nemotron-Nano-12B-v2": 12_310_001_152,
    "nvidia/NVIDIA-Nemotron-3-Nano-4B-BF16": 3_973_556_832,
    "nvidia/Nemotron-H-4B-Base-8K": 4_489_223_040,
    "nvidia/Nemotron-H-8B-Base-8K": 8_100_852_736,
    "nvidia/Nemotron-H-47B-Base-8K": 46_791_554_816,
    "nvidia/Nemotron-H-56B-Base-8K": 56_324_350_464,
}
"""Of the 9B and the 3-Nano-4B as their listings on the hub have it; of the others those of NeMo's own configs."""


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_dense_nemotron_h_that_is_published_is_read_from_its_config(name):
    shape = PUBLISHED[name]
    config = {
        "architectures": ["NemotronHForCausalLM"],
        "auto_map": {"AutoConfig": "configuration_nemotron_h.NemotronHConfig"},
        "model_type": "nemotron_h",
        "hybrid_override_pattern": shape.pattern,
        "num_hidden_layers": shape.num_layers,
        "vocab_size": 131072,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.ffn_hidden_size,
        "num_attention_heads": shape.num_attention_heads,
        "attention_head_dim": 128,
        "head_dim": 128,
        "num_key_value_heads": 8,
        "mamba_num_heads": shape.mamba_num_heads,
        "mamba_head_dim": shape.mamba_head_dim,
        "ssm_state_size": shape.mamba_state_dim,
        "n_groups": 8,
        "conv_kernel": 4,
        "use_conv_bias": True,
        "chunk_size": 128,
        "mamba_hidden_act": "silu",
        "mlp_hidden_act": "relu2",
        "layer_norm_epsilon": 1e-05,
        "max_position_embeddings": shape.max_position_embeddings,
        "n_routed_experts": 8,  # as transformers writes it into the config of a dense one, too
        "rope_theta": 10000,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    assert shape_in(config, name) == shape == families.published(name)
    assert shape.parameters() == PARAMETERS[name]
    listed = {key: value for key, value in config.items() if key != "hybrid_override_pattern"}
    assert shape_in(listed | {"layers_block_type": [LAYERS[kind] for kind in shape.pattern]}, name) == shape


MOE = {"model_type": "nemotron_h", "architectures": ["NemotronHForCausalLM"], "n_routed_experts": 128}


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (MOE | {"hybrid_override_pattern": "MEMEM*E"}, "a mixture of experts: 128 routed experts"),
        (MOE | {"layers_block_type": ["mamba", "moe"]}, "a mixture of experts: 128 routed experts"),
        (
            {"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "num_experts": 64},
            "a mixture of experts: 64 routed experts (Qwen3MoeForCausalLM)",
        ),
        (
            {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_attention_heads": 32},
            "a dense Transformer (LlamaForCausalLM)",
        ),
        ({"model_type": "mamba2", "architectures": ["Mamba2ForCausalLM"], "ssm_cfg": {}}, "a Mamba model"),
        (
            {"model_type": "falcon_h1", "num_attention_heads": 8, "mamba_d_ssm": 64},
            "a hybrid of Mamba and attention layers (falcon_h1)",
        ),
        ({"model_type": "t5", "is_encoder_decoder": True}, "an encoder and a decoder (t5)"),
        (
            {"architectures": ["NemotronH_Nano_VL_V2"], "llm_config": {"model_type": "nemotron_h"}},
            "a model of text and more (NemotronH_Nano_VL_V2), whose language model is",
        ),
        ({}, "of no kind that is known here"),
    ],
)
def test_a_model_of_another_kind_is_refused_by_what_it_is(config, kind):
    with pytest.raises(UserError) as refused:
        families.family_of(config, "teacher=org/name")
    assert str(refused.value).startswith(f"teacher=org/name is {kind}")
    assert str(refused.value).endswith("what can be pruned and distilled here is a dense Nemotron-H.")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mamba_hidden_act": "gelu"}, "mamba_hidden_act='gelu' is not supported"),
        (
            {"conv_kernel": 3},
            "conv_kernel=3 is not supported: the convolutions of Mamba layers are computed here with 4",
        ),
        ({"use_conv_bias": False}, "use_conv_bias=False is not supported"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon=1e-06 is not supported"),
        ({"quantization_config": {"quant_method": "fp8"}}, "its weights are quantised (fp8)"),
        ({"hybrid_override_pattern": 52}, "hybrid_override_pattern=52 is no text"),
        (
            {"layers_block_type": ["mamba", "mlp", "mamba", "mamba", "mlp", "attention"]},
            "hybrid_override_pattern, M-M*-M, and layers_block_type, M-MM-*, do not agree",
        ),
        ({"hidden_size": True}, "hidden_size must be a positive whole number"),
    ],
)
def test_what_is_not_computed_here_as_transformers_does_is_refused(change, sentence):
    with pytest.raises(UserError) as refused:
        shape_in(TINY.to_hf_config() | change, "teacher=org/name")
    assert str(refused.value).startswith(f"teacher=org/name: {sentence}")


@pytest.mark.parametrize(
    "change",
    [
        {"mamba_hidden_act": "swish"},
        {"rope_theta": 1e4, "sliding_window": None, "residual_in_fp32": True, "time_step_limit": [0.0, 1.0]},
        {"n_routed_experts": 8, "num_nextn_predict_layers": 0, "attention_dropout": 0.1},
    ],
)
def test_what_changes_nothing_is_let_through(change):
    assert shape_in(TINY.to_hf_config() | change, "it").pattern == TINY.pattern


def test_a_family_is_found_by_the_shape_of_its_model():
    family = families.of(TINY)
    assert family.shape_of(json.loads(json.dumps(family.config_of(TINY, dtype="float32")))).pattern == TINY.pattern
    assert family.choices(TINY, {"hidden_size_divisor": 8})["hidden_size"] == [8, 16, 24, 32]
    assert family.choices(TINY, {})["mamba_num_heads"] == [2, 4]
