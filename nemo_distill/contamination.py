"""Which benchmark questions a source holds: word n-grams that a question and a document have in common.

    index = Index({"gpqa": [Question("17", "Which of the following ...")]})
    overlaps = index.scan("stem", ["a document", [{"role": "user", "content": "another"}]])
    overlaps[0].touched                         # ("17",): the questions with an n-gram in any document

As in GPT-3's appendix C and lm-evaluation-harness an n-gram is 13 words, lower case, without punctuation; a question
of 8 to 12 words is one n-gram, a shorter one is not judged. An n-gram that many questions of a benchmark share is its
prompt template and says nothing, so it is dropped and counted.

The one library for this in our lock files, lm-evaluation-harness's `Janitor`, cuts n-grams out of documents but does
not say whose they were, and its fast part is C++ that its wheel lacks; hence these lines of numpy.
"""

import functools
import json
import math
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nemo_distill.errors import UserError
from nemo_distill.progress import write_atomically
from nemo_distill.questions import Question

WORDS = 13
"""Words of an n-gram."""
MINIMUM_WORDS = 8
"""Questions of fewer words are not judged."""
BOILERPLATE = 0.01
"""An n-gram in more than this share of a benchmark's questions, and in more than two, is dropped."""
EXAMPLES = 3
"""Touched questions shown per source and benchmark."""
_BATCH = 1 << 18
"""Bytes of documents looked up at once; what is computed from them fits a core's cache."""
_BASE = 0x9E3779B97F4A7C15
"""Of the polynomial hash, modulo 2^64; odd, so that it has an inverse."""


@dataclass(frozen=True)
class Benchmark:
    """What of a benchmark can be looked for."""

    name: str
    questions: int
    """All there are."""
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
    """Its id."""
    words: str
    """The n-gram, normalised."""
    document: int
    """The first document that holds it: its number, from 1, among those of the source that could be read."""


@dataclass(frozen=True)
class Overlap:
    """What a source and a benchmark have in common."""

    source: str
    benchmark: str
    judged: int
    """Questions of the benchmark that were looked for."""
    touched: tuple[str, ...]
    """Ids of those with an n-gram in a document, in the order in which they were met."""
    documents: int
    """Documents with an n-gram of any question."""
    examples: tuple[Example, ...]
    """The first few."""

    @property
    def share(self) -> float | None:
        """Part, from 0 to 1, of the judged questions that were touched; None where none can be judged."""
        return len(self.touched) / self.judged if self.judged else None


@dataclass(frozen=True)
class Reading:
    """How much of a source was read."""

    source: str
    documents: int
    bytes: int
    """Unpacked."""
    whole: bool
    """False when a limit ended the reading."""


