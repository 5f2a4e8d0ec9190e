"""Computes on a CPU with a checkpoint whose matrices are in FP8, to the rounding of a GPU.

    scales = read_scales(verify_checkpoint(folder, quantised=True))
    left = apply_scales(model, scales, unexpected)      # unexpected: names of tensors that transformers had no use for

A GPU multiplies inputs rounded to FP8 with weights in FP8 and adds up in float32; both scales are taken out of the sum
afterwards. Here both are multiplied in before it, in float32: every number that is rounded to FP8 is rounded alike, and
what is left is the order of a sum. That a GPU writes the sum as bf16, as it does with every other product, is not
copied: a checkpoint in bf16 is computed in float32 here, too.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from evaluator.serve.checkpoint import SCALES, WEIGHT

LARGEST = 448.0
"""The largest number in FP8 (E4M3)."""
_OURS, _TRANSFORMERS = "backbone.", "model."
"""What the names of layers begin with in a checkpoint and in transformers' model."""


def read_scales(files: Mapping[str, Path]) -> dict[str, tuple[Tensor, Tensor]]:
    """Scale of the weights and of the inputs of every matrix in FP8, by its name; `files` has each tensor's file."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for name in files:
        stem = name.removesuffix(SCALES[0])
        if stem != name:
            weight, inputs = (_read(files[stem + end], stem + end) for end in SCALES)
            found[stem] = (weight, inputs)
    return found


def _read(file: Path, name: str) -> Tensor:
    with safe_open(file, framework="pt") as opened:
        scale = opened.get_tensor(name)
    if scale.numel() != 1 or not (scale.isfinite() & (scale > 0)).all():
        raise ValueError(f"'{file}' has {name} as {scale.flatten()[:4].tolist()}, and a scale is one number above 0.")
    return scale.reshape(())


def apply_scales(
    model: torch.nn.Module, scales: Mapping[str, tuple[Tensor, Tensor]], unexpected: Collection[str]
) -> set[str]:
    """Multiply the weights of `model` by their scales and round inputs; returns what else was `unexpected`.

    The weights are as they were loaded, numbers in FP8 converted to float32.
    """
    left = set(unexpected)
    for stem, (weight_scale, input_scale) in scales.items():
        name = _TRANSFORMERS + stem.removeprefix(_OURS) if stem.startswith(_OURS) else stem
        module = model.get_submodule(name)
        with torch.no_grad():
            module.get_parameter(WEIGHT.lstrip(".")).mul_(weight_scale)
        module.register_forward_pre_hook(_rounding(input_scale))
        left -= {one + end for one in (stem, name) for end in SCALES}
    return left


def _rounding(scale: Tensor):
    return lambda _, inputs: (rounded(inputs[0], scale), *inputs[1:])


def rounded(inputs: Tensor, scale: Tensor) -> Tensor:
    """`inputs` as FP8 has them under `scale`: what is too large becomes the largest."""
    scaled = (inputs * scale.reciprocal()).clamp(-LARGEST, LARGEST)
    return scaled.to(torch.float8_e4m3fn).to(inputs.dtype) * scale
