"""Files of a source that lie on this machine: one file, a folder, or those that a pattern fits.

    found = locate(Entry.of({"name": "mine", "field": "text", "path": "/data/mine/**/*.jsonl.zst"}))
    check_first_rows(Entry.of(...), found)      # before anything is made of them

In a pattern `*` and `?` stand for any characters of a name and `**` for any folders. Linked folders and files are
followed; a link that leads nowhere is an error, and one that leads back to a folder above it is not entered again. Of a
folder that holds a data set as the hub lays it out, `subset`, `split` and `files` choose as they do on the hub.
"""

import os
import re
from pathlib import Path

from nemo_distill.config.digests import digests_of
from nemo_distill.config.plain import fingerprint
from nemo_distill.data.documents import batches, parse
from nemo_distill.data.entry import Entry
from nemo_distill.data.files import ENDINGS, LocalFile, Located, walk
from nemo_distill.data.resolve import README, choose, refuse_dangling
from nemo_distill.data.tally import Tally
from nemo_distill.errors import UserError, nearest

_MAGIC = re.compile(r"[*?\[]")


def locate(entry: Entry) -> Located:
    """The files at `entry.path`, in the order of their names.

    Raises `UserError` when there is none, for a link that leads nowhere, and when they are no longer those that the run
    was launched with.
    """
    assert entry.path is not None, entry
    path = Path(entry.path).expanduser()
    if _MAGIC.search(str(path)) and not path.exists():
        found = _fitting(entry, path)
    elif path.is_dir():
        found = _inside(entry, path)
    elif path.is_file():
        found = Located([LocalFile(path, path.name)])
    else:
        raise UserError(f"source {entry.name!r}: {_missing(path)}")
    for file in found.files:
        if not file.name.endswith(ENDINGS):
            raise UserError(f"source {entry.name!r}: {file} is none of {', '.join(ENDINGS)}.")
    if entry.sha256 and identity(found) != entry.sha256:
        raise UserError(
            f"source {entry.name!r}: the files at {path} are not those with which the run was launched; launch it "
            "again to read them as they are now."
        )
    return found


def identity(located: Located) -> str:
    """Twelve hex digits for the content of all files, in their order."""
    paths = [file.path for file in located.files if isinstance(file, LocalFile)]
    digests = digests_of(paths)
    return fingerprint([f"sha256:{digests[path]}" for path in paths])


def check_first_rows(entry: Entry, located: Located) -> None:
    """Raise `UserError` when none of the first rows holds what `entry` says."""
    for file in located.files:
        for batch in batches(file, field=entry.field, column=entry.column, reading=entry.reading):
            tally = Tally()
            found = parse(batch, field=entry.field, tally=tally, column=entry.column, reading=entry.reading)
            if next(found, None) is not None:
                return
            raise UserError(
                f"source {entry.name!r}: none of the first {tally.rows:,} rows of {file} is a document of "
                f"field={entry.field!r}; the first is {tally.first}.{_hint(entry, file)}"
            )
    raise UserError(f"source {entry.name!r} has no documents: {located.files[0]} has no row.")


def _hint(entry: Entry, file) -> str:
    if entry.field != "text":
        return ""
    first = next(batches(file, field=None))
    row = next(first.parsed(), None)
    columns = [name for name, value in row.items() if isinstance(value, str)] if isinstance(row, dict) else []
    wanted = entry.column or "text"
    if not columns or wanted in columns:
        return ""
    chat = isinstance(row, dict) and any(isinstance(row.get(name), list) for name in ("messages", "conversations"))
    return f" {nearest(wanted, columns)} A column is named as field='text:{columns[0]}'" + (
        ", a chat is field='messages'." if chat else "."
    )


def _inside(entry: Entry, folder: Path) -> Located:
    files, dangling = walk(folder)
    if entry.files or entry.subset or entry.split:
        readme = folder / README
        chosen = choose(entry, str(folder), [*files, *dangling], lambda: _text(readme))
    else:
        # A link without an ending may have been a folder.
        chosen = [name for name in files if name.endswith(ENDINGS)]
        chosen += [name for name in dangling if name.endswith(ENDINGS) or not Path(name).suffix]
        if not chosen:
            raise UserError(
                f"source {entry.name!r}: no file below {folder} ends in {', '.join(ENDINGS)}; it has "
                f"{', '.join(files[:5]) or 'none'}{', ...' if len(files) > 5 else ''}."
            )
    refuse_dangling(entry.name, folder, chosen, dangling)
    return Located([LocalFile(folder / name, name) for name in sorted(chosen)])


def _fitting(entry: Entry, pattern: Path) -> Located:
    parts = pattern.parts
    first = next(at for at, part in enumerate(parts) if _MAGIC.search(part))
    base = Path(*parts[:first])
    if not base.is_dir():
        raise UserError(f"source {entry.name!r}: {_missing(base)}")
    fits = re.compile(_expression(parts[first:])).fullmatch
    files, dangling = walk(base)
    chosen = [name for name in [*files, *dangling] if fits(name)]
    if not chosen:
        known = [str(base / name) for name in files if name.endswith(ENDINGS)]
        raise UserError(f"source {entry.name!r}: no file fits {str(pattern)!r}. {nearest(str(pattern), known)}")
    refuse_dangling(entry.name, base, chosen, dangling)
    return Located([LocalFile(base / name, name) for name in sorted(chosen)])


def _expression(parts: tuple[str, ...]) -> str:
    """The regular expression of a pattern's parts."""
    written = ""
    for at, part in enumerate(parts):
        if part == "**":
            written += "(?:[^/]+/)*" if at + 1 < len(parts) else ".+"
            continue
        for piece in re.split(r"(\*|\?|\[!?[^\]]+\])", part):
            if piece == "*":
                written += "[^/]*"
            elif piece == "?":
                written += "[^/]"
            elif piece.startswith("[") and piece.endswith("]"):
                written += piece.replace("[!", "[^")
            else:
                written += re.escape(piece)
        written += "/" if at + 1 < len(parts) else ""
    return written


def _missing(path: Path) -> str:
    if path.is_symlink():
        return f"{path} is a link to {os.readlink(path)}, which is not there."
    above = next((folder for folder in path.parents if folder.is_dir()), Path("."))
    wanted = path.relative_to(above).parts[0] if path != above else path.name
    return f"there is no {path}: {above} has no {wanted!r}. {nearest(wanted, sorted(os.listdir(above)))}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
