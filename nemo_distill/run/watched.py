"""Has the ranks of a step watched (`nemo_distill.run.watchdog`), where its module says `WATCHED = True`.

with watched(spec, ranks):
    module.main(spec)                # notes where it is: nemo_distill.run.beats.here()
"""

import contextlib
import dataclasses
import faulthandler
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from nemo_distill.errors import UserError
from nemo_distill.run import beats
from nemo_distill.run.ranks import Ranks
from nemo_distill.run.standstill import FILES, STALLED, Patience
from nemo_distill.run.step import FAILED, LOG_FILE, Spec, module_constant
from nemo_distill.run.watchdog import ASK, STACKS

END_SECONDS = 5.0
"""What a watchdog has to end."""


@contextlib.contextmanager
def watched(spec: Spec, ranks: Ranks) -> Iterator[None]:
    """Within the block the ranks are watched, on each machine by a process that its first rank starts."""
    if not module_constant(spec.module, "WATCHED"):
        yield
        return
    told = ranks.agree("watched", lambda: _begin(spec))
    node, local = divmod(ranks.rank, ranks.local_size)
    notes = _own_folder(f"{told['attempt']}-{node}")
    # Open for as long as this process may be asked.
    stacks = os.open(notes / f"{local}{STACKS}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    faulthandler.register(ASK, file=stacks, all_threads=True)
    beats.start(notes / str(local), rank=ranks.rank)
    try:
        with _watchdog(spec, ranks, told, notes) if local == 0 else contextlib.nullcontext():
            yield
    finally:
        if not (notes / "0").exists():  # the first rank's watchdog has ended, perhaps before this rank began
            shutil.rmtree(notes, ignore_errors=True)


def _begin(spec: Spec) -> dict:
    """What the ranks agree on; what an earlier attempt has left goes."""
    for path in (*spec.folder.glob(FILES), spec.folder / STALLED):
        path.unlink(missing_ok=True)
    health = spec.beside.health
    patience = Patience(
        seconds=health.stall_seconds, iterations=health.stall_iterations, phase_seconds=health.stall_phase_seconds
    )
    return {"attempt": uuid.uuid4().hex, "patience": dataclasses.asdict(patience)}


def _own_folder(name: str) -> Path:
    """A folder of this machine, for the notes of its ranks, that only we may write."""
    folder = Path(tempfile.gettempdir(), f"nemo-distill-{name}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    there = folder.lstat()
    if folder.is_symlink() or there.st_uid != os.getuid() or there.st_mode & 0o077:
        raise UserError(f"{folder}, where ranks note how far they are, is another's: remove it.")
    return folder


@contextlib.contextmanager
def _watchdog(spec: Spec, ranks: Ranks, told: dict, notes: Path) -> Iterator[None]:
    number = os.environ.get("SLURM_JOB_ID")
    arguments = {
        **told,
        "folder": str(spec.folder),
        "notes": str(notes),
        "node": ranks.rank // ranks.local_size,
        "nodes": ranks.nodes,
        "per_node": ranks.local_size,
        "host": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "job": f"{number} {os.environ.get('SLURM_RESTART_COUNT') or 0}" if number else "- -",
        "log": LOG_FILE,
        "failed": FAILED,
    }
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-S", "-P", "-m", "nemo_distill.run.watchdog", json.dumps(arguments)],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": root},
        start_new_session=True,
    )
    assert process.stdin
    try:
        yield
    finally:
        process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