@dataclass(frozen=True)
class Contamination:
    """Every source against every benchmark."""

    words: int
    """Words of an n-gram."""
    benchmarks: tuple[Benchmark, ...]
    sources: tuple[Reading, ...]
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
            sources=tuple(Reading(**one) for one in record["sources"]),
            overlaps=tuple(overlap_of(one) for one in record["overlaps"]),
        )

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and rows of cells: a row per source, a column per benchmark, `3 (1.5%)` for the questions touched.

        A dash stands where no question of the benchmark can be judged.
        """
        rows = []
        for reading in self.sources:
            mine = {overlap.benchmark: overlap for overlap in self.overlaps if overlap.source == reading.source}
            rows.append([reading.source, *(_cell(mine[benchmark.name]) for benchmark in self.benchmarks)])
        return ["Source", *(benchmark.name for benchmark in self.benchmarks)], rows

    def notes(self) -> list[str]:
        """What the table does not say, a sentence each: what was not judged, dropped or read."""
        said = [f"Questions with {self.words} consecutive words, or all of a shorter question, in a document."]
        for one in self.benchmarks:
            if one.short or one.common or one.dropped:
                said.append(
                    f"{one.name}: {one.judged:,} of {one.questions:,} questions judged, {one.short:,} too short, "
                    f"{one.common:,} all template; {one.dropped:,} n-grams dropped as template."
                )
        said += [
            f"{one.source}: only its first {one.bytes:,} bytes were read." for one in self.sources if not one.whole
        ]
        return said


def overlap_of(record: dict) -> Overlap:
    """An `Overlap` from its JSON."""
    examples = tuple(Example(**example) for example in record["examples"])
    return Overlap(**record | {"touched": tuple(record["touched"]), "examples": examples})


def terminal_table(contamination: Contamination):
    """`contamination` as a `rich.table.Table`."""
    from rich import box
    from rich.table import Table

    headings, rows = contamination.table()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, caption="\n".join(contamination.notes()))
    for heading in headings:
        table.add_column(heading, justify="left" if heading == headings[0] else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _cell(overlap: Overlap) -> str:
    if overlap.share is None:
        return "–"
    return f"{len(overlap.touched):,} ({overlap.share:.1%})" if overlap.touched else "0"


class Index:
    """The n-grams of the questions of some benchmarks, held in memory: about 30 bytes for each, and a filter."""

    def __init__(
        self,
        benchmarks: Mapping[str, Sequence[Question]],
        *,
        words: int = WORDS,
        minimum: int = MINIMUM_WORDS,
        boilerplate: float = BOILERPLATE,
    ):
        """Args:
            benchmarks: Questions by the name of their benchmark.
            words: Words of an n-gram.
            minimum: Questions of fewer words are not judged.
            boilerplate: Share of a benchmark's questions; n-grams in more of them, and in more than two, are dropped.

        Raises `UserError` for numbers that make no sense.
        """
        if not 1 <= minimum <= words:
            raise UserError(f"n-grams are of {words} words and of no fewer than {minimum}; that leaves none.")
        if not 0 < boilerplate <= 1:
            raise UserError(f"boilerplate is a share of the questions, above 0 and up to 1, not {boilerplate}.")
        self.words = words
        self.benchmarks: list[Benchmark] = []
        self._questions: list[Question] = []
        self._benchmark_of: list[int] = []  # of each question
        sizes, hashes, owners = set(), [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for number, (name, questions) in enumerate(benchmarks.items()):
            grams, asked = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
            short = 0
            for question in questions:
                text = normalised(question.text)
                size = min(words, text.count(b" ") + 1) if text else 0
                if size < minimum:
                    short += 1
                    continue
                sizes.add(size)
                grams.append(np.unique(_Hashed(np.frombuffer(text, np.uint8)).grams(size)))
                asked.append(np.full(len(grams[-1]), len(self._questions)))
                self._questions.append(question)
                self._benchmark_of.append(number)
            grams, asked = np.concatenate(grams), np.concatenate(asked)
            different, times = np.unique(grams, return_counts=True)
            common = different[times > max(2, boilerplate * len(questions))]
            kept = ~np.isin(grams, common)
            hashes.append(grams[kept])
            owners.append(asked[kept])
            judged = len(np.unique(asked[kept]))
            self.benchmarks.append(
                Benchmark(
                    name=name,
                    questions=len(questions),
                    short=short,
                    common=len(questions) - short - judged,
                    ngrams=len(different) - len(common),
                    dropped=len(common),
                )
            )
        self._sizes = sorted(sizes)
        hashes, owners = np.concatenate(hashes), np.concatenate(owners)
        order = np.argsort(hashes, kind="stable")
        self._owners = owners[order]
        # The owners of self._hashes[i] are self._owners[self._first[i] : self._first[i + 1]].
        self._hashes, first = np.unique(hashes[order], return_index=True)
        self._first = np.append(first, len(owners))
        # Sixteen places per n-gram let one in sixteen of a document's n-grams through to the search among all.
        bits = max(16, math.ceil(math.log2(16 * max(1, len(self._hashes)))))
        self._shift = np.uint64(64 - bits)
        self._filter = np.zeros(1 << bits, bool)
        self._filter[self._hashes >> self._shift] = True

    def scan(self, source: str, documents: Iterable[str | list[dict]]) -> list[Overlap]:
        """Overlaps of `source` with each benchmark; `documents` are read once, memory is for the longest of them."""
        met: dict[int, Example] = {}
        touching = np.zeros(len(self.benchmarks), np.int64)
        benchmark_of = np.asarray(self._benchmark_of, np.int64)
        for before, letters in _batches(documents):
            begins, ends, questions = self._found(letters)
            if not len(questions):
                continue
            numbers = np.searchsorted(np.flatnonzero(letters == _NEXT), begins)
            pairs = np.unique(numbers * len(touching) + benchmark_of[questions])
            touching += np.bincount(pairs % len(touching), minlength=len(touching))
            for index in _firsts(questions):
                question, words = int(questions[index]), letters[begins[index] : ends[index]].tobytes()
                # That two hashes of 64 bits are equal is all but proof; this is the rest.
                if question not in met and _holds(normalised(self._questions[question].text), words):
                    met[question] = Example(
                        question=self._questions[question].identity,
                        words=words.decode(),
                        document=before + int(numbers[index]) + 1,
                    )
        overlaps = []
        for number, benchmark in enumerate(self.benchmarks):
            mine = [example for question, example in met.items() if self._benchmark_of[question] == number]
            overlaps.append(
                Overlap(
                    source=source,
                    benchmark=benchmark.name,
                    judged=benchmark.judged,
                    touched=tuple(example.question for example in mine),
                    documents=int(touching[number]),
                    examples=tuple(mine[:EXAMPLES]),
                )
            )
        return overlaps

    def _found(self, letters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where n-grams of questions stand in `letters`: begin, end and question of each, by begin."""
        hashed = _Hashed(letters)
        found = [np.zeros((3, 0), np.int64)]
        for size in self._sizes:
            grams = hashed.grams(size)
            likely = np.flatnonzero(self._filter[grams >> self._shift])
            places = np.searchsorted(self._hashes, grams[likely])
            places[places == len(self._hashes)] = 0
            equal = self._hashes[places] == grams[likely]
            at, places = likely[equal], places[equal]
            counts = self._first[places + 1] - self._first[places]
            owned = np.repeat(self._first[places] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
            at = np.repeat(at, counts)
            found.append(np.stack([hashed.starts[at], hashed.starts[at + size] - 1, self._owners[owned]]))
        begins, ends, questions = np.concatenate(found, axis=1)
        order = np.lexsort((questions, begins))
        return begins[order], ends[order], questions[order]


class _Hashed:
    """What the hash of any run of words is read off, for the bytes of a normalised text.

    The hash of bytes b_0 ... b_k is the sum of b_j * _BASE^j modulo 2^64. From the running sum over the text, that of
    any stretch is a difference, divided by the power of _BASE at which it begins.
    """

    def __init__(self, letters: np.ndarray):
        powers, self._inverses = _powers(max(_BATCH, 1 << len(letters).bit_length()))
        self._sums = np.zeros(len(letters) + 1, np.uint64)
        np.multiply(letters, powers[: len(letters)], out=self._sums[1:])
        np.cumsum(self._sums, out=self._sums)
        self.starts = np.concatenate([[0], np.flatnonzero(letters <= _SPACE) + 1, [len(letters) + 1]])
        """Where each word begins, and one more would."""

    def grams(self, size: int) -> np.ndarray:
        """The hash of every run of `size` words, in order.

        A run that goes on into the next document has `_NEXT` where questions have a space, so it equals none of theirs.
        """
        begins, ends = self.starts[:-size], self.starts[size:] - 1
        return (self._sums[ends] - self._sums[begins]) * self._inverses[begins]


@functools.lru_cache(maxsize=4)
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` powers of _BASE modulo 2^64, and their inverses; one more, for the word after a last one."""
    inverse = pow(_BASE, -1, 1 << 64)
    return tuple(
        np.cumprod(np.concatenate([np.ones(1, np.uint64), np.full(count, base, np.uint64)]))
        for base in (_BASE, inverse)
    )


_SPACE, _NEXT = b" \n"
"""Between words, and between documents."""
_FOLD = bytes.maketrans(
    (string.ascii_uppercase + string.whitespace).encode(),
    (string.ascii_lowercase + " " * len(string.whitespace)).encode(),
)
_NO_WORD = bytes(code for code in range(128) if not (chr(code).isalnum() or chr(code) in string.whitespace))
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")


def normalised(text: str) -> bytes:
    """The words of `text`, lower case, without punctuation and symbols, one space between them; UTF-8.

    >>> normalised("Don\\u2019t panic:\\n it's\\u00a0X\\u00b2 .")
    b'dont panic its x2'
    """
    return b" ".join(_spread(text).split())


def _spread(text: str) -> bytes:
    """`normalised` but for the number of spaces between words."""
    if not text.isascii():
        text = _BEYOND_ASCII.sub(lambda run: _words_of(run[0]), unicodedata.normalize("NFKC", text)).lower()
    return text.encode().translate(_FOLD, _NO_WORD)


@functools.lru_cache(maxsize=4096)  # few runs of such characters in a language make up most of them
def _words_of(run: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"[^\w\s]+", "", run))


def text_of(document: str | list[dict]) -> str:
    """The words of a document: a text, or the reasoning and content of all its messages."""
    if isinstance(document, str):
        return document
    parts = (message.get(key) for message in document for key in ("reasoning_content", "content"))
    return "\n".join(part for part in parts if isinstance(part, str))


def _batches(documents: Iterable[str | list[dict]]) -> Iterator[tuple[int, np.ndarray]]:
    """Normalised documents as bytes, `_NEXT` between them, about `_BATCH` at once, and how many came before them."""
    before, size, batch = 0, 0, []
    for document in documents:
        batch.append(_spread(text_of(document)))
        size += len(batch[-1])
        if size >= _BATCH:
            yield before, _joined(batch)
            before, size, batch = before + len(batch), 0, []
    if batch:
        yield before, _joined(batch)


def _joined(documents: list[bytes]) -> np.ndarray:
    """The bytes of all, each run of spaces folded into one; several times faster than to split each and join."""
    letters = np.frombuffer(b"\n".join(documents), np.uint8)
    spaces = np.flatnonzero(letters == _SPACE)
    return np.delete(letters, spaces[1:][np.diff(spaces) == 1])


def _firsts(values: np.ndarray) -> np.ndarray:
    """Where each different value stands first, in order."""
    return np.sort(np.unique(values, return_index=True)[1])


def _holds(text: bytes, words: bytes) -> bool:
    return b" " + words + b" " in b" " + text + b" "
