"""FP8-aligned shapes: every side of every GEMM a multiple of 16, on every rank that holds a part of one.

FP8 tensor cores take no others. The study's student has a side that is none: its largest matrices are padded with zeros
(`kd.precision`), and what they give is copied without the padding, forward and backward.

>>> from nemo_distill.prune.fp8_shapes import Alignment
>>> from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2
>>> Alignment(multiple=16, tensor_parallel=1).misfits(NANO_7B_PRUNED)
['Mamba in_proj has 21,368 rows, no multiple of 16']
>>> Alignment(multiple=16, tensor_parallel=1).misfits(NANO_9B_V2)
[]
"""

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

from nemo_distill import families
from nemo_distill.config.settings import PRUNABLE
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.plan.cost import CALIBRATED, Rates
from nemo_distill.plan.flops import Mode, Work, backward, forward
from nemo_distill.plan.gpus import H100, Gpu
from nemo_distill.plan.targets import Asked, searched


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A layer's matrix, as one rank of those that share the layer holds it."""

    name: str
    kind: str
    """The layer's letter in `Shape.pattern`."""
    rows: float
    """Outputs; no whole number where the ranks cannot share them."""
    columns: float
    """Inputs."""


def matrices(shape: Shape, tensor_parallel: int = 1) -> list[Matrix]:
    """The matrices of one layer of each kind there is; Megatron splits the first by rows, the second by columns."""
    h, inner = shape.hidden_size, shape.mamba_inner_size
    attention = shape.num_attention_heads * shape.kv_channels
    qkv = attention + 2 * shape.num_query_groups * shape.kv_channels
    split = [
        ("Mamba in_proj", "M", shape.mamba_in_proj_size, "rows"),
        ("Mamba out_proj", "M", inner, "columns"),
        ("attention qkv", "*", qkv, "rows"),
        ("attention proj", "*", attention, "columns"),
        ("MLP fc1", "-", shape.ffn_hidden_size, "rows"),
        ("MLP fc2", "-", shape.ffn_hidden_size, "columns"),
    ]
    return [
        Matrix(
            name=name,
            kind=kind,
            rows=size / tensor_parallel if side == "rows" else h,
            columns=size / tensor_parallel if side == "columns" else h,
        )
        for name, kind, size, side in split
        if kind in shape.pattern
    ]


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """What every matrix of an FP8-aligned shape has."""

    multiple: int = 16
    """Number of which every side is a multiple; FP8's is 16."""
    tensor_parallel: int = 1
    """Number of ranks that share a layer: they divide its heads and groups, and each one's part is aligned."""

    @property
    def in_words(self) -> str:
        """What an aligned shape has."""
        return f"all matrices in multiples of {self.multiple} at tensor parallel {self.tensor_parallel}"

    def misfits(self, shape: Shape) -> list[str]:
        """Why the shape is not aligned, a phrase each; empty if it is."""
        ranks, each = self.tensor_parallel, f" on each of {self.tensor_parallel} ranks"
        counts = []
        if "M" in shape.pattern:
            counts += [("Mamba heads", shape.mamba_num_heads), ("Mamba groups", shape.mamba_num_groups)]
        if "*" in shape.pattern:
            counts += [("attention heads", shape.num_attention_heads), ("query groups", shape.num_query_groups)]
        found = [f"{count} {what} do not divide among {ranks} ranks" for what, count in counts if count % ranks]
        if shape.hidden_size % self.multiple:
            found.append(f"hidden size {shape.hidden_size:,} is no multiple of {self.multiple}")
        for matrix in matrices(shape, ranks):
            if not self.fits(matrix):
                side, size = ("rows", matrix.rows) if matrix.rows != shape.hidden_size else ("columns", matrix.columns)
                if size % self.multiple:
                    where = each if ranks > 1 else ""
                    found.append(f"{matrix.name} has {size:,.10g} {side}{where}, no multiple of {self.multiple}")
        return found

    def fits(self, matrix: Matrix) -> bool:
        """Whether a rank's part of a matrix can run in FP8 as it is."""
        return matrix.rows % self.multiple == 0 and matrix.columns % self.multiple == 0

    def fp8_seconds(self, shape: Shape, *, tokens: int, gpu: Gpu = H100, rates: Rates = CALIBRATED) -> float:
        """Modelled GPU-seconds of a student's forward and backward pass over one sequence of so many tokens, in FP8.

        A matrix whose inputs are not aligned cannot be padded and is counted in bf16. The output layer is in bf16
        anyway; communication and the loss are left out, because they are the same for students of one width.
        """
        mode = Mode(lean_activation=True, fp8=True)
        work = forward(shape, tokens, mode) + backward(shape, tokens, mode)
        left = 6.0 * sum(
            matrix.rows * matrix.columns * self.tensor_parallel * shape.pattern.count(matrix.kind)
            for matrix in matrices(shape, self.tensor_parallel)
            if matrix.columns % self.multiple
        )
        return rates.seconds((work + Work(matmul=left, fp8=-left)) * tokens, gpu)


