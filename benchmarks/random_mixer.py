"""What a Mamba mixer has between its linear layers, at random, for its benchmark and its tests."""

import torch


def random_mixer(batch: int, length: int, heads: int, head_dim: int, groups: int, state: int) -> list[torch.Tensor]:
    """z | x | B | C | dt and the weights, as `kernels.mixer.MixerFunction` takes them: all are leaves, on CUDA."""
    draw = torch.Generator("cuda").manual_seed(0)

    def leaf(*size: int, around: float = 0.0, spread: float = 1.0, dtype=torch.bfloat16) -> torch.Tensor:
        return (torch.randn(size, generator=draw, device="cuda") * spread + around).to(dtype).requires_grad_()

    inner, shared = heads * head_dim, 2 * groups * state
    return [
        leaf(batch, length, 2 * inner + shared + heads),
        leaf(inner + shared, 4, spread=0.5),
        leaf(inner + shared, spread=0.1),
        leaf(heads, around=-3.0, dtype=torch.float32),
        leaf(heads, around=-8.0, dtype=torch.float32),
        leaf(heads, around=1.0),
        leaf(inner, around=1.0, spread=0.1),
    ]
