"""A blend: which sources the student learns from, and which share of its tokens each one gives.

>>> from nemo_distill.config.blend import Blend, megatron_blend
>>> blend = Blend(name="mine", shares={"math-v2-part00": 60, "science-mcq": 40})
>>> blend.tokens_drawn(10e9)
{'math-v2-part00': 6000000000.0, 'science-mcq': 4000000000.0}
>>> {source: round(passes, 2) for source, passes in blend.epochs(10e9).items()}
{'math-v2-part00': 0.67, 'science-mcq': 8.05}
>>> megatron_blend(blend.shares, {"math-v2-part00": "runs/math", "science-mcq": "runs/mcq"})
['60.0', 'runs/math', '40.0', 'runs/mcq']

A recipe writes it as a table, a row per source, with where each share comes from:

>>> blend = Blend.of("mine", ("math-v2-part00", 60, PUBLISHED), ("science-mcq", 40, reconstructed("14 passes")))
>>> blend.provenance_of("science-mcq")
'reconstructed: 14 passes'

A blend is checked when it is made: `UserError` names the value that cannot be.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nemo_distill.config.sources import find
from nemo_distill.errors import UserError

SUM_TOLERANCE = 1e-6
"""In percent points: what the shares may be off 100 by, for thirds and the like."""
PUBLISHED = "published"
"""The provenance of a share that the study's tables state."""


def reconstructed(because: str) -> str:
    """The provenance of a share that is not published, with the reason for its value."""
    return f"reconstructed: {because}"


@dataclass(frozen=True)
class Blend:
    """Sources and their shares."""

    name: str
    """What runs and reports call it."""
    shares: dict[str, float]
    """Percent of the tokens by source (`nemo_distill.config.sources`); they sum to 100. May be given as pairs, too."""
    provenance: str | dict[str, str] = "not stated"
    """Where the shares come from, e.g. `published`: one sentence for all of them, or one by source."""

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name.strip():
            raise UserError(f"a blend needs a name, not {self.name!r}.")
        shares: dict[str, float] = {}
        for source, share in self.shares.items() if isinstance(self.shares, Mapping) else self.shares:
            find(source)
            if source in shares:
                raise UserError(f"blend {self.name!r} names the source {source!r} twice.")
            shares[source] = _percent(share, f"the share of {source!r} in blend {self.name!r}")
        if not shares:
            raise UserError(f"blend {self.name!r} has no sources.")
        total = math.fsum(shares.values())
        if abs(total - 100) > SUM_TOLERANCE:
            raise UserError(f"the shares of blend {self.name!r} sum to {total:g} percent, not 100.")
        if isinstance(self.provenance, Mapping) and set(self.provenance) != set(shares):
            odd = sorted(set(self.provenance) ^ set(shares))
            raise UserError(f"blend {self.name!r} has shares and provenance of different sources: {', '.join(odd)}.")
        object.__setattr__(self, "shares", shares)

    @classmethod
    def of(cls, name: str, *rows: tuple[str, float, str]) -> "Blend":
        """The blend of `rows`, (source, percent, provenance) each."""
        shares: dict[str, float] = {}
        for source, share, _ in rows:
            if source in shares:
                raise UserError(f"blend {name!r} names the source {source!r} twice.")
            shares[source] = share
        return cls(name=name, shares=shares, provenance={source: provenance for source, _, provenance in rows})

    def provenance_of(self, source: str) -> str:
        """Where the share of `source` comes from."""
        return self.provenance if isinstance(self.provenance, str) else self.provenance[source]

    def tokens_drawn(self, tokens: float) -> dict[str, float]:
        """Tokens drawn from each source in a run of `tokens` tokens."""
        return {source: tokens * share / 100 for source, share in self.shares.items()}

    def epochs(self, tokens: float, available: Mapping[str, float] | None = None) -> dict[str, float]:
        """Passes over each source in a run of `tokens` tokens; past 1 a source repeats, which Megatron does silently.

        `available` is what each source holds in tokens; by default what the catalogue says.
        """
        held = {source: find(source).tokens for source in self.shares} if available is None else available
        for source in self.shares:
            if source not in held:
                raise UserError(f"how many tokens {source!r} holds is not known, so its epochs cannot be counted.")
            if not held[source] > 0:
                raise UserError(f"{source!r} holds {held[source]} tokens: nothing can be drawn from it.")
        return {source: drawn / held[source] for source, drawn in self.tokens_drawn(tokens).items()}

    def difference(self, other: "Blend") -> dict[str, tuple[float, float]]:
        """(share here, share in `other`), in percent, of each source in which the two differ; 0 where it is absent.

        >>> Blend("a", {"stem": 100}).difference(Blend("b", {"stem": 60, "science-mcq": 40}))
        {'stem': (100.0, 60.0), 'science-mcq': (0.0, 40.0)}
        """
        sources = dict.fromkeys([*self.shares, *other.shares])
        pairs = {source: (self.shares.get(source, 0.0), other.shares.get(source, 0.0)) for source in sources}
        return {source: pair for source, pair in pairs.items() if pair[0] != pair[1]}


def megatron_blend(shares: Mapping[str, float], prefixes: Mapping[str, str]) -> list[str]:
    """Megatron's flat list `[weight, prefix, weight, prefix, ...]` of the sources in `shares`.

    `prefixes` is the path of each source's .bin and .idx, without the ending. Megatron reads a list of odd length, or
    one with a weight that is no number, as unweighted prefixes, so both are kept from happening here.
    """
    missing = sorted(set(shares) - set(prefixes))
    if missing:
        raise UserError(f"no tokenised data of {', '.join(missing)}: prepare did not see them.")
    return [word for source, share in shares.items() for word in (str(float(share)), str(prefixes[source]))]


def _percent(value, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{what} is {value!r}, not a number.")
    if not 0 < value <= 100:  # NaN fails it too
        raise UserError(f"{what} is {value}; a share is above 0 and at most 100 percent.")
    return float(value)
