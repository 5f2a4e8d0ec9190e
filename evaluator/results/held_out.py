"""What was measured on held-out documents in the course of a training: per source, with errors over documents.

point = HeldOutPoint.of(line)                       # a line of held_out.jsonl
point.sources["stem"].kl                            # Estimate(mean=0.0312, stderr=0.0009), nats per token
blended([point.sources[name].kl for name in shares], list(shares.values()))
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluator.results.files import LARGEST, mapping, number, text, whole
from evaluator.stats.scores import Estimate


@dataclass(frozen=True)
class HeldOutLoss:
    """Of one source, in nats per token."""

    kl: Estimate
    """Forward KL divergence of the student from the teacher; its standard error is nan where there is one document."""
    loss: Estimate
    """Cross-entropy of the next token."""
    teacher_loss: float
    """The teacher's own cross-entropy of the next token."""
    documents: int
    """Documents that were measured."""
    tokens: int
    """Tokens of theirs that were predicted."""


@dataclass(frozen=True)
class HeldOutPoint:
    """All sources after one iteration."""

    iteration: int
    """Iterations of distillation; 0 for the pruned student."""
    tokens: int
    """Tokens of distillation."""
    sources: Mapping[str, HeldOutLoss]
    """Losses by source."""

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> "HeldOutPoint":
        """The point that a line of the log says. Raises ValueError, KeyError or TypeError where it says none."""
        sources = {text(name, "a source"): mapping(one, name) for name, one in mapping(line["sources"], "it").items()}
        return cls(
            iteration=whole(line["iteration"], "iteration"),
            tokens=whole(line["tokens"], "tokens"),
            sources={
                name: HeldOutLoss(
                    kl=_estimate(one, "kl"),
                    loss=_estimate(one, "loss"),
                    teacher_loss=number(one["teacher_loss"], "teacher_loss", least=-LARGEST),
                    documents=whole(one["documents"], "documents", least=1),
                    tokens=whole(one["tokens"], "tokens", least=1),
                )
                for name, one in sources.items()
            },
        )


def _estimate(one: Mapping[str, Any], name: str) -> Estimate:
    error = one[f"{name}_stderr"]
    mean = number(one[name], name, least=-LARGEST)
    return Estimate(mean, math.nan if error is None else number(error, f"{name}_stderr", least=0))


def blended(estimates: Sequence[Estimate], shares: Sequence[float]) -> Estimate:
    """Mean of the sources' estimates by their shares of the blend, with its standard error."""
    weights = [share / sum(shares) for share in shares]
    return Estimate(
        sum(weight * one.mean for weight, one in zip(weights, estimates, strict=True)),
        math.sqrt(sum((weight * one.stderr) ** 2 for weight, one in zip(weights, estimates, strict=True))),
    )
