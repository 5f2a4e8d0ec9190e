"""NeMo's distillation model with `divergence` as its loss, and with models that compute in FP8.

    model = distillation_model(student=Path("prune/checkpoint"), teacher=Path("import/checkpoint"), options=Options())
    llm.train(model, data, trainer, optim=..., resume=...)

NeMo (`llm.distill`) runs teacher and student, keeps what their output layers give and compares it. Here, while the
student trains, the output layers give their input instead, and the loss takes the logits from there, chunk by chunk.
Everything else is NeMo's: the two models, the weighing with losses of intermediate layers, checkpoints of the student
alone. Imported once `backends.nemo.prepare` has run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import modelopt.torch.distill as mtd
import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel.mappings import (
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
)
from nemo import lightning as nl
from nemo.collections.llm.modelopt.distill.loss import BaseLoss
from nemo.collections.llm.modelopt.distill.model import DistillationGPTModel, _DistillationLossReduction
from nemo.collections.llm.modelopt.distill.utils import adjust_distillation_model_for_mcore, load_distillation_config
from torch import Tensor

from nemo_distill.backends.nemo import own_time
from nemo_distill.compat import device, distillation
from nemo_distill.config.settings import FORWARD_KL
from nemo_distill.kd import precision
from nemo_distill.kd.divergence import Mixture, masked_mixture
from nemo_distill.kd.losses import find_loss
from nemo_distill.kd.options import Options
from nemo_distill.nemotron_h import documents
from nemo_distill.nemotron_h.documents import Documents
from nemo_distill.nemotron_h.model import recompute_mlp

_SHARED = ("tensor_model_parallel_size", "pipeline_model_parallel_size", "context_parallel_size", "sequence_parallel",
           "pipeline_dtype")  # fmt: skip
"""What a teacher's config takes over from its student's."""


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
    assert options.fused_loss or not (options.per_token or options.cross_entropy), "the framework's loss has neither"
    contexts = [nl.io.load_context(checkpoint / "context", subpath="model") for checkpoint in (student, teacher)]
    # Megatron then adds up gradients and tokens over microbatches and ranks, and divides once.
    contexts[0].config.calculate_per_token_loss = options.per_token
    for context in contexts if options.deterministic else ():
        context.config.deterministic_mode = True  # embeddings of a part of the vocabulary, and attention's variants
        context.config.cross_entropy_loss_fusion = False  # of a kernel that adds up in any order
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
        self._build()
        if self.options.reset_at_documents:
            documents.install()
        if self.options.fused_kernels and device.on_gpu():
            from nemo_distill.nemotron_h.kernels import mixer, norm

            mixer.install()
            norm.install()
        if self.options.fused_loss:
            fuse_loss(self.module, self.options)
        if self.options.fp8 != "none":
            precision.teacher_in_fp8(self.module.teacher_model)
        if self.options.fp8 == "both":
            precision.student_in_fp8(self.module)
        if self.recompute == "mlp":
            recompute_mlp(self.module)

    def _build(self) -> None:
        """Make `module`, of student and teacher."""
        super().configure_model()

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

    @property
    def loss_parts(self) -> dict[str, float]:
        """What the last iteration's loss was mixed of, by name; empty where it was not mixed."""
        return getattr(self._training_loss_reduction, "parts", {})


class FreshDistillationModel(DistillationModel):
    """A distillation model whose teacher has random weights: for measurements, which take no checkpoint."""

    def _build(self) -> None:
        """As `DistillationGPTModel.configure_model`, but for the teacher's weights, which that reads."""
        for name in _SHARED:
            setattr(self._teacher_config, name, getattr(self.config, name))
        chosen = load_distillation_config(self._distillation_config_path, self.config, self._teacher_config)
        kd = {
            "teacher_model": (_fresh, [self._teacher_config, self.tokenizer], {}),
            "criterion": chosen.criterion,
            "loss_balancer": chosen.loss_balancer,
        }
        self.module = mtd.convert(self.config.configure_model(self.tokenizer), mode=[("kd_loss", kd)])
        adjust_distillation_model_for_mcore(self.module, distill_cfg=chosen)


