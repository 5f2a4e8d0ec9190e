"""What a Nemotron-H's config.json can say that is not computed here as transformers computes it.

>>> from nemo_distill.nemotron_h.refusals import check_config
>>> check_config({"model_type": "nemotron_h", "mamba_hidden_act": "gelu"})
Traceback (most recent call last):
    ...
nemo_distill.errors.UserError: mamba_hidden_act='gelu' is not supported: Mamba layers are computed here with 'silu'.

Keys that change no logits are let through: rope_*, sliding_window, residual_in_fp32, time_step_limit, dropouts.
"""

from collections.abc import Mapping
from typing import Any

from nemo_distill.errors import UserError

_ABSENT = ("use_bias", "mamba_proj_bias", "mlp_bias", "attention_bias", "tie_word_embeddings")
_FIXED: dict[str, tuple[tuple[Any, ...], str]] = {
    "mlp_hidden_act": (("relu2",), "MLP layers"),
    "mamba_hidden_act": (("silu", "swish"), "Mamba layers"),
    "conv_kernel": ((4,), "the convolutions of Mamba layers"),
    "mamba_d_conv": ((4,), "the convolutions of Mamba layers"),
    "use_conv_bias": ((True,), "the convolutions of Mamba layers"),
    "mamba_conv_bias": ((True,), "the convolutions of Mamba layers"),
    # Megatron takes it for the norms before layers; for the one inside a Mamba layer it knows no other.
    "layer_norm_epsilon": ((1e-5,), "norms inside Mamba layers"),
}
"""Key -> the values that are computed here, and where."""


def check_config(config: Mapping[str, Any]) -> None:
    """Raise `UserError` with the key and its value."""
    if config.get("model_type") != "nemotron_h":
        raise UserError(f"model_type {config.get('model_type')!r} is no Nemotron-H; expected 'nemotron_h'.")
    for name in _ABSENT:
        if config.get(name):
            raise UserError(f"{name}=true is not supported: Nemotron-H as Megatron trains it has none.")
    for name, (values, where) in _FIXED.items():
        if config.get(name) is not None and config[name] not in values:
            raise UserError(f"{name}={config[name]!r} is not supported: {where} are computed here with {values[0]!r}.")
    quantised = config.get("quantization_config") or config.get("compression_config")
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, Mapping) else None
        raise UserError(
            f"its weights are quantised ({method or 'quantization_config'}), and such are not read here: take the "
            "checkpoint that was quantised, in bf16 or float32."
        )
    pattern = config.get("hybrid_override_pattern")
    if pattern is not None and not isinstance(pattern, str):
        raise UserError(f"hybrid_override_pattern={pattern!r} is no text with one letter per layer.")
