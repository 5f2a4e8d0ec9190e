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

Beside the catalogue's names may stand a source of the recipe's own:

>>> from nemo_distill.config.sources import Source
>>> tickets = Source(name="tickets", path="data/tickets.jsonl", field="messages")
>>> Blend.of("mine", (tickets, 60, "a guess"), ("science-mcq", 40, "the rest")).shares
{'tickets': 60.0, 'science-mcq': 40.0}

A blend is checked when it is made: `UserError` names the value that cannot be.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nemo_distill.config.sources import SOURCES, Source
from nemo_distill.errors import UserError, nearest, slip_of

SUM_TOLERANCE = 1e-6
"""In percent points: what the shares may be off 100 by, for thirds and the like."""
PUBLISHED = "published"
"""The provenance of a share that the study's tables state."""


OWN = "docs/reference/sources.md lists those that are; one of your own is Source(name='{}', path=...) in the recipe."
"""What to say where a name is no slip of one."""


def reconstructed(because: str) -> str:
    """The provenance of a share that is not published, with the reason for its value."""
    return f"reconstructed: {because}"


@dataclass(frozen=True)
class Blend:
    """Sources and their shares."""

    name: str
    """What runs and reports call it."""
    shares: dict[str, float]
    """Percent of the tokens by source (`nemo_distill.config.sources`); they sum to 100. May be given as pairs, too, and
    with a `Source` in place of its name."""
    provenance: str | dict[str, str] = "not stated"
    """Where the shares come from, e.g. `published`: one sentence for all of them, or one by source."""
    sources: dict[str, Source] = field(default_factory=dict)
    """Sources that are not the catalogue's, by name."""

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name.strip():
            raise UserError(f"a blend needs a name, not {self.name!r}.")
        if not self.name.isprintable():
            plain = " ".join("".join(one if one.isprintable() else " " for one in self.name).split())
            raise UserError(f"a blend cannot be called {self.name!r}, as reports are. Did you mean {plain!r}?")
        if isinstance(self.shares, str) or not isinstance(self.shares, Iterable):
            raise UserError(f"the shares of blend {self.name!r} are {self.shares!r}: give {{'SOURCE': percent}}.")
        shares: dict[str, float] = {}
        sources = {name: self._checked(name, source) for name, source in self.sources.items()}
        for given, share in self.shares.items() if isinstance(self.shares, Mapping) else self.shares:
            source = given.name if isinstance(given, Source) else given
            if isinstance(given, Source) and SOURCES.get(source) != given:
                sources[source] = self._checked(source, given)
            if source not in sources and source not in SOURCES:
                known = [*SOURCES, *sources]
                hint = nearest(source, known) if slip_of(str(source), known) else OWN.format(source)
                raise UserError(f"no source is called {source!r}. {hint}")
            if source in shares:
                raise UserError(f"blend {self.name!r} names the source {source!r} twice.")
            shares[source] = _percent(share, f"the share of {source!r} in blend {self.name!r}")
        if not shares:
            raise UserError(f"blend {self.name!r} has no sources: its shares are empty.")
        total = math.fsum(shares.values())
        if abs(total - 100) > SUM_TOLERANCE:
            raise UserError(f"the shares of blend {self.name!r} sum to {total:g} percent, not 100.")
        if isinstance(self.provenance, Mapping) and set(self.provenance) != set(shares):
            odd = sorted(set(self.provenance) ^ set(shares))
            raise UserError(f"blend {self.name!r} has shares and provenance of different sources: {', '.join(odd)}.")
        object.__setattr__(self, "shares", shares)
        object.__setattr__(self, "sources", sources)

    @classmethod
    def of(cls, name: str, *rows: tuple[str | Source, float, str]) -> "Blend":
        """The blend of `rows`, (source, percent, provenance) each."""
        for row in rows:
            if not isinstance(row, tuple | list) or len(row) != 3:
                raise UserError(f"blend {name!r} has the row {row!r}: a row is (source, percent, provenance).")
            if not isinstance(row[0], str | Source) or not isinstance(row[2], str):
                raise UserError(
                    f"blend {name!r} has the row {row!r}: a source is a name or a Source(...), a provenance is text."
                )
        own = {source.name: source for source, _, _ in rows if isinstance(source, Source)}
        named = [(source.name if isinstance(source, Source) else source, share, why) for source, share, why in rows]
        shares: dict[str, float] = {}
        for source, share, _ in named:
            if source in shares:
                raise UserError(f"blend {name!r} names the source {source!r} twice.")
            shares[source] = share
        provenance = {source: why for source, _, why in named}
        return cls(name=name, shares=shares, provenance=provenance, sources=own)

    def source(self, name: str) -> Source:
        """The source called `name`, of the blend's own or of the catalogue."""
        return self.sources.get(name) or SOURCES[name]

    def is_own(self, name: str) -> bool:
        """Whether the source called `name` is not the catalogue's."""
        return name in self.sources

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
        known = {source: count for source in self.shares if (count := self.source(source).available) is not None}
        held = known if available is None else available
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

    def _checked(self, name: str, source: Source) -> Source:
        if not isinstance(source, Source):
            raise UserError(f"blend {self.name!r} has the source {name!r}, which is a {type(source).__name__}.")
        if name != source.name:
            raise UserError(f"blend {self.name!r} calls the source {source.name!r} {name!r}; give it one name.")
        if name in SOURCES and SOURCES[name] != source:
            raise UserError(
                f"blend {self.name!r} has a source {name!r} of its own, and the catalogue's is called so; call yours "
                f"'my-{name}'."
            )
        return source


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
