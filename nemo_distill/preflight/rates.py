"""How fast the job's ranks exchange sums and write a checkpoint, and whether that is fast enough.

on every rank                                       on rank 0, of what all ranks found
rate = reduce_rate(ranks)                           all_reduce(ranks, layout, rates)
written = write_sample(folder, rank=3, size=2**28)  writing(folder, written, sample=2**28, checkpoint=98e9)
"""

import contextlib
import os
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from nemo_distill.config.resolved import Parallelism
from nemo_distill.errors import UserError
from nemo_distill.plan.disk import GB, free_bytes
from nemo_distill.plan.gpus import get_gpu
from nemo_distill.preflight.results import Check
from nemo_distill.run.ranks import Ranks

REDUCED = {"nccl": 2**28, "gloo": 2**23}
"""Bytes of an all-reduce, by what makes it."""
REPEATS = 5
"""Times it is made, after a first one that is not timed."""
MEETING = timedelta(seconds=180)
"""How long ranks wait for each other in it."""
LEAST_LINK = 0.2
"""Share of a link's rate, as its maker states it, below which something is wrong: a cable, a plugin, TCP in place of
InfiniBand. An assumption; NCCL has over half of it where nothing is."""
SAMPLE = 2**28
"""Bytes that a rank writes at most."""
SLOWEST = 900.0
"""Seconds that a checkpoint may take. Nothing is trained meanwhile: with one an hour, that is a quarter of the time."""


def reduce_rate(ranks: Ranks) -> float:
    """Rate of an all-reduce over all ranks, by NCCL on GPUs and gloo without: bytes that each sends in a second.

    It is the bus bandwidth of NCCL's own tests. Raises `UserError` where the sum is wrong.
    """
    import torch
    from torch import distributed

    gpu = torch.cuda.is_available()
    backend = "nccl" if gpu else "gloo"
    if gpu:
        torch.cuda.set_device(ranks.rank % ranks.local_size)
    distributed.init_process_group(
        backend, store=ranks.store("sums"), rank=ranks.rank, world_size=ranks.size, timeout=MEETING
    )
    try:
        device = torch.device("cuda" if gpu else "cpu")
        tensor = torch.full((REDUCED[backend] // 4,), float(ranks.rank + 1), device=device)
        distributed.all_reduce(tensor)
        expected = ranks.size * (ranks.size + 1) / 2
        if not bool((tensor == expected).all()):
            raise UserError(f"the sum over {ranks.size} ranks is {tensor[0].item():g}, and {expected:g} is right.")
        tensor.zero_()
        if gpu:
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(REPEATS):
            distributed.all_reduce(tensor)
        if gpu:
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - started) / REPEATS
        return 2 * (ranks.size - 1) / ranks.size * REDUCED[backend] / seconds
    finally:
        distributed.destroy_process_group()


def all_reduce(ranks: Ranks, layout: Parallelism, found: Sequence[float]) -> Check:
    """Whether sums over all ranks go as fast as the links let them; `found` is the rate that each rank found."""
    rate = min(found)
    figure = f"{rate / GB:.3g} GB/s"
    where = f"{ranks.size} ranks on {ranks.nodes} {'node' if ranks.nodes == 1 else 'nodes'}"
    if layout.gpu is None:
        return Check.ok("all-reduce", f"{where} agree on every sum (gloo; no rate is expected of a CPU).", figure)
    gpu = get_gpu(layout.gpu)
    link, rated = ("network", gpu.network) if ranks.nodes > 1 else ("NVLink", gpu.nvlink)
    if rate < LEAST_LINK * rated:
        return Check.failed(
            "all-reduce", f"{where} exchange less than {LEAST_LINK:.0%} of what the {link} has, {rated / GB:.0f} GB/s "
            "a GPU: NCCL_DEBUG=INFO in executor.env_vars says which links it takes.", figure
        )  # fmt: skip
    return Check.ok("all-reduce", f"{where}; the {link} has {rated / GB:.0f} GB/s a GPU.", figure)


def write_sample(folder: Path, *, rank: int, size: int) -> tuple[float, str]:
    """Seconds in which this rank has written `size` bytes, down to the disk, and removed them; and why not, if so."""
    path, block = folder / f"sample-{rank}.tmp", os.urandom(min(size, 2**22))
    started = time.perf_counter()
    try:
        with open(path, "wb") as file:
            for done in range(0, size, len(block)):
                file.write(block[: size - done])
            file.flush()
            os.fsync(file.fileno())
        return time.perf_counter() - started, ""
    except OSError as error:
        return 0.0, error.strerror or str(error)
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def writing(folder: Path, written: Sequence[tuple[float, str]], *, sample: int, checkpoint: float) -> Check:
    """Whether there is room for a checkpoint, and whether it is written in time; `written` is what each rank found.

    Args:
        folder: Where they wrote.
        sample: Bytes that each rank wrote.
        checkpoint: Bytes of a checkpoint.
    """
    if failed := [(rank, why) for rank, (_, why) in enumerate(written) if why]:
        rank, why = failed[0]
        return Check.failed("writing", f"rank {rank} could not write {sample / GB:.2g} GB to {folder}: {why}.")
    rate = sample * len(written) / max(seconds for seconds, _ in written)
    takes, figure = checkpoint / rate, f"{rate / GB:.3g} GB/s"
    free = free_bytes(folder)
    if free < 2 * checkpoint:  # while one is replaced, the one before it stands
        return Check.failed(
            "writing", f"{free / GB:,.0f} GB are free, and two checkpoints, of which one replaces the other, take "
            f"{2 * checkpoint / GB:,.0f} GB.", figure
        )  # fmt: skip
    if takes > SLOWEST:
        return Check.failed(
            "writing", f"A checkpoint of {checkpoint / GB:,.0f} GB would take {takes / 60:.0f} min, and training waits "
            f"for it: more than {SLOWEST / 60:.0f} min is too long.", figure
        )  # fmt: skip
    part = "whole" if sample * len(written) >= checkpoint else f"{sample * len(written) / checkpoint:.0%} of it written"
    return Check.ok("writing", f"A checkpoint of {checkpoint / GB:.3g} GB takes {takes:.2g} s ({part}).", figure)
