"""The shape of a Nemotron-H model: the numbers that fix every tensor's size.

A shape is read from a Hugging Face `config.json` or from a Megatron config, kept beside every checkpoint as
`shape.json`, and written back as a Hugging Face config, for any depth, width and layer pattern, pruned ones too.

    >>> from nemo_distill.nemotron_h.shape import NANO_9B_V2, NANO_7B_PRUNED
    >>> f"{NANO_9B_V2.parameters() / 1e9:.3f}B -> {NANO_7B_PRUNED.parameters() / 1e9:.3f}B"
    '8.888B -> 6.998B'
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.refusals import check_config
from nemo_distill.nemotron_h.sizes import Sizes

LAYER_KINDS = {"M": "Mamba-2", "*": "attention", "-": "MLP"}
MOST_LAYERS = 10_000
"""Layers of a model at most; the largest published has 118."""
# transformers' names for the layers; "mamba", "attention" were used before its 5.x renaming
_HF_LAYER_TYPES = {
    "linear_attention": "M",
    "mamba": "M",
    "full_attention": "*",
    "attention": "*",
    "mlp": "-",
}

_SIZES = (
    "hidden_size",
    "ffn_hidden_size",
    "mamba_num_heads",
    "mamba_head_dim",
    "mamba_state_dim",
    "mamba_num_groups",
    "num_attention_heads",
    "num_query_groups",
    "kv_channels",
    "vocab_size",
)

UNCLAMPED_TIME_STEP_MIN = 1e-12
"""`time_step_min` of every config this package writes: see `Shape.to_hf_config`."""


@dataclass(frozen=True, kw_only=True)
class Shape(Sizes):
    """Sizes of a Nemotron-H model (arXiv:2504.03624), in Megatron's names."""

    pattern: str
    """One letter per layer: `M` Mamba-2, `*` attention, `-` MLP (Megatron: `hybrid_override_pattern`)."""
    hidden_size: int
    """Width of the residual stream."""
    ffn_hidden_size: int
    """Width inside the squared-ReLU MLP."""
    mamba_num_heads: int
    mamba_head_dim: int
    mamba_state_dim: int
    """Size of the state of each Mamba head, per channel (Hugging Face: `ssm_state_size`)."""
    mamba_num_groups: int
    """Groups of heads that share B and C."""
    num_attention_heads: int
    num_query_groups: int
    """Key-value heads (Hugging Face: `num_key_value_heads`)."""
    kv_channels: int
    """Size of an attention head (Hugging Face: `head_dim`)."""
    vocab_size: int
    """Rows of the embedding and of the output layer, padding included."""
    max_position_embeddings: int = 131072
    layernorm_epsilon: float = 1e-5
    conv_kernel: int = 4
    chunk_size: int = 128
    bos_token_id: int | None = 1
    eos_token_id: int | None = 2
    pad_token_id: int | None = 0
    family: ClassVar[str] = "nemotron_h"
    """Name in `nemo_distill.families.FAMILIES` of the family whose shape it is."""

    def __post_init__(self):
        if len(self.pattern) > MOST_LAYERS:
            raise UserError(f"layer pattern of {len(self.pattern):,} layers: at most {MOST_LAYERS:,} are taken.")
        unknown = sorted(set(self.pattern) - set(LAYER_KINDS))
        if unknown or not self.pattern:
            raise UserError(f"layer pattern {self.pattern!r}: every letter must be one of {', '.join(LAYER_KINDS)}.")
        for name in _SIZES:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UserError(f"{name} must be a positive whole number, not {value!r}.")
        for whole, part in (("mamba_num_heads", "mamba_num_groups"), ("num_attention_heads", "num_query_groups")):
            if getattr(self, whole) % getattr(self, part):
                raise UserError(f"{whole}={getattr(self, whole)} is no multiple of {part}={getattr(self, part)}.")

    @property
    def num_layers(self) -> int:
        return len(self.pattern)

    def is_sized_like(self, other: "Shape") -> bool:
        """Whether the two have the same layers in the same sizes, whatever their tokens and their context."""
        return self.to_megatron() == other.to_megatron()

    def parameters(self) -> int:
        """All parameters: layers, embedding, output layer and final norm."""
        return self.outer_parameters + sum(self.layer_parameters(kind) for kind in self.pattern)

    # -- Hugging Face

    @classmethod
    def from_hf_config(cls, config: dict) -> "Shape":
        """The shape that a Hugging Face `config.json` (a dict) describes.

        Raises `UserError` where the model is no Nemotron-H, or one that is not computed here as the config says
        (`refusals`).
        """
        check_config(config)
        pattern = config.get("hybrid_override_pattern")
        kinds = config.get("layers_block_type") or config.get("layer_types")
        if pattern is None or kinds:
            if not kinds or not isinstance(kinds, list):
                raise UserError("config.json has neither hybrid_override_pattern nor layers_block_type.")
            unknown = sorted(set(map(str, kinds)) - set(_HF_LAYER_TYPES))
            if unknown:
                raise UserError(f"layer type {unknown[0]!r} is not supported; known: {', '.join(_HF_LAYER_TYPES)}.")
            listed = "".join(_HF_LAYER_TYPES[kind] for kind in kinds)
            if pattern not in (None, listed):  # transformers goes by the list, other engines by the pattern
                raise UserError(f"hybrid_override_pattern, {pattern}, and layers_block_type, {listed}, do not agree.")
            pattern = listed
        try:
            return cls(
                pattern=pattern,
                hidden_size=config["hidden_size"],
                ffn_hidden_size=config["intermediate_size"],
                mamba_num_heads=config["mamba_num_heads"],
                mamba_head_dim=config["mamba_head_dim"],
                mamba_state_dim=config["ssm_state_size"],
                mamba_num_groups=config["n_groups"] if "n_groups" in config else config["mamba_n_groups"],
                num_attention_heads=config["num_attention_heads"],
                num_query_groups=config["num_key_value_heads"],
                kv_channels=config.get("head_dim") or config["attention_head_dim"],
                vocab_size=config["vocab_size"],
                max_position_embeddings=config.get("max_position_embeddings", 131072),
                layernorm_epsilon=config.get("layer_norm_epsilon", config.get("norm_eps", 1e-5)),
                conv_kernel=config.get("conv_kernel", 4),
                chunk_size=config.get("chunk_size", 128),
                bos_token_id=config.get("bos_token_id", 1),
                eos_token_id=config.get("eos_token_id", 2),
                pad_token_id=config.get("pad_token_id", 0),
            )
        except KeyError as missing:
            raise UserError(f"config.json has no {missing.args[0]!r}.") from missing

    def to_hf_config(self, *, dtype: str = "bfloat16") -> dict:
        """A Hugging Face `config.json` (as a dict) that transformers and vLLM load.

        transformers reads `time_step_min` as a floor under dt after the softplus; Megatron, mamba-ssm's kernels and
        vLLM have no such floor, and no Nemotron-H was trained with one. Written as published (0.001) it would change
        the logits by up to 1e-3, so the floor is written as 1e-12: every engine then computes what was trained.
        `time_step_limit` is left out, since JSON has no infinity: that there is none is what every engine takes it for.
        """
        return {
            "architectures": ["NemotronHForCausalLM"],
            "model_type": "nemotron_h",
            "torch_dtype": dtype,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.ffn_hidden_size,
            "num_hidden_layers": self.num_layers,
            "hybrid_override_pattern": self.pattern,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_query_groups,
            "head_dim": self.kv_channels,
            "attention_head_dim": self.kv_channels,
            "mamba_num_heads": self.mamba_num_heads,
            "mamba_head_dim": self.mamba_head_dim,
            "ssm_state_size": self.mamba_state_dim,
            "n_groups": self.mamba_num_groups,
            "conv_kernel": self.conv_kernel,
            "chunk_size": self.chunk_size,
            "expand": 2,
            "mlp_hidden_act": "relu2",
            "mamba_hidden_act": "silu",
            "layer_norm_epsilon": self.layernorm_epsilon,
            "tie_word_embeddings": False,
            "use_bias": False,
            "use_conv_bias": True,
            "attention_bias": False,
            "mlp_bias": False,
            "mamba_proj_bias": False,
            "max_position_embeddings": self.max_position_embeddings,
            "time_step_min": UNCLAMPED_TIME_STEP_MIN,
            "time_step_max": 0.1,
            "time_step_floor": 1e-4,
            "residual_in_fp32": False,
            "rescale_prenorm_residual": True,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
            "pad_token_id": self.pad_token_id,
        }

    # -- Megatron

    def pruned(self, *, pattern: str, config) -> "Shape":
        """This shape after ModelOpt changed it: the new layer `pattern` and the sizes of a Megatron `config`."""
        names = ("hidden_size", "ffn_hidden_size", "mamba_num_heads", "mamba_head_dim", "num_attention_heads",
                 "num_query_groups", "kv_channels")  # fmt: skip
        return dataclasses.replace(self, pattern=pattern, **{name: getattr(config, name) for name in names})

    def to_megatron(self) -> dict:
        """Keyword arguments of NeMo's `SSMConfig` for this shape."""
        return {name: getattr(self, name) for name in (*_SIZES, "num_layers", "layernorm_epsilon")} | {
            "hybrid_override_pattern": self.pattern
        }

    # -- shape.json

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Shape":
        return cls(**json.loads(path.read_text()))


NANO_9B_V2 = Shape(
    pattern="M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
    hidden_size=4480,
    ffn_hidden_size=15680,
    mamba_num_heads=128,
    mamba_head_dim=80,
    mamba_state_dim=128,
    mamba_num_groups=8,
    num_attention_heads=40,
    num_query_groups=8,
    kv_channels=128,
    vocab_size=131072,
)
"""NVIDIA-Nemotron-Nano-9B-v2, the study's teacher."""

NANO_7B_PRUNED = dataclasses.replace(
    NANO_9B_V2,
    pattern="M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-MMMM-M-",
    hidden_size=4352,
    ffn_hidden_size=13824,
    mamba_num_heads=120,
)
"""The candidate the study chose: 48 layers, hidden 4352, 120 Mamba heads, FFN 13,824."""
