"""Training through NeMo: trainer, data and optimizer, as distillation and pretraining use them.

A process trains a part of a course, from the iteration that its checkpoint stands at to `until`. The sample order and
the learning rate belong to the whole course, so a course cut into parts gives the losses of the uncut one:
bit-identical in float32 on one CPU rank, within 0.4% as measured on a GPU. Imported once `backends.nemo.prepare` has
run.
"""

import dataclasses
import json
from logging import FileHandler, Handler, getLogger
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from megatron.core.distributed import DistributedDataParallelConfig
from megatron.core.optimizer import OptimizerConfig
from nemo import lightning as nl
from nemo.collections import llm
from nemo.collections.common.tokenizers.huggingface.auto_tokenizer import AutoTokenizer
from nemo.lightning.pytorch.optim.base import LRSchedulerModule
from nemo.utils import logging
from nemo.utils.mcore_logger import add_handlers_to_mcore_logger

from nemo_distill.backends import Fresh, Part, Training
from nemo_distill.backends.nemo.distillation import FreshDistillationModel, distillation_model
from nemo_distill.backends.nemo.events import Events
from nemo_distill.backends.nemo.loss_masks import dataset_class
from nemo_distill.backends.nemo.model import config, precision_plugin
from nemo_distill.backends.nemo.rates import CourseRates
from nemo_distill.compat import device
from nemo_distill.config.schedule import COSINE, Schedule
from nemo_distill.nemotron_h import sequences
from nemo_distill.run.ranks import Ranks
from nemo_distill.train.course import Course

PAIRS_FILE = "distillation.yaml"
"""NeMo's distillation config, in the folder of a training that compares intermediate layers."""
LOG_FOLDER = "nemo"
"""Where NeMo writes its log, in the folder of a training."""


def train(training: Training) -> None:
    """Train to `until`, distilling from a teacher where there is one."""
    student, course, resume = training.student, training.course, None
    # Which a process that ranks are forked from was not.
    rank_zero_only.rank = training.ranks.rank  # type: ignore[attr-defined]
    if not training.ranks.first:
        logging.remove_stream_handlers()
    if training.ranks.context_parallel > 1:
        sequences.install()
    model: pl.LightningModule
    if isinstance(student, Fresh):
        pl.seed_everything(student.seed)
        own, tokenizer = config(student.shape, student.runtime), AutoTokenizer(str(student.tokenizer))
        if training.teacher is None:
            model = llm.MambaModel(own, tokenizer=tokenizer)
        else:
            assert isinstance(training.teacher, Fresh), "a student after a checkpoint has one itself"
            model = FreshDistillationModel(
                own,
                config(training.teacher.shape, training.teacher.runtime),
                teacher_ckpt_path="",
                distillation_config_path=_pairs_file(training),
                tokenizer=tokenizer,
                options=training.kd,
                recompute=training.recompute,
            )
    else:
        assert isinstance(training.teacher, Path), "a student with a checkpoint is distilled from one"
        model = distillation_model(
            student=student,
            teacher=training.teacher,
            options=training.kd,
            pairs_file=_pairs_file(training),
            recompute=training.recompute,
        )
        resume = nl.AutoResume(
            restore_config=nl.RestoreConfig(path=str(student), load_artifacts=False),
            resume_from_path=str(training.resume_from) if training.resume_from else None,
        )
    context = None if isinstance(student, Fresh) else student / "context"
    events = Events(training.listeners, course=course, until=training.until, context=context)
    data = data_module(
        course,
        training.blend,
        tokenizer=model.tokenizer,
        index_folder=training.index_folder,
        documents=training.kd.reset_at_documents,
    )
    trains = trainer(course, events=events, ranks=training.ranks, overlap_saves=training.overlap_saves)
    events.onward = _InOwnFolder(training) if training.onward else None
    llm.train(
        model,
        data,
        trainer=trains,
        log=nl.NeMoLogger(
            log_dir=str(training.folder / LOG_FOLDER),
            use_datetime_version=False,
            ckpt=None,
            tensorboard=None,
            log_global_rank_0_only=True,
        ),
        tokenizer=model.tokenizer,
        optim=optimizer(course),
        resume=resume,
    )


