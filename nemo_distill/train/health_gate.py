"""`nemo_distill.train.health` in NeMo's trainer: a callback that ends the run on all ranks, and the teacher's own loss.

It comes before the callback that saves, so that what a run is ended for is in no checkpoint: the last one stays, and
the step goes on from there when the cause is mended.
"""

import dataclasses
import logging
import math
from pathlib import Path

import lightning.pytorch as pl
import torch

from nemo_distill.backends.nemo.trainer import complete_checkpoints
from nemo_distill.config.settings import Health
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.run.ranks import Ranks
from nemo_distill.run.step import Spec
from nemo_distill.train import health

logger = logging.getLogger(__name__)

SAMPLES, SAMPLE_TOKENS, CHUNK = 4, 1024, 256
"""Sequences of the course that the teacher is asked about, tokens of each, and tokens whose logits are held at once."""


def gate(spec: Spec, ranks: Ranks, *, sources: dict[str, dict], resume_from: Path | None) -> "HealthGate":
    """The callback for a segment that goes on from the checkpoint `resume_from`, one of its own or another's.

    Raises `UserError` when teacher, student, tokenizer and `sources` (of `prepared.read_sources`) do not share a
    vocabulary.
    """
    own = resume_from is not None and resume_from.parent == spec.folder
    begin = int(resume_from.name.rpartition("_")[2]) if own else spec.config["first"]

    def look() -> dict:
        teacher, student = (Shape.load(spec.upstream[name] / "shape.json") for name in ("import-teacher", "prune"))
        limits = health.limits_of(spec)
        return {
            "mismatch": health.vocabulary_mismatch(
                teacher=teacher.vocab_size,
                student=student.vocab_size,
                tokenizer=max(source["tokenizer"]["vocab_size"] for source in sources.values()),
                sources=sources,
            ),
            "limits": dataclasses.asdict(limits),
            "history": health.history_of(spec, until=begin, window=limits.window),
        }

    seen = ranks.agree("health", look)
    if seen["mismatch"]:
        raise UserError(seen["mismatch"])
    return HealthGate(Health(**seen["limits"]), seen["history"], folder=spec.folder)


class HealthGate(pl.Callback):
    """Ends the run with `UserError` when it is not worth going on."""

    def __init__(self, limits: Health, history: list[dict], *, folder: Path):
        self.limits, self.watch, self.folder = limits, health.Watch(limits, history), folder

    def on_train_start(self, trainer, module):
        model = module.core_module
        loss = teacher_loss(model.teacher_model, trainer.datamodule._train_ds)
        guess = math.log(model.teacher_model.vocab_size)
        logger.info("the teacher's own next-token loss on the blend: %.3f nats, a guess has %.3f", loss, guess)
        if not loss <= self.limits.teacher_loss * guess:  # nor NaN
            raise UserError(
                f"the teacher's own next-token loss on the blend is {loss:.2f} nats, where a guess among all "
                f"{model.teacher_model.vocab_size:,} tokens has {guess:.2f}: it cannot read this data. Look at the "
                "tokenizer the sources were prepared with and at the import of the teacher; the limit is "
                f"health.teacher_loss={self.limits.teacher_loss:g} of a guess."
            )

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        metrics = trainer.callback_metrics
        reason = self.watch.look(
            {
                "iteration": trainer.global_step,
                "loss": float(metrics["reduced_train_loss"]),
                "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
                "grad_norm": float(metrics["grad_norm"]) if "grad_norm" in metrics else None,
            }
        )
        if reason:
            saved = complete_checkpoints(self.folder)
            raise UserError(f"{reason} {f'{saved[-1].name} is kept.' if saved else 'Nothing of it was saved yet.'}")


@torch.no_grad()
def teacher_loss(teacher, dataset) -> float:
    """Mean cross-entropy, in nats, of the teacher's next token over the first sequences of `dataset`.

    Every rank asks about the same ones, so they agree. Logits are made from what enters the output layer, some tokens
    at a time: whole, they would not fit beside the two models.
    """
    from megatron.core.tensor_parallel import vocab_parallel_cross_entropy
    from megatron.core.tensor_parallel.mappings import gather_from_sequence_parallel_region

    layer, entered = teacher.output_layer, []
    hook = layer.register_forward_pre_hook(lambda module, inputs: entered.append(inputs[0]))
    was_training, weight = teacher.training, layer.weight
    total = count = 0.0
    try:
        teacher.eval()
        for index in range(min(SAMPLES, len(dataset))):
            sample = dataset[index]
            tokens, labels, mask = (
                sample[name][:SAMPLE_TOKENS].to(weight.device) for name in ("tokens", "labels", "loss_mask")
            )
            position_ids = torch.arange(len(tokens), device=weight.device)
            teacher(tokens[None], position_ids[None], None)
            hidden = entered.pop()
            if teacher.config.sequence_parallel:
                hidden = gather_from_sequence_parallel_region(hidden)
            for part in range(0, len(tokens), CHUNK):
                rows = slice(part, part + CHUNK)
                logits = (hidden[rows].to(weight.dtype) @ weight.t()).float()
                losses = vocab_parallel_cross_entropy(logits, labels[rows, None]).flatten()
                total += float(losses @ mask[rows])
                count += float(mask[rows].sum())
    finally:
        hook.remove()
        teacher.train(was_training)
        for module in teacher.modules():  # what ModelOpt keeps of a forward pass until the loss takes it
            if getattr(module, "_intermediate_output", None) is not None:
                module._intermediate_output = None
    return total / count
