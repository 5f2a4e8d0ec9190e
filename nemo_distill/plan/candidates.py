"""The students that a pruning search can choose from, all counted at once: parameters, and the memory to serve them.

    found = Candidates(teacher, axes)                 # axes: the sizes on each, as `cut` leaves them
    layers = found.kept(ranked_layers)                # how many of each kind the number of layers keeps
    found.order(Bounds(parameters=7e9), layers)       # places of those within, as ModelOpt lists them

Every layer of a kind has the same sizes, so that parameters and bytes are polynomials in the sizes and in the number of
layers of each kind: milliseconds for the 17,472 candidates of the study's teacher, where ModelOpt gives the model every
candidate's size in turn. Constraints and their formulas are those of ModelOpt 0.46 (`params`, `memory_mb`).
"""

import functools
import itertools
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nemo_distill.config.settings import BF16, PRECISIONS
from nemo_distill.nemotron_h.shape import LAYER_KINDS, Shape
from nemo_distill.nemotron_h.sizes import Sizes

MIB = 2**20
"""Bytes of what ModelOpt calls a MB."""
Layers = Mapping[str, Any]
"""Number of layers of each kind, by its letter: whole numbers, or arrays over candidates."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What a student is served with, by which its memory goes."""

    seq_length: int = 4096
    """Tokens of a sequence that attention layers keep."""
    batch_size: int = 1
    """Sequences at a time."""
    precision: str = BF16
    """Precision of weights and cache: a name in `settings.PRECISIONS`."""

    def mb(self, sizes: Sizes, layers: Layers) -> Any:
        """Weights, key-value cache and Mamba state, in MiB.

        In FP8 the Mamba state stays in two bytes a number: it is added to at every token, and no engine keeps it in
        less.
        """
        width = PRECISIONS[self.precision]
        cached = layers["*"] * sizes.cached_per_token * self.seq_length * self.batch_size * width
        state = layers["M"] * sizes.state_size * self.batch_size * max(width, PRECISIONS[BF16])
        return (parameters(sizes, layers) * width + cached + state) / MIB

    @property
    def in_words(self) -> str:
        """What it is of."""
        sequences = "a sequence" if self.batch_size == 1 else f"{self.batch_size:,} sequences"
        return f"weights, cache and state of {sequences} of {self.seq_length:,} tokens in {self.precision}"


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a student has at most; at least one of the two is said."""

    parameters: float | None = None
    """Number of parameters."""
    memory_mb: float | None = None
    """MiB to serve it."""
    serving: Serving = Serving()
    """What the memory is of."""

    def measured(self, sizes: Sizes, layers: Layers) -> dict[str, Any]:
        """What is bounded, by its setting, the first of which candidates are sorted by: as ModelOpt has it."""
        found = {}
        if self.parameters is not None:
            found["parameters"] = parameters(sizes, layers)
        if self.memory_mb is not None:
            found["memory_mb"] = self.serving.mb(sizes, layers)
        return found

    @property
    def most(self) -> dict[str, float]:
        """The bounds, by setting."""
        both = {"parameters": self.parameters, "memory_mb": self.memory_mb}
        return {name: float(value) for name, value in both.items() if value is not None}

    @property
    def in_words(self) -> str:
        """All of them."""
        return " and ".join(self.figure(name, value) for name, value in self.most.items())

    @property
    def settings(self) -> str:
        """The settings they come from."""
        return ", ".join(f"prune.{name}" for name in self.most)

    def figure(self, name: str, value: float) -> str:
        """A figure of what is bounded, with its unit."""
        return f"{value:,.0f} parameters" if name == "parameters" else f"{value:,.0f} MB ({self.serving.in_words})"

    def hold(self, measured: Mapping[str, Any]) -> Any:
        """Whether all that was `measured` is within."""
        return functools.reduce(operator.and_, (measured[name] <= most for name, most in self.most.items()))


def cut(
    choices: Mapping[str, Sequence[int]], *, max_width: float, max_depth: float, skip: Sequence[str]
) -> dict[str, list[int]]:
    """The choices of each axis, ascending, that a search goes over: ModelOpt leaves those of one choice alone."""
    limits = {name: max_depth if name == "num_layers" else max_width for name in choices}
    return {
        name: sorted(values)[int((1 - limits[name]) * len(values)) :]
        for name, values in choices.items()
        if name not in skip and len(values) > 1
    }


def parameters(sizes: Sizes, layers: Layers) -> Any:
    """Parameters of a model with so many layers of each kind."""
    return sizes.outer_parameters + sum(layers[kind] * sizes.layer_parameters(kind) for kind in LAYER_KINDS)


def layers_of(shape: Shape) -> dict[str, int]:
    """Number of a model's layers of each kind."""
    return {kind: shape.pattern.count(kind) for kind in LAYER_KINDS}


