"""Checkpoints on the Hugging Face hub, in a mirror of it or in a folder: their config.json, their folder.

    model_config("org/name@v2")                       # what its config.json says; nothing is kept
    model_folder("org/name@v2", weights=False)        # configuration and tokenizer, in the hub's cache
    model_folder("org/name@v2")                       # with its weights

`@` before a revision: a branch, a tag or a commit. Only .json, .jinja and .safetensors are ever fetched: no code, no
pickle.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from nemo_distill.data.hub import mirrored
from nemo_distill.data.hub_errors import MIRROR, MODEL, endpoint, refusals
from nemo_distill.data.vocabulary import refuse_pointer
from nemo_distill.errors import UserError

CONFIG = "config.json"
CONFIG_BYTES = 4_000_000
"""Bytes of a config.json at most; the largest published has some thousands."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SECONDS = 3
"""To wait for the hub to answer about one small file."""


def split_revision(name: str) -> tuple[str, str | None]:
    """ORG/NAME and, behind an `@`, its revision.

    >>> split_revision("org/name@v2"), split_revision("org/name")
    (('org/name', 'v2'), ('org/name', None))
    """
    model, at, revision = name.partition("@")
    return (model, revision) if at else (name, None)


def model_folder(name: str, *, weights: bool = True) -> Path:
    """The folder of the checkpoint `name`: a folder, or a model of the mirror or the hub, whose files are fetched now.

    `weights` says whether more than its configuration and tokenizer is wanted. Fetched files stay in the hub's cache.
    """
    if Path(name).is_dir():
        return Path(name)
    model, revision = split_revision(name)
    if mirror := os.environ.get(MIRROR):
        return _in_mirror(Path(mirror), model, revision)
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.jinja", *(["*.safetensors"] if weights else [])]
    with refusals(model, revision, kind=MODEL):
        return Path(snapshot_download(model, revision=revision, allow_patterns=wanted, endpoint=endpoint()))


def without_links(folder: Path, copy: Path) -> Path:
    """`folder`, or, where files in it are links, as in the hub's cache, `copy` with the files that they lead to.

    A container that is given the folder alone does not have those. On one file system it takes no room. A copy that is
    there stays: jobs of an attempt that was cut may read it.
    """
    links = [path for path in folder.iterdir() if path.is_symlink()]
    if not links:
        return folder
    if copy.is_dir():
        return copy
    scratch = copy.with_name(f"{copy.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for path in folder.iterdir():
        try:
            os.link(path.resolve(strict=True), scratch / path.name)
        except OSError:
            shutil.copy(path, scratch / path.name)
    os.replace(scratch, copy)
    return copy


def model_config(name: str) -> dict[str, Any]:
    """What the config.json of the checkpoint `name` says, which is fetched now if need be and not kept.

    Raises `PassingError` where the hub is out of reach, `UserError` for a model that is not there.
    """
    if Path(name).is_dir():
        return _read(Path(name))
    model, revision = split_revision(name)
    if mirror := os.environ.get(MIRROR):
        return _read(_in_mirror(Path(mirror), model, revision))
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    cached = try_to_load_from_cache(model, CONFIG, revision=revision)
    if isinstance(cached, str):
        return _read(Path(cached).parent)
    with refusals(model, revision, kind=MODEL):  # asked once: the library's own ways go on asking for half a minute
        url = hf_hub_url(model, CONFIG, revision=revision, endpoint=endpoint())
        answer = get_session().get(url, headers=build_hf_headers(), timeout=_SECONDS, follow_redirects=True)
        hf_raise_for_status(answer)
    return _parsed(answer.content, name)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} has no {CONFIG}{_instead(folder)}.")
    with open(path, "rb") as file:
        content = file.read(CONFIG_BYTES + 1)
    refuse_pointer(path, content)
    return _parsed(content, str(folder))


def _parsed(text: bytes, name: str) -> dict[str, Any]:
    if len(text) > CONFIG_BYTES:
        raise UserError(f"{CONFIG} of {name} has more than {CONFIG_BYTES:,} bytes, and is not read.")
    try:
        config = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{CONFIG} of {name} is cut short or no JSON ({error}).") from error
    if not isinstance(config, dict):
        raise UserError(f"{CONFIG} of {name} holds no JSON object.")
    return config


def _instead(folder: Path) -> str:
    """What a folder without a config.json seems to be, as the end of a sentence."""
    if (folder / "weights").is_dir() and (folder / "context").is_dir():
        return ": it is a checkpoint of NeMo, and a Hugging Face one is wanted"
    if (folder / "adapter_config.json").is_file():
        return ": it holds an adapter (LoRA), and a whole model is wanted"
    gguf = next(folder.glob("*.gguf"), None)
    return f": {gguf.name} is llama.cpp's, and a Hugging Face checkpoint is wanted" if gguf else ""


def _in_mirror(mirror: Path, model: str, revision: str | None) -> Path:
    folder = mirrored(mirror, model, kind=MODEL)
    note = folder / ".cache" / "huggingface" / "download" / f"{CONFIG}.metadata"  # what `hf download` leaves
    there = note.read_text(encoding="utf-8").partition("\n")[0].strip() if note.is_file() else None
    if revision and there and _COMMIT.fullmatch(revision) and there != revision:
        raise UserError(f"the mirror's {folder} is revision {there} of {model}, not {revision}.")
    return folder
