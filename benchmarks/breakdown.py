"""What a GPU did in a stretch of time, of torch's profiler: by what its kernels are for, and what of it hid what.

with profile(activities=[ProfilerActivity.CUDA]) as profiled:
    step()
print(broken_down(profiled.events()))
"""

import itertools
import re
from collections.abc import Iterable

KINDS = {
    "collectives": r"nccl",
    "loss": r"_divergence",
    "activation": r"^_square$|^_gradient$|relu|pow",
    "Mamba scan": r"chunk_scan|chunk_state|state_passing|bmm_chunk|chunk_cumsum|_dstates|ssd_|^_scan_",
    "convolution": r"conv1d",
    "attention": r"fmha|flash|sdpa|fused_attn",
    "norms": r"norm",
    "quantisation": r"amax|cast|quantize|fp8|transpose",
    "optimizer": r"adam|multi_tensor",
    "matrix products": r"gemm|nvjet|cutlass|cublas|xmma|splitK",
}
"""What a GPU kernel is for, by its name; the first that matches."""
GAP = 10.0
"""Microseconds from which on a pause is counted as one in which the GPU waited to be told."""

Span = tuple[float, float]


def kind_of(name: str) -> str:
    """What the kernel of that name is for."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), "other")


def spans_of(events: Iterable) -> list[tuple[float, float, str]]:
    """Begin and end, in microseconds, and name of all that the GPU did, of torch's profiler's `events`."""
    import torch

    return [
        (event.time_range.start, event.time_range.end, event.name)
        for event in events
        if event.device_type == torch.autograd.DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    ]


def broken_down(spans: Iterable[tuple[float, float, str]]) -> dict:
    """Milliseconds of each kind, most first; what of the collectives other kernels hid, and how long none ran.

    A collective runs from when its rank is there, so where another one comes late its waiting is in it.
    """
    by_kind: dict[str, list[Span]] = {}
    for begin, end, name in spans:
        by_kind.setdefault(kind_of(name), []).append((begin, end))
    every = [span for found in by_kind.values() for span in found]
    if not every:
        return {}
    busy = union(every)
    collectives = union(by_kind.get("collectives", []))
    others = union([span for kind, found in by_kind.items() if kind != "collectives" for span in found])
    exposed = length(busy) - length(others)
    pauses = [after[0] - before[1] for before, after in itertools.pairwise(busy)]
    kinds = {kind: sum(end - begin for begin, end in found) / 1e3 for kind, found in by_kind.items()}
    return {
        "kinds": dict(sorted(kinds.items(), key=lambda item: -item[1])),
        "collectives exposed": exposed / 1e3,
        "collectives hidden": (length(collectives) - exposed) / 1e3,
        "waiting": sum(pauses) / 1e3,
        "waiting in long pauses": sum(pause for pause in pauses if pause >= GAP) / 1e3,
        "kernels": len(every),
        "whole": (busy[-1][1] - busy[0][0]) / 1e3,
    }


def union(spans: Iterable[Span]) -> list[Span]:
    """The stretches in which at least one of `spans` is, in order.

    >>> union([(5, 6), (0, 2), (1, 3)])
    [(0, 3), (5, 6)]
    """
    made: list[Span] = []
    for begin, end in sorted(spans):
        if made and begin <= made[-1][1]:
            made[-1] = made[-1][0], max(end, made[-1][1])
        else:
            made.append((begin, end))
    return made


def length(spans: Iterable[Span]) -> float:
    """How long they are together.

    >>> length([(0, 3), (5, 6)])
    4
    """
    return sum(end - begin for begin, end in spans)
