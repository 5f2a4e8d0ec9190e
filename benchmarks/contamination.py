"""How fast a source is searched for benchmark questions, beside the plain way of doing it.

    python benchmarks/contamination.py [--megabytes 100] [--questions 20000]

Makes a JSONL of documents in words as frequent as in a language (Zipf), and as many questions of 20 to 80 words; each
hundredth question stands in a document. Then, in one process and on one core, alternately and three times each: `Index`
of `nemo_distill.contamination.search`, and a scan that looks every 13 words of every document up in a dictionary of
tuples. Both must find the same questions. Prints a Markdown table of the medians, in seconds of a core, as others may
share the machine; a MB is 10^6 bytes of the file.
"""

import argparse
import random
import resource
import statistics
import string
import tempfile
import time
from collections.abc import Callable
from itertools import accumulate
from json import dumps
from pathlib import Path

from nemo_distill.contamination.questions import Question
from nemo_distill.contamination.search import WORDS, Index
from nemo_distill.data.documents import Tally, rows

ROUNDS = 3
DROP = str.maketrans("", "", string.punctuation)


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--questions", type=int, default=20_000)
    options = parser.parse_args()
    write = writer(random.Random(1))
    questions = [Question(str(number), write(20, 80)) for number in range(options.questions)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source.jsonl"
        make(path, write, planted=[question.text for question in questions[::100]], size=options.megabytes * 1e6)
        print(table(path, questions))


def table(path: Path, questions: list[Question]) -> str:
    """Building and searching, both ways."""
    plainly = "dictionary of tuples"
    megabytes = path.stat().st_size / 1e6
    before = peak_memory()
    build, index = timed(lambda: Index({"benchmark": questions}))
    index.scan("source", read(path))
    memory = peak_memory() - before
    build_plain, owners = timed(lambda: plain_index(questions))
    ways = {
        "reading alone": lambda: sum(1 for _ in read(path)),
        "nemo_distill.contamination.search": lambda: set(index.scan("source", read(path))[0].touched),
        plainly: lambda: plain_scan(owners, read(path)),
    }
    seconds, found = {name: [] for name in ways}, {}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            took, found[name] = timed(way)
            seconds[name].append(took)
    assert found["nemo_distill.contamination.search"] == found[plainly] != set()
    speed = {name: megabytes / statistics.median(took) for name, took in seconds.items()}
    ours, plain = speed["nemo_distill.contamination.search"], speed[plainly]
    return "\n".join(
        [
            f"{megabytes:.0f} MB against {len(questions):,} questions, {len(found[plainly])} of them found",
            "",
            "| way | index, s | MB/s |",
            "|---|---:|---:|",
            f"| reading the JSONL alone | | {speed['reading alone']:.1f} |",
            f"| `nemo_distill.contamination.search` | {build:.1f} | {ours:.1f} |",
            f"| a dictionary of tuples | {build_plain:.1f} | {plain:.1f} |",
            f"| **ratio** | | **{ours / plain:.1f}** |",
            "",
            f"`nemo_distill.contamination.search` added {memory:.0f} MB to the memory of the process.",
        ]
    )


def peak_memory() -> float:
    """The most that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def timed(function: Callable):
    """Seconds of a core that `function` takes, and what it returns."""
    begin = time.process_time()
    result = function()
    return time.process_time() - begin, result


def read(path: Path):
    """The documents of the file, as the step reads them."""
    return rows([path], field="text", tally=Tally())


def plain_words(text: str) -> list[str]:
    """Words in lower case without punctuation."""
    return text.lower().translate(DROP).split()


def plain_grams(text: str):
    """Every `WORDS` words of a text."""
    words = plain_words(text)
    return zip(*(words[skip:] for skip in range(WORDS)), strict=False)


def plain_index(questions: list[Question]) -> dict[tuple, list[str]]:
    """The questions that hold an n-gram."""
    owners: dict[tuple, list[str]] = {}
    for question in questions:
        for gram in plain_grams(question.text):
            owners.setdefault(gram, []).append(question.identity)
    return owners


def plain_scan(owners: dict[tuple, list[str]], documents) -> set[str]:
    """The questions with an n-gram in any document."""
    return {
        question
        for document in documents
        for gram in plain_grams(document)
        if gram in owners
        for question in owners[gram]
    }


def writer(rng: random.Random) -> Callable[[int, int], str]:
    """A function that writes between so and so many words, capitals and punctuation among them."""
    vocabulary = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 11))) for _ in range(50_000)]
    weights = list(accumulate(1 / rank for rank in range(1, len(vocabulary) + 1)))

    def write(least: int, most: int) -> str:
        words = rng.choices(vocabulary, cum_weights=weights, k=rng.randint(least, most))
        for place in range(0, len(words), 9):
            words[place] = words[place].capitalize()
            words[place - 1] += rng.choice([".", ",", ";\n", "?", ":\n\n"])
        return " ".join(words)

    return write


def make(path: Path, write: Callable[[int, int], str], *, planted: list[str], size: float) -> None:
    """Write documents, about `size` bytes of them, with the `planted` ones spread evenly."""
    documents = int(size / 3_500)
    at = {index * documents // len(planted): text for index, text in enumerate(planted)}
    with open(path, "w", encoding="utf-8") as file:
        for number in range(documents):
            text = write(100, 1_000)
            if number in at:
                text = f"{text}\n{at[number].upper()}\n{write(10, 20)}"
            file.write(dumps({"text": text}) + "\n")


if __name__ == "__main__":
    main()
