"""A small export of an odd shape, with random weights."""

from pathlib import Path

import torch

from nemo_distill.families.checkpoint import write_hf
from nemo_distill.nemotron_h.mapping import tensor_sizes
from nemo_distill.nemotron_h.shape import Shape

SHAPE = Shape(
    pattern="M-M*-M", hidden_size=80, ffn_hidden_size=136, mamba_num_heads=6, mamba_head_dim=16, mamba_state_dim=16,
    mamba_num_groups=2, num_attention_heads=4, num_query_groups=2, kv_channels=16, vocab_size=1024,
    max_position_embeddings=256,
)  # fmt: skip
"""`in_proj` has 262 rows and the MLP 136, no multiples of 16."""


def export(folder: Path, *, tokenizer: Path, dtype: str = "float32") -> Path:
    """The export's folder."""
    draw = torch.Generator().manual_seed(7)
    state = {name: 0.2 * torch.randn(size, generator=draw) for name, size in tensor_sizes(SHAPE).items()}
    state |= {name: torch.ones(tensor.shape) for name, tensor in state.items() if "norm" in name}
    write_hf(folder / "hf", SHAPE, state, dtype=dtype, tokenizer=tokenizer)
    return folder / "hf"
