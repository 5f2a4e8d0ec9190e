"""Where our own GPU kernels take the place of Megatron's, Transformer Engine's and mamba-ssm's.

The kernels, and what launches them, are `nemo_distill.nemotron_h.kernels`; they give these changes the functions that
stand in for upstream's.
"""

import importlib.util
import inspect
import math
import sys
from collections.abc import Callable

from nemo_distill.compat.changes import Change, find, never, source_of, wrap

_MIXER = "megatron.core.ssm.mamba_mixer:MambaMixer"
_FORWARDS, _BACKWARDS = "transformer_engine.pytorch.cpp_extensions", "transformer_engine_torch"
_FLOAT8 = "transformer_engine.pytorch.tensor.float8_tensor"
_QUANTIZER = f"{_FLOAT8}:Float8CurrentScalingQuantizer"
_AUTOTUNER = "triton.runtime.autotuner"


def autotuners(package: str) -> dict:
    """Triton's autotuner of every kernel in the modules of `package` that are loaded, by the kernel's dotted name."""
    autotuner, heuristics = find(f"{_AUTOTUNER}:Autotuner"), find(f"{_AUTOTUNER}:Heuristics")
    found = {}
    for name, module in list(sys.modules.items()):
        for value in list(vars(module).values()) if name.startswith(f"{package}.") else ():
            while isinstance(value, heuristics):
                value = value.fn
            if isinstance(value, autotuner):
                found[f"{value.base_fn.__module__}.{value.base_fn.__name__}"] = value
    return found


def _recall_results(results: list[tuple]) -> None:
    for tuner, chosen in results:
        for key, config in chosen.items():
            tuner.cache.setdefault(key, config)


def _keep_one_variant(tuners: list) -> None:
    for tuner in tuners:
        variants = sorted(tuner.configs, key=lambda one: (math.prod(one.kwargs.values()), str(one)))
        tuner.configs = [variants[len(variants) // 2]]  # the smallest tile is slow, the largest may not fit
        tuner.cache.clear()


def _replace_norms(forward: Callable, backward: Callable) -> None:
    wrap(find(_FORWARDS), "rmsnorm_fwd", forward)
    wrap(find(_BACKWARDS), "rmsnorm_bwd", backward)


def _takes_what_ours_takes() -> bool:
    method = find(f"{_MIXER}.ssm_training")
    return method is not None and list(inspect.signature(inspect.unwrap(method)).parameters) == ["self", "zxBCdt"]


MIXER = Change(
    name="mixer-in-our-kernels",
    changes=f"{_MIXER.replace(':', '.')}.ssm_training",
    why="mamba-ssm gates the scan's output, keeps it both gated and not, and norms it in a kernel of its own; ours is "
    "one operation that keeps less. Where the kernels do not fit, upstream's method is called.",
    upstream="none: a choice of ours (distill.fused_kernels)",
    versions="megatron-core 0.15.3 (0.19 calls it _ssm_training)",
    when="on request",
    applies=_takes_what_ours_takes,
    mended=never,
    make=lambda train: wrap(find(_MIXER), "ssm_training", train),
)
NORMS = Change(
    name="norms-in-our-kernels",
    changes=f"{_FORWARDS}.rmsnorm_fwd, {_BACKWARDS}.rmsnorm_bwd",
    why="Transformer Engine's kernels are made for some widths; at the study's 4,480 the one for all others takes two "
    "to three times as long as ours.",
    upstream="none: a choice of ours (distill.fused_kernels)",
    versions="transformer-engine 2.11",
    when="on request",
    applies=lambda: find(f"{_FORWARDS}:rmsnorm_fwd") is not None and find(f"{_BACKWARDS}:rmsnorm_bwd") is not None,
    mended=lambda: importlib.util.find_spec("transformer_engine") is None,
    make=_replace_norms,
)
QUANTIZER = Change(
    name="amax-from-our-kernels",
    changes=f"{_QUANTIZER.replace(':', '.')}.quantize_impl",
    why="Transformer Engine reads a whole tensor for its amax, where the kernel that wrote it had every value at hand.",
    upstream="none: a choice of ours (distill.fp8)",
    versions="transformer-engine 2.11",
    when="on request",
    applies=lambda: find(f"{_QUANTIZER}.quantize_impl") is not None and "use_existing_amax" in source_of(_FLOAT8),
    mended=never,
    make=lambda quantize: wrap(find(_QUANTIZER), "quantize_impl", quantize),
)
AUTOTUNING = Change(
    name="autotuning-results",
    changes=f"{_AUTOTUNER}.Autotuner.cache of mamba-ssm's kernels: results of earlier processes are put in",
    why="Triton's own TRITON_CACHE_AUTOTUNING leaves out kernels whose variants clear a buffer first, which are most "
    "of the backward pass.",
    upstream="none: Triton",
    versions="triton 3.6",
    when="on request",
    applies=lambda: "self.cache" in source_of(f"{_AUTOTUNER}:Autotuner"),
    mended=never,
    make=_recall_results,
)
ONE_VARIANT = Change(
    name="one-variant-per-kernel",
    changes=f"{_AUTOTUNER}.Autotuner.configs of mamba-ssm's kernels: one is left of each",
    why="Triton chooses among variants by the clock, and they add up in different orders.",
    upstream="none: a choice of ours (distill.deterministic); mamba-ssm does the same while it is imported",
    versions="triton 3.6",
    when="on request",
    applies=lambda: "self.configs" in source_of(f"{_AUTOTUNER}:Autotuner"),
    mended=never,
    make=_keep_one_variant,
)
CHANGES = (MIXER, NORMS, QUANTIZER, AUTOTUNING, ONE_VARIANT)
