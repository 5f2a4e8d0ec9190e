"""Shapes the chip likes: which models run all their matrices in FP8, and what that wins.

FP8 tensor cores take matrices whose sides are multiples of 16, on every rank that holds a part of one. The study's
student has a side that is none: its largest matrices are filled up with zeros (`kd.precision`), and what they give is
copied without the zeros, forward and backward.

>>> from nemo_distill.prune.fp8_shapes import ChipFilter
>>> from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2
>>> ChipFilter(multiple=16, tensor_parallel=1).misfits(NANO_7B_PRUNED)
['Mamba in_proj has 21,368 rows, no multiple of 16']
>>> ChipFilter(multiple=16, tensor_parallel=1).misfits(NANO_9B_V2)
[]
"""

import dataclasses
from dataclasses import dataclass

from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.plan.cost import CALIBRATED, Rates
from nemo_distill.plan.flops import Mode, Work, backward, forward
from nemo_distill.plan.gpus import H100, Gpu


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
class ChipFilter:
    """What a shape needs to be liked."""

    multiple: int = 16
    """Of which every side of every matrix is to be one; FP8's is 16."""
    tensor_parallel: int = 1
    """Ranks that share a layer: they divide its heads and groups, and each one's part is to fit."""

    def misfits(self, shape: Shape) -> list[str]:
        """Why the chip does not like the shape, a phrase each; empty if it does."""
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

        A matrix whose inputs misfit cannot be filled up and is reckoned in bf16. The output layer is in bf16 anyway;
        communication and the loss are left out, because they are the same for students of one width.
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
