"""Where the files of a source come from: this machine, the Hugging Face hub, or a mirror of it.

    found = locate({"name": "stem", "field": "messages", "dataset": "nvidia/Nemotron-Post-Training-Dataset-v1",
                    "subset": "default", "split": "stem", "files": [], "samples": None})
    found.revision                          # the commit that was current, to be recorded
    [file.content for file in found.files]  # known without a download
    with found.files[0].open() as shard: ...

A mirror is a folder in which ORG/NAME holds the data set as it lies on the hub (`hf download ORG/NAME --repo-type
dataset --local-dir MIRROR/ORG/NAME`): what an offline cluster reads. Its folders may be links. Which files a
configuration and a split stand for is decided in `resolve`, so that the hub and a mirror go one way.

The endpoint, the token and the cache are those of `huggingface_hub`: HF_ENDPOINT, HF_TOKEN or `hf auth login`,
HF_HOME. Raises `UserError` for whatever is not there, not allowed, or cannot be reached.
"""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.data.entry import Entry
from nemo_distill.data.files import ENDINGS, HubFile, LocalFile, Located, walk
from nemo_distill.data.hub_errors import DATA_SET, MIRROR, endpoint, refusals
from nemo_distill.data.resolve import README, choose, refuse_dangling
from nemo_distill.errors import UserError, nearest

STREAMING = "NEMO_DISTILL_STREAMING"
"""Environment variable: 1 to read from the hub as it is needed, with nothing kept in its cache."""


def locate(source: Mapping | Entry, *, streaming: bool | None = None, mirror: str | None = None) -> Located:
    """The files of `source`, which names a `dataset` (and `subset`, `split`, `files`, `revision`); none is fetched.

    Args:
        streaming: Read by ranges; None: as the environment says.
        mirror: The mirror's folder; None: as the environment says.
    """
    source = Entry.of(source)
    mirror = mirror or os.environ.get(MIRROR)
    streaming = os.environ.get(STREAMING, "") not in ("", "0") if streaming is None else streaming
    dataset, name = source.dataset, source.name
    assert dataset, source
    if mirror:
        folder = mirrored(Path(mirror), dataset)
        files, dangling = walk(folder)
        readme = folder / README
        listing = sorted([*files, *dangling])
        chosen = choose(source, dataset, listing, lambda: readme.read_text(encoding="utf-8") if readme.exists() else "")
        refuse_dangling(name, folder, chosen, dangling)
        found = Located([LocalFile(folder / path, path) for path in chosen])
    else:
        repository = _Repository.at(dataset, source.revision)
        chosen = choose(source, dataset, sorted(repository.files), repository.readme)
        found = Located(
            [HubFile(dataset, repository.revision, path, *repository.files[path], streaming) for path in chosen],
            repository.revision,
        )
    for file in found.files:
        if not file.name.endswith(ENDINGS):
            raise UserError(f"source {name!r}: {file} is none of {', '.join(ENDINGS)}.")
    return found


@dataclass(frozen=True)
class _Repository:
    """What the hub says of a data set at one commit."""

    dataset: str
    revision: str
    files: dict[str, tuple[int, str]]
    """Path -> bytes, content."""

    @classmethod
    @functools.cache  # sources share data sets
    def at(cls, dataset: str, revision: str | None) -> "_Repository":
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi(endpoint=endpoint())
        with refusals(dataset, revision):
            commit = api.dataset_info(dataset, revision=revision).sha
            assert commit, dataset
            tree = api.list_repo_tree(dataset, recursive=True, revision=commit, repo_type="dataset")
            files = {
                file.path: (file.size, f"sha256:{file.lfs.sha256}" if file.lfs else f"git:{file.blob_id}")
                for file in tree
                if isinstance(file, RepoFile)
            }
        return cls(dataset, commit, files)

    def readme(self) -> str:
        """The text of its README, or nothing."""
        if README not in self.files:
            return ""
        file = HubFile(self.dataset, self.revision, README, *self.files[README], streaming=False)
        with file.open() as opened:
            return opened.read().decode("utf-8")


def forget() -> None:
    """Ask the hub anew from now on."""
    _Repository.at.cache_clear()


def mirrored(mirror: Path, dataset: str, *, kind: str = DATA_SET) -> Path:
    """The folder of a data set, or of a model, in a mirror. Raises `UserError` where it is not there, or not whole."""
    folder = mirror / dataset
    if not folder.is_dir():
        there = [str(path.relative_to(mirror)) for path in mirror.glob("*/*") if path.is_dir()]
        raise UserError(f"the mirror {mirror} has no folder {dataset}. {nearest(dataset, there)}")
    cut = next((folder / ".cache" / "huggingface" / "download").rglob("*.incomplete"), None)
    if cut:
        raise UserError(
            f"the mirror's {folder} was not fetched to its end ({cut.name} is there): run "
            f"`hf download {dataset} --repo-type {kind.replace('data set', 'dataset')} --local-dir {folder}` again."
        )
    return folder
