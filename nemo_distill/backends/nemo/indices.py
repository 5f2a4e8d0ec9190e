"""Megatron's indices over a blend: which tokens are the course's sequence number n.

Megatron builds them where training starts, on the first rank, while all the others' GPUs wait, and keeps them as files
named by a hash of the blend, the length, the seed and the files' paths. A step of their own (`steps.index`) builds them
beforehand on a CPU, once for all segments of a course; training finds them by the same hash.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from megatron.core import parallel_state
from nemo.collections import llm
from nemo.collections.common.tokenizers import AutoTokenizer

from nemo_distill.backends.nemo.trainer import data_module
from nemo_distill.compat import device
from nemo_distill.train.course import Course


def build_indices(course: Course, blend: list[str], *, tokenizer: Path, folder: Path) -> None:
    """Build the indices of `blend` for the whole of a course in `folder`."""
    data = data_module(course, blend, tokenizer=AutoTokenizer(str(tokenizer)), index_folder=folder)
    with one_process():
        build(data, course)


def build(data: llm.PreTrainingDataModule, course: Course) -> None:
    """Build, or find, the indices of `data` (`trainer.data_module`) for the whole of a course.

    As NeMo does when its trainer starts; torch's process group has to be there.
    """
    data.build(
        trainer_max_steps=course.max_iterations,
        trainer_val_check_interval=course.validation_interval or course.max_iterations,
        trainer_limit_val_batches=course.validation_batches,
        trainer_limit_test_batches=1.0,  # Lightning's, whatever there is to test on
    )


@contextlib.contextmanager
def one_process() -> Iterator[None]:
    """Torch's and Megatron's process groups for a process by itself; Megatron asks them which rank this is."""
    torch.distributed.init_process_group("gloo", store=device.store_of_one(), rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    try:
        yield
    finally:
        parallel_state.destroy_model_parallel()
        torch.distributed.destroy_process_group()
