"""Training through NeMo: trainer, data, optimizer and callbacks, as distillation and pretraining use them.

A run is a `nemo_distill.train.course.Course` on a blend. A process trains a part of it, from the iteration its
checkpoint stands at to `until`. The sample order and the learning rate belong to the whole course, so a course cut into
parts gives the losses of the uncut one: bit-identical in float32 on one CPU rank, within 0.4% as measured on a GPU.
"""

import json
import logging
import shutil
import time
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint

from nemo_distill.compat import device, registry
from nemo_distill.nemotron_h.kernels import tuning
from nemo_distill.run.ranks import Ranks
from nemo_distill.train.course import Course
from nemo_distill.train.losses import read_losses

registry.prepare()

from megatron.core.distributed import DistributedDataParallelConfig  # noqa: E402
from megatron.core.optimizer import OptimizerConfig  # noqa: E402
from nemo import lightning as nl  # noqa: E402
from nemo.collections import llm  # noqa: E402

from nemo_distill.nemotron_h.model import precision_plugin  # noqa: E402

logger = logging.getLogger(__name__)
ONE_RANK = Ranks()
"""A process by itself."""
COMPLETE = "_COMPLETE"
"""Written into a checkpoint's folder when all of it is on disk."""


def data_module(course: Course, blend: list[str], *, tokenizer, index_folder: Path) -> llm.PreTrainingDataModule:
    """NeMo's data module over Megatron's weighted blend `[weight, prefix, weight, prefix, ...]`."""
    index_folder.mkdir(parents=True, exist_ok=True)
    data = llm.PreTrainingDataModule(
        paths=blend,
        seq_length=course.seq_length,
        micro_batch_size=course.micro_batch_size,
        global_batch_size=course.global_batch_size,
        tokenizer=tokenizer,
        num_workers=0 if not device.on_gpu() else 4,
        pin_memory=device.on_gpu(),
        split="99,1,0" if course.validation_interval else "100,0,0",
        seed=course.seed,
        index_mapping_dir=str(index_folder),
        output_log=False,
    )
    # The module asks for masks where Transformer Engine is not installed; Nemotron-H's attention makes its own.
    data.create_attention_mask = False
    return data


def optimizer(course: Course) -> nl.MegatronOptimizerModule:
    """Adam with warm-up and cosine decay over the whole course."""
    distributed = device.on_gpu()
    return nl.MegatronOptimizerModule(
        OptimizerConfig(
            optimizer="adam",
            lr=course.learning_rate,
            weight_decay=course.weight_decay,
            adam_beta1=0.9,
            adam_beta2=0.95,
            clip_grad=course.clip_grad,
            bf16=course.precision == "bf16-mixed",
            params_dtype=torch.bfloat16 if course.precision == "bf16-mixed" else torch.float32,
            use_distributed_optimizer=distributed,
        ),
        lr_scheduler=nl.lr_scheduler.CosineAnnealingScheduler(
            max_steps=course.max_iterations,
            warmup_steps=course.warmup_iterations,
            constant_steps=0,
            min_lr=course.min_learning_rate,
        ),
    )


def trainer(
    course: Course, *, until: int, callbacks: list[pl.Callback], tuned: Path, ranks: Ranks = ONE_RANK
) -> nl.Trainer:
    """A NeMo trainer that stops after iteration `until` of the course; `tuned` is the folder of `nemotron_h.tuning`.

    Its `max_steps` is the whole course's: NeMo's strategy copies that into the learning-rate scheduler, whatever the
    scheduler was given, so a trainer that ended at the milestone would anneal to the minimum at each. It runs over
    all of `ranks`.
    """
    gpu = device.on_gpu()
    return nl.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=ranks.local_size,
        num_nodes=ranks.nodes,
        max_steps=course.max_iterations,
        limit_val_batches=course.validation_batches,
        val_check_interval=course.validation_interval or course.max_iterations,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        logger=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        callbacks=[*([_Kernels(tuned)] if gpu else []), *callbacks, _StopAt(until)],
        plugins=precision_plugin(course.precision, gradients=course.gradients),
        strategy=nl.MegatronStrategy(
            tensor_model_parallel_size=ranks.tensor_parallel,
            sequence_parallel=gpu and ranks.tensor_parallel > 1,  # which the local spec's norms cannot
            ckpt_async_save=False,
            save_ckpt_format="torch_dist",
            ckpt_optim_fully_reshardable=True,  # so that other ranks, in other numbers, can go on from it
            gradient_accumulation_fusion=False,
            replace_progress_bar=False,
            ddp=DistributedDataParallelConfig(
                overlap_grad_reduce=gpu,
                overlap_param_gather=gpu,
                use_distributed_optimizer=gpu,
            ),
        ),
    )