def _fresh(config, tokenizer):
    return config.configure_model(tokenizer)


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
    """Gives the loss mask and labels beforehand, since it makes its gradient in the forward pass.

    Where Megatron's `calculate_per_token_loss` is set, a microbatch's loss is the sum over its tokens, to be divided by
    the tokens of the whole batch.
    """

    criterion: "LogitsKLLossFromHidden"
    parts: dict[str, float]
    """Means over the tokens of the last batch, of what its loss was mixed of; empty for a loss that is not mixed."""

    def __init__(self, *args, distillation_loss_fn: Callable[..., dict[str, Tensor]], **kwargs):
        def losses(**named) -> dict[str, Tensor]:
            found = distillation_loss_fn(**named)
            own_time.passes()  # NeMo averages them over all copies of the model
            return found

        super().__init__(losses, *args, **kwargs)
        self.parts = {}

    def forward(self, batch: dict[str, Tensor], forward_out: Tensor):
        criterion, mask = self.criterion, batch["loss_mask"]
        criterion.loss_mask, criterion.labels = mask, batch["labels"]
        loss, report = super().forward(batch, forward_out)
        own_time.passes()
        if criterion.per_token or criterion.share:
            tokens = mask.sum()
            assert criterion.sums is not None, "it has just been asked"
            report["sums"] = torch.cat([criterion.sums.float(), tokens.float().view(1)])
        if criterion.per_token:
            return loss, tokens.to(torch.int), report
        return loss, report

    def reduce(self, losses_reduced_per_micro_batch: list[dict[str, Tensor]]) -> Tensor:
        """The loss of the whole batch."""
        criterion = self.criterion
        if not (criterion.per_token or criterion.share):
            return super().reduce(losses_reduced_per_micro_batch)
        sums = torch.stack([report["sums"] for report in losses_reduced_per_micro_batch]).sum(0)
        if self._tp_size > 1:  # each rank has what its part of the vocabulary adds, and all tokens
            torch.distributed.all_reduce(sums[:2], group=parallel_state.get_tensor_model_parallel_group())
        torch.distributed.all_reduce(sums, group=parallel_state.get_data_parallel_group(with_context_parallel=True))
        divergence, cross_entropy = (sums[:2] / sums[2].clamp(min=1)).unbind()
        if criterion.share:
            self.parts = {"kd_loss": divergence.item(), "cross_entropy": cross_entropy.item()}
        if criterion.per_token:
            return (1 - criterion.share) * divergence + criterion.share * cross_entropy
        return super().reduce(losses_reduced_per_micro_batch)

    def _masked_token_loss(self, loss_output, mask: Tensor) -> Tensor:
        if not isinstance(loss_output, _MaskedSum):
            return super()._masked_token_loss(loss_output, mask)
        loss = loss_output.value
        if not self.criterion.per_token:
            tokens = mask.sum().float()
            if self._cp_size > 1:  # of the whole sequences, of which this rank has parts
                torch.distributed.all_reduce(tokens, group=parallel_state.get_context_parallel_group())
            loss = loss / tokens.clamp(min=1)
            if self._cp_size > 1:  # after which the gradient is still that of this rank's part
                torch.distributed.all_reduce(loss, group=parallel_state.get_context_parallel_group())
        if self._tp_size > 1:
            torch.distributed.all_reduce(loss, group=parallel_state.get_tensor_model_parallel_group())
        return loss


class LogitsKLLossFromHidden(BaseLoss):
    """A loss of two output layers' inputs, in the place of NeMo's `LogitsKLLoss`; NeMo knows it by its name's start."""

    def __init__(self, config, *, student_layer, teacher_layer, options: Options):
        super().__init__(config)
        # Not as attributes, which would make them modules of the loss and store them in checkpoints twice.
        self._weights = lambda: (student_layer.weight, teacher_layer.weight)
        self._loss, self._temperature = find_loss(options.loss), options.temperature
        assert options.loss == FORWARD_KL or not options.cross_entropy, "it is made of the divergence's own logits"
        self.share, self.per_token = options.cross_entropy, options.per_token
        self.loss_mask: Tensor | None = None
        """Of the microbatch at hand, (batch, tokens)."""
        self.labels: Tensor | None = None
        """Of the microbatch at hand, (batch, tokens)."""
        self.sums: Tensor | None = None
        """Of the last microbatch: this rank's part of the masked sums of the loss and of the cross-entropy, (2,)."""

    def forward(self, predictions, targets) -> _MaskedSum:
        """Hidden states in, (tokens, batch, width), of which sequence-parallel ranks have a part each."""
        student, teacher = predictions[0], targets[0].detach()
        if self._temperature != 1 and not self.share:  # logits are linear in hidden states: this serves every loss
            student, teacher = student / self._temperature, teacher / self._temperature
        group = None
        if self._config.tensor_model_parallel_size > 1:
            group = parallel_state.get_tensor_model_parallel_group()
            if self._config.sequence_parallel:
                # Every rank computes with all tokens and its part of the vocabulary; gradients are added up on the way.
                student = gather_from_sequence_parallel_region(student, tensor_parallel_output_grad=True)
                teacher = gather_from_sequence_parallel_region(teacher)
            else:
                student = copy_to_tensor_model_parallel_region(student)  # adds up the gradient's parts
        student_weight, teacher_weight = self._weights()
        assert self.loss_mask is not None, "the reduction gives it beforehand"
        mask, self.loss_mask = self.loss_mask.transpose(0, 1).flatten(), None
        labels, self.labels = self.labels, None
        given = (student.flatten(0, 1), student_weight, teacher.flatten(0, 1), teacher_weight, mask)
        if not self.share:
            value = self._temperature**2 * self._loss(*given, group=group)
            self.sums = torch.stack([value.detach(), torch.zeros_like(value)])
            return _MaskedSum(value)
        assert labels is not None, "the reduction gives them beforehand"
        mixture = Mixture(
            labels=labels.transpose(0, 1).flatten(),
            share=self.share,
            temperature=self._temperature,
            first=student_weight.shape[0] * (group.rank() if group else 0),
        )
        value, self.sums = masked_mixture(*given, mixture, group=group)
        return _MaskedSum(value)


def fuse_loss(model, options: Options) -> None:
    """Make ModelOpt's distillation `model` compare hidden states by the loss that `options` name, not logits."""
    student, teacher = model.output_layer, model.teacher_model.output_layer
    criterion = LogitsKLLossFromHidden(model.config, student_layer=student, teacher_layer=teacher, options=options)
    distillation.set_criterion(model, student, teacher, criterion)
