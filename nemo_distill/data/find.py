"""Finds the files of a source: those of the Hugging Face hub, of this machine, or of an upstream step.

located = find_files({"name": "stem", "field": "messages", "files": ["world:corpora/stem.jsonl"]}, spec.upstream)
[file.content for file in located.files]        # known before anything is downloaded
"""

from collections.abc import Mapping
from pathlib import Path

from nemo_distill.data import hub, local
from nemo_distill.data.entry import Entry
from nemo_distill.data.files import LocalFile, Located
from nemo_distill.errors import UserError, nearest


def find_files(source: Mapping | Entry, upstream: Mapping[str, Path], *, streaming: bool | None = None) -> Located:
    """The files of `source`, an entry of a step's config.

    Args:
        source: Has a `dataset`, as `hub.locate` takes it; a `path`, as `local.locate` does; or `files`, as
            `resolve_file` takes each.
        upstream: Folder of each upstream step by its name.
        streaming: As `hub.locate` takes it.
    """
    entry = Entry.of(source)
    if entry.dataset:
        return hub.locate(entry, streaming=streaming)
    if entry.path:
        return local.locate(entry)
    if not entry.files:
        raise UserError(f"source {entry.name!r} names no files to read.")
    paths = [resolve_file(file, upstream) for file in dict.fromkeys(entry.files)]
    return Located([LocalFile(path, path.name) for path in paths])


def resolve_file(file: str, upstream: Mapping[str, Path]) -> Path:
    """The path of `file`, given as a path or as STEP:PATH; raises `UserError` when there is no such file."""
    step, colon, inside = file.partition(":")
    if colon and step not in upstream:
        raise UserError(f"the file {file!r} is in no step upstream. {nearest(step, upstream)}")
    path = upstream[step] / inside if colon else Path(file)
    if not path.is_file():
        raise UserError(f"there is no file {path}.")
    return path
