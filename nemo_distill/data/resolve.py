"""Which files of a data set a source names: by pattern, or as a split of a configuration.

    choose(Entry.of({...}), "org/name", ["README.md", "data/train.parquet"], readme=lambda: "---...")

What a configuration and a split stand for is decided by the `datasets` library, from the data set's README and the
names of its files: it is given a folder of empty files with these names, so that nothing is fetched to find out, and no
code of the data set is executed.
"""

import fnmatch
import os
import tempfile
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from nemo_distill.data.entry import Entry
from nemo_distill.data.files import ENDINGS
from nemo_distill.errors import UserError, nearest

README = "README.md"


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


def refuse_dangling(source: str, folder: Path, chosen: Iterable[str], dangling: Collection[str]) -> None:
    """Raise `UserError` when one of the `chosen` files is a link that leads nowhere."""
    for name in chosen:
        if name in dangling:
            target = os.readlink(folder / name)
            raise UserError(f"source {source!r}: {folder / name} is a link to {target}, which is not there.")


def _resolve(dataset: str, subset: str | None, split: str | None, listing: list[str], readme: str) -> list[str]:
    """What `datasets` reads for that configuration and split."""
    import datasets

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
