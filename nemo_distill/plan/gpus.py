"""The GPUs a run can be planned for: what their makers state. What one can run follows from that (`kd.abilities`).

>>> from nemo_distill.plan.gpus import get_gpu
>>> get_gpu("H100").memory_gib, get_gpu("H200").memory_gib
(79.1, 139.8)
"""

import re
from dataclasses import dataclass

from nemo_distill.errors import UserError
from nemo_distill.kd.abilities import Ability


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU and the links out of it. Rates are peaks, which nothing reaches (`nemo_distill.plan.cost.Rates`)."""

    name: str
    """What `layout.gpu` calls it."""
    bf16_flops: float
    """Dense bf16 matrix multiplication, FLOP/s."""
    fp8_flops: float
    """Dense FP8 matrix multiplication, FLOP/s; of one without FP8, that of bf16."""
    capability: tuple[int, int]
    """Compute capability, by which it is known what the GPU can run (`kd.abilities`)."""
    memory_gib: float
    """What CUDA reports as the device's memory in all, GiB."""
    memory_bandwidth: float
    """Bytes/s."""
    nvlink: float
    """To the other GPUs of its machine, bytes/s in one direction."""
    network: float
    """To other machines, bytes/s in one direction."""

    @property
    def ability(self) -> Ability:
        """What decides what it can run."""
        return Ability(name=self.name, capability=self.capability)


# NVIDIA's data sheets of H100 SXM and H200 SXM: 1,979 TFLOP/s bf16 with sparsity, half of it dense, twice as much in
# FP8; 80 and 141 GB of 3.35 and 4.8 TB/s; NVLink 900 GB/s, both directions. DGX H100 and H200: one 400 Gbit/s adapter
# per GPU.
H100 = Gpu(
    name="H100", bf16_flops=989.4e12, fp8_flops=1978.9e12, capability=(9, 0), memory_gib=79.1,
    memory_bandwidth=3.35e12, nvlink=450e9, network=50e9,
)  # fmt: skip
H200 = Gpu(
    name="H200", bf16_flops=989.4e12, fp8_flops=1978.9e12, capability=(9, 0), memory_gib=139.8,
    memory_bandwidth=4.8e12, nvlink=450e9, network=50e9,
)  # fmt: skip
# The others have not run with this code. NVIDIA's data sheets of A100 SXM (no FP8; DGX A100: a 200 Gbit/s adapter),
# L40S (no NVLink: PCIe 4.0 x16; a 200 Gbit/s adapter each is assumed), H20 and B200 (DGX B200, an eighth of it: 36
# PFLOP/s FP8 dense, half of it in bf16; 64 TB/s; NVLink 14.4 TB/s, both directions). What CUDA reports of their memory
# was not seen: it is what is stated, less 1%.
A100 = Gpu(
    name="A100", bf16_flops=312e12, fp8_flops=312e12, capability=(8, 0), memory_gib=79.1, memory_bandwidth=2.039e12,
    nvlink=300e9, network=25e9,
)  # fmt: skip
A100_40GB = Gpu(
    name="A100-40GB", bf16_flops=312e12, fp8_flops=312e12, capability=(8, 0), memory_gib=39.4,
    memory_bandwidth=1.555e12, nvlink=300e9, network=25e9,
)  # fmt: skip
L40S = Gpu(
    name="L40S", bf16_flops=362e12, fp8_flops=733e12, capability=(8, 9), memory_gib=44.3, memory_bandwidth=0.864e12,
    nvlink=32e9, network=25e9,
)  # fmt: skip
H20 = Gpu(
    name="H20", bf16_flops=148e12, fp8_flops=296e12, capability=(9, 0), memory_gib=95.0, memory_bandwidth=4.0e12,
    nvlink=450e9, network=50e9,
)  # fmt: skip
B200 = Gpu(
    name="B200", bf16_flops=2250e12, fp8_flops=4500e12, capability=(10, 0), memory_gib=166.0, memory_bandwidth=8e12,
    nvlink=900e9, network=50e9,
)  # fmt: skip

GPUS = {gpu.name: gpu for gpu in (H100, H200, A100, A100_40GB, L40S, H20, B200)}
"""Every GPU by its name."""


def get_gpu(name: str) -> Gpu:
    """The GPU called `name`; raises `UserError` with all that are known, for one is no slip of another."""
    if name not in GPUS:
        raise UserError(f"layout.gpu={name}: nothing is known of such a GPU. Known: {', '.join(GPUS)}.")
    return GPUS[name]


def named_by_driver(name: str) -> Gpu | None:
    """The GPU that a driver calls `name`; None: nothing is known of it.

    >>> [gpu.name for gpu in map(named_by_driver, ("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB")) if gpu]
    ['H100', 'A100-40GB']
    """
    words = re.split(r"[^A-Z0-9]+", name.upper())
    fitting = [gpu for gpu in GPUS.values() if set(gpu.name.upper().split("-")) <= set(words)]
    return max(fitting, key=lambda gpu: len(gpu.name), default=None)
