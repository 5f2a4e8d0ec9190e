"""Tokenises one source into a folder of its own, RUNS/sources/NAME/FINGERPRINT, unless it is there.

    with Workers(tokenizer) as workers:
        made = prepare_source(spec, source, located, workers, version=VERSION, say=print)
    made.listed(relative_to=spec.folder)            # {"prefix": "../../sources/stem/...", "tokens": 12345, ...}

The folder is named by the content of the source's files, the tokenizer and whatever else decides its tokens, under the
same contract as a step's. Blends that share a source share its folder.
"""

import dataclasses
import functools
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.config.plain import fingerprint
from nemo_distill.data import source_cards
from nemo_distill.data.entry import Entry
from nemo_distill.data.files import Located
from nemo_distill.data.held_out import prefix_of
from nemo_distill.data.indexed import lengths_of, marked_in
from nemo_distill.data.tokenise import Job, Treatment, Workers, tokenise
from nemo_distill.data.tokenizer import Tokenizer
from nemo_distill.errors import UserError
from nemo_distill.run.at_work import locked
from nemo_distill.run.provenance import provenance
from nemo_distill.run.step import SUCCESS, Spec, damage, mark_done

ENDINGS = (".bin", ".idx", ".loss")
"""Endings of Megatron's two files, and of the one that says which tokens the loss is taken on, where there is one."""
HELD_OUT = ("documents", "tokens", "bytes")
"""What is listed of the documents that were held out."""
MAX_DOCUMENT_TOKENS = 256_000
"""Tokens at which a document is cut, where the step's config does not say."""
MAX_MALFORMED = 0.01
"""Share of a source's rows that may be malformed, where the step's config does not say."""
logger = logging.getLogger(__name__)
_provenance = functools.cache(provenance)


@dataclass(frozen=True)
class Prepared:
    """A source whose tokens are there."""

    prefix: Path
    """Path of its .bin and .idx without the ending."""
    card: dict
    """What it is made of (`source_cards`)."""

    def listed(self, *, relative_to: Path) -> dict:
        """Its entry in `prepared.SOURCES_FILE`, whose prefix is relative to a folder: a runs folder can be moved."""
        kept = {key: self.card[key] for key in ("tokens", "documents", "bytes", "tokenizer")}
        listed = {"prefix": os.path.relpath(self.prefix, relative_to), **kept}
        if "held_out" in self.card:
            prefix = os.path.relpath(prefix_of(self.prefix), relative_to)
            listed["held_out"] = {"prefix": prefix, **{key: self.card["held_out"][key] for key in HELD_OUT}}
        return listed


def prepare_source(
    spec: Spec,
    source: Mapping | Entry,
    located: Located,
    workers: Workers,
    *,
    version: int,
    say: Callable[[float, float], None],
) -> Prepared:
    """Tokenise `source` into its own folder, unless it is there.

    Args:
        spec: The prepare step's; its config says what becomes of a row.
        source: Its entry in the step's config.
        located: Its files.
        workers: Processes that tokenise.
        version: Of the step, in the folder's name.
        say: As `tokenise` takes it.
    """
    placed = place(spec, source, located, workers.tokenizer, version=version)
    prefix = placed.folder / placed.name
    with locked(placed.folder):
        broken = damage(placed.folder) if placed.done else None
        if broken:
            logger.warning("%s: made anew", broken)
            (placed.folder / SUCCESS).unlink()
        if placed.done:
            logger.info("%s: already there, %s", placed.name, placed.folder)
            return Prepared(prefix, source_cards.read(placed.folder))
        placed.save(provenance=_provenance())
        card = _tokenise(placed, source, located, workers, prefix, say=say)
        source_cards.write(placed.folder, card)
        mark_done(placed.folder, fingerprint=placed.fingerprint)
    logger.info("%s: %s tokens in %s documents", placed.name, f"{card['tokens']:,}", f"{card['documents']:,}")
    if card["dropped"]:
        logger.warning("%s: dropped %s; first, %s", placed.name, card["dropped"], card["first_malformed"])
    for key, count in source_cards.notes(card).items():
        say_note = logger.info if key == "reasoning_kept" else logger.warning
        say_note("%s: %s %s", placed.name, f"{count:,}", source_cards.NOTES[key])
    return Prepared(prefix, card)


def place(spec: Spec, source: Mapping | Entry, located: Located, tokenizer: Tokenizer, *, version: int) -> Spec:
    """The source's own folder under the runs folder, named by all that decides its tokens."""
    entry = Entry.of(source)
    budget = entry.tokens
    if budget is not None and budget <= 0:
        raise UserError(f"source {entry.name!r} has a budget of {budget} tokens, which has to be above 0.")
    treatment: dict = {
        "field": entry.field,
        "max_document_tokens": spec.config.get("max_document_tokens", MAX_DOCUMENT_TOKENS),
    }
    if entry.field == "text":
        treatment["join_newlines"] = spec.config.get("join_newlines", True)
    else:
        treatment["reasoning"] = spec.config.get("reasoning", "inline")
        if spec.config.get("loss_on", "all") != "all":  # a text has no answers
            treatment["loss_on"] = spec.config["loss_on"]
    if entry.reading > 1:  # version 0.1 had no other, and said nothing of it
        treatment["reading"] = entry.reading
    if spec.config.get("held_out"):
        treatment["held_out"] = spec.config["held_out"]
    if entry.column:
        treatment["column"] = entry.column
    config = {
        "inputs": [file.content for file in located.files],
        "tokenizer": tokenizer.fingerprint,
        "treatment": treatment,
        "max_malformed": spec.config.get("max_malformed", MAX_MALFORMED),
        "samples": entry.samples if budget is None else None,
        "budget": budget,
        "seed": None if budget is None else spec.config.get("seed", 0),
    }
    digest = fingerprint({"module": spec.module, "version": version, "config": config})
    folder = spec.runs / "sources" / entry.name / digest
    return dataclasses.replace(spec, name=entry.name, config=config, upstream={}, fingerprint=digest, folder=folder)


def _tokenise(placed: Spec, source: Mapping | Entry, located: Located, workers: Workers, prefix: Path, *, say) -> dict:
    """Tokenise to `prefix`; returns the card."""
    config, tokenizer, entry = placed.config, workers.tokenizer, Entry.of(source)
    repeated = len(located.files) - len({file.content for file in located.files})
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
    outputs = _outputs(prefix)
    card = {
        "source": placed.name,
        "documents": made.documents,
        "tokens": made.tokens,
        "loss_tokens": marked_in(prefix) if ".loss" in outputs else made.tokens,
        "lengths": source_cards.histogram(lengths_of(prefix)),
        "rows": made.tally.rows,
        "dropped": dict(made.tally.dropped),
        "first_malformed": made.tally.first or None,
        "noted": dict(made.tally.noted + Counter(repeated_files=repeated)),
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
            "dataset": entry.dataset,
            "subset": entry.subset,
            "split": entry.split,
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
    if made.held_out:
        sizes = {ending: path.stat().st_size for ending, path in _outputs(prefix_of(prefix)).items()}
        card["held_out"] = made.held_out | {"bytes": sizes}
    return card


def _outputs(prefix: Path) -> dict[str, Path]:
    return {ending: path for ending in ENDINGS if (path := Path(f"{prefix}{ending}")).exists()}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