class _StopAt(pl.Callback):
    """Ends a part of a course; last among the callbacks, so that the others have seen the iteration."""

    def __init__(self, until: int):
        self.until = until

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step >= self.until:
            trainer.should_stop = True


class _Kernels(pl.Callback):
    """Gives Triton the kernels' variants that are known, and after the first iteration keeps those it has tried."""

    def __init__(self, folder: Path):
        self.folder, self.tuned = folder, False

    def on_train_start(self, trainer, module):
        logger.info("of %d kernels the best variants are known", tuning.recall(self.folder))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if not self.tuned:
            self.tuned = True
            device.release_local_memory()
            if trainer.is_global_zero:
                tuning.remember(self.folder)


class LossLog(pl.Callback):
    """Appends a line per iteration to `losses.jsonl` and keeps the step's progress.

    A line: iteration (1-based, of the course), loss, learning_rate, tokens (since the start of the course), seconds
    (of this iteration) and grad_norm (of the whole batch, before clipping). Lines past the iteration a resumed process
    starts from are cut first: they belong to an attempt whose weights are lost. Of several ranks, which all know the
    loss of the whole batch, the first writes.
    """

    def __init__(self, path: Path, course: Course, progress=None, *, first: int = 0, until: int = 0):
        self.path, self.course, self.progress = path, course, progress
        self.first, self.until = first, until
        self._file = None

    def on_train_start(self, trainer, module):
        if not trainer.is_global_zero:
            return
        kept = read_losses(self.path, until=trainer.global_step)
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = self.path.open("a", buffering=1)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self._start = time.perf_counter()
        self._learning_rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        seconds = time.perf_counter() - self._start
        loss = float(trainer.callback_metrics["reduced_train_loss"])
        iteration = trainer.global_step
        line = {
            "iteration": iteration,
            "loss": loss,
            "learning_rate": self._learning_rate,
            "tokens": iteration * self.course.tokens_per_iteration,
            "seconds": round(seconds, 4),
        }
        if "grad_norm" in trainer.callback_metrics:
            line["grad_norm"] = float(trainer.callback_metrics["grad_norm"])
        if self._file:
            self._file.write(json.dumps(line) + "\n")
        if self._file and self.progress:
            self.progress.update(
                done=iteration - self.first,
                total=self.until - self.first,
                unit="iterations",
                tokens_per_second=self.course.tokens_per_iteration / seconds,
                note=f"loss {loss:.4f}",
            )

    def on_train_end(self, trainer, module):
        if self._file:
            self._file.close()


class Checkpoints(Checkpoint):
    """Saves the whole training state every `every` iterations and at the end; only the newest is kept.

    NeMo's own callback rotates by a monitored metric and names folders by it; a part of a course has one last
    checkpoint, and it is complete when it says so.
    """

    def __init__(self, folder: Path, *, every: int, until: int, context: Path):
        self.folder, self.every, self.until, self.context = folder, every, until, context
        self.last_model_path = ""  # set by NeMo's AutoResume

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        iteration = trainer.global_step
        if iteration == self.until or (self.every and iteration % self.every == 0):
            self.save(trainer, iteration)

    def save(self, trainer: pl.Trainer, iteration: int) -> None:
        """Save, mark as complete, then let the older ones go."""
        target = self.folder / f"iteration_{iteration:07d}"
        if trainer.is_global_zero and target.exists():
            shutil.rmtree(target)
        trainer.strategy.barrier()
        trainer.save_checkpoint(target)
        if trainer.is_global_zero:
            shutil.copytree(self.context, target / "context")
            (target / COMPLETE).touch()
            for other in complete_checkpoints(self.folder)[:-1]:
                shutil.rmtree(other)
        trainer.strategy.barrier()


def complete_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints that `Checkpoints` left in `folder`, oldest first."""
    return sorted(path.parent for path in folder.glob(f"iteration_*/{COMPLETE}"))


def drop_incomplete(folder: Path) -> None:
    """Remove what a killed process left of a checkpoint."""
    for path in folder.glob("iteration_*"):
        if not (path / COMPLETE).exists():
            shutil.rmtree(path)
