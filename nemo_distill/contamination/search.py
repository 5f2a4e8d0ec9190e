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

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from nemo_distill.config.settings import BOILERPLATE, NGRAM
from nemo_distill.contamination.ngrams import NEXT, Hashed, batches, normalised
from nemo_distill.contamination.overlap import Benchmark, Example, Overlap
from nemo_distill.contamination.questions import Question
from nemo_distill.errors import UserError

MINIMUM_WORDS = 8
"""Questions of fewer words are not judged."""
EXAMPLES = 3
"""Touched questions shown with their words, per source and benchmark."""


class Index:
    """The n-grams of the questions of some benchmarks, held in memory: about 50 bytes for each."""

    def __init__(
        self,
        benchmarks: Mapping[str, Sequence[Question]],
        *,
        words: int = NGRAM,
        minimum: int | None = None,
        boilerplate: float = BOILERPLATE,
    ):
        """Args:
            benchmarks: Questions by the name of their benchmark.
            words: Words of an n-gram.
            minimum: Questions of fewer words are not judged; None: `MINIMUM_WORDS`, or `words` where that is fewer.
            boilerplate: Share of a benchmark's questions; n-grams in more of them, and in more than two, are dropped.

        Raises `UserError` for numbers that make no sense.
        """
        minimum = min(MINIMUM_WORDS, words) if minimum is None else minimum
        if not 1 <= minimum <= words:
            raise UserError(f"n-grams are of {words} words and of no fewer than {minimum}; that leaves none.")
        if not 0 < boilerplate <= 1:
            raise UserError(f"boilerplate is a share of the questions, above 0 and up to 1, not {boilerplate}.")
        self.words, self.minimum, self.boilerplate = words, minimum, boilerplate
        self.benchmarks: list[Benchmark] = []
        self._questions: list[Question] = []
        self._benchmark_of: list[int] = []  # of each question
        self._sizes: set[int] = set()  # words of the n-grams that there are
        pairs = [np.zeros((2, 0), np.uint64)]
        pairs += [self._pairs(name, questions) for name, questions in benchmarks.items()]
        hashes, owners = np.concatenate(pairs, axis=1)
        order = np.argsort(hashes, kind="stable")
        # The owners of self._hashes[i] are self._owners[self._first[i] : self._first[i + 1]].
        self._hashes, first = np.unique(hashes[order], return_index=True)
        self._owners, self._first = owners[order].astype(np.int64), np.append(first, len(owners))
        # Sixteen places per n-gram let one in sixteen of a document's n-grams through to the search among all.
        bits = max(16, math.ceil(math.log2(16 * max(1, len(self._hashes)))))
        self._shift = np.uint64(64 - bits)
        self._filter = np.zeros(1 << bits, bool)
        self._filter[self._hashes >> self._shift] = True

    def _pairs(self, name: str, questions: Sequence[Question]) -> np.ndarray:
        """Note a benchmark; returns its n-grams without the boilerplate: hash and number of the question, (2, n)."""
        found, short = [np.zeros((2, 0), np.uint64)], 0
        for question in questions:
            text = normalised(question.text)
            size = min(self.words, text.count(b" ") + 1) if text else 0
            if size < self.minimum:
                short += 1
                continue
            grams = np.unique(Hashed(np.frombuffer(text, np.uint8)).grams(size))
            found.append(np.stack([grams, np.full_like(grams, len(self._questions))]))
            self._sizes.add(size)
            self._questions.append(question)
            self._benchmark_of.append(len(self.benchmarks))
        pairs = np.concatenate(found, axis=1)
        different, times = np.unique(pairs[0], return_counts=True)
        common = different[times > max(2, self.boilerplate * len(questions))]
        kept = pairs[:, ~np.isin(pairs[0], common)]
        self.benchmarks.append(
            Benchmark(
                name=name,
                questions=len(questions),
                short=short,
                common=len(questions) - short - len(np.unique(kept[1])),
                ngrams=len(different) - len(common),
                dropped=len(common),
            )
        )
        return kept

    def scan(self, source: str, documents: Iterable[str | list[dict]]) -> list[Overlap]:
        """Overlaps of `source` with each benchmark; `documents` are read once, memory is for the longest of them."""
        met: dict[int, Example] = {}
        seen = np.zeros(len(self._owners), bool)
        touching = np.zeros(len(self.benchmarks), np.int64)
        benchmark_of = np.asarray(self._benchmark_of, np.int64)
        for before, letters in batches(documents):
            begins, ends, entries = self._found(letters)
            if not len(entries):
                continue
            seen[entries] = True
            questions = self._owners[entries]
            numbers = np.searchsorted(np.flatnonzero(letters == NEXT), begins)
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
        unseen = set(self._owners[~seen].tolist())
        overlaps = []
        for number, benchmark in enumerate(self.benchmarks):
            mine = {question: example for question, example in met.items() if self._benchmark_of[question] == number}
            overlaps.append(
                Overlap(
                    source=source,
                    benchmark=benchmark.name,
                    judged=benchmark.judged,
                    touched=tuple(example.question for example in mine.values()),
                    whole=tuple(example.question for question, example in mine.items() if question not in unseen),
                    documents=int(touching[number]),
                    examples=tuple(mine.values())[:EXAMPLES],
                )
            )
        return overlaps

    def _found(self, letters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where n-grams of questions stand in `letters`: begin, end and place in `_owners` of each, by begin."""
        hashed = Hashed(letters)
        found = [np.zeros((3, 0), np.int64)]
        for size in sorted(self._sizes):
            grams = hashed.grams(size)
            likely = np.flatnonzero(self._filter[grams >> self._shift])
            places = np.searchsorted(self._hashes, grams[likely])
            places[places == len(self._hashes)] = 0
            equal = self._hashes[places] == grams[likely]
            at, places = likely[equal], places[equal]
            counts = self._first[places + 1] - self._first[places]
            owned = np.repeat(self._first[places] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
            at = np.repeat(at, counts)
            found.append(np.stack([hashed.starts[at], hashed.starts[at + size] - 1, owned]))
        begins, ends, entries = np.concatenate(found, axis=1)
        order = np.lexsort((self._owners[entries], begins))
        return begins[order], ends[order], entries[order]


def _firsts(values: np.ndarray) -> np.ndarray:
    """Where each different value stands first, in order."""
    return np.sort(np.unique(values, return_index=True)[1])


def _holds(text: bytes, words: bytes) -> bool:
    return b" " + words + b" " in b" " + text + b" "
