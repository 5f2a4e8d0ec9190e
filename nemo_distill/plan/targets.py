"""What a pruning search is asked for, against what it can reach: candidates within the bounds, and the nearest bound.

    check_targets(teacher, recipe.prune)                    # UserError: the nearest that a candidate keeps to
    pruning_in_words(recipe, teacher)                       # lines of the preview

Which layers a candidate keeps, the cheap ones or the dear ones, is known once they have been ranked. Before that a
figure of a candidate has a least and a most.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from nemo_distill import families
from nemo_distill.config.recipe import Recipe
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.plan.candidates import Bounds, Candidates, Serving, cut, layers_of


class Asked(Protocol):
    """What pruning is told: a recipe's `Pruning`, or a step's `minitron.Request`."""

    @property
    def parameters(self) -> float | None:
        """Target of the search, up to 1.0 a share of the teacher's; None where there is none."""

    @property
    def memory_mb(self) -> float | None:
        """Target of the search, in MiB to serve the student; None where there is none."""

    @property
    def memory_seq_length(self) -> int:
        """Tokens per sequence that it is of."""

    @property
    def memory_batch_size(self) -> int:
        """Sequences at a time that it is of."""

    @property
    def memory_precision(self) -> str:
        """Precision of weights and cache that it is of."""

    @property
    def export_config(self) -> Mapping[str, int] | None:
        """The sizes, by ModelOpt's names; None where they are searched for."""

    @property
    def divisors(self) -> Mapping[str, int]:
        """Step along an axis."""

    @property
    def max_width(self) -> float:
        """Largest share of the choices of a width that the search goes down."""

    @property
    def max_depth(self) -> float:
        """Largest share of the choices of the number of layers that it goes down."""

    @property
    def skip(self) -> Sequence[str]:
        """Sizes that it leaves as the teacher's."""


