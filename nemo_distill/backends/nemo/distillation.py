"""NeMo's distillation model with `divergence` as its loss, and with models that compute in FP8.

    model = distillation_model(student=Path("prune/checkpoint"), teacher=Path("import/checkpoint"), options=Options())
    llm.train(model, data, trainer, optim=..., resume=...)

NeMo (`llm.distill`) runs teacher and student, keeps what their output layers give and compares it. Here, while the
student trains, the output layers give their input instead, and the loss takes the logits from there, chunk by chunk.
Everything else is NeMo's: the two models, the weighing with losses of intermediate layers, checkpoints of the student
alone. Imported once `backends.nemo.prepare` has run.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel.mappings import (
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
)
from nemo import lightning as nl
from nemo.collections.llm.modelopt.distill.loss import BaseLoss
from nemo.collections.llm.modelopt.distill.model import DistillationGPTModel, _DistillationLossReduction
from torch import Tensor

from nemo_distill.compat import device, distillation
from nemo_distill.config.settings import FORWARD_KL
from nemo_distill.kd import precision
from nemo_distill.kd.losses import find_loss
from nemo_distill.kd.options import Options
from nemo_distill.nemotron_h import documents
from nemo_distill.nemotron_h.documents import Documents
from nemo_distill.nemotron_h.model import recompute_mlp


def distillation_model(
    *, student: Path, teacher: Path, options: Options, pairs_file: Path | None = None, recompute: str = "none"
) -> "DistillationModel":
    """A model that trains the NeMo checkpoint `student` after the checkpoint `teacher` (upstream: `llm.distill`).

    Args:
        student: NeMo checkpoint whose weights are trained.
        teacher: NeMo checkpoint that is distilled from.
        options: How both compute.
        pairs_file: NeMo's distillation config, which may name intermediate layers to compare; None: logits alone.
        recompute: Activation recomputation of the student, a name in `settings.RECOMPUTE`.
    """
    precision.check(options.fp8, fused_kernels=options.fused_kernels)
    contexts = [nl.io.load_context(checkpoint / "context", subpath="model") for checkpoint in (student, teacher)]
    model = DistillationModel(
        contexts[0].config,
        contexts[1].config,
        teacher_ckpt_path=str(teacher),
        distillation_config_path=pairs_file,
        tokenizer=contexts[0].tokenizer,
        options=options,
        recompute=recompute,
    )
    model.__io__ = contexts[0].__io__
    return model


class DistillationModel(DistillationGPTModel):
    """NeMo's distillation model, changed once it is built."""

    def __init__(self, *args, options: Options, recompute: str, **kwargs):
        super().__init__(*args, **kwargs)
        self._training_loss_reduction: _DistillationLossReduction | None
        self.options, self.recompute = options, recompute

    def configure_model(self) -> None:
        if hasattr(self, "module"):
            return
        super().configure_model()
        if self.options.reset_at_documents:
            documents.install()
        if self.options.fused_kernels and device.on_gpu():
            from nemo_distill.nemotron_h.kernels import mixer, norm

            mixer.install()
            norm.install()
        if self.options.fused_loss:
            fuse_loss(self.module, loss=self.options.loss, temperature=self.options.temperature)
        if self.options.fp8 != "none":
            precision.teacher_in_fp8(self.module.teacher_model)
        if self.options.fp8 == "both":
            precision.student_in_fp8(self.module)
        if self.recompute == "mlp":
            recompute_mlp(self.module)

    def forward_step(self, batch: dict[str, Tensor]) -> Tensor:
        """Of teacher and student, which both keep documents apart where they are told of any."""
        told = Documents.in_batch(batch) if self.options.reset_at_documents else None
        with documents.kept_apart(told):
            return super().forward_step(batch)

    @property
    def training_loss_reduction(self) -> _DistillationLossReduction:
        if not self._training_loss_reduction:
            self._training_loss_reduction = loss_reduction(self.core_module)
        return self._training_loss_reduction


