"""What distillation changes in models that ModelOpt, Megatron and Transformer Engine have built: one object at a time.

Classes stay as they are; `check` says beforehand whether the objects still work as the change expects.
"""

import functools
from types import MethodType

import torch
from torch import Tensor, nn

from nemo_distill.compat.changes import Change, never, source_of

_MODEL = "modelopt.torch.distill.distillation_model:DistillationModel"
_LAYER = "megatron.core.transformer.transformer_layer:TransformerLayer"
_LINEAR = "transformer_engine.pytorch.module.linear:Linear"


def set_criterion(model, student: nn.Module, teacher: nn.Module, criterion: nn.Module) -> None:
    """Let ModelOpt's distillation `model` compare by `criterion` what enters two output layers, not their logits."""
    LOSS_FROM_HIDDEN.check()
    assert (student, teacher) in model._layers_to_loss, "the last pipeline rank alone has an output layer"
    model._layers_to_loss[student, teacher] = criterion
    # The student still needs logits where it is validated, the teacher nowhere.
    for layer, always in ((student, False), (teacher, True)):
        _rebind(layer, functools.partial(_pass_through, inside=layer.forward, always=always))


def criterion_of(model, student: nn.Module, teacher: nn.Module) -> nn.Module:
    """What ModelOpt's distillation `model` compares the outputs of two layers by."""
    return model._layers_to_loss[student, teacher]


def forget_outputs(model: nn.Module) -> None:
    """Drop what ModelOpt keeps of a forward pass until the loss takes it."""
    for module in model.modules():
        if getattr(module, "_intermediate_output", None) is not None:
            module._intermediate_output = None  # type: ignore[assignment]


def recompute_mlp(layer) -> None:
    """Let one of Megatron's layers keep its MLP's input alone for the backward pass."""
    RECOMPUTED_MLP.check()
    layer.recompute_mlp = True


def hold_in_fp8(layer, weight) -> None:
    """Give one of Transformer Engine's layers a weight that was quantised already, and is not trained."""
    FP8_LAYERS.check()
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.primary_weights_in_fp8 = True


def cut_rows(layer, rows: int) -> None:
    """Let one of Transformer Engine's layers leave out the last so many of its outputs."""
    layer.forward = functools.partial(_forward_without, layer.forward, rows=rows)


def pad_rows(layer, rows: int) -> None:
    """Let one of Transformer Engine's layers compute with so many rows of zeros more, and leave their outputs out."""
    FP8_LAYERS.check()
    layer._get_weight_tensors = functools.partial(_padded_weight, layer, rows)
    cut_rows(layer, rows)


def compute_in_fp8(model, fp8_format: str) -> None:
    """Turn FP8 on in a model that is built: Megatron refuses an FP8 config whose `in_proj` has other rows, which are
    filled up here."""
    model.config.fp8 = model.decoder.config.fp8 = fp8_format
    model.config.fp8_recipe = model.decoder.config.fp8_recipe = "tensorwise"


def _rebind(layer, function) -> None:
    layer.forward = MethodType(function, layer)


def _pass_through(layer, hidden: Tensor, *args, inside, always: bool, **kwargs):
    if always or layer.training:
        return hidden, None
    return inside(hidden, *args, **kwargs)


def _padded_weight(layer, rows: int) -> list[Tensor]:
    return [torch.nn.functional.pad(layer.weight, (0, 0, 0, rows))]


def _forward_without(inside, *args, rows: int, **kwargs):
    """What a layer gives, without the last so many of its outputs."""
    output, bias = inside(*args, **kwargs)
    return output[..., :-rows], bias


def _is_made_one_at_a_time() -> None:
    raise AssertionError("this change is made to one object at a time")


LOSS_FROM_HIDDEN = Change(
    name="loss-from-hidden",
    changes="of a model: DistillationModel._layers_to_loss, and forward of the two output layers",
    why="NeMo's distillation compares logits, 28 GiB at 8,192 tokens; here the output layers give their input and the "
    "loss takes the logits from there in chunks (distill.fused_loss).",
    upstream="none: a loss on hidden states is to be proposed to ModelOpt",
    versions="nvidia-modelopt 0.43",
    when="on request",
    applies=lambda: "self._layers_to_loss = {" in source_of(_MODEL),
    mended=never,
    make=_is_made_one_at_a_time,
)
RECOMPUTED_MLP = Change(
    name="recomputed-mlp",
    changes="of a layer: TransformerLayer.recompute_mlp",
    why="Megatron's selective activation recomputation is set for the whole model before it is built, and so for the "
    "teacher and for layers without an MLP too.",
    upstream="none: a setting of Megatron's, made later",
    versions="megatron-core 0.15.3",
    when="on request",
    applies=lambda: "if self.recompute_mlp:" in source_of(_LAYER),
    mended=never,
    make=_is_made_one_at_a_time,
)
FP8_LAYERS = Change(
    name="fp8-layers",
    changes="of a layer: weight, primary_weights_in_fp8, _get_weight_tensors and forward; of a model: config.fp8",
    why="FP8 matrix products want sizes in multiples of 16, which the study's student has not; and a teacher's weights "
    "are kept in FP8 alone (distill.fp8).",
    upstream="none: Transformer Engine pads inputs only",
    versions="transformer-engine 2.11",
    when="on request",
    applies=lambda: "_get_weight_tensors" in source_of(_LINEAR),
    mended=never,
    make=_is_made_one_at_a_time,
)
CHANGES = (LOSS_FROM_HIDDEN, RECOMPUTED_MLP, FP8_LAYERS)
