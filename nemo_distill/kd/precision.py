"""Matrix products in FP8, by Transformer Engine with a scale per tensor, taken when it is quantised.

The teacher's weights never change: they are kept in FP8 alone, which halves them. The student's stay in bf16 (and in
float32 in the optimizer) and are quantised once an iteration. Embedding and output layers, the scan, norms and the
residual stream stay as they are. FP8 products want sizes in multiples of 16: a layer whose rows are none, as the
`in_proj` of the study's student with its 21,368, computes with some rows of zeros more.
"""

import importlib.util
from collections.abc import Iterator
from typing import Any

import torch

from nemo_distill.compat import distillation as changes
from nemo_distill.errors import UserError
from nemo_distill.kd.abilities import Ability
from nemo_distill.nemotron_h.kernels import amax

MULTIPLE = 16
"""Of which the sizes of an FP8 matrix product have to be multiples (cuBLASLt)."""

NEEDED_ON_A_GPU = {"triton": "triton", "mamba_ssm": "mamba-ssm", "causal_conv1d": "causal-conv1d"}
"""Packages without which a GPU would compute as slowly as PyTorch's own operations do, and how they are installed."""


def check(fp8: str, *, fused_kernels: bool = False) -> None:
    """Raise `UserError` where these settings, or any training on the GPU that is here, cannot be had here."""
    lacking = [name for package, name in NEEDED_ON_A_GPU.items() if not _installed(package)]
    if torch.cuda.is_available() and lacking:
        command = f"pip install --no-build-isolation {' '.join(lacking)}"
        raise UserError(f"training on a GPU needs {lacking[0]}, which is not installed here: {command}.")
    if torch.cuda.is_available():
        properties: Any = torch.cuda.get_device_properties()
        ability = Ability(
            name=torch.cuda.get_device_name(),
            capability=torch.cuda.get_device_capability(),
            shared_memory=properties.shared_memory_per_block_optin // 1024,
        )
        if lacking_of_it := ability.lacks(fp8=fp8, fused_kernels=fused_kernels, bf16=False):
            raise UserError(lacking_of_it)
    missing = None
    if fp8 == "none":
        return
    if not torch.cuda.is_available():
        missing = "a GPU, and there is none here"
    elif not _installed("transformer_engine"):
        missing = "Transformer Engine, which is not installed here"
    if missing:
        raise UserError(f"distill.fp8={fp8} needs {missing}: say distill.fp8=none.")


def _installed(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.loader is not None  # a stand-in, of `compat.mamba_ssm`, has none


def teacher_in_fp8(model) -> None:
    """Quantise the weights of a model that only runs forward, and let it compute with them."""
    import transformer_engine_torch as tex
    from transformer_engine.pytorch.tensor.float8_tensor import Float8CurrentScalingQuantizer

    for layer in _linear_layers(model):
        quantizer = Float8CurrentScalingQuantizer(
            tex.DType.kFloat8E4M3, device=layer.weight.device, rowwise=True, columnwise=False
        )
        weight, missing = layer.weight.detach(), _missing_rows(layer)
        if missing:
            changes.cut_rows(layer, missing)
            weight = torch.nn.functional.pad(weight, (0, 0, 0, missing))
        changes.hold_in_fp8(layer, quantizer(weight))
    _turn_on(model, "e4m3")


def student_in_fp8(model) -> None:
    """Let a model that is trained compute in FP8: forward in E4M3, gradients in E5M2 (arXiv:2209.05433)."""
    for layer in _linear_layers(model, but=getattr(model, "teacher_model", None)):
        missing = _missing_rows(layer)
        if missing:
            changes.pad_rows(layer, missing)
    _turn_on(model, "hybrid")


def _turn_on(model, fp8_format: str) -> None:
    amax.install()
    changes.compute_in_fp8(model, fp8_format)


def _linear_layers(model, *, but=None) -> Iterator:
    """Transformer Engine's linear layers in `model`, but for those in the module `but`."""
    from transformer_engine.pytorch.module.base import TransformerEngineBaseModule

    left_out = set(but.modules()) if but is not None else set()
    for layer in model.modules():
        # attention is such a module too, and has no weight
        if layer not in left_out and isinstance(layer, TransformerEngineBaseModule) and hasattr(layer, "weight"):
            columns = layer.weight.shape[1]
            if columns % MULTIPLE:
                raise UserError(
                    f"distill.fp8: a layer of the model takes {columns} inputs, no multiple of {MULTIPLE}, as FP8 "
                    "needs: say distill.fp8=none, or prune to sizes that are."
                )
            yield layer


def _missing_rows(layer) -> int:
    return -layer.weight.shape[0] % MULTIPLE
