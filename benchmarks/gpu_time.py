"""How long the GPU takes for something."""

import statistics
from collections.abc import Callable, Sequence

import torch


def median(call: Callable, times: int, *, before: Callable = lambda: None):
    """Seconds of the median of `times` calls after two others, and what the last call returned."""
    measured = []
    for _ in range(2 + times):
        before()
        seconds, result = _timed(call)
        measured.append(seconds)
    return statistics.median(measured[2:]), result


def in_turn(calls: Sequence[Callable], times: int, *, before: Callable = lambda: None) -> list[float]:
    """Seconds of the medians of `times` calls of each after two others, by turns, so that a drift is in all of them."""
    measured: list[list[float]] = [[] for _ in calls]
    for _ in range(2 + times):
        for call, seconds in zip(calls, measured, strict=True):
            before()
            seconds.append(_timed(call)[0])
    return [statistics.median(seconds[2:]) for seconds in measured]


def _timed(call: Callable):
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    result = call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3, result
