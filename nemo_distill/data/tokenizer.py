"""The tokenizer of a checkpoint: what it is known by, the text that a document becomes, and the tokens of that text.

    tokenizer = Tokenizer("runs/teacher")
    text = tokenizer.text(Document(0, messages, tools), reasoning="inline")
    ids, lengths = tokenizer.encode([text], special=False)

A byte-level tokenizer first cuts a text into pieces by a regular expression and then makes tokens of each piece alone.
Pieces repeat: of ten million in a corpus of code, one in a hundred is new. So a text is cut here by the same
expression, and only pieces not yet met go through Hugging Face's library, whose result is remembered (`Pieces`). That
takes about half its time. Where the two regular-expression engines could differ, the library gets the whole text.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import re
import signal
import threading
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nemo_distill.data import chats
from nemo_distill.data.answers import answers
from nemo_distill.data.chats import MalformedError
from nemo_distill.data.documents import Document, with_inline_reasoning, without_reasoning
from nemo_distill.errors import UserError, nearest

REASONING: dict[str, Callable[[list[dict]], list[dict]]] = {
    "inline": with_inline_reasoning,
    "native": lambda messages: messages,
    "stripped": without_reasoning,
}
"""What becomes of `reasoning_content`: in front of the content as `<think>...</think>`, left to the chat template, or
left out."""
_GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What `ByteLevel(use_regex=True)` cuts by."""
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""What a chat template marks the assistant's words by, if it does."""
TEMPLATE_SECONDS = 60.0
"""What a chat template may take for one conversation; a long one takes milliseconds."""
_REMEMBERED_CHARACTERS = 2_000_000
"""Pieces are forgotten when those remembered are this long together: about 100 MiB of Python objects."""


class TemplateStalls(UserError):
    """A chat template is at one conversation for longer than any takes."""


