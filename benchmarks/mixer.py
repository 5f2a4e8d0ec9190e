"""A Mamba mixer between its linear layers at the study's sizes on one GPU, mamba-ssm's and ours: milliseconds a layer.

    python benchmarks/mixer.py [--length 8192] [--times 9] [--documents 8]

Convolution, scan, gate and norm; medians, forward and backward pass, for the heads of the study's teacher and student
and for the part of the student's that a rank has with tensor parallelism. Also prints how far outputs and gradients of
the two are apart, which has not run to its end on a GPU yet (benchmarks/RESULTS.md). With `--documents N` another table
takes its place: ours on the sequence as one document and as so many, kept apart, by turns.
"""

import argparse
import functools

import torch
from gpu_time import in_turn, median
from random_mixer import random_mixer

HEAD, STATE = 80, 128
CASES = {"teacher": (128, 8), "student": (120, 8), "TP 2": (60, 4), "TP 4": (30, 2), "TP 8": (15, 1)}
"""Heads and groups."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=8192, help="tokens")
    parser.add_argument("--times", type=int, default=9)
    parser.add_argument("--documents", type=int, default=0, metavar="N", help="of the sequence, kept apart")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("needs a GPU, and there is none here")
    from nemo_distill.compat import registry

    registry.prepare()
    print(torch.cuda.get_device_name())
    (compare if not options.documents else keep_apart)(options)


def compare(options: argparse.Namespace) -> None:
    """Print the table of mamba-ssm's mixer and ours."""
    print("| heads | theirs, forward | backward | ours, forward | backward | ratio | apart |\n" + "|---" * 7 + "|")
    for name, (heads, groups) in CASES.items():
        given = random_mixer(1, options.length, heads, HEAD, groups, STATE)
        times, made = [], []
        for mixer in (theirs, ours):
            seconds, output = median(functools.partial(mixer, groups, *given), options.times)
            times.append(1e3 * seconds)
            differentiate = functools.partial(
                torch.autograd.grad, output, given, torch.ones_like(output), retain_graph=True
            )
            seconds, gradients = median(differentiate, options.times)
            times.append(1e3 * seconds)
            made.append([output, *gradients])
        apart = max(
            ((one.float() - other.float()).norm() / one.float().norm()).item() for one, other in zip(*made, strict=True)
        )
        row = " | ".join(f"{time:.2f}" for time in times)
        print(f"| {name}: {heads} | {row} | {sum(times[:2]) / sum(times[2:]):.2f} | {apart:.4f} |", flush=True)


def keep_apart(options: argparse.Namespace) -> None:
    """Print the table of ours with documents that are kept apart, as many layers keep those of one microbatch."""
    from nemo_distill.nemotron_h.documents import Documents

    starts = torch.arange(options.documents, device="cuda") * options.length // options.documents
    documents = Documents.of([starts], length=options.length)
    print(f"| heads | as one document | as {options.documents}, kept apart | ratio |\n" + "|---" * 4 + "|")
    for name, (heads, groups) in CASES.items():
        given = random_mixer(1, options.length, heads, HEAD, groups, STATE)
        kinds = ((), (documents.numbers, documents.decay))
        one, several = in_turn([functools.partial(both_ways, groups, given, told) for told in kinds], options.times)
        print(f"| {name}: {heads} | {1e3 * one:.2f} | {1e3 * several:.2f} | {several / one:.3f} |", flush=True)


def both_ways(groups: int, given: list[torch.Tensor], told: tuple) -> None:
    """Forward and backward pass, told of documents or not."""
    made = ours(groups, *given, told=told)
    torch.autograd.grad(made, given, made.detach())


def theirs(groups: int, zxbcdt, conv_weight, conv_bias, dt_bias, A, D, norm_weight) -> torch.Tensor:
    """As Megatron's `MambaMixer` computes it with mamba-ssm."""
    from mamba_ssm.ops.triton.layernorm_gated import rmsnorm_fn
    from mamba_ssm.ops.triton.ssd_combined import mamba_split_conv1d_scan_combined

    y = mamba_split_conv1d_scan_combined(
        zxbcdt, conv_weight, conv_bias, dt_bias, A, D=D, chunk_size=128, activation="silu", headdim=HEAD,
        ngroups=groups, norm_before_gate=False,
    )  # fmt: skip
    return rmsnorm_fn(y, norm_weight, None, eps=1e-5, group_size=y.shape[-1] // groups, norm_before_gate=False)


def ours(groups: int, *given: torch.Tensor, told: tuple = ()) -> torch.Tensor:
    """The same, by `nemo_distill.nemotron_h.kernels.mixer`."""
    from nemo_distill.nemotron_h.kernels.mixer import MixerFunction

    return MixerFunction.apply(*given, 1e-5, groups, HEAD, *told)[0]


if __name__ == "__main__":
    main()
