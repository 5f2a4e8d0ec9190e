"""The step that tokenises the sources of a blend into Megatron's .bin and .idx.

    config:  {"tokenizer": folder or hub name,
              "sources": [{"name": "math-v2-part00", "field": "messages", "files": ["world:corpora/math.jsonl"]}, ...],
              "max_document_tokens": 256000,     longer documents are cut there
              "join_newlines": true,             `text` only: newlines become spaces
              "max_malformed": 0.01}             share of a source's rows that may be malformed or empty
    folder:  sources.json    {source: {"prefix", "tokens", "documents", "bytes"}}, prefixes relative to the folder

A file is a path, or STEP:PATH inside the folder of an upstream step. Each source has a folder of its own,
RUNS/sources/NAME/FINGERPRINT, named by the content of its files, the tokenizer and what else decides its tokens, under
the same contract as a step's: blends that share a source share its folder. `card.json` in it says what it is made of.

`text` documents end with the tokenizer's end-of-sequence token; `messages` go through its chat template, which writes
its own, with the reasoning inline.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from nemo_distill.documents import Tally, rows, with_inline_reasoning
from nemo_distill.errors import UserError, nearest
from nemo_distill.indexed import IndexedWriter
from nemo_distill.progress import write_atomically
from nemo_distill.provenance import provenance
from nemo_distill.step import SUCCESS, Spec, damage, fingerprint, mark_done
from nemo_distill.step_process import locked

VERSION = 1
SOURCES_FILE = "sources.json"
CARD_FILE = "card.json"
_BATCH = 1_000
"""Documents tokenised at once."""
_CHARACTERS_PER_TOKEN = 8
"""A document is cut at this many characters per token allowed before it is tokenised, as ModelOpt does."""
logger = logging.getLogger(__name__)
_provenance = functools.cache(provenance)


def main(spec: Spec) -> None:
    """Tokenise what is not yet there, one source after another."""
    config = spec.config
    files = {source["name"]: _files(spec, source) for source in config["sources"]}
    tokenizer = Tokenizer(config["tokenizer"])
    total = sum(path.stat().st_size for paths in files.values() for path in paths)
    done, found = 0, {}

    def say(name: str, *, read: int, tokens_per_second: float) -> None:
        at = min(done + read, total) / 1e6  # a packed file reads as more bytes than it has
        spec.progress.update(done=at, total=total / 1e6, unit="MB", tokens_per_second=tokens_per_second, note=name)

    for source in config["sources"]:
        name = source["name"]
        placed = _place(spec, source, files[name], tokenizer)
        card = _prepare(placed, files[name], tokenizer, say=say)
        done += sum(path.stat().st_size for path in files[name])
        found[name] = {
            "prefix": os.path.relpath(placed.folder / name, spec.folder),
            "tokens": card["tokens"],
            "documents": card["documents"],
            "bytes": card["bytes"],
        }
    spec.progress.update(done=total / 1e6, total=total / 1e6, unit="MB")
    write_atomically(spec.folder / SOURCES_FILE, json.dumps(found, indent=1))


def read_sources(folder: Path) -> dict[str, dict]:
    """What prepare's `folder` lists, by source, with `prefix` an absolute path.

    Raises `UserError` when one of the files it points to, which lie in folders of their own, is missing or cut short.
    """
    found = json.loads((folder / SOURCES_FILE).read_text(encoding="utf-8"))
    for source in found.values():
        source["prefix"] = str((folder / source["prefix"]).resolve())
        for ending, size in source["bytes"].items():
            path = Path(source["prefix"] + ending)
            there = path.stat().st_size if path.is_file() else None
            if there != size:
                state = "is gone" if there is None else f"has {there:,} bytes where {size:,} were written"
                raise UserError(f"{path} {state}. Remove {folder} and run again to make it anew.")
    return found


class Tokenizer:
    """A Hugging Face tokenizer, its fast backend, and what it is known by."""

    def __init__(self, name_or_path: str):
        # What AutoTokenizer gives for a Nemotron-H checkpoint; AutoTokenizer itself imports torch.
        from transformers import PreTrainedTokenizerFast

        self._tokenizer = PreTrainedTokenizerFast.from_pretrained(name_or_path)
        self._backend = self._tokenizer.backend_tokenizer
        self.vocab_size = len(self._tokenizer)
        self.end_of_document = self._tokenizer.eos_token_id
        parts = (self._backend.to_str(), str(self._tokenizer.chat_template), str(self.end_of_document))
        self.fingerprint = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def render(self, conversations: list[list[dict]]) -> list[str]:
        """The text of each conversation, by the chat template."""
        return self._tokenizer.apply_chat_template(conversations, tokenize=False)

    def encode(self, texts: list[str], *, special: bool) -> list[list[int]]:
        """Token ids of each text; `special` adds the tokens that the tokenizer puts around a plain text, if any."""
        return [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=special)]


def _files(spec: Spec, source: dict) -> list[Path]:
    """What a source is read from; the one place that knows where data come from."""
    if source.get("dataset"):
        raise UserError(
            f"source {source['name']!r} lies on the hub, in {source['dataset']}; only files at hand can be read so far."
        )
    if not source["files"]:
        raise UserError(f"source {source['name']!r} names no files to read.")
    return [resolve_file(spec, file) for file in source["files"]]


def resolve_file(spec: Spec, file: str) -> Path:
    """The path of a source's file, given as a path or as STEP:PATH; raises `UserError` when it is not there."""
    step, colon, inside = file.partition(":")
    if colon and step not in spec.upstream:
        raise UserError(f"the file {file!r} is in no step upstream. {nearest(step, spec.upstream)}")
    path = spec.upstream[step] / inside if colon else Path(file)
    if not path.is_file():
        raise UserError(f"there is no file {path}.")
    return path