def resized(shape: Shape, sizes: dict[str, int], ranked_layers: list[int]) -> Shape:
    """`shape` with a candidate's sizes: `num_layers` keeps the first so many of the layers, as ranked, from 1."""
    sizes = dict(sizes)
    kept = sorted(ranked_layers[: sizes.pop("num_layers", shape.num_layers)])
    return dataclasses.replace(shape, pattern="".join(shape.pattern[number - 1] for number in kept), **sizes)


def check_alignable(teacher: Shape, asked: Asked, alignment: Alignment) -> None:
    """Raise `UserError` where no candidate of the search is aligned, whichever layers it keeps."""
    ranges = searched(asked, families.of(teacher).choices(teacher, asked.divisors))
    ranges.pop("num_layers", None)
    sizes: list[dict[str, Any]] = [dict(zip(ranges, one, strict=True)) for one in itertools.product(*ranges.values())]
    if not any(not alignment.misfits(dataclasses.replace(teacher, **one)) for one in sizes):
        raise UserError(
            f"prune.chip_friendly=require: no candidate has {alignment.in_words}, since of the least pruned "
            f"{'; '.join(alignment.misfits(dataclasses.replace(teacher, **sizes[-1])))}. Lower prune.chip_multiple or "
            "prune.tensor_parallel, or take prune.chip_friendly=report."
        )


def timed(
    candidates: list[dict], teacher: Shape, ranked_layers: list[int], alignment: Alignment, *, seq_length: int
) -> list[dict]:
    """The candidates, each with `fp8_ms`: `Alignment.fp8_seconds` of a sequence in training, in milliseconds."""
    sizes = [{name: value for name, value in one.items() if name in PRUNABLE} for one in candidates]
    return [
        one | {"fp8_ms": 1e3 * alignment.fp8_seconds(resized(teacher, size, ranked_layers), tokens=seq_length)}
        for one, size in zip(candidates, sizes, strict=True)
    ]


def aligned_in_words(candidates: list[dict], alignment: Alignment) -> str:
    """What an FP8-aligned student costs in score and wins in speed; empty where nothing was searched."""
    if not candidates:
        return ""
    largest, aligned = ([one for one in candidates if one[what]] for what in ("largest", "chip_friendly"))
    if not aligned:
        misfits = "; ".join(largest[0]["misfits"])
        return f"No candidate has {alignment.in_words}; of the best of all, {misfits}."
    best, other = (max(some, key=lambda one: one["score"]) for some in (largest, aligned))
    if best == other:
        return f"The best candidate has {alignment.in_words}: nothing is lost by asking for it."
    speed = best["fp8_ms"] / other["fp8_ms"]
    score, parameters = other["score"] - best["score"], other["parameters"] / best["parameters"] - 1
    return (
        f"The best candidate with {alignment.in_words} scores {other['score']:.4f}, {score:+.4f} against the best of "
        f"ModelOpt's own search, has {parameters:+.1%} parameters and would train {speed:.2f}x as fast in FP8: "
        f"{other['fp8_ms']:.3g} ms a sequence where that takes {best['fp8_ms']:.3g}, modelled on one H100. The student "
        f"is {'it' if other['chosen'] else 'the other'}."
    )
