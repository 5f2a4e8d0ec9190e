"""The step that tokenises the sources of a blend into Megatron's .bin and .idx.

    config:  {"tokenizer": folder or hub name,
              "sources": [{"name": "math-v2-part00", "field": "messages", "files": ["world:corpora/math.jsonl"]},
                          {"name": "stem", "field": "messages", "dataset": "nvidia/Nemotron-Post-Training-Dataset-v1",
                           "subset": "default", "split": "stem", "files": [], "samples": null}, ...],
              "max_document_tokens": 256000,     longer documents are cut there
              "join_newlines": true,             `text` only: newlines become spaces
              "reasoning": "inline",             `messages` only: inline, native or stripped
              "max_malformed": 0.01,             share of a source's rows that may be malformed or empty
              "seed": 0}                         of the draws; null where no source has a budget
    folder:  sources.json    {source: {"prefix", "tokens", "documents", "bytes", "tokenizer"}}, prefixes relative to it

A source at hand has `files`, each a path or STEP:PATH inside the folder of an upstream step; one on the hub has a
`dataset` and what `nemo_distill.data.hub` takes. Either may have `tokens`, a budget that is drawn from all of it
(`nemo_distill.data.draw`), or `samples`, how many of its first rows are read.

Each source has a folder of its own, RUNS/sources/NAME/FINGERPRINT, named by the content of its files, the tokenizer and
what else decides its tokens, under the same contract as a step's: blends that share a source share its folder. Nothing
is downloaded to find that it is there. `card.json` in it, and `card.md` to read, say what it is made of.
"""

import dataclasses
import errno
import functools
import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

from nemo_distill.data import source_cards as cards
from nemo_distill.data.hub import LocalFile, Located, locate, model_folder
from nemo_distill.data.indexed import lengths_of
from nemo_distill.data.tokenise import Job, Treatment, Workers, tokenise
from nemo_distill.data.tokenizer import Tokenizer, check_reasoning, vocabulary_of
from nemo_distill.errors import UserError, nearest
from nemo_distill.run.process import locked
from nemo_distill.run.progress import write_atomically
from nemo_distill.run.provenance import provenance
from nemo_distill.run.step import SUCCESS, Spec, damage, fingerprint, mark_done

VERSION = 2
SOURCES_FILE = "sources.json"
CARD_FILE = cards.CARD_FILE
logger = logging.getLogger(__name__)
_provenance = functools.cache(provenance)


def main(spec: Spec) -> None:
    """Tokenise what is not yet there, one source after another."""
    try:
        _main(spec)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(_full(spec)) from error


def _main(spec: Spec) -> None:
    config = spec.config
    check_reasoning(config.get("reasoning", "inline"))
    located = {source["name"]: find_files(spec, source) for source in config["sources"]}
    sizes = {name: sum(file.bytes for file in found.files) for name, found in located.items()}
    tokenizer = Tokenizer(model_folder(config["tokenizer"], weights=False), name=config["tokenizer"])
    total, done, listed = sum(sizes.values()), 0, {}
    with Workers(tokenizer) as workers:
        for source in config["sources"]:
            name = source["name"]

            def say(read: float, tokens_per_second: float, *, name: str = name, done: int = done) -> None:
                spec.progress.update(
                    done=(done + read * sizes[name]) / 1e6,
                    total=total / 1e6,
                    unit="MB",
                    tokens_per_second=tokens_per_second,
                    note=name,
                )

            placed = _place(spec, source, located[name], tokenizer)
            card = _prepare(placed, source, located[name], workers, say=say)
            done += sizes[name]
            listed[name] = {
                "prefix": os.path.relpath(placed.folder / name, spec.folder),
                "tokens": card["tokens"],
                "documents": card["documents"],
                "bytes": card["bytes"],
                "tokenizer": card["tokenizer"],
            }
    spec.progress.update(done=total / 1e6, total=total / 1e6, unit="MB")
    write_atomically(spec.folder / SOURCES_FILE, json.dumps(listed, indent=1))


def read_sources(folder: Path, *, tokenizer: Path | None = None) -> dict[str, dict]:
    """What prepare's `folder` lists, by source, with `prefix` an absolute path.

    Args:
        folder: Of the step.
        tokenizer: Folder of the tokenizer of the model that is to read the tokens; None: it is not compared.

    Raises `UserError` when one of the files it points to, which lie in folders of their own, is missing or cut short,
    or when a source was tokenised with another vocabulary than the model's.
    """
    found = json.loads((folder / SOURCES_FILE).read_text(encoding="utf-8"))
    expected = vocabulary_of(tokenizer) if tokenizer else None
    for name, source in found.items():
        made = source["tokenizer"]
        if expected and made["vocabulary"] != expected:
            raise UserError(
                f"source {name!r} was tokenised with {made['name']} (vocabulary {made['vocabulary']}), the model has "
                f"the tokenizer {tokenizer} (vocabulary {expected}): prepare it with the teacher's."
            )
        source["prefix"] = str((folder / source["prefix"]).resolve())
        for ending, size in source["bytes"].items():
            path = Path(source["prefix"] + ending)
            there = path.stat().st_size if path.is_file() else None
            if there != size:
                state = "is gone" if there is None else f"has {there:,} bytes where {size:,} were written"
                raise UserError(f"{path} {state}. Remove {folder} and run again to make it anew.")
    return found


def cards_table(folder: Path) -> str:
    """The cards of the sources that prepare's `folder` lists, as one Markdown table."""
    return cards.table(cards.read(Path(source["prefix"]).parent) for source in read_sources(folder).values())


