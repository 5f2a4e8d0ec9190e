"""From a source's files to Megatron's, over all cores: one process reads and writes, the others do the rest.

    with Workers(tokenizer) as workers:
        made = tokenise(Job(...), workers, prefix, say=print)

The reading process hands out batches of rows as they lie in the file; a worker parses them, renders chats, tokenises,
and gives back arrays; these are written in the order of the rows. A checkpoint follows each file, and each
`_CHECKPOINT_TOKENS` within one, so that an attempt that was cut goes on there. A bounded number of batches is under
way, so memory grows neither with a file nor with the source.
"""

import collections
import ctypes
import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from nemo_distill.data import chats
from nemo_distill.data.answers import loss_on
from nemo_distill.data.chats import MalformedError
from nemo_distill.data.documents import Batch, Document, Tally, batches, parse, reason
from nemo_distill.data.draw import Draw
from nemo_distill.data.files import SourceFile
from nemo_distill.data.held_out import HeldOut, HeldOutDocument, is_held_out, number_of
from nemo_distill.data.indexed import MARK, IndexedWriter
from nemo_distill.data.tokenizer import Tokenizer, lengths_and_ids
from nemo_distill.errors import UserError

_CHECKPOINT_TOKENS = 1 << 26
"""Tokens between two checkpoints at most, but for the batches under way."""
_CHARACTERS_PER_TOKEN = 8
"""A document is cut at this many characters per token allowed before it is tokenised, as ModelOpt does."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """How a document becomes tokens."""

    field: str
    """Field of a row that holds the document: `text` or `messages`."""
    max_document_tokens: int
    """Tokens at which longer documents are cut."""
    join_newlines: bool = True
    """Whether newlines of a `text` become spaces."""
    reasoning: str = "inline"
    """What becomes of the reasoning in `messages` (`tokenizer.REASONING`)."""
    column: str | None = None
    """Column that holds the document; None: the one called like the field, or any schema of a chat."""
    reading: int = 1
    """Version of the reading (`documents.READING`)."""
    loss_on: str = "all"
    """Tokens of `messages` that the loss is taken on: `all`, or those of `answers`, which are written beside them."""
    held_out: float = 0.0
    """Share of the documents, of 1, that are kept apart (`nemo_distill.data.held_out`)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One source to tokenise."""

    source: str
    """Name of the source, which its draw depends on."""
    files: Sequence[SourceFile]
    """Files in the order in which they are read."""
    treatment: Treatment
    """How its documents become tokens."""
    max_malformed: float
    """Share of the rows that may be dropped, of 1."""
    samples: int | None = None
    """Rows read at most, from the first on; None: all. A budget draws on all rows."""
    budget: int | None = None
    """Tokens drawn at most; None: all."""
    seed: int = 0
    """Seed of the draw."""


@dataclass(frozen=True)
class Made:
    """What came of a source."""

    documents: int
    """Documents written."""
    tokens: int
    """Tokens written."""
    cut: int
    """Documents that were longer than allowed, and were cut."""
    tally: Tally
    """Rows read and dropped."""
    share: float
    """Share of the documents that was drawn, of 1."""
    held_out: dict | None = None
    """Counts of the documents that were kept apart, as in their manifest; None: there were to be none."""


@dataclass(frozen=True)
class Tokens:
    """What a worker makes of a batch."""

    ids: np.ndarray
    """Token ids of all documents, end to end."""
    lengths: np.ndarray
    """Tokens of each document."""
    marks: np.ndarray
    """`indexed.MARK` of each document."""
    tally: Tally
    """Rows read and dropped."""
    loss: np.ndarray | None = None
    """1 for each token that the loss is taken on, else 0; None: it is taken on all."""
    held_out: tuple[HeldOutDocument, ...] = ()
    """Documents that are kept apart; they are none of the others."""


@dataclass
class _Position:
    """Where the source has been read to."""

    file: int = 0
    """Place of the file in the source, from 0."""
    row: int = 0
    """Rows of the file that are done with, blank lines counted."""
    tally: Tally = field(default_factory=Tally)


class Workers:
    """Processes that tokenise, as many as there are cores; they end with this one, however it ends."""

    def __init__(self, tokenizer: Tokenizer, *, count: int | None = None):
        self.count = count or len(os.sched_getaffinity(0))
        self.tokenizer = tokenizer
        # Forked, they share what the tokenizer holds and start at once.
        context = multiprocessing.get_context("fork")
        self._pool = ProcessPoolExecutor(self.count, context, initializer=_start, initargs=(tokenizer, os.getpid()))

    def __enter__(self) -> "Workers":
        return self

    def submit(self, batch: Batch, bins: np.ndarray, threshold: int, treatment: Treatment) -> "Future[Tokens]":
        """Have `batch` tokenised: those of its rows whose bin lies below `threshold`."""
        return self._pool.submit(_work, batch, bins, threshold, treatment)

    def __exit__(self, kind, error, traceback) -> None:
        self._pool.shutdown(cancel_futures=True)


def tokenise(job: Job, workers: Workers, prefix: Path, *, say: Callable[[float, float], None]) -> Made:
    """Tokenise `job` to `PREFIX.bin` and `PREFIX.idx`, from the last checkpoint of an earlier attempt on.

    Args:
        say: Called with the share of the source that was read and the tokens per second of this attempt.

    Documents that are held out go beside them. Raises `UserError` when too many rows are malformed, no document fits
    the budget, or none is held out where some were to be; then nothing is left.
    """
    draw = Draw(budget=job.budget, seed=job.seed, source=job.source)
    loss = job.treatment.loss_on == "answers"
    held_out, apart = HeldOut(job.treatment.held_out) if job.treatment.held_out else None, None
    with IndexedWriter(prefix, vocab_size=workers.tokenizer.vocab_size, loss=loss) as writer:
        at = _Position()
        if writer.state:
            at = _Position(writer.state["file"], writer.state["row"], _tally(writer.state["tally"]))
            draw.restore(writer.state["draw"])
            if held_out:
                held_out.restore(writer.state["held_out"])
        started, before, sure = time.monotonic(), writer.tokens, writer.tokens

        def checkpoint() -> None:
            tally = asdict(at.tally) | {"dropped": dict(at.tally.dropped), "noted": dict(at.tally.noted)}
            state = {"file": at.file, "row": at.row, "tally": tally, "draw": draw.state()}
            writer.checkpoint(state | ({"held_out": held_out.state()} if held_out else {}))

        for file, batch, tokens in _in_order(job, workers, draw, at):
            if file != at.file:
                at.file, at.row = file, 0
                checkpoint()
                sure = writer.tokens
            writer.add(tokens.ids, tokens.lengths, tokens.marks, tokens.loss)
            draw.add(tokens.marks["bin"], tokens.lengths)
            if held_out:
                held_out.add(tokens.held_out)
            at.tally.add(tokens.tally)
            at.row = batch.numbers[-1]
            if writer.tokens - sure >= _CHECKPOINT_TOKENS:
                checkpoint()
                sure = writer.tokens
            read = max((file + batch.read) / len(job.files), at.tally.rows / (_cap(job) or float("inf")))
            say(min(read, 1.0), (writer.tokens - before) / (time.monotonic() - started))
        checkpoint()
        try:
            at.tally.check(allowed=job.max_malformed, where=f"source {job.source!r}")
            if job.budget is not None and not draw.tokens:
                raise UserError(f"source {job.source!r} has no document within its budget of {job.budget:,} tokens.")
            if held_out:
                rows = at.tally.rows - sum(at.tally.dropped.values())
                held_out.check(job.source, rows=rows, trained=writer.documents)
                apart = held_out.write(prefix, vocab_size=workers.tokenizer.vocab_size)
        except UserError:
            writer.discard()
            raise
        documents, cut = writer.finish(None if job.budget is None else lambda marks: marks["bin"] < draw.threshold)
    return Made(int(documents), writer.tokens, int(cut), at.tally, draw.share, apart)


def _in_order(job: Job, workers: Workers, draw: Draw, at: _Position) -> Iterator[tuple[int, Batch, Tokens]]:
    """The tokens of each batch after `at`, in the order of the rows, with some more batches under way."""
    under_way: collections.deque[tuple[int, Batch, Future]] = collections.deque()
    try:
        for file, batch in _batches(job, at.file, at.row, at.tally.rows):
            bins = draw.bins(file=file, rows=batch.numbers)
            under_way.append((file, batch, workers.submit(batch, bins, draw.threshold, job.treatment)))
            while len(under_way) > 2 * workers.count or (under_way and under_way[0][2].done()):
                file, batch, future = under_way.popleft()
                yield file, batch, future.result()
        for file, batch, future in under_way:
            yield file, batch, future.result()
    except BrokenProcessPool as error:
        raise UserError(
            f"a process that tokenised source {job.source!r} was killed, for want of memory?; run again to go on."
        ) from error
    finally:
        for _, _, future in under_way:
            future.cancel()


def _batches(job: Job, first: int, skip: int, rows: int) -> Iterator[tuple[int, Batch]]:
    cap = _cap(job)
    for number, file in enumerate(job.files[first:], start=first):
        if cap is not None and rows >= cap:
            return
        for batch in batches(
            file,
            field=job.treatment.field,
            skip=skip if number == first else 0,
            column=job.treatment.column,
            reading=job.treatment.reading,
        ):
            if cap is not None and rows + len(batch.numbers) >= cap:
                yield number, batch.head(cap - rows)
                return
            rows += len(batch.numbers)
            yield number, batch


def _cap(job: Job) -> int | None:
    return job.samples if job.budget is None else None


def _tally(record: dict) -> Tally:
    dropped, noted = collections.Counter(record["dropped"]), collections.Counter(record.get("noted", {}))
    return Tally(record["rows"], dropped, record["first"], noted)


_tokenizer: Tokenizer
"""Of a worker process."""


def _start(tokenizer: Tokenizer, parent: int) -> None:
    global _tokenizer
    _tokenizer = tokenizer
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process per core
    gc.freeze()
    gc.set_threshold(1_000_000)  # hundreds of thousands of remembered pieces are no garbage to look through
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends these
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        os._exit(1)


def _work(batch: Batch, bins: np.ndarray, threshold: int, treatment: Treatment) -> Tokens:
    return tokens_of(_tokenizer, batch, bins, threshold, treatment)


def tokens_of(tokenizer: Tokenizer, batch: Batch, bins: np.ndarray, threshold: int, treatment: Treatment) -> Tokens:
    """What `batch` is tokenised to; its rows in bins from `threshold` on are checked, counted and left out, but for
    those that are held out, whatever is drawn."""
    plain, limit, tally = treatment.field == "text", treatment.max_document_tokens, Tally()
    some = treatment.loss_on == "answers"
    texts, marks, places, spans, numbers = [], [], [], [], []
    found = parse(batch, field=treatment.field, tally=tally, column=treatment.column, reading=treatment.reading)
    for document in found:
        number = number_of(document.value) if treatment.held_out else None
        if number is not None and not is_held_out(number, treatment.held_out):
            number = None
        if number is None and bins[document.index] >= threshold:
            continue
        where = batch.place(document.index)
        try:
            text, said = _rendered(tokenizer, document, treatment)
            text.encode()
            if not text and treatment.reading > 1:  # before a tokenizer puts a token in front of it
                raise MalformedError("empty")
            answered, lost = tokenizer.answers(said, document.tools, text) if some else ([], 0)
        except UnicodeEncodeError:
            tally.drop("half a surrogate pair", where)  # JSON can escape what UTF-8 cannot hold
        except MemoryError:
            raise
        except Exception as error:
            tally.drop(reason(error), where)
        else:
            _note(tally.noted, tokenizer, document, text, reasoning=treatment.reasoning)
            if lost:
                tally.noted["answers_without_loss"] += lost
            short = text[: limit * _CHARACTERS_PER_TOKEN]
            texts.append(short)
            marks.append((bins[document.index], len(short) < len(text)))
            places.append(where)
            spans.append(answered)
            numbers.append(number)
    if some:
        encoded, offsets = tokenizer.encode_with_offsets(texts)
        losses = [loss_on(spans[at], offsets[at]) for at in range(len(texts))]
    else:
        encoded, losses = tokenizer.encode(texts, special=plain), []
    kept, kept_losses, held_out = [], [np.zeros(0, np.uint8)], []
    for at, ids in enumerate(encoded):
        if not ids:
            tally.drop("empty", places[at])
            continue
        mark = (marks[at][0], marks[at][1] or len(ids) > limit)
        del ids[limit:]
        if plain:
            ids.append(tokenizer.end_of_document)
        if (number := numbers[at]) is not None:
            own = losses[at][:limit] if some else None
            held_out.append(HeldOutDocument(number, np.array(ids, np.int32), own))
            continue
        kept.append((ids, mark))
        kept_losses += [losses[at][:limit]] if some else []
    lengths, all_ids = lengths_and_ids([ids for ids, _ in kept])
    all_marks = np.array([mark for _, mark in kept], dtype=MARK)
    loss = np.concatenate(kept_losses) if some else None
    return Tokens(all_ids, lengths, all_marks, tally, loss, tuple(held_out))


def _rendered(tokenizer: Tokenizer, document: Document, treatment: Treatment) -> tuple[str, list[dict]]:
    """What `document` is tokenised as, and the messages it is made of, if it is."""
    if isinstance(document.value, str):
        return tokenizer.text(document, join_newlines=treatment.join_newlines), []
    return tokenizer.chat(document, reasoning=treatment.reasoning)


def _note(noted: collections.Counter, tokenizer: Tokenizer, document: Document, text: str, *, reasoning: str) -> None:
    """Count in `noted`, by the names of `source_cards.NOTES`, what is to be known of a document that became `text`."""
    if isinstance(document.value, str):
        if tokenizer.holds_control(text):
            noted["control_tokens"] += 1
        return
    stripped = reasoning == "stripped"
    for thought in chats.thoughts(document.value):
        there = thought in text and not (stripped and document.reading > 1)
        noted["reasoning_kept" if there else "reasoning_stripped" if stripped else "reasoning_unread"] += 1
    if any(map(tokenizer.holds_control, chats.texts(document.value))):
        noted["control_tokens"] += 1
    for message in document.value:
        calls = message.get("tool_calls")
        unnamed = sum(not _is_named(call, text) for call in calls) if isinstance(calls, list) else 0
        if unnamed:
            noted["tool_calls_unread"] += unnamed


def _is_named(call, text: str) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return not isinstance(function, dict) or str(function.get("name")) in text
