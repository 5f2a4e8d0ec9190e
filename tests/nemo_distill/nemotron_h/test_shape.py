import dataclasses
import json

import pytest

from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2, Shape

TINY = Shape(
    pattern="M-M*-M",
    hidden_size=32,
    ffn_hidden_size=48,
    mamba_num_heads=4,
    mamba_head_dim=8,
    mamba_state_dim=8,
    mamba_num_groups=2,
    num_attention_heads=4,
    num_query_groups=2,
    kv_channels=8,
    vocab_size=64,
)


def test_parameter_counts_are_the_study_s():
    assert round(NANO_9B_V2.parameters() / 1e9, 3) == 8.888
    assert round(NANO_7B_PRUNED.parameters() / 1e9, 3) == 6.998


def test_the_pruned_in_proj_has_the_rows_that_keep_it_out_of_fp8():
    assert NANO_7B_PRUNED.mamba_in_proj_size == 21_368


def test_a_hugging_face_config_round_trips():
    assert Shape.from_hf_config(TINY.to_hf_config()) == dataclasses.replace(TINY, max_position_embeddings=131072)


def test_transformers_counts_the_same_parameters():
    import torch
    from transformers import NemotronHConfig, NemotronHForCausalLM

    with torch.device("meta"):
        model = NemotronHForCausalLM(NemotronHConfig(**TINY.to_hf_config(dtype="float32")))
    assert sum(p.numel() for p in model.parameters()) == TINY.parameters()


def test_both_of_transformers_spellings_of_the_layers_are_read():
    config = TINY.to_hf_config()
    del config["hybrid_override_pattern"]
    for mamba, attention in (("linear_attention", "full_attention"), ("mamba", "attention")):
        kinds = {"M": mamba, "*": attention, "-": "mlp"}
        spelled = config | {"layers_block_type": [kinds[letter] for letter in TINY.pattern]}
        assert Shape.from_hf_config(spelled).pattern == TINY.pattern


def test_the_exported_config_lifts_transformers_floor_under_dt():
    assert TINY.to_hf_config()["time_step_min"] < 1e-9


def test_shape_json_round_trips(tmp_path):
    TINY.save(tmp_path / "shape.json")
    assert Shape.load(tmp_path / "shape.json") == TINY
    assert json.loads((tmp_path / "shape.json").read_text())["pattern"] == "M-M*-M"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, "'llama' is no Nemotron-H"),
        ({"hybrid_override_pattern": "M-E"}, "'M-E'"),
        ({"use_bias": True}, "use_bias"),
        ({"mlp_hidden_act": "silu"}, "'silu'"),
        ({"hidden_size": 0}, "hidden_size must be a positive whole number, not 0"),
        ({"mamba_num_heads": 5}, "mamba_num_heads=5 is no multiple of mamba_num_groups=2"),
    ],
)
def test_a_config_that_is_no_nemotron_h_is_refused_with_its_value(change, message):
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        Shape.from_hf_config(TINY.to_hf_config() | change)


def test_a_config_that_lacks_a_size_is_refused_by_name():
    config = TINY.to_hf_config()
    del config["ssm_state_size"]
    with pytest.raises(ValueError, match="ssm_state_size"):
        Shape.from_hf_config(config)
