"""The amax of a tensor, its largest magnitude, found by the kernel that makes it, for an FP8 matrix product behind it.

    found = zero_amax(x)             # for a kernel, which gives it to `note` with what it makes
    y = attach_amax(y, found)
    install()                        # Transformer Engine's quantizers take what is attached

FP8 with a scale per tensor wants the amax before anything is quantised. Transformer Engine reads the whole tensor for
it, where the kernel that wrote it had every value at hand.
"""

import torch
from torch import Tensor

from nemo_distill.compat.kernels import QUANTIZER

try:
    import triton
    import triton.language as tl
except ImportError:  # there is none for machines without a GPU, where nothing calls `note`
    triton = None


def zero_amax(like: Tensor) -> Tensor:
    """Where a kernel notes an amax: one float32 on the device of `like`."""
    return torch.zeros(1, dtype=torch.float32, device=like.device)


def attach_amax(tensor: Tensor, found: Tensor) -> Tensor:
    """`tensor`, which has its amax `found` with it until it is gone; a view or a copy of it has not."""
    tensor.found_amax = found  # type: ignore[attr-defined]
    return tensor


def install() -> None:
    """Let Transformer Engine quantise with what is attached, and look for the rest itself."""
    QUANTIZER.apply(_quantize)


def _quantize(original, quantizer, tensor: Tensor):
    found = getattr(tensor, "found_amax", None)
    if found is None:
        return original(quantizer, tensor)
    before = quantizer.amax
    quantizer.amax, quantizer.use_existing_amax = found, True
    try:
        return original(quantizer, tensor)
    finally:
        quantizer.amax, quantizer.use_existing_amax = before, False


if triton is not None:

    @triton.jit
    def note(found, values):
        """Raise `found` to the largest magnitude of `values`: few programs find a larger one and have to write."""
        largest = tl.max(tl.abs(values.to(tl.float32)))
        tl.atomic_max(found, largest, mask=largest > tl.load(found), sem="relaxed")
