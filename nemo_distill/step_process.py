"""One step, run in a process of its own: `python -m nemo_distill.step RUNS/NAME/FINGERPRINT/spec.json`.

It waits for the folder's lock (a kernel lock, which dies with its process, so `kill -9` leaves none behind), skips
when the mark of success stands, refuses when an upstream step is not done or its output is damaged, adds to
`spec.json` what it runs with, copies all output, its children's too, to `log.txt`, and marks success last.
"""

import contextlib
import dataclasses
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from nemo_distill.errors import EXIT_FAILED, UserError
from nemo_distill.progress import write_atomically
from nemo_distill.provenance import provenance
from nemo_distill.step import (
    FAILED,
    LOCK_FILE,
    LOG_FILE,
    SPEC_FILE,
    Spec,
    damage,
    is_done,
    mark_done,
    resolve_package_paths,
)

EXIT_REFUSED = 66
"""The step did not start because an upstream step is not done, or its output is damaged."""
EXIT_TERMINATED = 128 + signal.SIGTERM


def main(arguments: list[str]) -> int:
    """Run the step of the `spec.json` given as the only argument; the exit code is 0 when its mark stands."""
    (path,) = arguments
    spec = Spec.load(Path(path))
    signal.signal(signal.SIGTERM, _terminate)
    with locked(spec.folder):
        if spec.done:
            print(f"[{spec.name}] already done: {spec.folder}", flush=True)
            return 0
        refusal = why_refused(spec)
        if refusal:
            print(f"[{spec.name}] not started: {refusal}", file=sys.stderr, flush=True)
            _mark_failed(spec, f"not started: {refusal}", refused=True)
            return EXIT_REFUSED
        (spec.folder / FAILED).unlink(missing_ok=True)
        spec.save(**_kept(spec), provenance=provenance())
        with copied_output(spec.folder / LOG_FILE):
            return _run(spec)


def why_refused(spec: Spec) -> str | None:
    """The sentence that keeps `spec` from starting, or None when every upstream step is done and whole."""
    for name, folder in spec.upstream.items():
        if not is_done(folder):
            return f"its upstream step {name} is not done ({folder} has no mark of success)."
        broken = damage(folder)
        if broken:
            return f"the output of {name} is damaged: {broken}. Remove {folder} and run again to make it anew."
    return None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, made if need be; while another process holds it, say so and wait."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE, mode=0o664)  # another user of the group may go on from here
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting: another process works on {folder}", file=sys.stderr, flush=True)
        lock.acquire(poll_interval=0.5)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def copied_output(log: Path) -> Iterator[None]:
    """Copy what this process and its children write to standard output and error to `log` as well.

    A `tee` process does it, below Python: it also catches what C libraries print and drains what was written when
    this process is killed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    tee = subprocess.Popen(["tee", "-a", str(log)], stdin=subprocess.PIPE, start_new_session=True)
    os.dup2(tee.stdin.fileno(), 1)
    os.dup2(tee.stdin.fileno(), 2)
    tee.stdin.close()
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(before[0], 1)
        os.dup2(before[1], 2)
        # A child still running keeps the pipe open (Megatron's checkpoint writer does, until the interpreter ends);
        # the log is then complete but for what that child adds.
        with contextlib.suppress(subprocess.TimeoutExpired):
            tee.wait(timeout=0.3)


def _run(spec: Spec) -> int:
    started = time.time()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    print(f"[{spec.name}] started in {spec.folder}", flush=True)
    try:
        module = importlib.import_module(spec.module)
        module.main(dataclasses.replace(spec, config=resolve_package_paths(spec.config)))
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code == EXIT_TERMINATED:
            print(f"[{spec.name}] terminated", file=sys.stderr, flush=True)
            return EXIT_TERMINATED
        if isinstance(error, UserError):
            print(f"[{spec.name}] failed: {error}", file=sys.stderr, flush=True)
        else:
            traceback.print_exc()
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        _mark_failed(spec, f"{kind}{error}", refused=False)
        return EXIT_FAILED
    seconds = time.time() - started
    mark_done(spec.folder, fingerprint=spec.fingerprint, seconds=seconds)
    print(f"[{spec.name}] done in {seconds:.1f} s", flush=True)
    return 0


def _mark_failed(spec: Spec, error: str, *, refused: bool) -> None:
    record = {"error": error, "refused": refused, "time": time.time()}
    write_atomically(spec.folder / FAILED, json.dumps(record))


def _kept(spec: Spec) -> dict:
    """What the launching command put into `spec.json` beside the spec's own fields."""
    record = json.loads((spec.folder / SPEC_FILE).read_text(encoding="utf-8"))
    return {"command": record["command"]} if "command" in record else {}


def _terminate(signal_number: int, frame) -> None:
    # An exception, so that `finally` blocks run: servers are stopped, scratch files removed.
    raise SystemExit(EXIT_TERMINATED)
