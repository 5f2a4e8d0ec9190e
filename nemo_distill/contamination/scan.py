"""Searches one source for benchmark questions, once for all blends that draw on it.

    reading, overlaps = search_source(spec, source, located, index, version=VERSION, say=print)

What is found lies in RUNS/overlaps/NAME/FINGERPRINT, under the same contract as a step's output, named by the source,
its revision and the questions.
"""

import contextlib
import dataclasses
import itertools
import json
import logging
from collections.abc import Callable, Iterator

from nemo_distill.config.plain import fingerprint
from nemo_distill.contamination.overlap import Overlap, Reading, overlap_of, reading_of
from nemo_distill.contamination.search import Index
from nemo_distill.data.documents import Tally, rows
from nemo_distill.data.entry import Entry
from nemo_distill.data.files import Located
from nemo_distill.run.at_work import locked
from nemo_distill.run.progress import write_atomically
from nemo_distill.run.step import Spec, mark_done

OVERLAPS_FILE = "overlaps.json"
MAX_MALFORMED = 0.01
"""Share of a source's rows that may be malformed, where the step's config does not say."""
logger = logging.getLogger(__name__)


def search_source(
    spec: Spec, source: dict, located: Located, index: Index, *, version: int, say: Callable[[float], None]
) -> tuple[Reading, list[Overlap]]:
    """What the source and each benchmark have in common, from the source's own folder when it is there already.

    Args:
        spec: The contamination step's.
        source: Its entry in the step's config.
        located: Its files.
        index: The questions.
        version: Of the step, in the folder's name.
        say: Called with the bytes that have been read.
    """
    placed = _place(spec, source, located, version=version)
    record = placed.folder / OVERLAPS_FILE
    with locked(placed.folder):
        if placed.done:
            logger.info("%s: already there, %s", placed.name, placed.folder)
            found = json.loads(record.read_text(encoding="utf-8"))
            return reading_of(found["reading"]), [overlap_of(one) for one in found["overlaps"]]
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


def _place(spec: Spec, source: dict, located: Located, *, version: int) -> Spec:
    """The source's own folder under the runs folder, named by all that decides what is found."""
    config = {key: value for key, value in spec.config.items() if key != "sources"}
    config |= {"source": source, "revision": located.revision}
    upstream = {name: folder.name for name, folder in spec.upstream.items()}
    digest = fingerprint({"module": spec.module, "version": version, "config": config, "upstream": upstream})
    folder = spec.runs / "overlaps" / source["name"] / digest
    return dataclasses.replace(spec, name=source["name"], config=config, fingerprint=digest, folder=folder)


def _scan(
    placed: Spec, located: Located, index: Index, *, say: Callable[[float], None]
) -> tuple[Reading, list[Overlap]]:
    source, tally, documents = Entry.of(placed.config["source"]), Tally(), 0
    read: dict = {}

    def said(file, share: float) -> None:
        read[file] = share * file.bytes
        say(sum(read.values()))

    def counted(stream: Iterator) -> Iterator:
        nonlocal documents
        # Of a source of which a blend takes the first rows only, no student is trained on the others.
        for document in itertools.islice(stream, source.samples):
            documents += 1
            yield document

    found = rows(located.files, field=source.field, tally=tally, column=source.column, reading=source.reading, say=said)
    with contextlib.closing(found) as stream:
        overlaps = index.scan(source.name, counted(stream))
    tally.check(allowed=placed.config.get("max_malformed", MAX_MALFORMED), where=f"source {source.name!r}")
    return Reading(source=source.name, documents=documents), overlaps
