"""The step that looks for benchmark questions in the sources of a blend.

    config:  {"sources": [{"name": "stem", "field": "messages", "files": ["world:corpora/stem.jsonl"]}, ...],
              "questions": [{"benchmark": "gpqa", "file": "/data/gpqa.jsonl", "field": "Question"}, ...],
              "max_malformed": 0.01,             share of a source's rows that may be malformed
              "words": 8, "boilerplate": 0.02}   `Index`'s; 13 and 0.01 where they are left out
    folder:  contamination.json    a `nemo_distill.contamination.overlap.Contamination`

`sources` are those of `prepare`, on the hub or on this machine. The file of questions is a path, STEP:PATH inside the
folder of an upstream step, or core_evals:NAME, a file of our own offline tasks. `nemo_distill.contamination.questions`
makes the entries.

Each source is searched once for all blends (`nemo_distill.contamination.scan`); a step that was cut goes on with the
source at which it was.
"""

from nemo_distill.contamination.overlap import CONTAMINATION_FILE, Contamination, Overlap, Reading
from nemo_distill.contamination.questions import check_names, offline_path, read_questions
from nemo_distill.contamination.scan import search_source
from nemo_distill.contamination.search import Index
from nemo_distill.data.find import find_files, resolve_file
from nemo_distill.run.step import Spec

VERSION = 1


def main(spec: Spec) -> None:
    """Read the questions, then one source after another."""
    located = {source["name"]: find_files(source, spec.upstream) for source in spec.config["sources"]}
    check_names(spec.config["questions"])
    index = Index(
        {
            entry["benchmark"]: read_questions(
                offline_path(entry["file"]) or resolve_file(entry["file"], spec.upstream), field=entry["field"]
            )
            for entry in spec.config["questions"]
        },
        **{name: spec.config[name] for name in ("words", "boilerplate") if name in spec.config},
    )
    total, done = sum(found.bytes for found in located.values()), 0
    readings: list[Reading] = []
    overlaps: list[Overlap] = []
    for source in spec.config["sources"]:
        name = source["name"]

        def say(read: float, *, name: str = name, before: int = done) -> None:
            spec.progress.update(done=(before + read) / 1e6, total=total / 1e6, unit="MB", note=name)

        reading, found = search_source(spec, source, located[name], index, version=VERSION, say=say)
        done += located[name].bytes
        readings.append(reading)
        overlaps += found
    spec.progress.update(done=total / 1e6, total=total / 1e6, unit="MB")
    Contamination(
        words=index.words, benchmarks=tuple(index.benchmarks), sources=tuple(readings), overlaps=tuple(overlaps)
    ).save(spec.folder / CONTAMINATION_FILE)