@contextlib.contextmanager
def _in_time(name: str) -> Iterator[None]:
    """Within the block, which may run the template of the tokenizer `name`, raise `TemplateStalls` in the end.

    A signal ends it, so a thread but the first is not held to it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stalls(*_: object) -> None:
        raise TemplateStalls(
            f"the chat template of {name} is at one conversation for more than {TEMPLATE_SECONDS:g} s: is it whole?"
        )

    before = signal.signal(signal.SIGALRM, stalls)
    signal.setitimer(signal.ITIMER_REAL, TEMPLATE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Tokenizer:
    """A Hugging Face tokenizer with a fast backend."""

    def __init__(self, folder: str | Path, *, name: str | None = None):
        # What AutoTokenizer gives for a Nemotron-H checkpoint; AutoTokenizer itself imports torch.
        from transformers import PreTrainedTokenizerFast

        self.name = name or str(folder)
        """What cards and messages call it."""
        self._tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self._backend = self._tokenizer.backend_tokenizer
        self._backend.no_truncation()  # documents are capped by the caller, and a cap in the file is not the user's
        self._backend.no_padding()
        self.vocab_size = len(self._tokenizer)
        self.end_of_document = self._tokenizer.eos_token_id
        parts = (self._backend.to_str(), str(self._tokenizer.chat_template), str(self.end_of_document))
        self.fingerprint = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
        """Of all that decides the tokens of a document: vocabulary, merges, chat template, end of document."""
        self.vocabulary = _vocabulary(self._backend)
        """What the ids mean: `vocabulary_of` the tokenizer's folder."""
        marked = self._backend.encode("a").ids
        bare = self._backend.encode("a", add_special_tokens=False).ids
        before = next(at for at in range(len(marked)) if marked[at : at + len(bare)] == bare)
        self._around = marked[:before], marked[before + len(bare) :]

    def check(self, folder: Path, *, chats: bool) -> None:
        """Raise `UserError` where it cannot make documents for the model in `folder`.

        Args:
            folder: Where it was read from; the model's config.json is beside it, unless it stands alone.
            chats: Whether there are chats among the documents.
        """
        token, file = self._tokenizer.eos_token, folder / "config.json"
        if token is None:
            raise UserError(
                f"the tokenizer {self.name} has no end-of-sequence token, without which documents cannot be told "
                "apart: name it as eos_token in its tokenizer_config.json."
            )
        rows = json.loads(file.read_text(encoding="utf-8")).get("vocab_size") if file.is_file() else None
        largest = max(self._backend.get_vocab(with_added_tokens=True).values())
        if isinstance(rows, int) and largest >= rows:
            added = [name for name, index in self._tokenizer.get_vocab().items() if index >= rows]
            raise UserError(
                f"the tokenizer {self.name} has ids up to {largest:,}, and vocab_size={rows} in its config.json leaves "
                f"the model none above {rows - 1:,}: {', '.join(map(repr, sorted(added)[:3]))} is beyond it."
                + (f" The end-of-sequence token {token!r} is in no vocabulary." if token in added else "")
            )
        if chats and not self._tokenizer.chat_template:
            raise UserError(
                f"the tokenizer {self.name} has no chat template, and there are sources of chats: put its "
                "chat_template.jinja beside tokenizer.json."
            )

    def holds_control(self, text: str) -> bool:
        """Whether `text` spells a control token of this tokenizer, which then is one; `<think>` is not counted."""
        starts, control = self._control
        # To look for a character is many times faster than to look for an expression.
        return any(start in text for start in starts) and control.search(text) is not None

    @functools.cached_property
    def _control(self) -> tuple[str, re.Pattern]:
        """The characters that control tokens start with, and what finds one."""
        added = json.loads(self._backend.to_str())["added_tokens"]
        spelt = {token["content"] for token in added if token["special"]} - {"<think>", "</think>", ""}
        return "".join(sorted({word[0] for word in spelt})), re.compile(_any_of(spelt))

    @functools.cached_property
    def _arguments(self) -> str:
        """What the chat template makes of the arguments of a tool call: `text`, `object`, or `either`."""
        text = '{"probe": "a b"}'
        shown = {}
        for name, arguments in (("text", text), ("object", json.loads(text))):
            call = {"type": "function", "function": {"name": "probe", "arguments": arguments}}
            said = [
                {"role": "user", "content": "probe"},
                {"role": "assistant", "content": "", "tool_calls": [call]},
            ]
            with contextlib.suppress(Exception):
                shown[name] = self._tokenizer.apply_chat_template(said, tokenize=False)
        if "object" not in shown:
            return "text" if "text" in shown else "either"
        # One that escapes a text, or loses it, wants the object that the text is of.
        lost = "text" not in shown or (text not in shown["text"] and "a b" in shown["object"])
        return "object" if lost else "either"

    @functools.cached_property
    def _pieces(self) -> "Pieces | None":
        return Pieces.of(self._backend)

    def text(self, document: Document, *, reasoning: str = "inline", join_newlines: bool = True) -> str:
        """What `document` is tokenised as: its text, or its messages through the chat template.

        Raises `MalformedError` when the chat template does not take the messages.
        """
        if isinstance(document.value, str):
            return document.value.replace("\n", " ") if join_newlines else document.value
        return self.chat(document, reasoning=reasoning)[0]

    def chat(self, document: Document, *, reasoning: str) -> tuple[str, list[dict]]:
        """What the messages of `document` are tokenised as, and these messages as the chat template was given them.

        Raises `MalformedError` when it does not take them.
        """
        assert not isinstance(document.value, str)
        messages = REASONING[reasoning](document.value)
        if document.reading == 1:
            return self._rendered(messages, document.tools), messages
        messages = chats.with_arguments(messages, self._arguments)
        if reasoning == "stripped":
            messages = chats.without_inline_reasoning(messages)
        try:
            return self._rendered(messages, document.tools), messages
        except MalformedError:
            if all(isinstance(message.get("content"), str) for message in messages):
                raise
            # Some templates take a call of a tool for one that says nothing, others for one whose content is missing.
            messages = [{"content": "", **_said(message)} for message in messages]
            return self._rendered(messages, document.tools), messages

    def answers(self, messages: list[dict], tools: list | None, text: str) -> tuple[list[tuple[int, int]], int]:
        """Where in `text`, which `messages` became, the assistant speaks, and how many of its turns have no place."""
        template = self._tokenizer.get_chat_template(None, tools)
        if _GENERATION.search(template):
            from transformers.utils.chat_template_utils import render_jinja_template

            given = [_said(message) for message in messages]
            written: Any = render_jinja_template(
                conversations=[given],
                tools=tools,
                chat_template=template,
                return_assistant_tokens_mask=True,
                **self._tokenizer.special_tokens_map,
            )
            (rendered,), (spans,) = written
            if rendered == text:
                return [(start, end) for start, end in spans], 0
        render = functools.partial(self._tokenizer.apply_chat_template, tools=tools, tokenize=False)
        with _in_time(self.name):
            return answers(render, messages, text)

    def encode_with_offsets(self, texts: list[str]) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
        """Token ids of each text as `encode` gives them, and the characters that each token begins and ends with."""
        encodings = self._backend.encode_batch(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings], [encoding.offsets for encoding in encodings]

    def _rendered(self, messages: list[dict], tools: list | None) -> str:
        try:
            with _in_time(self.name):
                return self._tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
        except (MemoryError, TemplateStalls):
            raise
        except Exception as error:  # a template is code from elsewhere: what it raises for one row is that row's
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
            raise MalformedError(f"the chat template refuses them ({said})") from error

    def prompt_length(self, messages: list[dict]) -> int:
        """Tokens of a conversation that a model is to continue."""
        text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return len(self.encode([text], special=False)[0])

    def encode(self, texts: list[str], *, special: bool) -> list[list[int]]:
        """Token ids of each text; `special` adds the tokens that the tokenizer puts around a plain text, if any."""
        if self._pieces is None:
            return [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=special)]
        before, after = self._around if special else ([], [])
        found = self._pieces.encode(texts)
        return [before + ids + after for ids in found] if before or after else found