def searched(asked: Asked, choices: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """The sizes that the search goes over, by axis, as ModelOpt cuts them."""
    return cut(choices, max_width=asked.max_width, max_depth=asked.max_depth, skip=asked.skip)


def target_of(parameters: float, teacher: Shape) -> float:
    """A target as a number of parameters: up to 1.0 it is a share of the teacher's."""
    return parameters * teacher.parameters() if parameters <= 1 else parameters


def bounds_of(asked: Asked, teacher: Shape) -> Bounds:
    """What the search has to keep to."""
    return Bounds(
        parameters=None if asked.parameters is None else target_of(asked.parameters, teacher),
        memory_mb=asked.memory_mb,
        serving=Serving(
            seq_length=asked.memory_seq_length,
            batch_size=asked.memory_batch_size,
            precision=asked.memory_precision,
        ),
    )


def candidates_of(teacher: Shape, asked: Asked) -> Candidates:
    """All that the search goes over."""
    return Candidates(teacher, searched(asked, families.of(teacher).choices(teacher, asked.divisors)))


def check_targets(teacher: Shape, asked: Asked) -> None:
    """Raise `UserError` for bounds that no candidate keeps to, or that the teacher itself does."""
    choices = families.of(teacher).choices(teacher, asked.divisors)
    for name in asked.skip:
        if name not in choices:
            raise UserError(f"prune.skip names {name}: the teacher, {teacher.pattern}, has no layers of that kind.")
    if not any(len(values) > 1 for values in searched(asked, choices).values()):
        raise UserError(
            f"prune.skip={','.join(asked.skip)} with prune.max_width={asked.max_width:g} and prune.max_depth="
            f"{asked.max_depth:g} leaves the search nothing but the teacher; of its choices are "
            + "; ".join(f"{name} {values[-2]}" for name, values in choices.items() if len(values) > 1)
            + "."
        )
    bounds = bounds_of(asked, teacher)
    own = bounds.measured(teacher, layers_of(teacher))
    if bounds.hold(own):
        said, whole = (
            " and ".join(_said(asked, name) for name in own),
            " and ".join(map(bounds.figure, own, own.values())),
        )
        name, value = next(iter(own.items()))
        near = "0.99" if name == "parameters" else f"{math.floor(0.99 * value):.0f}"
        raise UserError(
            f"{said} is no less than the teacher's {whole}: nothing would be pruned; prune.{name}={near} would."
        )
    found = candidates_of(teacher, asked)
    least, most = found.range_of(bounds)
    removes = (
        f"the search removes at most {asked.max_width:.0%} of the choices of a width (prune.max_width) and "
        f"{asked.max_depth:.0%} of the layers (prune.max_depth)"
        + (f", and nothing of {', '.join(asked.skip)} (prune.skip)" if asked.skip else "")
    )
    for name, target in bounds.most.items():  # the smallest candidate has least of both
        if target < least[name].min():
            near = _near(name, most[name].min(), own[name])
            raise UserError(
                f"{_said(asked, name)} asks for at most {_figure(name, target)}, and no candidate has fewer than "
                f"{_figure(name, least[name].min())}: {removes}; the nearest is {near}, and prune.export_config names "
                "sizes outright."
            )


def _said(asked: Asked, name: str) -> str:
    value = asked.parameters if name == "parameters" else asked.memory_mb
    return f"prune.{name}={value:g}" if name == "parameters" else f"prune.{name}={value:.10g}"


def _figure(name: str, value: float) -> str:
    return f"{value:,.0f} parameters" if name == "parameters" else f"{value:,.0f} MB"


def _near(name: str, sure: float, whole: float) -> str:
    """The setting that some candidate is sure to keep to: of parameters a share of the teacher's, rounded up."""
    if name == "parameters":
        return f"prune.parameters={-(-int(sure) * 1000 // int(whole)) / 1000:g}"
    return f"prune.memory_mb={math.ceil(sure)}"


def smallest(teacher: Shape, asked: Asked) -> tuple[int, int]:
    """(least, sure): parameters that no candidate of the search is below, and that one is sure to have at most."""
    least, most = candidates_of(teacher, asked).range_of(Bounds(parameters=0))
    return int(least["parameters"].min()), int(most["parameters"].min())


def pruning_in_words(recipe: Recipe, teacher: Shape | None) -> list[str]:
    """What is pruned and over which text it is ranked, in a line; what a search is bounded by in another."""
    asked, over = recipe.prune, " and ".join(source.name for source in recipe.calibration)
    if asked.export_config is not None:
        sizes = ", ".join(f"{name} {size:,}" for name, size in asked.export_config.items())
        return [f"Pruning: to {sizes}, ranked over {over}"]
    found = searched(asked, families.of(teacher).choices(teacher, asked.divisors)) if teacher else {}
    ranges = ", ".join(f"{name} {values[0]:,} to {values[-1]:,}" for name, values in found.items() if len(values) > 1)
    count = math.prod(len(values) for values in found.values())
    among = f"{count:,} candidates of {ranges}" if teacher else "the candidates that its shape allows"
    kept = f"; {', '.join(asked.skip)} as the teacher's" if asked.skip else ""
    lines = [f"Pruning: a search among {among}{kept}; ranked over {over}"]
    return [*lines, within_in_words(asked, teacher)] if teacher else lines


def within_in_words(asked: Asked, teacher: Shape) -> str:
    """How many candidates keep to each bound and to all, which is the tightest, and what the teacher itself has."""
    bounds, found = bounds_of(asked, teacher), candidates_of(teacher, asked)
    least, most = found.range_of(bounds)
    whole = bounds.measured(teacher, layers_of(teacher))
    own = ", ".join(map(bounds.figure, whole, whole.values()))
    counts = {
        _said(asked, name): (_count(most[name] <= value), _count(least[name] <= value))
        for name, value in bounds.most.items()
    }
    kept = ", ".join(f"{_from_to(*few)} to {said}" for said, few in counts.items())
    if len(counts) > 1:
        both = (_count(bounds.hold(most)), _count(bounds.hold(least)))
        tightest = min(counts, key=lambda said: counts[said])
        kept += f", {_from_to(*both)} to both; the tightest is {tightest}"
    return f"Candidates that keep to it, by the layers that ranking leaves: {kept}. The teacher has {own}"


def _count(within: np.ndarray) -> int:
    return int(np.count_nonzero(within))


def _from_to(few: int, many: int) -> str:
    return f"{few:,} to {many:,}" if few < many else f"{few:,}"
