"""A Nemotron-H as Megatron's module, whichever framework built it: how it runs, and its tensors by their names.

runtime = Runtime(precision="bf16-mixed", layer_spec="transformer_engine")
with backend.session(runtime) as session:                # nemo_distill.backends
    module = backend.build(session, shape, tokenizer=folder, runtime=runtime)
    load(module, mapping.to_megatron(state, shape))
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nemo_distill.compat import distillation
from nemo_distill.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How a model runs, as opposed to what it is."""

    precision: str = "32"
    """Precision of the layers: `32` or `bf16-mixed`."""
    layer_spec: str = "local"
    """Modules that the layers are made of: `local` (no Transformer Engine) or `transformer_engine`."""
    seq_length: int = 8192
    """Longest sequence in tokens."""

    def __post_init__(self):
        if self.precision not in ("32", "bf16-mixed"):
            raise UserError(f"precision {self.precision!r}: use '32' or 'bf16-mixed'.")
        if self.layer_spec not in ("local", "transformer_engine"):
            raise UserError(f"layer_spec {self.layer_spec!r}: use 'local' or 'transformer_engine'.")


def load(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy Megatron tensors (in Transformer Engine's names) into the model; every parameter must be given."""
    named = {checkpoint_name(name, module): parameter for name, parameter in module.named_parameters()}
    assert named.keys() == state.keys(), sorted(named.keys() ^ state.keys())[:4]
    with torch.no_grad():
        for name, parameter in named.items():
            assert parameter.shape == state[name].shape, (name, parameter.shape, state[name].shape)
            parameter.copy_(state[name])


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's parameters in Transformer Engine's names, whatever the spec it was built from."""
    return {checkpoint_name(name, module): p.detach().clone() for name, p in module.named_parameters()}


def checkpoint_name(name: str, module: Any) -> str:
    """A parameter's name in a checkpoint: under the local spec the norms are modules of their own."""
    prefix, _, rest = name.partition(".layers.")
    if not rest:
        return name
    index, _, inner = rest.partition(".")
    keys = module.decoder.layers[int(index)].submodules_config.sharded_state_dict_keys_map
    for built, stored in keys.items():
        if inner.startswith(built):
            return f"{prefix}.layers.{index}.{stored}{inner.removeprefix(built)}"
    return name


def recompute_mlp(module: Any) -> None:
    """Let MLP layers keep their input alone for the backward pass (Megatron's selective recomputation of `mlp`)."""
    for layer in module.decoder.layers:
        if hasattr(getattr(layer, "mlp", None), "linear_fc1"):  # others have a stand-in for it
            distillation.recompute_mlp(layer)


def __getattr__(name: str) -> Any:
    # The name by which every NeMo checkpoint on disk knows the class of its config.
    if name == "NemotronHConfig":
        return importlib.import_module("nemo_distill.backends.nemo.model").NemotronHConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
