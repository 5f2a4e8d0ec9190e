"""The step that tokenises the sources of a blend into Megatron's .bin and .idx.

    config:  {"tokenizer": folder or hub name,  or `folder:`, one that is named beside the config
              "sources": [{"name": "math-v2-part00", "field": "messages", "files": ["world:corpora/math.jsonl"]},
                          {"name": "stem", "field": "messages", "dataset": "nvidia/Nemotron-Post-Training-Dataset-v1",
                           "subset": "default", "split": "stem", "files": [], "samples": null}, ...],
              "max_document_tokens": 256000,     longer documents are cut there
              "join_newlines": true,             `text` only: newlines become spaces
              "reasoning": "inline",             `messages` only: inline, native or stripped
              "loss_on": "all",                  `messages` only: all, or answers, marked in a .loss beside the .bin
              "held_out": 0.001,                 share of the documents that are kept apart; absent: none
              "max_malformed": 0.01,             share of a source's rows that may be malformed or empty
              "seed": 0}                         of the draws; null where no source has a budget
    folder:  sources.json    {source: {"prefix", "tokens", "documents", "bytes", "tokenizer"}}, prefixes relative to it
             sources.md      the cards of all sources in one table, to read

A source on this machine has a `path`, as `nemo_distill.data.local` takes it, or `files`, each a path or STEP:PATH
inside the folder of an upstream step; one on the hub has a `dataset` and what `nemo_distill.data.hub` takes. Each may
have `tokens`, a budget that is drawn from all of it (`nemo_distill.data.draw`), or `samples`, how many of its first
rows are read, and the `reading` that its rows are of. `nemo_distill.data.entry` has all keys.

Each source has a folder of its own (`nemo_distill.data.source_folder`), and nothing is downloaded to find that it is
there. `card.json` in it, and `card.md` to read, say what it is made of.
"""

import errno
import json
import logging
import shutil
from pathlib import Path

from nemo_distill.config.teacher import path_of
from nemo_distill.data import source_cards
from nemo_distill.data.entry import Entry
from nemo_distill.data.find import find_files
from nemo_distill.data.local import check_first_rows
from nemo_distill.data.models import model_folder
from nemo_distill.data.prepared import SOURCES_FILE
from nemo_distill.data.source_folder import Prepared, place, prepare_source
from nemo_distill.data.tokenise import Workers
from nemo_distill.data.tokenizer import Tokenizer, check_reasoning
from nemo_distill.errors import PassingError
from nemo_distill.run.progress import write_atomically
from nemo_distill.run.step import Spec

VERSION = 2
TABLE_FILE = "sources.md"
logger = logging.getLogger(__name__)


def main(spec: Spec) -> None:
    """Tokenise what is not yet there, one source after another."""
    try:
        made = _prepare(spec)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise PassingError(_disk_full(spec)) from error
    listed = {name: one.listed(relative_to=spec.folder) for name, one in made.items()}
    cards = [one.card for one in made.values()]
    said = [source_cards.table(cards), *source_cards.repeated(cards)]
    write_atomically(spec.folder / TABLE_FILE, "\n\n".join(said) + "\n")
    write_atomically(spec.folder / SOURCES_FILE, json.dumps(listed, indent=1))


def _prepare(spec: Spec) -> dict[str, Prepared]:
    config = spec.config
    check_reasoning(config.get("reasoning", "inline"))
    entries = [Entry.of(source) for source in config["sources"]]
    located = {entry.name: find_files(entry, spec.upstream) for entry in entries}
    name = path_of(config["tokenizer"], spec.beside.teacher)
    folder = model_folder(name, weights=False)
    tokenizer = Tokenizer(folder, name=name)
    tokenizer.check(folder, chats=any(entry.field == "messages" for entry in entries))
    for entry in entries:
        if (
            entry.reading > 1
            and entry.dataset
            and not place(spec, entry, located[entry.name], tokenizer, version=VERSION).done
        ):
            check_first_rows(entry, find_files(entry, spec.upstream, streaming=True))
    total, done = sum(found.bytes for found in located.values()), 0
    made: dict[str, Prepared] = {}
    with Workers(tokenizer) as workers:
        for entry in entries:
            name, found = entry.name, located[entry.name]

            def say(read: float, tokens_per_second: float, *, name=name, size=found.bytes, before=done) -> None:
                spec.progress.update(
                    done=(before + read * size) / 1e6,
                    total=total / 1e6,
                    unit="MB",
                    tokens_per_second=tokens_per_second,
                    note=name,
                )

            made[name] = prepare_source(spec, entry, found, workers, version=VERSION, say=say)
            done += found.bytes
    spec.progress.update(done=total / 1e6, total=total / 1e6, unit="MB")
    for sentence in source_cards.repeated(one.card for one in made.values()):
        logger.warning("%s", sentence)
    return made


def _disk_full(spec: Spec) -> str:
    folders = [spec.runs]
    if any(source.get("dataset") for source in spec.config["sources"]):
        from huggingface_hub import constants

        folders.append(Path(constants.HF_HUB_CACHE))
    folder = min((folder for folder in folders if folder.exists()), key=lambda folder: shutil.disk_usage(folder).free)
    return f"the disk of {folder} is full: make room there and run again, what was tokenised so far is kept."
