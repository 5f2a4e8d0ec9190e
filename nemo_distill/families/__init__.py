"""Families of models that can be pruned and distilled, behind one interface; Nemotron-H is the first.

    config = model_config("teachers/mine")              # data.models
    family = family_of(config, "teachers/mine")         # UserError: ... is a dense Transformer (LlamaForCausalLM); ...
    shape = family.shape_of(config)
    family.choices(shape, divisors={})["hidden_size"]   # what ModelOpt can make of it

A family is a module with the functions of `Family`, and its entry in `FAMILIES` by the `model_type` of its config.json.
All families share `Shape`: layers of the kinds in `LAYER_KINDS`, in any order. Nothing here imports torch.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import Shape

if TYPE_CHECKING:
    from torch import Tensor

FAMILIES = {"nemotron_h": "nemo_distill.nemotron_h.family"}
"""Module of every family by the `model_type` of its config.json."""
_EXPERTS = ("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
"""Keys that tell how many experts there are."""


class Family(Protocol):
    """The functions of a family's module."""

    TITLE: str
    """What sentences call a model of the family."""
    PUBLISHED: Mapping[str, Shape]
    """Shapes of its published models by their names on the hub, which a preview need not ask for them."""

    def shape_of(self, config: Mapping[str, Any]) -> Shape:
        """The shape that a `config.json` describes. Raises `UserError` for what is not computed here as it says."""

    def config_of(self, shape: Shape, *, dtype: str) -> dict[str, Any]:
        """The `config.json` of a model of `shape`, whose tensors are of `dtype`."""

    def check_hf(self, state: "Mapping[str, Tensor]", shape: Shape, where: str) -> None:
        """Raise `UserError` by name where `state`, read from `where`, is not exactly a checkpoint of `shape`."""

    def to_megatron(self, state: "Mapping[str, Tensor]", shape: Shape) -> "dict[str, Tensor]":
        """Megatron's tensors for Hugging Face's. Raises `UserError` by name for what is missing, left over or unfit."""

    def to_hf(self, state: "Mapping[str, Tensor]", shape: Shape) -> "dict[str, Tensor]":
        """Hugging Face's tensors for Megatron's. Raises `UserError` as `to_megatron` does."""

    def layer_spec(self, name: str) -> Callable[[], Any]:
        """What Megatron builds the layers of: `transformer_engine` or `local` (`nemotron_h.model.Runtime`)."""

    def choices(self, shape: Shape, divisors: Mapping[str, int]) -> dict[str, list[int]]:
        """The sizes that pruning can give each axis, ascending, by the names in `settings.PRUNABLE`."""


def get(model_type: str) -> Family:
    """The family of that `model_type`."""
    return cast(Family, importlib.import_module(FAMILIES[model_type]))


def family_of(config: Mapping[str, Any], what: str) -> Family:
    """The family that `config`, the config.json of `what`, says it is of.

    Raises `UserError` that says what it is where it is of none.
    """
    model_type = config.get("model_type")
    kind = kind_of(config)
    if isinstance(model_type, str) and model_type in FAMILIES and not kind.startswith("a mixture"):
        return get(model_type)
    known = " or ".join(f"dense {get(name).TITLE}" for name in FAMILIES)
    raise UserError(f"{what} is {kind}; what can be pruned and distilled here is a {known}.")


def of(shape: Shape) -> Family:
    """The family of a model of `shape`."""
    return get(shape.family)


def published(name: str) -> Shape | None:
    """The shape of the published model of that name on the hub; None where no family knows it."""
    return next((shape for family in map(get, FAMILIES) if (shape := family.PUBLISHED.get(name))), None)


def kind_of(config: Mapping[str, Any]) -> str:
    """What a config.json describes, in a few words with the name of its class."""
    name = (config.get("architectures") or [None])[0] or config.get("model_type")
    named = f" ({name})" if name else ""
    for key in ("text_config", "llm_config", "language_config"):
        if isinstance(config.get(key), Mapping):
            return f"a model of text and more{named}, whose language model is {kind_of(config[key])}"
    experts = next((config[key] for key in _EXPERTS if isinstance(config.get(key), int)), 0)
    if experts > 1 and (config.get("model_type") not in FAMILIES or _has_expert_layers(config)):
        return f"a mixture of experts: {experts} routed experts{named}"
    if config.get("is_encoder_decoder"):
        return f"an encoder and a decoder{named}"
    if any("mamba" in key or key.startswith("ssm_") for key in config):
        attention = config.get("num_attention_heads")
        return f"a hybrid of Mamba and attention layers{named}" if attention else f"a Mamba model{named}"
    if config.get("num_attention_heads") or config.get("n_head"):
        return f"a dense Transformer{named}"
    return f"of no kind that is known here{named}"


def _has_expert_layers(config: Mapping[str, Any]) -> bool:
    layers = config.get("layers_block_type") or config.get("layer_types") or ()
    return "E" in str(config.get("hybrid_override_pattern") or "") or "moe" in layers
