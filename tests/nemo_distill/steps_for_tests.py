"""A step for the tests of the machinery: waits, reports progress, writes a file, or fails, as its config says."""

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from nemo_distill.errors import UserError
from nemo_distill.run.ranks import Ranks

VERSION = 1
MANY_RANKS = True


def main(spec) -> None:
    """Config, all of which may be left out: `seconds` to take, `gate`, `lines` to print, `variables` to record, `fail`.

    `says` is a file of words to say (`say_all`). `fail` is "says" (them), "error", "user", "exit", "killed", "memory"
    (take a gigabyte), "disk" (write 8 MB), "unless-mended" (fail as long as there is a file called broken beside the
    runs folder), "leaves" (a process in a session of its own), or "deaf": leave one, and wait in C code, where Python
    hears no signal. Like a segment of the distillation, a step that was cut goes on where it was: `trail.txt` holds a
    number that depends on every tick, made once and in order.
    With a `gate`, it goes past the middle once there is a file of that name. Of several ranks, that of number `on_rank`
    does all this, and with `stuck` the others wait for it whatever they are told.
    """
    config, ranks = spec.config, Ranks.here()
    if ranks.rank != config.get("on_rank", 0):
        if config.get("stuck"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(900)
        return
    (spec.folder / "attempts.txt").open("a").write(f"{os.getpid()} {time.time()}\n")
    said = say_all(Path(config["says"]), spec.runs) if "says" in config else []
    for line in range(config.get("lines", 0)):
        print(f"line {line} of {spec.name}", flush=True)
    _tick(spec, config.get("seconds", 0), config.get("gate"))
    inputs = {name: (folder / "output.txt").read_text() for name, folder in spec.upstream.items()}
    if "variables" in config:
        recorded = {name: os.environ.get(name) for name in config["variables"]}
        (spec.folder / "variables.json").write_text(json.dumps(recorded))
    if config.get("fail") == "says":
        raise RuntimeError("; ".join(said))
    if config.get("fail") == "error":
        raise RuntimeError("the disk of the tests is full")
    if config.get("fail") == "unless-mended" and (spec.folder.parents[2] / "broken").exists():
        raise RuntimeError("broken")
    if config.get("fail") == "user":
        raise UserError("there is no source 'mth'. Did you mean 'math'?")
    if config.get("fail") == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.get("fail") == "exit":
        sys.exit(0)
    if config.get("fail") == "memory":
        taken = bytearray(b"1") * (1 << 30)
        time.sleep(len(taken))
    if config.get("fail") in ("leaves", "deaf"):
        left = subprocess.Popen(["sleep", "900"], start_new_session=True)
        (spec.folder / "left.txt").write_text(f"{left.pid} {os.getpid()} ")
    if config.get("fail") == "deaf":
        hang()
    if config.get("fail") == "disk":
        (spec.folder / "large.bin").write_bytes(os.urandom(8 << 20))
    (spec.folder / "output.txt").write_text(f"{spec.name}({', '.join(inputs.values())})")


def hang() -> None:
    """Wait for ever in C code."""
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):  # the second time it waits for the first
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)


def say_all(file: Path, runs: Path) -> list[str]:
    """Say the words of a JSON list in every way that a step has: itself, in two halves, its child, a log, a tracker.

    The environment is said as well, and the trackers are TensorBoard and whatever is called mlflow here.
    """
    from nemo_distill.run.facts import Tracked
    from nemo_distill.track.follow import following
    from nemo_distill.track.run import TrackedRun
    from nemo_distill.track.tracker import About

    words = json.loads(file.read_text())
    print(dict(os.environ), flush=True)
    logging.getLogger("library").warning("login with %s", words)
    for word in words:
        print(f"progress {word}", end="\r", file=sys.stderr, flush=True)
    half = len(words[0]) // 2
    os.write(1, words[0][:half].encode())
    time.sleep(0.3)  # longer than the beginning of a line waits for its end
    os.write(1, words[0][half:].encode() + b"\n")
    subprocess.run(["cat", file.with_suffix(".txt")])
    about, losses = About(id="0123456789ab", name="small", config={}), runs / ".track/here/losses.jsonl"
    losses.parent.mkdir(parents=True)
    line = {"iteration": 1, "loss": 1.0, "tokens": 8, "learning_rate": 1e-3, "seconds": 1.0, "grad_norm": 1.0}
    losses.write_text(json.dumps(line) + "\n")
    segments = {"distill-1": ".track/here"}
    TrackedRun(runs=runs, about=about, segments=segments, evaluations={}, iterations={"1": 1}).save()
    with following(runs, Tracked(id=about.id, kinds=("tensorboard", "mlflow"))):
        time.sleep(0.1)
    return words


def _tick(spec, seconds: float, gate: str | None) -> None:
    ticks = max(4, round(seconds / 0.05))
    trail = spec.folder / "trail.txt"
    done, value = map(int, trail.read_text().split()) if trail.exists() else (0, 0)
    for tick in range(done, ticks):
        while gate and tick == ticks // 2 and not os.path.exists(gate):
            time.sleep(0.05)
        spec.progress.update(done=tick, total=ticks, unit="ticks", tokens_per_second=20.0)
        time.sleep(seconds / ticks)
        value = (value * 31 + tick) % 1_000_003
        scratch = spec.folder / "trail.tmp"
        scratch.write_text(f"{tick + 1} {value}")
        scratch.replace(trail)