def find_files(spec: Spec, source: dict, *, streaming: bool | None = None) -> Located:
    """Where `source` lies, on the hub or at hand; `streaming` as `hub.locate` takes it."""
    if source.get("dataset"):
        return locate(source, streaming=streaming)
    if not source["files"]:
        raise UserError(f"source {source['name']!r} names no files to read.")
    paths = [resolve_file(spec, file) for file in source["files"]]
    return Located([LocalFile(path, path.name) for path in paths])


def resolve_file(spec: Spec, file: str) -> Path:
    """The path of a source's file, given as a path or as STEP:PATH; raises `UserError` when it is not there."""
    step, colon, inside = file.partition(":")
    if colon and step not in spec.upstream:
        raise UserError(f"the file {file!r} is in no step upstream. {nearest(step, spec.upstream)}")
    path = spec.upstream[step] / inside if colon else Path(file)
    if not path.is_file():
        raise UserError(f"there is no file {path}.")
    return path


def _place(spec: Spec, source: dict, located: Located, tokenizer: Tokenizer) -> Spec:
    """The source's own folder under the runs folder, named by all that decides its tokens."""
    budget = source.get("tokens")
    if budget is not None and budget <= 0:
        raise UserError(f"source {source['name']!r} has a budget of {budget} tokens, which has to be above 0.")
    treatment = {
        "field": source["field"],
        "max_document_tokens": spec.config.get("max_document_tokens", 256_000),
    }
    if source["field"] == "text":
        treatment["join_newlines"] = spec.config.get("join_newlines", True)
    else:
        treatment["reasoning"] = spec.config.get("reasoning", "inline")
    config = {
        "inputs": [file.content for file in located.files],
        "tokenizer": tokenizer.fingerprint,
        "treatment": treatment,
        "max_malformed": spec.config.get("max_malformed", 0.01),
        "samples": source.get("samples") if budget is None else None,
        "budget": budget,
        "seed": None if budget is None else spec.config.get("seed", 0),
    }
    print_ = fingerprint({"module": __name__, "version": VERSION, "config": config})
    return dataclasses.replace(
        spec, name=source["name"], config=config, upstream={}, fingerprint=print_,
        folder=spec.runs / "sources" / source["name"] / print_,
    )  # fmt: skip


def _prepare(placed: Spec, source: dict, located: Located, workers: Workers, *, say) -> dict:
    """Tokenise a source unless its mark stands; returns its card."""
    with locked(placed.folder):
        broken = damage(placed.folder) if placed.done else None
        if broken:
            logger.warning("%s: made anew", broken)
            (placed.folder / SUCCESS).unlink()
        if placed.done:
            logger.info("%s: already there, %s", placed.name, placed.folder)
            return cards.read(placed.folder)
        placed.save(provenance=_provenance())
        card = _tokenise(placed, source, located, workers, say=say)
        cards.write(placed.folder, card)
        mark_done(placed.folder, fingerprint=placed.fingerprint)
    logger.info("%s: %s tokens in %s documents", placed.name, f"{card['tokens']:,}", f"{card['documents']:,}")
    if card["dropped"]:
        logger.warning("%s: dropped %s; first, %s", placed.name, card["dropped"], card["first_malformed"])
    return card


def _tokenise(placed: Spec, source: dict, located: Located, workers: Workers, *, say) -> dict:
    config, tokenizer, prefix = placed.config, workers.tokenizer, placed.folder / placed.name
    made = tokenise(
        Job(
            source=placed.name,
            files=located.files,
            treatment=Treatment(**config["treatment"]),
            max_malformed=config["max_malformed"],
            samples=config["samples"],
            budget=config["budget"],
            seed=config["seed"] or 0,
        ),
        workers,
        prefix,
        say=say,
    )
    outputs = {ending: Path(f"{prefix}{ending}") for ending in (".bin", ".idx")}
    return {
        "source": placed.name,
        "documents": made.documents,
        "tokens": made.tokens,
        "lengths": cards.histogram(lengths_of(prefix)),
        "rows": made.tally.rows,
        "dropped": dict(made.tally.dropped),
        "first_malformed": made.tally.first or None,
        "cut": made.cut,
        "drawn": {
            "share": made.share,
            "budget": config["budget"],
            "samples": config["samples"],
            "seed": config["seed"],
        },
        "bytes": {ending: path.stat().st_size for ending, path in outputs.items()},
        "sha256": {ending: _sha256(path) for ending, path in outputs.items()},
        "origin": {
            "dataset": source.get("dataset"),
            "subset": source.get("subset"),
            "split": source.get("split"),
            "revision": located.revision,
        },
        "inputs": [{"file": file.name, "bytes": file.bytes, "content": file.content} for file in located.files],
        "treatment": config["treatment"],
        "tokenizer": {
            "name": tokenizer.name,
            "fingerprint": tokenizer.fingerprint,
            "vocabulary": tokenizer.vocabulary,
            "vocab_size": tokenizer.vocab_size,
        },
    }


def _full(spec: Spec) -> str:
    folders = [spec.runs]
    if any(source.get("dataset") for source in spec.config["sources"]):
        from huggingface_hub import constants

        folders.append(Path(constants.HF_HUB_CACHE))
    folder = min((folder for folder in folders if folder.exists()), key=lambda folder: shutil.disk_usage(folder).free)
    return f"the disk of {folder} is full: make room there and run again, what was tokenised so far is kept."


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