class Candidates(Sizes):
    """Every combination of the sizes on some axes, the last axis changing first; other sizes are the teacher's."""

    def __init__(self, teacher: Shape, axes: Mapping[str, Sequence[int]]):
        self.teacher = teacher
        """Shape of what is pruned."""
        grid = np.meshgrid(*(np.array(values, dtype=np.int64) for values in axes.values()), indexing="ij")
        self.axes = {name: cells.ravel() for name, cells in zip(axes, grid, strict=True)}
        """Sizes of every candidate, by axis."""
        self.count = math.prod(len(values) for values in axes.values())
        """Number of candidates."""
        for name in (*Sizes.__annotations__, "num_layers"):
            setattr(self, name, self.axes.get(name, np.full(self.count, getattr(teacher, name), dtype=np.int64)))
        self.num_layers: np.ndarray

    def sizes(self, place: int) -> dict[str, int]:
        """The sizes of one candidate, by axis."""
        return {name: int(values[place]) for name, values in self.axes.items()}

    def kept(self, ranked_layers: Sequence[int]) -> dict[str, np.ndarray]:
        """Layers of each kind that a candidate has where the best of `ranked_layers`, numbered from 1, are kept."""
        letters = np.array([self.teacher.pattern[number - 1] for number in ranked_layers])
        return {kind: _cumulative(letters == kind)[self.num_layers] for kind in LAYER_KINDS}

    def extremes(self) -> Iterator[dict[str, np.ndarray]]:
        """What may be kept of each kind before layers are ranked: all of one kind before any of another, in each order.

        Where each further layer of a kind adds as much, least and most are among them.
        """
        of_kind = layers_of(self.teacher)
        for order in itertools.permutations(kind for kind in LAYER_KINDS if of_kind[kind]):
            letters = np.array([letter for kind in order for letter in kind * of_kind[kind]])
            yield {kind: _cumulative(letters == kind)[self.num_layers] for kind in LAYER_KINDS}

    def range_of(self, bounds: Bounds) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """(least, most) of what is bounded, over all layers that may be kept."""
        found = [bounds.measured(self, layers) for layers in self.extremes()]
        least = {name: np.min([one[name] for one in found], axis=0) for name in found[0]}
        return least, {name: np.max([one[name] for one in found], axis=0) for name in found[0]}

    def order(self, bounds: Bounds, layers: Layers) -> np.ndarray:
        """Places of the candidates within, in ModelOpt's order: the largest first, equal ones as they lie in the grid.

        ModelOpt 0.43, which knows the one bound `params`, adds counts up over ranks in float32, which rounds to 512 at
        7B, and compares and sorts by that.
        """
        measured = bounds.measured(self, layers)
        if list(measured) == ["parameters"]:
            measured = {"parameters": measured["parameters"].astype(np.float32).astype(np.float64)}
        within = np.flatnonzero(np.broadcast_to(bounds.hold(measured), self.count))
        first = next(iter(measured.values()))
        return within[np.argsort(-first[within], kind="stable")]


def _cumulative(chosen: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(chosen)])
