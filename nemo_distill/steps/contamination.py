"""The step that looks for benchmark questions in the sources of a blend.

    config:  {"sources": [{"name": "stem", "field": "messages", "files": ["world:corpora/stem.jsonl"]}, ...],
              "questions": [{"benchmark": "gpqa", "file": "/data/gpqa.jsonl", "field": "Question"}, ...],
              "n": 13,                           words of an n-gram
              "minimum": 8,                      questions of fewer words are not judged
              "boilerplate": 0.01,               n-grams in a larger share of a benchmark's questions are dropped
              "max_documents": null,             of a source that are read, from its head; null for all of them
              "max_malformed": 0.01}             share of a source's rows that may be malformed
    folder:  contamination.json    a `nemo_distill.contamination.overlap.Contamination`

`sources` are those of `prepare`, on the hub or at hand. The file of questions is a path, STEP:PATH inside the folder of
an upstream step, or core_evals:NAME, a file of our own offline tasks. `nemo_distill.contamination.questions` makes the
entries.

What is found of one source lies in RUNS/overlaps/NAME/FINGERPRINT, under the same contract as a step's output: blends
that share a source read it once, and a step that was cut goes on with the source at which it was.
"""

import contextlib
import dataclasses
import itertools
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from nemo_distill.contamination import search as contamination
from nemo_distill.contamination.overlap import Contamination, Overlap, Reading, overlap_of
from nemo_distill.contamination.questions import check_names, offline_path, read_questions
from nemo_distill.contamination.search import Index
from nemo_distill.data.documents import Tally, batches, parse
from nemo_distill.data.hub import Located
from nemo_distill.errors import UserError
from nemo_distill.run.process import locked
from nemo_distill.run.progress import write_atomically
from nemo_distill.run.step import Spec, fingerprint, mark_done
from nemo_distill.steps.prepare import find_files, resolve_file

VERSION = 1
CONTAMINATION_FILE = "contamination.json"
OVERLAPS_FILE = "overlaps.json"
logger = logging.getLogger(__name__)


def main(spec: Spec) -> None:
    """Read the questions, then one source after another."""
    config = spec.config
    located = {source["name"]: find_files(spec, source) for source in config["sources"]}
    check_names(config["questions"])
    index = Index(
        {
            entry["benchmark"]: read_questions(
                offline_path(entry["file"]) or resolve_file(spec, entry["file"]), field=entry["field"]
            )
            for entry in config["questions"]
        },
        words=config.get("n", contamination.WORDS),
        minimum=config.get("minimum", contamination.MINIMUM_WORDS),
        boilerplate=config.get("boilerplate", contamination.BOILERPLATE),
    )
    limit = config.get("max_documents")
    if limit is not None and limit < 1:
        raise UserError(f"max_documents is what is read of a source, 1 or more, not {limit}.")
    sizes = {name: sum(file.bytes for file in found.files) for name, found in located.items()}
    total, done = sum(sizes.values()), 0
    sources, overlaps = [], []
    for source in config["sources"]:
        name = source["name"]

        def say(read: float, *, name: str = name, before: int = done) -> None:
            spec.progress.update(done=(before + read) / 1e6, total=total / 1e6, unit="MB", note=name)

        reading, found = _overlaps(_place(spec, source, located[name]), located[name], index, say=say)
        done += sizes[name]
        sources.append(reading)
        overlaps += found
    spec.progress.update(done=total / 1e6, total=total / 1e6, unit="MB")
    Contamination(
        words=index.words, benchmarks=tuple(index.benchmarks), sources=tuple(sources), overlaps=tuple(overlaps)
    ).save(spec.folder / CONTAMINATION_FILE)


def read_contamination(folder: Path) -> Contamination:
    """What the step left in its `folder`."""
    return Contamination.load(folder / CONTAMINATION_FILE)


def _place(spec: Spec, source: dict, located: Located) -> Spec:
    """The source's own folder under the runs folder, named by all that decides what is found, as a step's is."""
    config = {key: value for key, value in spec.config.items() if key != "sources"}
    config |= {"source": source, "revision": located.revision}
    upstream = {name: folder.name for name, folder in spec.upstream.items()}
    print_ = fingerprint({"module": __name__, "version": VERSION, "config": config, "upstream": upstream})
    folder = spec.runs / "overlaps" / source["name"] / print_
    return dataclasses.replace(spec, name=source["name"], config=config, fingerprint=print_, folder=folder)


def _overlaps(placed: Spec, located: Located, index: Index, *, say) -> tuple[Reading, list[Overlap]]:
    """What `placed` finds in its source, from its folder when it is there already."""
    record = placed.folder / OVERLAPS_FILE
    with locked(placed.folder):
        if placed.done:
            logger.info("%s: already there, %s", placed.name, placed.folder)
            found = json.loads(record.read_text(encoding="utf-8"))
            return Reading(**found["reading"]), [overlap_of(one) for one in found["overlaps"]]
        placed.save()
        reading, overlaps = _scan(placed, located, index, say=say)
        write_atomically(
            record,
            json.dumps({"reading": dataclasses.asdict(reading), "overlaps": [dataclasses.asdict(o) for o in overlaps]}),
        )
        mark_done(placed.folder, fingerprint=placed.fingerprint)
    touched = sum(len(overlap.touched) for overlap in overlaps)
    logger.info("%s: %s questions in %s documents", placed.name, f"{touched:,}", f"{reading.documents:,}")
    return reading, overlaps


def _scan(placed: Spec, located: Located, index: Index, *, say) -> tuple[Reading, list[Overlap]]:
    source, tally, documents = placed.config["source"], Tally(), 0
    # Of a source of which a blend takes the first rows only, the others train nobody.
    limit = min((cap for cap in (placed.config.get("max_documents"), source.get("samples")) if cap), default=None)

    def counted(stream: Iterator) -> Iterator:
        nonlocal documents
        for document in itertools.islice(stream, limit):
            documents += 1
            yield document

    with contextlib.closing(_documents(located, source["field"], tally, say)) as stream:
        overlaps = index.scan(source["name"], counted(stream))
        whole = limit == source.get("samples") or next(stream, None) is None
    tally.check(allowed=placed.config.get("max_malformed", 0.01), where=f"source {source['name']!r}")
    return Reading(source=source["name"], documents=documents, whole=whole), overlaps


def _documents(located: Located, field: str, tally: Tally, say: Callable[[float], None]) -> Iterator:
    """Every document of the files; `say` is told the bytes of them that have been read."""
    before = 0
    for file in located.files:
        for batch in batches(file, field=field):
            yield from (document.value for document in parse(batch, field=field, tally=tally))
            say(before + batch.read * file.bytes)
        before += file.bytes
