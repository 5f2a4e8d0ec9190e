"""Nemotron-H as a family of teachers (`nemo_distill.families.Family`). Importing this imports no torch."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nemo_distill.nemotron_h.published import PUBLISHED
from nemo_distill.nemotron_h.shape import Shape

__all__ = ["PUBLISHED", "TITLE", "check_hf", "choices", "config_of", "layer_spec", "shape_of", "to_hf", "to_megatron"]

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Nemotron-H"
DIVISORS = {
    "hidden_size_divisor": 256,
    "ffn_hidden_size_divisor": 512,
    "mamba_head_dim_divisor": 8,
    "num_layers_divisor": 2,
}
"""Steps that ModelOpt goes along an axis by, unless it is told otherwise."""


def shape_of(config: Mapping[str, Any]) -> Shape:
    return Shape.from_hf_config(dict(config))


def config_of(shape: Shape, *, dtype: str) -> dict[str, Any]:
    return shape.to_hf_config(dtype=dtype)


def check_hf(state: "Mapping[str, Tensor]", shape: Shape, where: str) -> None:
    from nemo_distill.nemotron_h import mapping

    mapping.check_hf(state, shape, where)


def to_megatron(state: "Mapping[str, Tensor]", shape: Shape) -> "dict[str, Tensor]":
    from nemo_distill.nemotron_h import mapping

    return mapping.to_megatron(state, shape)


def to_hf(state: "Mapping[str, Tensor]", shape: Shape) -> "dict[str, Tensor]":
    from nemo_distill.nemotron_h import mapping

    return mapping.to_hf(state, shape)


def layer_spec(name: str) -> Callable[[], Any]:
    from nemo_distill.nemotron_h import specs

    return {"transformer_engine": specs.transformer_engine, "local": specs.local}[name]


def choices(shape: Shape, divisors: Mapping[str, int]) -> dict[str, list[int]]:
    """ModelOpt's: multiples of a divisor, or of the groups that heads are shared among, and the teacher's own size."""
    steps = {**DIVISORS, **divisors}
    found = {
        "num_layers": _up_to(shape.num_layers, steps["num_layers_divisor"]),
        "hidden_size": _up_to(shape.hidden_size, steps["hidden_size_divisor"]),
    }
    if "-" in shape.pattern:
        found["ffn_hidden_size"] = _up_to(shape.ffn_hidden_size, steps["ffn_hidden_size_divisor"])
    if "M" in shape.pattern:
        found["mamba_num_heads"] = _up_to(shape.mamba_num_heads, shape.mamba_num_groups)
        found["mamba_head_dim"] = _up_to(shape.mamba_head_dim, steps["mamba_head_dim_divisor"])
    if "*" in shape.pattern:
        found["num_attention_heads"] = _up_to(shape.num_attention_heads, shape.num_query_groups)
    return found


def _up_to(size: int, step: int) -> list[int]:
    return sorted({*range(step, size + 1, step), size})
