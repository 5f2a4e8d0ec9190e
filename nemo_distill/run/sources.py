"""Where the tokenised sources of runs lie, which several runs share and no step's folder holds.

sources_of(run.specs.values())          # {RUNS/sources/stem/f7149af86c0d, ...}
"""

import json
from collections.abc import Iterable
from pathlib import Path

from nemo_distill.run.inside import text_of
from nemo_distill.run.step import Spec

PREPARE = "nemo_distill.steps.prepare"
SOURCES_FILE = "sources.json"
"""What `prepare` lists in its folder (`nemo_distill.data.prepared`, which needs numpy)."""


def sources_of(specs: Iterable[Spec]) -> set[Path] | None:
    """Folders of the tokenised sources that prepare steps among `specs` refer to; None where one says nothing yet."""
    found: set[Path] = set()
    for spec in specs:
        if spec.module != PREPARE:
            continue
        try:
            sources = json.loads(text_of(spec.folder / SOURCES_FILE))
            found |= {(spec.folder / source["prefix"]).resolve().parent for source in sources.values()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
    return found
