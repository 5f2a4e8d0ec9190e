"""A source as the config of a step has it, read and checked.

>>> from nemo_distill.data.entry import Entry
>>> Entry.of({"name": "mine", "field": "messages", "files": ["/data/mine.jsonl"], "samples": None}).files
('/data/mine.jsonl',)
>>> Entry.of({"name": "mine", "fieldd": "messages"})
Traceback (most recent call last):
    ...
nemo_distill.errors.UserError: source 'mine' has the key 'fieldd' in its config. Did you mean 'field'?

The config itself is plain data, and hashed as it is written; what is not said in it has a default here.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nemo_distill.data.documents import READING
from nemo_distill.errors import UserError, nearest


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One source of a step."""

    name: str
    """What blends, files and reports call it."""
    field: str
    """What a row holds: `text` or `messages`."""
    column: str | None = None
    """Column that holds it; None: the one called `text`, or any schema of a chat."""
    dataset: str | None = None
    """Repository on the hub; None for files of this machine."""
    subset: str | None = None
    """Configuration of the data set."""
    split: str | None = None
    """Split of the configuration."""
    revision: str | None = None
    """Commit, tag or branch of the data set; None: the newest commit."""
    path: str | None = None
    """File, folder or pattern on this machine."""
    files: tuple[str, ...] = ()
    """Patterns within the data set or the folder; without either, paths, or STEP:PATH of an upstream step."""
    sha256: str | None = None
    """What stands for the content of the files at `path` when the run was launched."""
    samples: int | None = None
    """Rows read at most, from the first on; None: all of them."""
    tokens: int | None = None
    """Budget of tokens that is drawn; None: all there are."""
    reading: int = READING
    """Version of the reading (`nemo_distill.data.documents.READING`)."""

    @classmethod
    def of(cls, config: "Mapping[str, Any] | Entry") -> "Entry":
        """The source that `config` describes. Raises `UserError` for a key that there is not, or one that is missing.

        One that does not say its reading and is on the hub, or made by a step, is the catalogue's: it is read as it
        always was.
        """
        if isinstance(config, Entry):
            return config
        name = config.get("name")
        known = [field.name for field in dataclasses.fields(cls)]
        for key in config:
            if key not in known:
                raise UserError(f"source {name!r} has the key {key!r} in its config. {nearest(key, known)}")
        for key in ("name", "field"):
            if not config.get(key):
                raise UserError(f"source {name!r} has no {key} in its config.")
        files = tuple(config.get("files") or ())
        old = config.get("dataset") or any(":" in file for file in files)
        return cls(**{"reading": 1 if old else READING} | dict(config) | {"files": files})
