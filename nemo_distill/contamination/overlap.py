"""What sources and benchmarks have in common, as data and as a table.

    found = Contamination.load(Path("contamination.json"))
    headings, rows = found.table()

`nemo_distill.contamination.search` finds it.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from nemo_distill.run.progress import write_atomically

CONTAMINATION_FILE = "contamination.json"
"""What the contamination step leaves in its folder."""


@dataclass(frozen=True)
class Benchmark:
    """What of a benchmark can be looked for."""

    name: str
    """Name of the benchmark."""
    questions: int
    """Number of all its questions."""
    short: int
    """Questions of too few words to judge."""
    common: int
    """Questions all of whose n-grams are shared by too many others."""
    ngrams: int
    """Different n-grams looked for."""
    dropped: int
    """Different n-grams dropped as boilerplate."""

    @property
    def judged(self) -> int:
        """Questions that are looked for."""
        return self.questions - self.short - self.common


@dataclass(frozen=True)
class Example:
    """Where a question was found."""

    question: str
    """Id of the question."""
    words: str
    """N-gram that was found, normalised."""
    document: int
    """Number of the first document that holds it, from 1, among those of the source that could be read."""


@dataclass(frozen=True)
class Overlap:
    """What a source and a benchmark have in common."""

    source: str
    """Name of the source."""
    benchmark: str
    """Name of the benchmark."""
    judged: int
    """Questions of the benchmark that were looked for."""
    touched: tuple[str, ...]
    """Ids of those with an n-gram in a document, in the order in which they were met."""
    whole: tuple[str, ...]
    """Ids of those of which every n-gram was found, in one document or several: the question itself, rather than a
    phrase that it has in common with others."""
    documents: int
    """Documents with an n-gram of any question."""
    examples: tuple[Example, ...]
    """First few of the touched questions, with their words."""

    @property
    def share(self) -> float | None:
        """Part, from 0 to 1, of the judged questions that were touched; None where none can be judged."""
        return len(self.touched) / self.judged if self.judged else None


@dataclass(frozen=True)
class Reading:
    """How much of a source was read."""

    source: str
    """Name of the source."""
    documents: int
    """Documents that were searched."""


@dataclass(frozen=True)
class Contamination:
    """Every source against every benchmark."""

    words: int
    """Number of words of an n-gram."""
    benchmarks: tuple[Benchmark, ...]
    """Benchmarks that were looked for."""
    sources: tuple[Reading, ...]
    """Sources that were searched."""
    overlaps: tuple[Overlap, ...]
    """Source by source, each in the order of `benchmarks`."""

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_atomically(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> "Contamination":
        """Read what `save` wrote."""
        record = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            words=record["words"],
            benchmarks=tuple(Benchmark(**one) for one in record["benchmarks"]),
            sources=tuple(reading_of(one) for one in record["sources"]),
            overlaps=tuple(overlap_of(one) for one in record["overlaps"]),
        )

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and rows of cells: a row per source, a column per benchmark.

        `3 (1.5%), 1 whole` says how many questions were touched, their share of those that can be judged, and how many
        were found whole. A dash stands where none can be judged.
        """
        rows = []
        for reading in self.sources:
            mine = {overlap.benchmark: overlap for overlap in self.overlaps if overlap.source == reading.source}
            rows.append([reading.source, *(_cell(mine[benchmark.name]) for benchmark in self.benchmarks)])
        return ["Source", *(benchmark.name for benchmark in self.benchmarks)], rows

    def notes(self) -> list[str]:
        """What the table does not say, a sentence each: what was not judged, and what was dropped."""
        said = [f"Questions of which a document holds {self.words} words in a row, or all words of a shorter question."]
        for one in self.benchmarks:
            parts = [
                (one.short, f"{one.short:,} of its {one.questions:,} questions are too short to judge"),
                (one.common, f"{one.common:,} of its {one.questions:,} questions are nothing but template"),
                (one.dropped, f"{one.dropped:,} n-grams are template and not looked for"),
            ]
            if any(count for count, _ in parts):
                said.append(f"{one.name}: {'; '.join(text for count, text in parts if count)}.")
        return said


def reading_of(record: dict) -> Reading:
    """A `Reading` from its JSON, which may have keys of earlier versions."""
    return Reading(source=record["source"], documents=record["documents"])


def overlap_of(record: dict) -> Overlap:
    """An `Overlap` from its JSON."""
    examples = tuple(Example(**example) for example in record["examples"])
    ids = {key: tuple(record[key]) for key in ("touched", "whole")}
    return Overlap(**record | ids | {"examples": examples})


def _cell(overlap: Overlap) -> str:
    if overlap.share is None:
        return "–"
    if not overlap.touched:
        return "0"
    share = f"{overlap.share:.0%}" if overlap.share >= 0.1 else f"{100 * overlap.share:.2g}%"
    whole = f", {len(overlap.whole):,} whole" if overlap.whole else ""
    return f"{len(overlap.touched):,} ({share}){whole}"
