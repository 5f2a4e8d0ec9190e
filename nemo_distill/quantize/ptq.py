"""Quantises a Hugging Face checkpoint by ModelOpt: calibrated ranges, then smaller weights with their scales.

    model = load(Path("hf"))
    calibrate(model, "fp8", "aggressive", tokens)          # now a fake-quantised model: what ModelOpt says it computes
    quantised = quantised_weights(model)
    write(Path("out"), Path("hf"), files, quantised)       # config.json and hf_quant_config.json as ModelOpt has them

The model is transformers', as in ModelOpt's own `hf_ptq.py`, on a GPU where there is one. What is quantised is decided
by ModelOpt's configs for hybrids with Mamba layers (`nemo_distill.plan.quantisation.KINDS`). The key-value cache stays
in bf16.
"""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import modelopt.torch.quantization as mtq
import torch
from modelopt.torch.export.convert_hf_config import convert_hf_quant_config_format
from modelopt.torch.export.quant_utils import (
    get_activation_scaling_factor,
    get_quant_config,
    get_quantization_format,
    get_weight_block_size,
    get_weight_scaling_factor,
    get_weight_scaling_factor_2,
    to_quantized_weight,
)
from safetensors.torch import load_file
from torch import Tensor
from transformers import NemotronHForCausalLM

from nemo_distill import families
from nemo_distill.compat.upstream_fixes import FP4_PACKING
from nemo_distill.data.models import model_config
from nemo_distill.errors import UserError
from nemo_distill.families.checkpoint import copy_tokenizer, shape_in, write_config, write_tensors
from nemo_distill.plan.quantisation import MULTIPLE

CONFIGS = {
    ("fp8", "aggressive"): mtq.MAMBA_MOE_FP8_AGGRESSIVE_CFG,
    ("fp8", "conservative"): mtq.MAMBA_MOE_FP8_CONSERVATIVE_CFG,
    ("nvfp4", "aggressive"): mtq.MAMBA_MOE_NVFP4_AGGRESSIVE_CFG,
    ("nvfp4", "conservative"): mtq.MAMBA_MOE_NVFP4_CONSERVATIVE_CFG,
}
"""ModelOpt's config by format and recipe."""
QUANT_CONFIG = "hf_quant_config.json"
"""Where ModelOpt, and servers that go by it, have what is quantised."""
BATCH = 8
"""Sequences of a forward pass of the calibration."""
_OURS, _TRANSFORMERS = "backbone.", "model."
"""What the names of layers begin with in a checkpoint and in transformers' model."""


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """A model's matrices after quantising, and what stays as it is."""

    tensors: Mapping[str, Tensor]
    """Every matrix and its scales by the checkpoint's names, in place of the matrix as it was."""
    sizes: Mapping[str, tuple[int, int]]
    """Rows and columns of every quantised matrix by its module's name in the checkpoint."""
    kept: tuple[str, ...]
    """Modules, by the checkpoint's names, that could be quantised and are not."""
    config: Mapping[str, Any]
    """Content of hf_quant_config.json."""


def load(folder: Path) -> NemotronHForCausalLM:
    """The checkpoint in `folder` in its own precision, on the GPU where there is one."""
    model: Any = NemotronHForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def calibrate(
    model: NemotronHForCausalLM,
    format: str,
    recipe: str,
    tokens: Tensor,
    *,
    say: Callable[[int], None] = lambda done: None,
) -> None:
    """Have ModelOpt put quantisers into `model` and take ranges over `tokens`, (sequences, tokens).

    `say` is told how many sequences are done. Raises `UserError` where a matrix saw nothing to take a range from.
    """
    config = copy.deepcopy(CONFIGS[format, recipe])
    if format == "nvfp4":  # what has no whole blocks of inputs stays as it is
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and module.in_features % MULTIPLE:
                config["quant_cfg"][f"{name}.*"] = {"enable": False}

    def forward(module: torch.nn.Module) -> None:
        with torch.inference_mode():
            for begin in range(0, len(tokens), BATCH):
                say(begin)
                module(tokens[begin : begin + BATCH].to(model.device), use_cache=False, logits_to_keep=1)

    mtq.quantize(model, config, forward)
    for name, module in _quantised(model):
        for quantiser in (module.weight_quantizer, module.input_quantizer):
            amax = quantiser.amax
            if amax is None or not (amax.isfinite() & (amax > 0)).all():
                what = "inputs" if quantiser is module.input_quantizer else "weights"
                raise UserError(
                    f"{_ours(name)} has no range to be quantised by: over {len(tokens):,} sequences its {what} reach "
                    f"{amax if amax is None else amax.tolist()}."
                )


def quantised_weights(model: NemotronHForCausalLM) -> Quantised:
    """The calibrated `model`'s matrices in their format, by ModelOpt's own arithmetic."""
    FP4_PACKING.apply()
    tensors, sizes, kept = {}, {}, []
    matrices = dict(_quantised(model))
    for name, module in model.named_modules():
        if not hasattr(module, "weight_quantizer"):
            continue
        ours = _ours(name)
        if name not in matrices:
            kept.append(ours)
            continue
        kind, block = get_quantization_format(module), get_weight_block_size(module)
        scale, second = get_weight_scaling_factor(module), get_weight_scaling_factor_2(module)
        # From float32: a weight in bf16 over its scale would be rounded twice, and once to what FP8 rounds otherwise.
        weight = to_quantized_weight(module.weight.detach().float(), scale, kind, second, block)
        found = {"weight": weight, "weight_scale": scale, "weight_scale_2": second}
        found["input_scale"] = get_activation_scaling_factor(module)
        for part, value in found.items():
            if value is not None:  # a scale of a whole matrix is a number, as ModelOpt's own export has it
                tensors[f"{ours}.{part}"] = (value.reshape(()) if value.numel() == 1 else value).detach().cpu()
        sizes[ours] = tuple(module.weight.shape)
    config = get_quant_config(model)
    # ModelOpt sums names up, as `model.layers.1*`, which a server that looks for parts of names takes for layer 14 too.
    config["quantization"]["exclude_modules"] = sorted(kept)
    return Quantised(tensors=tensors, sizes=sizes, kept=tuple(kept), config=config)


def write(folder: Path, source: Path, files: Mapping[str, Path], quantised: Quantised) -> None:
    """Write the checkpoint `source`, of which `files` say where each tensor is, with its `quantised` matrices."""
    before = model_config(str(source))
    shape = shape_in(before, f"checkpoint {source}")
    folder.mkdir(parents=True)
    copy_tokenizer(source, folder)
    quant_config = dict(quantised.config)
    (folder / QUANT_CONFIG).write_text(json.dumps(quant_config, indent=1) + "\n", encoding="utf-8")
    config = families.of(shape).config_of(shape, dtype=before.get("torch_dtype") or before["dtype"])
    write_config(folder, config | {"quantization_config": convert_hf_quant_config_format(quant_config)})
    state: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        state |= {name: tensor for name, tensor in load_file(file).items() if files.get(name) == file}
    missing = sorted(f"{name}.weight" for name in quantised.sizes if f"{name}.weight" not in state)
    assert not missing, f"{source} has no {missing[0]}"
    write_tensors(folder, state | dict(quantised.tensors))


def _quantised(model: torch.nn.Module) -> list[tuple[str, Any]]:
    """Modules whose weights and inputs are quantised, by transformers' names."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if hasattr(module, "weight_quantizer") and module.weight_quantizer.is_enabled
    ]


def _ours(name: str) -> str:
    return _OURS + name.removeprefix(_TRANSFORMERS) if name.startswith(_TRANSFORMERS) else name