class _InOwnFolder:
    """Goes on with the next part of a course, whose folder has what NeMo writes from then on."""

    def __init__(self, training: Training):
        assert training.onward
        self._training, self._onward = training, training.onward

    def due(self) -> bool:
        return self._onward.due()

    def begin(self) -> Part:
        ours: Handler | None = logging._handlers.pop("file", None)  # of the first rank; NeMo has no word for it
        log = Path(ours.baseFilename) if isinstance(ours, FileHandler) else None
        if ours is not None:
            for logger in (logging._logger, getLogger("megatron.core")):
                logger.removeHandler(ours)
            ours.close()
        before, part = self._training.folder, self._onward.begin()
        self._training = dataclasses.replace(self._training, folder=part.folder, ranks=part.ranks)
        _pairs_file(self._training)
        if log is not None:
            new = part.folder / log.relative_to(before)
            new.parent.mkdir(parents=True, exist_ok=True)
            logging.add_file_handler(new)
            add_handlers_to_mcore_logger()
        return part


def _pairs_file(training: Training) -> Path | None:
    """NeMo reads the pairs of layers from a file, which the first rank writes: JSON is YAML."""
    if not training.intermediate_layers:
        return None
    file = training.folder / PAIRS_FILE
    pairs = {"intermediate_layer_pairs": training.intermediate_layers}
    training.ranks.agree("intermediate layers", lambda: file.write_text(json.dumps(pairs)))
    return file


def data_module(
    course: Course, blend: list[str], *, tokenizer, index_folder: Path, documents: bool = False
) -> llm.PreTrainingDataModule:
    """NeMo's data module over Megatron's weighted blend `[weight, prefix, weight, prefix, ...]`.

    With `documents`, sequences say where these begin.
    """
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
        dataset_cls=dataset_class(blend, documents=documents),
        output_log=False,
    )
    # The module asks for masks where Transformer Engine is not installed; Nemotron-H's attention makes its own.
    data.create_attention_mask = False
    return data


def optimizer(course: Course) -> nl.MegatronOptimizerModule:
    """Adam, with the learning rates of the whole course."""
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
        lr_scheduler=learning_rates(course),
    )


def learning_rates(course: Course) -> LRSchedulerModule:
    """What sets the learning rate of each iteration: NeMo's own for a cosine, the registry's rates for all others."""
    if course.schedule != COSINE:
        return CourseScheduler(dataclasses.asdict(course))
    return nl.lr_scheduler.CosineAnnealingScheduler(
        max_steps=course.max_iterations,
        warmup_steps=course.warmup_iterations,
        constant_steps=0,
        min_lr=course.min_learning_rate,
    )


class CourseScheduler(LRSchedulerModule):
    """The learning rates of a course, whose fields it is given: NeMo records what such a module was made of."""

    def __init__(self, course: dict[str, Any]):
        super().__init__()
        self.schedule = Schedule.of(course)

    def scheduler(self, model, optimizers) -> dict[str, Any]:
        """The optimizer and its scheduler, as Lightning takes them."""
        rates = CourseRates(optimizers, self.schedule)
        return {"optimizer": optimizers, "lr_scheduler": {"scheduler": rates, "interval": "step", "frequency": 1}}


def trainer(course: Course, *, events: Events, ranks: Ranks, overlap_saves: bool = False) -> nl.Trainer:
    """A NeMo trainer that `events` stops in the middle of the course.

    Its `max_steps` is the whole course's: NeMo's strategy copies that into the learning-rate scheduler, whatever the
    scheduler was given, so a trainer that ended at the milestone would anneal to the minimum at each. It runs over
    all of `ranks`.
    """
    gpu = device.on_gpu()
    made = nl.Trainer(
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
        callbacks=[events],
        plugins=precision_plugin(course.precision, gradients=course.gradients),
        strategy=nl.MegatronStrategy(
            tensor_model_parallel_size=ranks.tensor_parallel,
            context_parallel_size=ranks.context_parallel,
            sequence_parallel=gpu and ranks.tensor_parallel > 1,  # which the local spec's norms cannot
            ckpt_async_save=overlap_saves,
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
    if ranks.size == 1:
        made.strategy.store = device.store_of_one()
    return made
