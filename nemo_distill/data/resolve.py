"""Which files of a data set a source names: by pattern, or as a split of a configuration.

    choose(Entry.of({...}), "org/name", ["README.md", "data/train.parquet"], readme=lambda: "---...")

What a configuration and a split stand for is decided by the `datasets` library, from the data set's README and the
names of its files: it is given a folder of empty files with these names, so that nothing is fetched to find out, and no
code of the data set is executed.
"""

import fnmatch
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from nemo_distill.data.entry import Entry
from nemo_distill.data.files import ENDINGS
from nemo_distill.errors import UserError, nearest

README = "README.md"
README_CHARACTERS = 2_000_000
"""Characters of a README at most."""
_LEADS_OUT = re.compile(r"::|://|^/|^~|(?:^|/)\.\.(?:/|$)|^\w+:/")
"""In what `datasets` would read: an address, or a path out of the data set."""


def choose(entry: Entry, dataset: str, listing: list[str], readme: Callable[[], str]) -> list[str]:
    """Which of the files of `dataset` the source names, by pattern or as a split of a configuration; none twice."""
    if entry.files:
        chosen: list[str] = []
        for pattern in entry.files:
            found = fnmatch.filter(listing, pattern)
            if not found:
                data = [path for path in listing if path.endswith(ENDINGS)]
                raise UserError(f"the data set {dataset} has no file {pattern!r}. {nearest(pattern, data)}")
            chosen += found
        return list(dict.fromkeys(chosen))
    return _resolve(dataset, entry.subset, entry.split, listing, readme())


def check_readme(text: str, dataset: str) -> None:
    """Raise `UserError` where the head of a README would have `datasets` ask an address, leave the data set's folder,
    or write out more than there is: whoever made the data set wrote it."""
    import yaml
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    what = f"{README} of {dataset}"
    if len(text) > README_CHARACTERS:
        raise UserError(f"{what} has more than {README_CHARACTERS:,} characters, and is not read.")
    head = REGEX_YAML_BLOCK.search(text)
    if head is None:
        return
    try:
        if alias := next((one for one in yaml.scan(head[2]) if isinstance(one, yaml.AliasToken)), None):
            raise UserError(f"{what} has an alias, *{alias.value[:80]}, and is read without any.")
        said = yaml.safe_load(head[2])
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"the head of {what} is no YAML that is read.") from None
    for place in _texts(said.get("configs") if isinstance(said, dict) else None):
        if _LEADS_OUT.search(place):
            raise UserError(f"{what} names {place[:80]!r} for its data, which is not a file of it.")


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict | list):
        for one in part.values() if isinstance(part, dict) else part:
            yield from _texts(one)


def refuse_dangling(source: str, folder: Path, chosen: Iterable[str], dangling: Collection[str]) -> None:
    """Raise `UserError` when one of the `chosen` files is a link that leads nowhere."""
    for name in chosen:
        if name in dangling:
            target = os.readlink(folder / name)
            raise UserError(f"source {source!r}: {folder / name} is a link to {target}, which is not there.")


def _resolve(dataset: str, subset: str | None, split: str | None, listing: list[str], readme: str) -> list[str]:
    """What `datasets` reads for that configuration and split."""
    import datasets

    check_readme(readme, dataset)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "data"
        for path in listing:
            if path.endswith(ENDINGS):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).touch()
        folder.mkdir(exist_ok=True)
        (folder / README).write_text(readme, encoding="utf-8")
        try:
            builder = datasets.load_dataset_builder(str(folder), name=subset, cache_dir=f"{scratch}/cache")
        except (ValueError, FileNotFoundError) as error:
            known = _configurations(datasets, folder)
            if subset is not None and subset not in known:
                raise UserError(f"the data set {dataset} has no subset {subset!r}. {nearest(subset, known)}") from error
            if subset is None and len(known) > 1:
                listed = ", ".join(f"'{name}'" for name in known)
                raise UserError(f"the data set {dataset} has more than one subset; name one of {listed}.") from error
            reason = str(error).replace(str(folder), dataset).splitlines()[0].rstrip(".")
            raise UserError(f"the data set {dataset} cannot be resolved to files: {reason}.") from error
        found = {str(name): paths for name, paths in (builder.config.data_files or {}).items()}
        if split is None and len(found) == 1:
            (split,) = found
        if split not in found:
            missing = f"has no split {split!r}" if split else "has more than one split"
            raise UserError(f"the data set {dataset} {missing}. {nearest(split or '', found)}")
        return [str(Path(path).resolve().relative_to(folder.resolve())) for path in found[split]]


def _configurations(datasets, folder: Path) -> list[str]:
    try:
        return datasets.get_dataset_config_names(str(folder))
    except (ValueError, FileNotFoundError):
        return []
