"""What ended a step that is not done: said, marked, and told to its other ranks."""

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator

from nemo_distill.errors import EXIT_FAILED, UserError, bound_to_repeat
from nemo_distill.run.progress import write_atomically
from nemo_distill.run.ranks import TERMINATED, Ranks
from nemo_distill.run.secrets import star_values
from nemo_distill.run.standstill import STALLED
from nemo_distill.run.step import FAILED, Spec

EXIT_TERMINATED = 128 + signal.SIGTERM
WATCH_SECONDS = 1.0
"""Between two looks whether another rank has failed."""
GRACE_SECONDS = 5.0
"""What a rank has to end by itself once another has failed; torchrun gives 30."""


def failure_of_rank(error: BaseException, ranks: Ranks) -> dict:
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


def end(spec: Spec, ranks: Ranks, failure: dict) -> int:
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
        mark_failed(spec, error, refused=False, lasting=failure["lasting"])
    return EXIT_FAILED


@contextlib.contextmanager
def ending_with_the_others(spec: Spec, ranks: Ranks) -> Iterator[None]:
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
                    os._exit(end(spec, ranks, failure))
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(timeout=GRACE_SECONDS)  # one that asks the store while the interpreter ends would abort it


def mark_failed(spec: Spec, error: str, *, refused: bool, lasting: bool = False) -> None:
    record = {"error": error, "refused": refused, "lasting": lasting, "time": time.time()}
    # On a disk that is full there may be no room for this either; the sentence and the exit code stand without it.
    with contextlib.suppress(OSError):
        write_atomically(spec.folder / FAILED, json.dumps(record))