class _Remembered(dict):
    """Piece -> its token ids; `backend` is asked when one is looked up that is not there."""

    def __init__(self, backend):
        self._backend = backend
        self.characters = 0

    def __missing__(self, piece: str) -> tuple[int, ...]:
        ids = self[piece] = tuple(self._backend.encode(piece, add_special_tokens=False).ids)
        self.characters += len(piece)
        return ids


class Pieces:
    """A byte-level backend, asked once for each piece that its pre-tokenizer cuts texts into."""

    def __init__(self, backend, pattern: str, added: list[str]):
        import regex

        self._backend = backend
        self._cut = regex.compile(pattern).findall
        self._added = (
            regex.compile("|".join(map(regex.escape, sorted(added, key=len, reverse=True)))) if added else None
        )
        self._ids = _Remembered(backend)

    @classmethod
    def of(cls, backend) -> "Pieces | None":
        """None when `backend` is not of the kind whose pieces stand alone."""
        import regex

        parts = json.loads(backend.to_str())
        pattern = _pattern(parts["pre_tokenizer"])
        added = parts["added_tokens"]
        plain = not any(token[flag] for token in added for flag in ("single_word", "lstrip", "rstrip"))
        model = parts["model"]
        if pattern is None or not plain or parts["normalizer"] or model["type"] != "BPE" or model.get("dropout"):
            return None
        try:
            pieces = cls(backend, pattern, [token["content"] for token in added])
        except regex.error:  # an expression that only the library's engine reads
            return None
        return pieces if pieces._agrees() else None

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens around it."""
        if self._ids.characters > _REMEMBERED_CHARACTERS:
            self._ids = _Remembered(self._backend)
        look_up = self._ids.__getitem__
        return [list(itertools.chain.from_iterable(map(look_up, self._pieces_of(text)))) for text in texts]

    def _pieces_of(self, text: str) -> list[str]:
        if not (text.isascii() or settled_characters().issuperset(text)):
            return [text]
        if self._added is None or not self._added.search(text):
            return self._checked(text)
        pieces, at = [], 0
        for found in self._added.finditer(text):
            pieces += [*self._checked(text[at : found.start()]), found.group()]
            at = found.end()
        return pieces + self._checked(text[at:])

    def _checked(self, text: str) -> list[str]:
        # The library keeps what the expression leaves out as pieces too.
        pieces = self._cut(text)
        return pieces if len("".join(pieces)) == len(text) else [text]

    def _agrees(self) -> bool:
        """Whether the library cuts the same where any two ASCII characters meet, with and without others between."""
        known = [chr(code) for code in range(128) if chr(code) in settled_characters()]
        pairs = ["".join(pair) for pair in itertools.product(known, known)]
        for between in ("", " ", "x", "1\n"):
            probe = between.join(pairs)
            cut = self._backend.pre_tokenizer.pre_tokenize_str(probe)
            if self._checked(probe) != [probe[start:end] for _, (start, end) in cut]:
                return False
        return True


@functools.cache
def settled_characters() -> frozenset[str]:
    """Characters whose category is the same in Unicode 3.2 and now: any engine of the last twenty years agrees on them.

    Left out are two that fold to ASCII letters where case is ignored, four control characters that are white space to
    some engines only, one that was a space for some years between, and one (U+0295) that engines newer than this
    Python's tables no longer call lower case.
    """
    old = unicodedata.ucd_3_2_0.category
    settled = {
        character
        for character in map(chr, itertools.chain(range(0xD800), range(0xE000, 0x20000)))
        if old(character) not in ("Cn", "Co") and old(character) == unicodedata.category(character)
    }
    return frozenset(settled - set("\u017f\u212a\x1c\x1d\x1e\x1f\u180e\u0295"))


def vocabulary_of(folder: Path) -> str:
    """Sixteen hex digits for the vocabulary of the tokenizer in `folder`: every id and the token it stands for."""
    import tokenizers

    file = Path(folder) / "tokenizer.json"
    if not file.is_file():
        raise UserError(f"there is no file {file}.")
    return _vocabulary(tokenizers.Tokenizer.from_file(str(file)))


def check_reasoning(reasoning: str) -> None:
    """Raise `UserError` for a way to treat reasoning that there is not."""
    if reasoning not in REASONING:
        raise UserError(f"reasoning cannot be {reasoning!r}. {nearest(reasoning, REASONING)}")


def lengths_and_ids(documents: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """The length of each document, and the ids of all end to end; both int32."""
    lengths = np.fromiter(map(len, documents), dtype=np.int32, count=len(documents))
    total = int(lengths.sum(dtype=np.int64))
    return lengths, np.fromiter(itertools.chain.from_iterable(documents), dtype=np.int32, count=total)


def _said(message: dict) -> dict:
    return {key: value for key, value in message.items() if value is not None}


def _any_of(words: set[str]) -> str:
    """An expression for any of `words`, the longest that fits, which looks at a character of the text once."""
    rest: dict[str, set[str]] = {}
    for word in words - {""}:
        rest.setdefault(word[0], set()).add(word[1:])
    branches = [re.escape(first) + _any_of(rest[first]) for first in sorted(rest)]
    found = branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})" if branches else ""
    return f"(?:{found})?" if "" in words and branches else found


def _vocabulary(backend) -> str:
    known = sorted((index, token) for token, index in backend.get_vocab(with_added_tokens=True).items())
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def _pattern(pre_tokenizer: dict | None) -> str | None:
    """The regular expression that `pre_tokenizer` cuts by, or None when it does anything else as well."""
    match pre_tokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return _GPT2_PATTERN
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        }:
            return pattern
    return None
