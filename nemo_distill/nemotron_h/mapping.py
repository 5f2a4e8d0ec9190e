"""Tensor names and layouts: Hugging Face's Nemotron-H <-> Megatron's, both ways, for any shape.

Both functions take and return plain dictionaries of tensors and raise ValueError by name for a tensor that is missing,
left over or of the wrong size, so that no checkpoint is ever half-loaded.
(upstream: `HFNemotronHImporter`, `HFNemotronHExporter` in NeMo, which know a list of model sizes only)
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import Shape

_MAMBA = ("A_log", "D", "dt_bias", "conv1d.weight", "conv1d.bias", "in_proj.weight", "out_proj.weight", "norm.weight")
_NORM = {
    "M": "mixer.in_proj.layer_norm_weight",
    "*": "self_attention.linear_qkv.layer_norm_weight",
    "-": "mlp.linear_fc1.layer_norm_weight",
}
"""Where Transformer Engine keeps a layer's input norm: in the linear layer behind it."""


def _renamed(shape: Shape) -> dict[str, str]:
    """Hugging Face name -> Megatron name of every tensor that keeps its layout; q, k and v are apart."""
    names = {
        "backbone.embeddings.weight": "embedding.word_embeddings.weight",
        "backbone.norm_f.weight": "decoder.final_norm.weight",
        "lm_head.weight": "output_layer.weight",
    }
    for i, kind in enumerate(shape.pattern):
        hf, megatron = f"backbone.layers.{i}.", f"decoder.layers.{i}."
        names[f"{hf}norm.weight"] = megatron + _NORM[kind]
        if kind == "M":
            names |= {f"{hf}mixer.{name}": f"{megatron}mixer.{name}" for name in _MAMBA}
        elif kind == "-":
            names[f"{hf}mixer.up_proj.weight"] = f"{megatron}mlp.linear_fc1.weight"
            names[f"{hf}mixer.down_proj.weight"] = f"{megatron}mlp.linear_fc2.weight"
        else:
            names[f"{hf}mixer.o_proj.weight"] = f"{megatron}self_attention.linear_proj.weight"
    return names


def _attention_layers(shape: Shape) -> list[int]:
    return [i for i, kind in enumerate(shape.pattern) if kind == "*"]


def tensor_sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Hugging Face name -> size of every tensor of a checkpoint of this shape."""
    h, inner = shape.hidden_size, shape.mamba_inner_size
    q, kv = shape.num_attention_heads * shape.kv_channels, shape.num_query_groups * shape.kv_channels
    sizes: dict[str, tuple[int, ...]] = {
        "backbone.embeddings.weight": (shape.vocab_size, h),
        "backbone.norm_f.weight": (h,),
        "lm_head.weight": (shape.vocab_size, h),
    }
    of_kind: dict[str, dict[str, tuple[int, ...]]] = {
        "M": {
            "A_log": (shape.mamba_num_heads,),
            "D": (shape.mamba_num_heads,),
            "dt_bias": (shape.mamba_num_heads,),
            "conv1d.weight": (shape.mamba_conv_size, 1, shape.conv_kernel),
            "conv1d.bias": (shape.mamba_conv_size,),
            "in_proj.weight": (shape.mamba_in_proj_size, h),
            "out_proj.weight": (h, inner),
            "norm.weight": (inner,),
        },
        "-": {"up_proj.weight": (shape.ffn_hidden_size, h), "down_proj.weight": (h, shape.ffn_hidden_size)},
        "*": {"q_proj.weight": (q, h), "k_proj.weight": (kv, h), "v_proj.weight": (kv, h), "o_proj.weight": (h, q)},
    }
    for i, kind in enumerate(shape.pattern):
        sizes[f"backbone.layers.{i}.norm.weight"] = (h,)
        sizes |= {f"backbone.layers.{i}.mixer.{name}": size for name, size in of_kind[kind].items()}
    return sizes


def check_hf(state: Mapping[str, Tensor], shape: Shape, where: str) -> None:
    """Raise ValueError by name where `state`, read from `where`, is not exactly a checkpoint of this shape."""
    sizes = tensor_sizes(shape)
    for problem, names in (("lacks", sizes.keys() - state.keys()), ("has an unknown", state.keys() - sizes.keys())):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"{where} {problem} tensor {sorted(names)[0]!r}{more}.")
    for name, size in sizes.items():
        if tuple(state[name].shape) != size:
            raise UserError(f"{where}: {name} is {tuple(state[name].shape)} where its config.json asks for {size}.")


def to_megatron(state: Mapping[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    """Megatron's tensors for the Hugging Face tensors `state`; the query, key and value of a group are interleaved."""
    check_hf(state, shape, "the Hugging Face checkpoint")
    out = {megatron: state[hf] for hf, megatron in _renamed(shape).items()}
    groups = shape.num_query_groups
    for i in _attention_layers(shape):
        q, k, v = (state[f"backbone.layers.{i}.mixer.{name}_proj.weight"] for name in "qkv")
        h = q.shape[-1]
        per_group = [t.reshape(groups, -1, h) for t in (q, k, v)]  # (groups, heads of the group * head size, hidden)
        out[f"decoder.layers.{i}.self_attention.linear_qkv.weight"] = torch.cat(per_group, 1).reshape(-1, h)
    return out


def to_hf(state: Mapping[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    """Hugging Face's tensors for Megatron's; rows that pad the vocabulary are cut."""
    left = dict(state)

    def take(name: str) -> Tensor:
        if name not in left:
            raise UserError(f"the NeMo checkpoint lacks tensor {name!r}.")
        return left.pop(name)

    out = {hf: take(megatron) for hf, megatron in _renamed(shape).items()}
    for name in ("backbone.embeddings.weight", "lm_head.weight"):
        out[name] = out[name][: shape.vocab_size]
    head, groups = shape.kv_channels, shape.num_query_groups
    for i in _attention_layers(shape):
        qkv = take(f"decoder.layers.{i}.self_attention.linear_qkv.weight")
        h = qkv.shape[-1]
        grouped = qkv.view(groups, -1, h)
        for name, part in zip("qkv", grouped.split([grouped.shape[1] - 2 * head, head, head], dim=1), strict=True):
            out[f"backbone.layers.{i}.mixer.{name}_proj.weight"] = part.reshape(-1, h)
    if left:
        raise UserError(f"the NeMo checkpoint has an unknown tensor {sorted(left)[0]!r}.")
    check_hf(out, shape, "the NeMo checkpoint")
    return out