def _place(spec: Spec, source: dict, files: list[Path], tokenizer: Tokenizer) -> Spec:
    """The source's own folder under the runs folder, named by all that decides its tokens."""
    config = {
        "field": source["field"],
        "inputs": [_sha256(path) for path in files],
        "tokenizer": tokenizer.fingerprint,
        "max_document_tokens": spec.config.get("max_document_tokens", 256_000),
        "join_newlines": spec.config.get("join_newlines", True),
        "max_malformed": spec.config.get("max_malformed", 0.01),
    }
    print_ = fingerprint({"module": __name__, "version": VERSION, "config": config})
    runs = spec.folder.parent.parent
    return dataclasses.replace(
        spec, name=source["name"], config=config, upstream={}, fingerprint=print_,
        folder=runs / "sources" / source["name"] / print_,
    )  # fmt: skip


def _prepare(source: Spec, files: list[Path], tokenizer: Tokenizer, *, say) -> dict:
    """Tokenise `source` unless its mark stands; returns its card."""
    with locked(source.folder):
        broken = damage(source.folder) if source.done else None
        if broken:
            logger.warning("%s: made anew", broken)
            (source.folder / SUCCESS).unlink()
        if source.done:
            logger.info("%s: already there, %s", source.name, source.folder)
            return json.loads((source.folder / CARD_FILE).read_text(encoding="utf-8"))
        source.save(provenance=_provenance())
        card = _tokenise(source, files, tokenizer, say=say)
        write_atomically(source.folder / CARD_FILE, json.dumps(card, indent=1))
        mark_done(source.folder, fingerprint=source.fingerprint)
    logger.info("%s: %s tokens in %s documents", source.name, f"{card['tokens']:,}", f"{card['documents']:,}")
    return card


def _tokenise(source: Spec, files: list[Path], tokenizer: Tokenizer, *, say) -> dict:
    config, tally = source.config, Tally()
    limit = config["max_document_tokens"]
    prefix = source.folder / source.name
    cut = 0
    started = time.monotonic()
    with contextlib.closing(rows(files, field=config["field"], tally=tally)) as documents, IndexedWriter(
        prefix, vocab_size=tokenizer.vocab_size
    ) as writer:  # fmt: skip
        for texts in batched_texts(documents, config["field"], tokenizer, join_newlines=config["join_newlines"]):
            shortened = [text[: limit * _CHARACTERS_PER_TOKEN] for text in texts]
            kept = []
            for text, short, ids in zip(
                texts, shortened, tokenizer.encode(shortened, special=config["field"] == "text"), strict=True
            ):
                cut += len(ids) > limit or len(short) < len(text)
                del ids[limit:]
                if not ids:
                    tally.dropped["empty"] += 1
                    continue
                if config["field"] == "text":
                    ids.append(tokenizer.end_of_document)
                kept.append(ids)
            writer.add(kept)
            say(source.name, read=tally.bytes, tokens_per_second=writer.tokens / (time.monotonic() - started))
        tally.check(allowed=config["max_malformed"], where=f"source {source.name!r}")
    return {
        "source": source.name,
        "documents": writer.documents,
        "tokens": writer.tokens,
        "rows": tally.rows,
        "dropped": dict(tally.dropped),
        "first_malformed": tally.first or None,
        "cut": cut,
        "bytes": {ending: Path(f"{prefix}{ending}").stat().st_size for ending in (".bin", ".idx")},
        "inputs": [
            {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256}
            for path, sha256 in zip(files, config["inputs"], strict=True)
        ],
        "tokenizer": {"fingerprint": tokenizer.fingerprint, "vocab_size": tokenizer.vocab_size},
    }


def batched_texts(
    documents: Iterator, field: str, tokenizer: Tokenizer, *, join_newlines: bool = True
) -> Iterator[list[str]]:
    """The texts that `documents` (values of `field`) are tokenised as, in batches."""
    while batch := list(itertools.islice(documents, _BATCH)):
        if field == "messages":
            yield tokenizer.render([with_inline_reasoning(messages) for messages in batch])
        elif join_newlines:
            yield [text.replace("\n", " ") for text in batch]
        else:
            yield batch


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