def loss_reduction(model) -> _DistillationLossReduction:
    """What makes ModelOpt's distillation `model`'s output for a microbatch a loss, by the loss that the model has."""
    criterion = distillation.criterion_of(model, model.output_layer, model.teacher_model.output_layer)
    if not isinstance(criterion, LogitsKLLossFromHidden):
        return _DistillationLossReduction(distillation_loss_fn=model.compute_kd_loss)
    reduction = _LossReduction(distillation_loss_fn=model.compute_kd_loss)
    reduction.criterion = criterion
    return reduction


class _MaskedSum(NamedTuple):
    """A loss that was masked and summed already, on this rank's part of the vocabulary."""

    value: Tensor


class _LossReduction(_DistillationLossReduction):
    """Gives the loss the mask beforehand, since it makes its gradient in the forward pass."""

    criterion: "LogitsKLLossFromHidden"

    def forward(self, batch: dict[str, Tensor], forward_out: Tensor):
        self.criterion.loss_mask = batch["loss_mask"]
        return super().forward(batch, forward_out)

    def _masked_token_loss(self, loss_output, mask: Tensor) -> Tensor:
        if not isinstance(loss_output, _MaskedSum):
            return super()._masked_token_loss(loss_output, mask)
        # A micro batch may hold no token that the loss is taken on.
        loss = loss_output.value / mask.sum().float().clamp(min=1)
        if self._tp_size > 1:
            torch.distributed.all_reduce(loss, group=parallel_state.get_tensor_model_parallel_group())
        return loss


class LogitsKLLossFromHidden(BaseLoss):
    """A loss of two output layers' inputs, in the place of NeMo's `LogitsKLLoss`; NeMo knows it by its name's start."""

    def __init__(self, config, *, student_layer, teacher_layer, loss: str, temperature: float):
        super().__init__(config)
        assert config.context_parallel_size == 1, "the mean over a sequence would need the other ranks' tokens"
        # Not as attributes, which would make them modules of the loss and store them in checkpoints twice.
        self._weights = lambda: (student_layer.weight, teacher_layer.weight)
        self._loss, self._temperature = find_loss(loss), temperature
        self.loss_mask: Tensor | None = None
        """Of the microbatch at hand, (batch, tokens)."""

    def forward(self, predictions, targets) -> _MaskedSum:
        """Hidden states in, (tokens, batch, width), of which sequence-parallel ranks have a part each."""
        student, teacher = predictions[0], targets[0].detach()
        if self._temperature != 1:  # logits are linear in hidden states, so this serves every loss
            student, teacher = student / self._temperature, teacher / self._temperature
        group = None
        if self._config.tensor_model_parallel_size > 1:
            group = parallel_state.get_tensor_model_parallel_group()
            if self._config.sequence_parallel:
                student = gather_from_sequence_parallel_region(student, tensor_parallel_output_grad=True)
                teacher = gather_from_sequence_parallel_region(teacher)
            else:
                student = copy_to_tensor_model_parallel_region(student)  # adds up the gradient's parts
        student_weight, teacher_weight = self._weights()
        assert self.loss_mask is not None, "the reduction gives it beforehand"
        mask, self.loss_mask = self.loss_mask.transpose(0, 1).flatten(), None
        given = (student.flatten(0, 1), student_weight, teacher.flatten(0, 1), teacher_weight, mask)
        return _MaskedSum(self._temperature**2 * self._loss(*given, group=group))


def fuse_loss(model, *, loss: str = FORWARD_KL, temperature: float = 1.0) -> None:
    """Make ModelOpt's distillation `model` compare hidden states by `loss` where it compared logits."""
    student, teacher = model.output_layer, model.teacher_model.output_layer
    criterion = LogitsKLLossFromHidden(
        model.config, student_layer=student, teacher_layer=teacher, loss=loss, temperature=temperature
    )
    distillation.set_criterion(model, student, teacher, criterion)
