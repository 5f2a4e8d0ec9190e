"""The device that training runs on here, and what it is told outside of any library."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

import torch

from nemo_distill.run.ranks import keep_to_this_machine

DETERMINISTIC = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # else products on several streams share one, and choose by what is free
    "NCCL_ALGO": "Ring",  # the order of a tree's sums is NCCL's own affair
    "NVTE_ALLOW_NONDETERMINISTIC_ALGO": "0",
    "MAMBA_DETERMINISTIC": "1",
    "CAUSAL_CONV1D_DETERMINISTIC": "1",
}
"""Variables by which libraries add up in one order; of cuBLAS, NCCL, Transformer Engine, mamba-ssm and causal-conv1d.
(Megatron-LM names the same in its deterministic mode.)"""


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """While it is entered, what computes here adds up in one order, and an operation that cannot raises.

    To be entered before the first product or collective of the process: libraries read their variables then.
    """
    before, flag = {name: os.environ.get(name) for name in DETERMINISTIC}, torch.are_deterministic_algorithms_enabled()
    os.environ.update(DETERMINISTIC)
    torch.use_deterministic_algorithms(True)
    # torch would fill every tensor that it makes empty, so that reading one shows
    filled, torch.utils.deterministic.fill_uninitialized_memory = (  # type: ignore[attr-defined]
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        False,
    )
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(flag)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def name() -> str:
    """What the device is called, by which its order of sums is known: a CPU by its number of threads as well."""
    return torch.cuda.get_device_name() if on_gpu() else f"a CPU with torch.get_num_threads()={torch.get_num_threads()}"


def versions() -> dict[str, str]:
    """Versions of CUDA and NCCL; none without a GPU."""
    if not on_gpu():
        return {}
    nccl = torch.cuda.nccl.version()
    return {"CUDA": torch.version.cuda or "", "NCCL": ".".join(map(str, nccl))}


def on_gpu() -> bool:
    """Whether training runs on CUDA here."""
    return torch.cuda.is_available()


def gpu() -> tuple[str, float] | None:
    """Name and memory, in GiB, of the GPU that training runs on here; None: there is none."""
    return (torch.cuda.get_device_name(), torch.cuda.mem_get_info()[1] / 2**30) if on_gpu() else None


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
