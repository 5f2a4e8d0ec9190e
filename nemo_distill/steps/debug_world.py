"""The step that writes the debug world's corpora, one JSONL per source in the schema of the real one.

config:  {"seed": 1, "documents": {"math-v2-part00": 4000, ...}}      documents to write, by source
folder:  corpora/<source>.jsonl
         manifest.json    {"seed": 1, "corpora": {source: {"file", "field", "documents", "bytes"}}}
"""

import json

from nemo_distill.debug import corpora
from nemo_distill.run.progress import write_atomically
from nemo_distill.run.step import Spec

VERSION = 1


def main(spec: Spec) -> None:
    """Write the corpora; leftovers of an attempt that was cut are written over."""
    counts = spec.config["documents"]
    written: dict[str, dict] = {}
    for done, source in enumerate(counts):
        spec.progress.update(done=done, total=len(counts), unit="sources", note=source)
        written |= corpora.write(spec.folder / "corpora", seed=spec.config["seed"], counts={source: counts[source]})
    spec.progress.update(done=len(counts), total=len(counts), unit="sources")
    manifest = {"seed": spec.config["seed"], "corpora": written}
    write_atomically(spec.folder / "manifest.json", json.dumps(manifest, indent=1))
