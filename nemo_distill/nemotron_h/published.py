"""Shapes of the Nemotron-H that NVIDIA has published, so that a preview need not ask the hub."""

import dataclasses

from nemo_distill.nemotron_h.shape import NANO_9B_V2, Shape

_NANO_12B_V2 = dataclasses.replace(
    NANO_9B_V2,
    pattern="M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M-",
    hidden_size=5120,
    ffn_hidden_size=20480,
)
_NANO_3_4B = dataclasses.replace(
    NANO_9B_V2,
    pattern="M-M-M-MM-M-M*-M-M*-M-M-M*-M-M-MM*-MMM-M-M-",
    hidden_size=3136,
    ffn_hidden_size=12544,
    mamba_num_heads=96,
    max_position_embeddings=262144,
)
_H_8B = dataclasses.replace(
    NANO_9B_V2,
    pattern="M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
    hidden_size=4096,
    ffn_hidden_size=21504,
    mamba_head_dim=64,
    num_attention_heads=32,
    max_position_embeddings=8192,
)
_H_4B = dataclasses.replace(_H_8B, hidden_size=3072, ffn_hidden_size=12288, mamba_num_heads=112)
_H_47B = dataclasses.replace(
    _H_8B,
    pattern="M-M-M-M-M-M-M-M-M*-M-M-M-M-M-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-M-M---MM---M-M*-M-M-M-M-M-",
    hidden_size=8192,
    ffn_hidden_size=30720,
    mamba_num_heads=256,
    mamba_state_dim=256,
    num_attention_heads=64,
)
_H_56B = dataclasses.replace(
    _H_47B,
    pattern="M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-"
    "M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
    ffn_hidden_size=32768,
)
PUBLISHED: dict[str, Shape] = {
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": NANO_9B_V2,
    "nvidia/NVIDIA-Nemotron-Nano-12B-v2": _NANO_12B_V2,
    "nvidia/NVIDIA-Nemotron-3-Nano-4B-BF16": _NANO_3_4B,
    "nvidia/Nemotron-H-4B-Base-8K": _H_4B,
    "nvidia/Nemotron-H-8B-Base-8K": _H_8B,
    "nvidia/Nemotron-H-47B-Base-8K": _H_47B,
    "nvidia/Nemotron-H-56B-Base-8K": _H_56B,
}
"""The dense models of the family, by their names on the hub: sizes of NeMo's own configs
(https://github.com/NVIDIA-NeMo/NeMo, nemo/collections/llm/gpt/model/ssm.py) and of the 4B's config.json."""
