"""Reads what the prepare step lists in its folder: where the tokens of each source lie, and how many there are.

    read_sources(folder)["stem"]["prefix"]      # absolute, of .bin and .idx files that are there and whole
    tokens_counted(folder)["stem"]              # 12345

`nemo_distill.data.source_folder` makes them, each source in a folder of its own.
"""

import json
from pathlib import Path

from nemo_distill.data.tokenizer import vocabulary_of
from nemo_distill.errors import UserError

SOURCES_FILE = "sources.json"
"""{source: {"prefix", "tokens", "documents", "bytes", "tokenizer"}}, prefixes relative to the step's folder; where
documents were held out, "held_out" too, with a prefix, tokens, documents and bytes of their own."""


def read_sources(folder: Path, *, tokenizer: Path | None = None) -> dict[str, dict]:
    """What the prepare step lists in its `folder`, by source, with every `prefix` an absolute path.

    Args:
        folder: The folder of a prepare step that is done.
        tokenizer: Folder of the tokenizer of the model that is to read the tokens; None: it is not compared.

    Raises `UserError` when one of the files it points to, which lie in folders of their own, is missing or cut short,
    or when a source was tokenised with another vocabulary than the model's.
    """
    found = _listed_in(folder)
    expected = vocabulary_of(tokenizer) if tokenizer else None
    for name, source in found.items():
        made = source["tokenizer"]
        if expected and made["vocabulary"] != expected:
            raise UserError(
                f"source {name!r} was tokenised with {made['name']} (vocabulary {made['vocabulary']}), the model has "
                f"the tokenizer {tokenizer} (vocabulary {expected}): prepare it with the teacher's."
            )
        for files in (source, *([source["held_out"]] if "held_out" in source else [])):
            files["prefix"] = str((folder / files["prefix"]).resolve())
            for ending, size in files["bytes"].items():
                path = Path(files["prefix"] + ending)
                there = path.stat().st_size if path.is_file() else None
                if there != size:
                    state = "is gone" if there is None else f"has {there:,} bytes where {size:,} were written"
                    raise UserError(f"{path} {state}. Remove {folder} and run again to make it anew.")
    return found


def tokens_counted(folder: Path) -> dict[str, int]:
    """Tokens of each source that the prepare step lists in its `folder`; no file of tokens is looked at."""
    return {name: source["tokens"] for name, source in _listed_in(folder).items()}


def _listed_in(folder: Path) -> dict[str, dict]:
    return json.loads((folder / SOURCES_FILE).read_text(encoding="utf-8"))
