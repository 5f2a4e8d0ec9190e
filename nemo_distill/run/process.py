"""One step, run in a process of its own, or in one per rank: `-m nemo_distill.step RUNS/NAME/FINGERPRINT/spec.json`.

It waits for the folder's lock (a kernel lock, which dies with its process, so `kill -9` leaves none behind), skips
when the mark of success stands, refuses when an upstream step is not done or its output is damaged, adds to
`spec.json` what it runs with, copies all output, its children's too, to `log.txt`, and marks success last.

Of several ranks (`nemo_distill.run.ranks`) only the first does that; the others start when it does, write to logs of
their own, and leave no marks. Success is marked when all have finished; when one fails, all end, and what it said is
the step's failure.
"""

import contextlib
import dataclasses
import importlib
import json
import logging
import os
import signal
import stat
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from nemo_distill.config.plain import resolve_package_paths
from nemo_distill.errors import EXIT_FAILED, UserError, bound_to_repeat
from nemo_distill.run.full_disk import is_full
from nemo_distill.run.gpus import given_here
from nemo_distill.run.inside import links_out
from nemo_distill.run.locks import held
from nemo_distill.run.progress import write_atomically
from nemo_distill.run.provenance import provenance
from nemo_distill.run.ranks import TERMINATED, Ranks
from nemo_distill.run.secrets import star_values
from nemo_distill.run.standstill import STALLED
from nemo_distill.run.starred import copied_output, redirected_output
from nemo_distill.run.step import (
    FAILED,
    LOCK_FILE,
    LOG_FILE,
    RANK_LOG_FILE,
    SPEC_FILE,
    SUCCESS,
    Spec,
    fingerprint_of,
    is_done,
    mark_done,
    why_damaged,
)
from nemo_distill.run.watched import watched

EXIT_REFUSED = 66
"""The step did not start because an upstream step is not done, or its output is damaged."""
EXIT_TERMINATED = 128 + signal.SIGTERM
WATCH_SECONDS = 1.0
"""Between two looks whether another rank has failed."""
GRACE_SECONDS = 5.0
"""What a rank has to end by itself once another has failed; torchrun gives 30."""


def main(arguments: list[str], *, forked_from: int | None = None, not_forked: str = "") -> int:
    """Run the step of the `spec.json` given as the only argument; the exit code is 0 when its mark stands.

    `forked_from` is the process that this one was forked from (`nemo_distill.run.forkserver`), None for a fresh one;
    `not_forked` is why it is a fresh one though it was to be forked, for the log.
    """
    (path,) = arguments
    try:
        spec = Spec.load(Path(path))
    except UserError as error:
        print(f"{path}: {error}", file=sys.stderr, flush=True)
        return EXIT_REFUSED
    signal.signal(signal.SIGTERM, _terminate)
    ranks = Ranks.here()
    if not ranks.first:
        return _follow(spec, ranks, not_forked)
    begun = False
    try:
        with locked(spec.folder):
            code = ranks.agree("start", lambda: _code_without_running(spec))
            if code is not None:
                return code
            (spec.folder / FAILED).unlink(missing_ok=True)
            forked = {} if forked_from is None else {"forked_from": forked_from}
            spec.save(spec.beside, ranks=ranks.size, provenance=provenance() | forked, **given_here())
            with copied_output(spec.folder / LOG_FILE):
                begun = True
                return _run(spec, ranks, not_forked)
    except OSError as error:  # what lies where it would write is another's, or no file
        if begun or is_full(error):
            raise
        sentence = f"{error.filename or spec.folder}: {error.strerror or error}. Remove it, or have it removed."
        print(f"[{spec.name}] not started: {sentence}", file=sys.stderr, flush=True)
        _mark_failed(spec, f"not started: {sentence}", refused=True)
        return EXIT_REFUSED


def _code_without_running(spec: Spec) -> int | None:
    """The exit code of a step that is done or must not start, which is said and marked here; None when it is to run."""
    if spec.done:
        print(f"[{spec.name}] already done: {spec.folder}", flush=True)
        return 0
    refusal = why_refused(spec)
    if refusal:
        print(f"[{spec.name}] not started: {refusal}", file=sys.stderr, flush=True)
        _mark_failed(spec, f"not started: {refusal}", refused=True)
        return EXIT_REFUSED
    return None


def _follow(spec: Spec, ranks: Ranks, not_forked: str) -> int:
    """Run the step on a rank but the first, once that has begun."""
    code = ranks.agree("start", lambda: None)
    if code is not None:
        return code
    log = spec.folder / RANK_LOG_FILE.format(rank=ranks.rank)
    with redirected_output(log):
        code = _run(spec, ranks, not_forked)
    if code == EXIT_FAILED:
        print(f"[{spec.name}] rank {ranks.rank} failed: {log} says why.", file=sys.stderr, flush=True)
    return code


