"""Tells listeners of ours (`nemo_distill.train.events`) what Lightning's trainer does."""

import logging
import resource
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint
from megatron.core import parallel_state
from megatron.core.utils import get_model_config
from nemo.utils.callbacks.dist_ckpt_io import AsyncFinalizableCheckpointIO
from nemo.utils.model_utils import unwrap_model
from torch import Tensor

from nemo_distill import backends
from nemo_distill.backends import Onward
from nemo_distill.backends.nemo.own_time import OwnTime
from nemo_distill.compat.device import on_gpu
from nemo_distill.data.held_out import Batch
from nemo_distill.errors import UserError
from nemo_distill.kd import held_out
from nemo_distill.kd.teacher import teacher_loss
from nemo_distill.nemotron_h.model import state_of
from nemo_distill.run import beats
from nemo_distill.train.course import Course
from nemo_distill.train.events import Audience, Iteration, Listener

logger = logging.getLogger(__name__)


def _peak_memory() -> int:
    """Bytes that this process has had allocated at most: on its GPU, or of the machine's memory without one."""
    if on_gpu():
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class NemoView:
    """A training through NeMo, as listeners see it (`train.events.View`)."""

    failed: OSError | None = None

    def __init__(self, trainer: Any, module: Any, context: Path | None):
        self._trainer, self._module, self._context = trainer, module, context

    @property
    def first_rank(self) -> bool:
        return self._trainer.is_global_zero

    @property
    def iteration(self) -> int:
        return self._trainer.global_step

    def teacher_loss(self) -> float:
        return teacher_loss(self._module.core_module.teacher_model, self._trainer.datamodule._train_ds)

    def held_out(self, batches: Sequence[Batch]) -> list[np.ndarray]:
        model, strategy = self._module.core_module, self._trainer.strategy
        if getattr(
            strategy.ddp_config, "overlap_param_gather", False
        ):  # the optimizer's ranks have parts of the weights
            strategy.megatron_parallel.force_param_sync()
        model.set_is_first_microbatch()  # weights in FP8 are those before the last iteration
        copy, copies = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
        ends = np.cumsum([len(batch.tokens) for batch in batches])
        sums = torch.zeros(
            int(ends[-1]), len(held_out.SUMS), dtype=torch.float64, device=model.output_layer.weight.device
        )
        for batch, end in list(zip(batches, ends.tolist()))[copy::copies]:
            sums[end - len(batch.tokens) : end] = held_out.sums_of(model, batch)
        torch.distributed.all_reduce(sums)
        return np.split(sums.cpu().numpy(), ends[:-1])

    def state(self) -> dict[str, Tensor]:
        return state_of(unwrap_model(self._module))

    def save(self, folder: Path, then: Callable[[], None]) -> None:
        context, overlapped = self._context, self._overlapped_saves()
        assert context is not None, "a fresh model has no context to save"

        def weights_written() -> None:
            if self.first_rank:
                shutil.copytree(context, folder / "context")
                (folder / backends.BACKEND_FILE).write_text(backends.NEMO + "\n", encoding="utf-8")
            then()

        self._trainer.save_checkpoint(folder, storage_options={"finalize_fn": weights_written} if overlapped else None)
        if overlapped is None:
            weights_written()

    @property
    def saving(self) -> bool:
        overlapped = self._overlapped_saves()
        return overlapped is not None and overlapped.async_calls_queue.get_num_unfinalized_calls() > 0

    def finish_saving(self) -> None:
        if overlapped := self._overlapped_saves():
            overlapped.maybe_finalize_save_checkpoint(blocking=True)

    def _overlapped_saves(self) -> AsyncFinalizableCheckpointIO | None:
        """What writes checkpoints while the training goes on; after every iteration NeMo has it look whether it is
        done on all ranks."""
        saves = self._trainer.strategy.checkpoint_io
        return saves if isinstance(saves, AsyncFinalizableCheckpointIO) else None

    def wait_for_all(self) -> None:
        self._trainer.strategy.barrier()

    def stop(self, reason: str) -> NoReturn:
        raise UserError(reason)


class Events(Checkpoint):
    """The one callback of a training: it tells its listeners, and ends a part of the course or goes on with the next.

    A `Checkpoint` for Lightning, since listeners save. NeMo's own rotates by a monitored metric and names folders by
    it; a part of a course has one last checkpoint.
    """

    onward: Onward | None = None
    """What comes after this part; set once there is a trainer, which copies what it is made of."""
    _view: NemoView | None = None
    """The training; None before it begins."""

    def __init__(self, listeners: Sequence[Listener], *, course: Course, until: int, context: Path | None):
        self.audience, self.course, self.until, self.context = Audience(listeners), course, until, context
        self.last_model_path = ""  # set by NeMo's AutoResume

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._view = NemoView(trainer, module, self.context)
        self._own_time = OwnTime(get_model_config(module))
        self.audience.start(self._view)

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch, batch_idx: int) -> None:
        self._started = time.perf_counter()
        beats.here().begin(trainer.global_step + 1)
        self._own_time.begin()
        self._learning_rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx: int
    ) -> None:
        seconds, metrics = time.perf_counter() - self._started, trainer.callback_metrics
        iteration = Iteration(
            number=trainer.global_step,
            loss=float(metrics["reduced_train_loss"]),
            learning_rate=self._learning_rate,
            tokens=trainer.global_step * self.course.tokens_per_iteration,
            seconds=seconds,
            grad_norm=float(metrics["grad_norm"]) if "grad_norm" in metrics else None,
            loss_parts=getattr(module, "loss_parts", {}),
            memory=_peak_memory(),
        )
        beats.here().done(seconds, self._own_time.seconds())
        self.audience.iteration_done(iteration)
        if iteration.number >= self.until:
            if self.onward and self.onward.due():
                self._go_on(self.onward)
            else:
                trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._end()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """See that what is being saved becomes complete; among several ranks, which may be anywhere, nobody can."""
        if self._view and trainer.world_size == 1:
            try:
                self._view.finish_saving()
            except Exception:  # the training has failed of something else, which is to be said
                logger.exception("the checkpoint that was being saved is not complete")

    def _end(self) -> None:
        beats.here().enter(beats.Phase.ENDING)
        self.audience.end()

    def _go_on(self, onward: Onward) -> None:
        """Go on with the next part of the course, which the trainer takes for more of the same."""
        assert self._view, "a part has ended before it began"
        self._end()
        part = onward.begin()
        self.audience, self.until = Audience(part.listeners), part.until
        self.audience.start(self._view)
