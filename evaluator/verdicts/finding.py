"""Defines a finding: what scores or tables show, the numbers behind it, and the rule that decided it.

for finding in repeated_sources({"30pre_70post_v1v3 at 80B": report.blend}):
    finding.title, finding.text, finding.rule
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from evaluator.results.run import BlendPart
from evaluator.text import fixed

MANY_EPOCHS = 4
"""Epochs over a source beyond which repetition is known to cost (N. Muennighoff et al., "Scaling Data-Constrained
Language Models", 2023)."""


@dataclass(frozen=True)
class Finding:
    """One thing that scores do or do not show."""

    title: str
    """The conclusion, in one sentence."""
    text: str
    """The numbers behind it."""
    rule: str
    """How it was decided."""


def repeated_sources(parts: Mapping[str, Iterable[BlendPart]]) -> Iterator[Finding]:
    """Sources of many epochs, of blends by what they are called."""
    lines = [
        f"{blend}: " + ", ".join(f"{part.source} {fixed(part.epochs, 2)} epochs{_origin(part)}" for part in many)
        for blend, sources in parts.items()
        if (many := [part for part in sources if part.epochs > MANY_EPOCHS])
    ]
    if lines:
        yield Finding(
            f"{len(lines)} blend{'s' * (len(lines) > 1)} repeat{'s' * (len(lines) == 1)} a source for more than "
            f"{MANY_EPOCHS} epochs.",
            f"{'; '.join(lines)}. Megatron repeats silently.",
            "share of the tokens at the last row over the tokens available",
        )


def _origin(part: BlendPart) -> str:
    """Whether its share is published or reconstructed, in brackets, where that is said."""
    return f" ({part.provenance.partition(':')[0]})" if part.provenance else ""
