"""The GPUs a run can be planned for: what their makers state.

>>> from nemo_distill.plan.gpus import get_gpu
>>> get_gpu("H100").memory_gib, get_gpu("H200").memory_gib
(79.1, 139.8)
"""

from dataclasses import dataclass

from nemo_distill.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU and the links out of it. Rates are peaks, which nothing reaches (`nemo_distill.plan.cost.Rates`)."""

    name: str
    """What `layout.gpu` calls it."""
    bf16_flops: float
    """Dense bf16 matrix multiplication, FLOP/s."""
    fp8_flops: float
    """Dense FP8 matrix multiplication, FLOP/s."""
    memory_gib: float
    """What CUDA reports as the device's memory in all, GiB."""
    memory_bandwidth: float
    """Bytes/s."""
    nvlink: float
    """To the other GPUs of its machine, bytes/s in one direction."""
    network: float
    """To other machines, bytes/s in one direction."""


# NVIDIA's data sheets of H100 SXM and H200 SXM: 1,979 TFLOP/s bf16 with sparsity, half of it dense, twice as much in
# FP8; 80 and 141 GB of 3.35 and 4.8 TB/s; NVLink 900 GB/s, both directions. DGX H100 and H200: one 400 Gbit/s adapter
# per GPU.
H100 = Gpu(
    name="H100", bf16_flops=989.4e12, fp8_flops=1978.9e12, memory_gib=79.1, memory_bandwidth=3.35e12, nvlink=450e9,
    network=50e9,
)  # fmt: skip
H200 = Gpu(
    name="H200", bf16_flops=989.4e12, fp8_flops=1978.9e12, memory_gib=139.8, memory_bandwidth=4.8e12, nvlink=450e9,
    network=50e9,
)  # fmt: skip

GPUS = {gpu.name: gpu for gpu in (H100, H200)}
"""Every GPU by its name."""


def get_gpu(name: str) -> Gpu:
    """The GPU called `name`; raises `UserError` with all that are known, for one is no slip of another."""
    if name not in GPUS:
        raise UserError(f"layout.gpu={name}: nothing is known of such a GPU. Known: {', '.join(GPUS)}.")
    return GPUS[name]
