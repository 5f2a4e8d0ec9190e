"""Finds the Hub's data sets in a folder of this machine, for evaluations without a network.

    check_datasets(Path("datasets"), get_suite("harness"))     # ValueError: 'datasets/google/IFEval' lacks ...
    count_questions(Path("datasets"), get_suite("harness"))    # {"aime_2025_nemo": 30, ...}

The folder holds `OWNER/NAME` with the files of the data set's repository, as `hf download --repo-type dataset` fetches
them. A harness is started beside links to those it asks, and finds them there before it asks the hub. Questions are
counted here, from the files, so that a harness that lost some is found out.
"""

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluator.suites.suite import Dataset, Suite

HEAD_BYTES = 2**20
"""Bytes at the start of every file that are hashed, beside its size."""


def check_datasets(folder: Path, suite: Suite) -> None:
    """Raise ValueError naming the first data set of `suite` that `folder` lacks, and how to fetch it."""
    described = {dataset.name: dataset for dataset in suite.datasets.values()}
    for name in dict.fromkeys(name for benchmark in suite.benchmarks for name in benchmark.datasets):
        where = folder / name
        dataset = described.get(name)
        source = dataset.fetched_as if dataset and dataset.fetched_as else name
        fetch = f"hf download --repo-type dataset {source} --local-dir {where}"
        if not where.is_dir():
            raise ValueError(f"the data set '{name}' is not in '{folder}'; fetch it with: {fetch}")
        if dataset is None:
            continue
        for pattern in dataset.files:
            if not list(where.glob(pattern)):
                if dataset.by_hand and dataset.by_hand[0] == pattern:
                    raise ValueError(
                        f"'{where / pattern}' is missing and is not on the Hub: fetch it by hand from "
                        f"{dataset.by_hand[1]} and put it there."
                    )
                raise ValueError(f"the data set in '{where}' lacks '{pattern}'; fetch it again with: {fetch}")


def read_questions(folder: Path, dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Id and text of every question, in the order of the files."""
    identity, text = dataset.fields
    index = 0
    for row in _asked(folder, dataset):
        for question in row[dataset.parts] if dataset.parts else (row,):
            name = str(question[identity]) if identity else f"{dataset.name}/{index}"
            if name not in dataset.given:
                yield name, str(question[text])
                index += 1


def _asked(folder: Path, dataset: Dataset) -> Iterator[dict]:
    for pattern in dataset.files:
        for path in sorted((folder / dataset.name).glob(pattern)):
            yield from (row for row in _rows(path) if not dataset.between or _is_between(row, *dataset.between))


def _is_between(row: dict, field: str, first: str, last: str) -> bool:
    return first <= str(row[field])[: len(first)] <= last


def count_questions(folder: Path, suite: Suite) -> dict[str, int]:
    """How many questions each benchmark of `suite` has in `folder`, by task."""
    return {task: sum(1 for _ in read_questions(folder, dataset)) for task, dataset in suite.datasets.items()}


def count_problems(folder: Path, suite: Suite) -> dict[str, int]:
    """How many problems the questions are parts of, by the tasks where they are parts of some."""
    return {task: sum(1 for _ in _asked(folder, dataset)) for task, dataset in suite.datasets.items() if dataset.parts}


def question_ids(folder: Path | None, suite: Suite) -> dict[str, Sequence[str]]:
    """Ids of each task's questions in the order in which a harness asks them; their places where the hub was asked."""
    asked = {benchmark.task: benchmark.questions for benchmark in suite.benchmarks}
    return {
        task: [f"{dataset.name}/{index}" for index in range(asked[task])]
        if folder is None
        else [identity for identity, _ in read_questions(folder, dataset)]
        for task, dataset in suite.datasets.items()
    }


def hash_datasets(folder: Path, suite: Suite) -> dict[str, str]:
    """A hash of each data set: of its files' names, sizes and beginnings."""
    hashes = {}
    for name in sorted({name for benchmark in suite.benchmarks for name in benchmark.datasets}):
        digest = hashlib.sha256()
        for path in _files(folder / name):
            with open(path, "rb") as file:
                head = file.read(HEAD_BYTES)
            digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode() + head)
        hashes[name] = digest.hexdigest()
    return hashes


def _files(folder: Path) -> list[Path]:
    """All files below `folder`, those of folders that are links, too; sorted."""
    found, seen = [], set()
    for where, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(where)) in seen:  # a link back
            folders.clear()
            continue
        seen.add(real)
        found += [path for name in names if (path := Path(where, name)).is_file()]
    return sorted(found)


def _rows(path: Path) -> Iterator[dict]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches():
                yield from batch.to_pylist()
        return
    with open(path, encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            yield from csv.DictReader(file)
        elif path.suffix == ".jsonl":
            yield from (json.loads(line) for line in file if line.strip())
