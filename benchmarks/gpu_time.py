"""How long the GPU takes for something."""

import statistics
from collections.abc import Callable

import torch


def median(call: Callable, times: int, *, before: Callable = lambda: None):
    """Seconds of the median of `times` calls after two others, and what the last call returned."""
    measured = []
    for _ in range(2 + times):
        before()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        result = call()
        end.record()
        torch.cuda.synchronize()
        measured.append(start.elapsed_time(end) / 1e3)
    return statistics.median(measured[2:]), result
