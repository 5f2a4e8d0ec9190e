"""Mamba's scan at the study's sizes on one GPU, mamba-ssm's and ours in turn: milliseconds a layer.

    python benchmarks/scan.py [--length 8192] [--times 9]

Medians, forward and backward pass, for the heads of the study's teacher and student and for the part of the student's
that a rank has with tensor parallelism. Also prints how far outputs and gradients of the two are apart.
"""

import argparse
import statistics

import torch

from nemo_distill.nemotron_h import ssd

HEAD, STATE = 80, 128
CASES = {"teacher": (128, 8), "student": (120, 8), "TP 2": (60, 4), "TP 4": (30, 2), "TP 8": (15, 1)}
"""Heads and groups."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=8192, help="tokens")
    parser.add_argument("--times", type=int, default=9)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("needs a GPU, and there is none here")
    from mamba_ssm.ops.triton import ssd_combined

    theirs = ssd_combined._mamba_chunk_scan_combined_fwd, ssd_combined._mamba_chunk_scan_combined_bwd
    ssd.install()
    ours = ssd_combined._mamba_chunk_scan_combined_fwd, ssd_combined._mamba_chunk_scan_combined_bwd
    print(torch.cuda.get_device_name())
    print("| heads | theirs, forward | backward | ours, forward | backward | ratio | apart |\n" + "|---" * 7 + "|")
    for name, (heads, groups) in CASES.items():
        times, made = [], []
        for forward, backward in (theirs, ours):
            output, gradients = passes(options.length, heads, groups, forward, backward)
            times += [median(output, options.times), median(gradients, options.times)]
            made.append([output()[0], *(tensor for tensor in gradients() if tensor is not None)])
        apart = max(
            ((one.float() - other.float()).norm() / one.float().norm()).item() for one, other in zip(*made, strict=True)
        )
        row = " | ".join(f"{time:.2f}" for time in times)
        print(f"| {name}: {heads} | {row} | {sum(times[:2]) / sum(times[2:]):.2f} | {apart:.4f} |", flush=True)


def passes(length: int, heads: int, groups: int, forward, backward):
    """Both passes over one layer's random input, as mamba-ssm's autograd function calls them."""
    draw = torch.Generator("cuda").manual_seed(0)

    def random(*size: int, around: float = 0.0) -> torch.Tensor:
        return (torch.randn(*size, generator=draw, device="cuda") + around).bfloat16()

    x, z, gradient = (random(1, length, heads, HEAD) for _ in range(3))
    keys, queries = (random(1, length, groups, STATE) for _ in range(2))
    rates = -15 * torch.rand(heads, generator=draw, device="cuda") - 1
    given = x, random(1, length, heads, around=-4.0), rates, keys, queries
    more = {"D": torch.ones(heads, device="cuda"), "z": z, "dt_softplus": True}
    _, out, *_ = forward(*given, 128, **more)
    return lambda: forward(*given, 128, **more), lambda: backward(gradient, *given, out, 128, **more)


def median(call, times: int) -> float:
    """Milliseconds of the GPU."""
    measured = []
    for _ in range(2 + times):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        measured.append(start.elapsed_time(end))
    return statistics.median(measured[2:])


if __name__ == "__main__":
    main()
