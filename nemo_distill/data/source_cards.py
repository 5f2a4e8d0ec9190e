"""The card of a tokenised source: what it is made of, as `card.json` and, to be read, as `card.md`.

write(folder, card)
print(table([card, other]))
"""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nemo_distill.run.progress import write_atomically

NOTES = {
    "reasoning_kept": "messages whose reasoning is in the tokens",
    "reasoning_stripped": "messages whose reasoning was left out, as prepare.reasoning=stripped says",
    "reasoning_unread": "messages whose reasoning the chat template leaves out",
    "tool_calls_unread": "tool calls whose name the chat template leaves out",
    "answers_without_loss": "answers that have no loss, since the chat template writes them otherwise later on",
    "control_tokens": "rows that spell a control token of the tokenizer, which it has become",
    "repeated_files": "files whose content another file of the source has as well",
}
"""What a card notes, by its key: things that are counted and change no count of documents."""
CARD_FILE = "card.json"
PAGE_FILE = "card.md"


def write(folder: Path, card: dict) -> None:
    """Put `card` into `folder`, for machines and for people."""
    write_atomically(folder / PAGE_FILE, page(card))
    write_atomically(folder / CARD_FILE, json.dumps(card, indent=1))


def read(folder: Path) -> dict:
    """The card in `folder`."""
    return json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))


def histogram(lengths: Iterable[np.ndarray]) -> dict[str, int]:
    """Documents by their tokens: under key "64" those of 64 to 127; in order, empty classes within left at 0."""
    counts = np.zeros(32, np.int64)
    for chunk in lengths:
        counts += np.bincount(np.frexp(chunk)[1] - 1, minlength=32)[:32]
    (held,) = np.nonzero(counts)
    return {str(2**power): int(counts[power]) for power in range(held[0], held[-1] + 1)} if len(held) else {}


def table(cards: Iterable[dict]) -> str:
    """One Markdown line per card: documents, tokens, what was left out and why, the share that was drawn, its notes."""
    lines = [
        "| source | documents | tokens | tokens per document | cut | dropped | drawn | noted |",
        "|---|---:|---:|---:|---:|---|---:|---|",
    ]
    for card in cards:
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in card["dropped"].items()) or "none"
        mean = card["tokens"] / max(card["documents"], 1)
        noted = ", ".join(f"{count:,} {key.replace('_', ' ')}" for key, count in notes(card).items())
        lines.append(
            f"| {card['source']} | {card['documents']:,} | {card['tokens']:,} | {mean:,.0f} | {card['cut']:,} "
            f"| {dropped} | {card['drawn']['share']:.1%} | {noted} |"
        )
    return "\n".join(lines)


def notes(card: dict) -> dict[str, int]:
    """What `card` notes, in the order of `NOTES`; nothing where it was written before there were notes."""
    return {key: card["noted"][key] for key in NOTES if card.get("noted", {}).get(key)}


def repeated(cards: Iterable[dict]) -> list[str]:
    """A sentence for each two sources that read the same content, whatever their files are called."""
    held = {card["source"]: {file["content"]: file["file"] for file in card["inputs"]} for card in cards}
    sentences = []
    for one, other in itertools.combinations(held, 2):
        if shared := [held[one][content] for content in held[one] if content in held[other]]:
            listed = f"{', '.join(shared[:3])}{', ...' if len(shared) > 3 else ''}"
            sentences.append(f"Sources {one!r} and {other!r} read the same content ({listed}): it counts in both.")
    return sentences


def page(card: dict) -> str:
    """One source's card as a page of Markdown."""
    drawn, tokenizer, origin = card["drawn"], card["tokenizer"], card["origin"]
    lines = [f"# {card['source']}", "", table([card]), ""]
    if card["first_malformed"]:
        lines += [f"First row dropped: {card['first_malformed']}.", ""]
    lines += [f"- {count:,} {NOTES[key]}" for key, count in notes(card).items()]
    lines += [""] if notes(card) else []
    if card.get("loss_tokens", card["tokens"]) != card["tokens"]:
        share = card["loss_tokens"] / card["tokens"]
        lines += [f"The loss is taken on {card['loss_tokens']:,} tokens, {share:.1%} of them.", ""]
    if "held_out" in card:
        held = card["held_out"]
        lines += [
            f"Held out: {held['share']:g} of all, {held['documents']:,} documents of {held['tokens']:,} tokens.",
            "",
        ]
    if drawn["budget"] is not None:
        lines += [f"Drawn to a budget of {drawn['budget']:,} tokens with seed {drawn['seed']}.", ""]
    elif drawn["samples"] is not None:
        lines += [f"The first {drawn['samples']:,} rows at most.", ""]
    if origin["dataset"]:
        lines += [f"Data set {origin['dataset']}, revision {origin['revision'] or 'of a mirror'}.", ""]
    lines += [f"Tokenizer {tokenizer['name']}, {tokenizer['vocab_size']:,} tokens ({tokenizer['vocabulary']}).", ""]
    most = max(card["lengths"].values(), default=1)
    lines += ["| tokens, from | documents | |", "|---:|---:|---|"]
    lines += [
        f"| {int(low):,} | {count:,} | {'█' * round(30 * count / most)} |" for low, count in card["lengths"].items()
    ]
    lines += ["", "| input | bytes | content |", "|---|---:|---|"]
    lines += [f"| {file['file']} | {file['bytes']:,} | {file['content']} |" for file in card["inputs"]]
    lines += ["", "| output | bytes | SHA-256 |", "|---|---:|---|"]
    lines += [f"| {ending} | {size:,} | {card['sha256'][ending]} |" for ending, size in card["bytes"].items()]
    return "\n".join(lines) + "\n"
