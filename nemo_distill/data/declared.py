"""What the steps are told of a source that a recipe declares, once it has been found to be there.

    entry_of(Source(name="tickets", path="data/tickets", field="messages"))
    # {"name": "tickets", "field": "messages", "path": "/home/me/data/tickets", "sha256": "1f0c...", "reading": 2}

The content of files on this machine is in the entry, so that other files are another run; of a data set on the hub its
revision is, where one is named. What is left at its default is not said.
"""

import functools
import os
from pathlib import Path

from nemo_distill.config.sources import Source
from nemo_distill.data import local
from nemo_distill.data.documents import READING
from nemo_distill.data.entry import Entry
from nemo_distill.errors import UserError


@functools.cache  # two steps of a run are told the same
def _found(source: Source) -> dict:
    said = {
        "name": source.name,
        "field": source.kind,
        "column": source.column,
        "dataset": source.dataset,
        "subset": source.subset,
        "split": source.split,
        "revision": source.revision,
        "path": None if source.path is None else os.path.abspath(Path(source.path).expanduser()),
        "files": list(source.files) or None,
        "samples": source.samples,
        "reading": READING,
    }
    entry = {key: value for key, value in said.items() if value is not None}
    if source.path is None:
        return entry
    try:
        located = local.locate(Entry.of(entry))
        local.check_first_rows(Entry.of(entry), located)
        return entry | {"sha256": local.identity(located)}
    except OSError as error:
        raise UserError(
            f"source {source.name!r}: {error.filename or source.path} cannot be read: {error.strerror or error}."
        ) from None


def entry_of(source: Source) -> dict:
    """The entry of `source` in the config of a step, as plain data.

    Raises `UserError` for files that are not there, or whose first rows hold nothing that it says they do.
    """
    return dict(_found(source))