def why_refused(spec: Spec) -> str | None:
    """The sentence that keeps `spec` from starting, or None when it is what its folder is named by, no link leads out
    of its folder, and every upstream step is done and whole."""
    if (found := fingerprint_of(spec)) != spec.folder.name:
        return (
            f"{spec.folder / SPEC_FILE} is not what the folder is named by, it has the fingerprint {found}: it was "
            "changed after it was written, or by another version. Give the command again."
        )
    for path in (spec.folder / name for name in (SUCCESS, FAILED, LOG_FILE)):
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            return f"{path} is no file, and would be written: remove it."
    for link in links_out(spec.folder):
        return f"{link} is a link to {os.readlink(link)}, out of the runs folder: remove it."
    for name, folder in spec.upstream.items():
        if not is_done(folder):
            return f"its upstream step {name} is not done ({folder} has no mark of success)."
        damaged = why_damaged(f"the output of {name}", folder)
        if damaged:
            return damaged
    return None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, made if need be; while another process holds it, say so and wait."""

    def waiting() -> None:
        print(f"waiting: another process works on {folder}", file=sys.stderr, flush=True)

    with held(folder / LOCK_FILE, waiting=waiting):
        yield


def start_logging() -> None:
    """Have Python's loggers write to standard error, whatever a step imports."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def _run(spec: Spec, ranks: Ranks, not_forked: str) -> int:
    started = time.time()
    start_logging()
    if not_forked:
        print(f"[{spec.name}] in a process of its own: {not_forked}", flush=True)
    print(f"[{spec.name}] started in {spec.folder}", flush=True)
    try:
        module = importlib.import_module(spec.module)
        if ranks.size > 1 and not getattr(module, "MANY_RANKS", False):
            raise UserError(f"{spec.name} was started on {ranks.size} ranks, and runs on 1.")
        with _ending_with_the_others(spec, ranks), watched(spec, ranks):
            module.main(dataclasses.replace(spec, config=resolve_package_paths(spec.config)))
            ranks.finish()
    except (Exception, SystemExit) as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending already, and has a mark to write
        return _end(spec, ranks, ranks.report(_failure(error, ranks)))
    if ranks.first:
        seconds = time.time() - started
        mark_done(spec.folder, fingerprint=spec.fingerprint, seconds=seconds)
        print(f"[{spec.name}] done in {seconds:.1f} s", flush=True)
    return 0


def _failure(error: BaseException, ranks: Ranks) -> dict:
    """What ended this rank, as plain data for the other ranks and the mark; a traceback is printed here."""
    if isinstance(error, SystemExit) and error.code == EXIT_TERMINATED:
        return TERMINATED
    if isinstance(error, UserError):
        error_said, lasting = star_values(str(error)), bound_to_repeat(error)
        return {"rank": ranks.rank, "error": error_said, "traceback": None, "lasting": lasting}
    trace = star_values(traceback.format_exc())
    print(trace, file=sys.stderr, flush=True)
    said = star_values(f"{type(error).__name__}: {error}")
    return {"rank": ranks.rank, "error": said, "traceback": trace, "lasting": bound_to_repeat(error)}


def _end(spec: Spec, ranks: Ranks, failure: dict) -> int:
    """Say and, on the first rank, mark the failure that ended the step; returns the exit code."""
    if failure.get("terminated"):
        print(f"[{spec.name}] terminated", file=sys.stderr, flush=True)
        return EXIT_TERMINATED
    error = failure["error"]
    if failure["rank"] != ranks.rank:
        print(failure["traceback"] or "", file=sys.stderr, flush=True)
    if failure["rank"] and failure["traceback"]:
        error = f"rank {failure['rank']} of {ranks.size}: {error}"
    if not failure["traceback"] or ranks.size > 1:
        print(f"[{spec.name}] failed: {error}", file=sys.stderr, flush=True)
    if ranks.first and not (spec.folder / STALLED).exists():  # which says what has come before this
        _mark_failed(spec, error, refused=False, lasting=failure["lasting"])
    return EXIT_FAILED


@contextlib.contextmanager
def _ending_with_the_others(spec: Spec, ranks: Ranks) -> Iterator[None]:
    """End this process when another rank has failed, if need be from under a collective that waits for it for ever."""
    if ranks.size == 1:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_SECONDS):
            failure = ranks.reported()
            if failure and failure["rank"] != ranks.rank:
                os.kill(os.getpid(), signal.SIGTERM)
                if not over.wait(GRACE_SECONDS):
                    os._exit(_end(spec, ranks, failure))
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(timeout=GRACE_SECONDS)  # one that asks the store while the interpreter ends would abort it


def _mark_failed(spec: Spec, error: str, *, refused: bool, lasting: bool = False) -> None:
    record = {"error": error, "refused": refused, "lasting": lasting, "time": time.time()}
    # On a disk that is full there may be no room for this either; the sentence and the exit code stand without it.
    with contextlib.suppress(OSError):
        write_atomically(spec.folder / FAILED, json.dumps(record))


def _terminate(signal_number: int, frame) -> None:
    # An exception, so that `finally` blocks run: servers are stopped, scratch files removed.
    raise SystemExit(EXIT_TERMINATED)
