"""Megatron's indices over a blend: which tokens are the course's sequence number n.

Megatron builds them where training starts, on the first rank, while all the others' GPUs wait, and keeps them as files
named by a hash of the blend, the length, the seed and the files' paths. A step of their own (`steps.index`) builds them
beforehand on a CPU, once for all segments of a course; training finds them by the same hash.
"""

import contextlib
from collections.abc import Iterator


def build(data, course) -> None:
    """Build, or find, the indices of `data` (`training.data_module`) for the whole of a `train.course.Course`.

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
    import torch
    from megatron.core import parallel_state

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    try:
        yield
    finally:
        parallel_state.destroy_model_parallel()
        torch.distributed.destroy_process_group()
