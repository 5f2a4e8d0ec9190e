"""The device that training runs on here, and what it is told outside of any library."""

import ctypes

import torch

from nemo_distill.run.ranks import keep_to_this_machine


def on_gpu() -> bool:
    """Whether training runs on CUDA here."""
    return torch.cuda.is_available()


def store_of_one() -> torch.distributed.Store:
    """Where a process that trains by itself meets itself; left to torch, it would open a port to every machine."""
    keep_to_this_machine()
    return torch.distributed.HashStore()


def release_local_memory() -> None:
    """Give back GPU memory that CUDA keeps for the stacks of kernels which are not run any more.

    In its first iteration Triton tries several variants of each kernel of the Mamba scan, some of which spill 12 KiB
    per thread. CUDA reserves that for every thread the GPU could run at once, 3 GiB on an H100, and keeps it; a lower
    limit makes it let go, and is raised again by whatever kernel needs more.
    """
    if not on_gpu():
        return
    driver, stack_size = ctypes.CDLL("libcuda.so.1"), 0  # CU_LIMIT_STACK_SIZE
    torch.cuda.synchronize()
    code = driver.cuCtxSetLimit(stack_size, ctypes.c_size_t(1024))  # CUDA's default, in bytes per thread
    assert code == 0, f"cuCtxSetLimit: {code}"
