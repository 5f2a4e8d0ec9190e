"""What a GPU can run of a training, by its compute capability: FP8, bf16, our kernels; its name decides nothing.

>>> Ability(name="A100", capability=(8, 0)).lacks(fp8="none", fused_kernels=True, bf16=True).partition(",")[2]
' and the A100 has 163 (compute capability 8.0): say distill.fused_kernels=false.'
>>> Ability(name="H20", capability=(9, 0)).lacks(fp8="both", fused_kernels=True, bf16=True)
''

Nothing here imports torch, so that a preview can ask of a GPU that is elsewhere what a step asks of the one it is on.
"""

from dataclasses import dataclass

FP8_SINCE, BF16_SINCE = (8, 9), (8, 0)
"""Compute capabilities from which on tensor cores multiply in FP8 and in bf16."""
SHARED_MEMORY = 227
"""KiB of a multiprocessor that one program may have, for our kernels (`nemotron_h.kernels.ssd`): what Hopper gives."""
SHARED_MEMORY_OF = {(7, 0): 96, (7, 5): 64, (8, 0): 163, (8, 6): 99, (8, 7): 163, (8, 9): 99, (9, 0): 227, (10, 0): 227,
                    (10, 3): 227, (11, 0): 227, (12, 0): 99, (12, 1): 99}  # fmt: skip
"""KiB that one program may have by compute capability (CUDA C++ Programming Guide, "Technical Specifications per
Compute Capability": maximum amount of shared memory per thread block)."""


@dataclass(frozen=True, kw_only=True)
class Ability:
    """What decides what a GPU can run."""

    name: str
    """What sentences call it."""
    capability: tuple[int, int]
    """Compute capability."""
    shared_memory: int | None = None
    """KiB of shared memory that one program may have; None: what `SHARED_MEMORY_OF` says."""

    @property
    def version(self) -> str:
        """The compute capability, as its maker writes it."""
        return ".".join(map(str, self.capability))

    @property
    def kernel_memory(self) -> int | None:
        """KiB of shared memory that one program may have; None: it is not known."""
        return SHARED_MEMORY_OF.get(self.capability) if self.shared_memory is None else self.shared_memory

    @property
    def has_fp8(self) -> bool:
        """Whether its tensor cores multiply in FP8."""
        return self.capability >= FP8_SINCE

    @property
    def has_room_for_kernels(self) -> bool:
        """Whether our kernels fit its multiprocessors, as far as that is known."""
        return self.kernel_memory is None or self.kernel_memory >= SHARED_MEMORY

    def lacks(self, *, fp8: str, fused_kernels: bool, bf16: bool) -> str:
        """The sentence on the first setting that it cannot run, with what to say in its place; empty where it can."""
        its = f"compute capability {self.version}"
        if bf16 and self.capability < BF16_SINCE:
            return (
                f"this scale trains in bf16, which needs tensor cores of compute capability {_dotted(BF16_SINCE)}, and "
                f"the {self.name} has {self.version}: an A100 is the least."
            )
        if fused_kernels and not self.has_room_for_kernels:
            return (
                f"distill.fused_kernels=true needs {SHARED_MEMORY} KiB of shared memory for a program, and the "
                f"{self.name} has {self.kernel_memory} ({its}): say distill.fused_kernels=false."
            )
        if fp8 != "none" and not self.has_fp8:
            return (
                f"distill.fp8={fp8} needs FP8 tensor cores, which there are from compute capability "
                f"{_dotted(FP8_SINCE)} on, and the {self.name} has {self.version}: say distill.fp8=none."
            )
        return ""


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
