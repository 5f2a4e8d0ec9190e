"""Watches from outside what a sandbox takes all together, and ends it where that is too much.

    with watched(process, writable=folder, processes=256) as overrun:
        process.wait()
    overrun.why                                      # "it used 17.2 GiB of memory; a sandbox has 16.0 GiB."

Limits of single processes add up: a hundred processes may each take what one may. A cgroup would count them, but few
users of a cluster may make one. So the processes below the sandbox's first are looked at twice a second: their number,
their memory (shared pages counted once), what lies in the sandbox's /tmp and /dev/shm, and now and then the size of
the folder that it writes in. Root is held by no limit on the number of processes but this one.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evaluator.harness.bubblewrap import GIB, TMP_BYTES
from evaluator.serve.processes import below

MEMORY_BYTES = min(16 * GIB, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4)
"""Most bytes of memory of all processes and of /tmp and /dev/shm together."""
DISK_BYTES = 4 * GIB
"""Most bytes in the folder of an evaluation."""
FILES = 200_000
"""Most files in the folder of an evaluation."""
PROCESSES = 256
"""Most processes at a time; threads are none."""
LOOK_SECONDS = 0.5
DISK_EVERY = 8
"""Looks at the processes for one at the folder."""


@dataclass
class Overrun:
    """Whether a sandbox was ended."""

    why: str = ""
    """What it took too much of, as a sentence; empty where it was not ended."""


@contextlib.contextmanager
def watched(
    process: subprocess.Popen,
    *,
    writable: Path,
    memory: int = MEMORY_BYTES,
    disk: int = DISK_BYTES,
    files: int = FILES,
    processes: int = PROCESSES,
) -> Iterator[Overrun]:
    """Watch the sandbox whose first process is `process`, the leader of a process group, until the block ends."""
    overrun, ended = Overrun(), threading.Event()

    def too_much(look: int) -> str:
        tree = below(process.pid)
        if len(tree) > processes:
            return f"it ran {len(tree)} processes at a time; a sandbox has {processes}."
        if (used := memory_of(tree, enough=memory)) > memory:
            return f"it used {used / GIB:.1f} GiB of memory; a sandbox has {memory / GIB:.1f} GiB."
        if look % DISK_EVERY == 0:
            size, count = size_of(writable, enough=files)
            if size > disk:
                return f"it wrote {size / GIB:.1f} GiB into its folder; a sandbox has {disk / GIB:.1f} GiB."
            if count > files:
                return f"it wrote more than {files:,} files into its folder."
        return ""

    def watch() -> None:
        look = 0
        while not ended.wait(LOOK_SECONDS) and process.poll() is None:
            look += 1
            if why := too_much(look):
                overrun.why = why
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                return

    thread = threading.Thread(target=watch, name="watch", daemon=True)
    thread.start()
    try:
        yield overrun
    finally:
        ended.set()
        thread.join()


def memory_of(processes: list[int], *, enough: int) -> int:
    """Bytes of memory of these processes and of their /tmp and /dev/shm.

    Pages that they share are counted once; that takes long, and is done only where the quicker sum is above `enough`.
    """
    quick = sum(_sum_of(f"/proc/{process}/status", (b"RssAnon:", b"RssShmem:")) for process in processes)
    in_memory = sum(dict(kept for process in processes[1:] for kept in _in_memory(process)).values())
    if quick + in_memory <= enough:
        return quick + in_memory
    return in_memory + sum(
        _sum_of(f"/proc/{process}/smaps_rollup", (b"Pss_Anon:", b"Pss_Shmem:")) for process in processes
    )


def size_of(folder: Path, *, enough: int) -> tuple[int, int]:
    """Bytes on disk and number of the files in `folder`, of at most `enough` + 1 of them; no link is followed."""
    size = count = 0
    for _, _, names, at in os.fwalk(folder, follow_symlinks=False):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.stat(name, dir_fd=at, follow_symlinks=False).st_blocks * 512
            count += 1
            if count > enough:
                return size, count
    return size, count


def _sum_of(file: str, fields: tuple[bytes, ...]) -> int:
    with contextlib.suppress(OSError), open(file, "rb") as lines:
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(fields))
    return 0


def _in_memory(process: int) -> Iterator[tuple[int, int]]:
    """Device and bytes of /tmp and of /dev/shm as this process sees them, of those that can be seen: what runs apart
    (`evaluator.harness.apart`) has its own."""
    for name in ("tmp", "dev/shm"):
        with contextlib.suppress(OSError):
            path = f"/proc/{process}/root/{name}"
            there = os.statvfs(path)
            if there.f_blocks * there.f_frsize <= TMP_BYTES:  # else it is still the machine's own
                yield os.stat(path).st_dev, (there.f_blocks - there.f_bfree) * there.f_frsize


def wait_for_end(processes: list[int], *, seconds: float = 10) -> None:
    """Wait until these processes are gone: those of a sandbox that was killed have a moment to live."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(Path(f"/proc/{process}").exists() for process in processes):
        time.sleep(0.02)
