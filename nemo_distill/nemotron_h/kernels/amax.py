"""The largest magnitude of a tensor, found by the kernel that makes it, for a matrix product that takes it in FP8.

    found = zero(x)             # for a kernel, which gives it to `note` with what it makes
    y = keep(y, found)
    install()                   # Transformer Engine's quantizers take what was kept

FP8 with a scale per tensor wants the largest magnitude before anything is quantised. Transformer Engine reads the whole
tensor for it, where the kernel that wrote it had every value at hand. ("amax": its name there)
"""

import torch
from torch import Tensor

from nemo_distill.compat import patch as backend

try:
    import triton
    import triton.language as tl
except ImportError:  # there is none for machines without a GPU, where nothing calls `note`
    triton = None


def zero(like: Tensor) -> Tensor:
    """Where a kernel notes it: one float32 on the device of `like`."""
    return torch.zeros(1, dtype=torch.float32, device=like.device)


def keep(tensor: Tensor, found: Tensor) -> Tensor:
    """`tensor`, which has `found` with it until it is gone; a view or a copy of it has not."""
    tensor.found_amax = found
    return tensor


def install() -> None:
    """Let Transformer Engine quantise with what is kept, and look for the rest itself."""
    from transformer_engine.pytorch.tensor.float8_tensor import Float8CurrentScalingQuantizer

    backend.wrap(Float8CurrentScalingQuantizer, "quantize_impl", _quantize)


def _quantize(theirs, quantizer, tensor: Tensor):
    found = getattr(tensor, "found_amax", None)
    if found is None:
        return theirs(quantizer, tensor)
    before = quantizer.amax
    quantizer.amax, quantizer.use_existing_amax = found, True
    try:
        return theirs(quantizer, tensor)
    finally:
        quantizer.amax, quantizer.use_existing_amax = before, False


if triton is not None:

    @triton.jit
    def note(found, values):
        """Raise `found` to the largest magnitude of `values`: few programs find a larger one and have to write."""
        largest = tl.max(tl.abs(values.to(tl.float32)))
        tl.atomic_max(found, largest, mask=largest > tl.load(found), sem="relaxed")
