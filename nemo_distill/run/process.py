"""One step, run in a process of its own, or in one per rank: `-m nemo_distill.step RUNS/NAME/FINGERPRINT/spec.json`.

It waits for the folder's lock (a kernel lock, which dies with its process, so `kill -9` leaves none behind), skips
when the mark of success stands, refuses when an upstream step is not done or its output is damaged, adds to
`spec.json` what it runs with, copies all output, its children's too, to `log.txt`, and marks success last. More such
files after the first are of steps that the process may go on with (`nemo_distill.run.at_work`).

Of several ranks (`nemo_distill.run.ranks`) only the first does that; the others start when it does, write to logs of
their own, and leave no marks. Success is marked when all have finished; when one fails, all end, and what it said is
the step's failure.
"""

import importlib
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from nemo_distill.errors import EXIT_FAILED, UserError
from nemo_distill.run.at_work import AtWork, note_job, ready, why_refused
from nemo_distill.run.failing import EXIT_TERMINATED, end, failure_of_rank, mark_failed
from nemo_distill.run.full_disk import is_full
from nemo_distill.run.provenance import provenance
from nemo_distill.run.ranks import Ranks
from nemo_distill.run.step import Spec, is_done

EXIT_REFUSED = 66
"""The step did not start because an upstream step is not done, or its output is damaged."""


def main(arguments: Sequence[str], *, forked_from: int | None = None, not_forked: str = "") -> int:
    """Run the step of the `spec.json` given first; the exit code is 0 when its mark stands, and those of the steps
    after it that were begun.

    `forked_from` is the process that this one was forked from (`nemo_distill.run.forkserver`), None for a fresh one;
    `not_forked` is why it is a fresh one though it was to be forked, for the log.
    """
    path, *following = map(Path, arguments)
    signal.signal(signal.SIGTERM, _terminate)
    ranks, begun = Ranks.here(), False
    try:
        spec = first = Spec.load(path)
        if following and (done := ranks.agree("done", lambda: _done_before([path, *following]))):
            spec, following = Spec.load(following[done - 1]), following[done:]
            print(f"[{first.name}] already done: on with {spec.name}", flush=True)
    except UserError as error:
        print(f"{path}: {error}", file=sys.stderr, flush=True)
        return EXIT_REFUSED
    with AtWork(spec, ranks, following=following) as work:
        if not ranks.first:
            return _follow(work, not_forked)
        try:
            work.lock()
            code = ranks.agree("start", lambda: _code_without_running(spec))
            if code is not None:
                return code
            forked = {} if forked_from is None else {"forked_from": forked_from}
            note_job(first, spec)
            work.record(provenance=provenance() | forked)
            work.begin()
            begun = True
            return _run(work, not_forked)
        except OSError as error:  # what lies where it would write is another's, or no file
            if begun or is_full(error):
                raise
            sentence = f"{error.filename or spec.folder}: {error.strerror or error}. Remove it, or have it removed."
            print(f"[{spec.name}] not started: {sentence}", file=sys.stderr, flush=True)
            mark_failed(spec, f"not started: {sentence}", refused=True)
            return EXIT_REFUSED


def _done_before(paths: Sequence[Path]) -> int:
    """How many of the steps are done, and one is left: a job that was requeued goes on with the one after them."""
    done = [is_done(path.parent) for path in paths]
    return done.index(False) if False in done else 0


def _code_without_running(spec: Spec) -> int | None:
    """The exit code of a step that is done or must not start, which is said and marked here; None when it is to run."""
    if spec.done:
        print(f"[{spec.name}] already done: {spec.folder}", flush=True)
        return 0
    refusal = why_refused(spec)
    if refusal:
        print(f"[{spec.name}] not started: {refusal}", file=sys.stderr, flush=True)
        mark_failed(spec, f"not started: {refusal}", refused=True)
        return EXIT_REFUSED
    return None


def _follow(work: AtWork, not_forked: str) -> int:
    """Run the step on a rank but the first, once that has begun."""
    code = work.ranks.agree("start", lambda: None)
    if code is not None:
        return code
    work.begin()
    code = _run(work, not_forked)
    work.close()
    if code == EXIT_FAILED:
        print(f"[{work.spec.name}] rank {work.ranks.rank} failed: {work.log} says why.", file=sys.stderr, flush=True)
    return code


def start_logging() -> None:
    """Have Python's loggers write to standard error, whatever a step imports."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def _run(work: AtWork, not_forked: str) -> int:
    spec = work.spec
    start_logging()
    if not_forked:
        print(f"[{spec.name}] in a process of its own: {not_forked}", flush=True)
    print(f"[{spec.name}] started in {spec.folder}", flush=True)
    try:
        module = importlib.import_module(spec.module)
        if work.ranks.size > 1 and not getattr(module, "MANY_RANKS", False):
            raise UserError(f"{spec.name} was started on {work.ranks.size} ranks, and runs on 1.")
        with work.watched():
            module.main(ready(spec))
            work.ranks.finish()
    except (Exception, SystemExit) as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending already, and has a mark to write
        return end(work.spec, work.ranks, work.ranks.report(failure_of_rank(error, work.ranks)))
    work.done()
    return 0


def _terminate(signal_number: int, frame) -> None:
    # An exception, so that `finally` blocks run: servers are stopped, scratch files removed.
    raise SystemExit(EXIT_TERMINATED)
