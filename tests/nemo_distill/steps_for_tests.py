"""A step for the tests of the machinery: waits, reports progress, writes a file, or fails, as its config says."""

import os
import signal
import sys
import time

from nemo_distill.errors import UserError
from nemo_distill.ranks import Ranks

VERSION = 1
MANY_RANKS = True


def main(spec) -> None:
    """Config, all of which may be left out: `seconds` to take, `lines` to print, `fail`.

    `fail` is "error", "user", "exit", "killed", or "unless-mended": fail as long as there is a file called broken.
    Of several ranks, that of number `on_rank` fails, and with `stuck` the others wait for it whatever they are told.
    """
    config, ranks = spec.config, Ranks.here()
    if ranks.rank != config.get("on_rank", 0):
        if config.get("stuck"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(120)
        return
    (spec.folder / "attempts.txt").open("a").write(f"{os.getpid()} {time.time()}\n")
    for line in range(config.get("lines", 0)):
        print(f"line {line} of {spec.name}", flush=True)
    ticks = max(1, round(config.get("seconds", 0) / 0.05))
    for tick in range(ticks):
        spec.progress.update(done=tick, total=ticks, unit="ticks", tokens_per_second=20.0)
        time.sleep(config.get("seconds", 0) / ticks)
    inputs = {name: (folder / "output.txt").read_text() for name, folder in spec.upstream.items()}
    if config.get("fail") == "error":
        raise RuntimeError("the disk of the tests is full")
    if config.get("fail") == "unless-mended" and os.path.exists("broken"):
        raise RuntimeError("broken")
    if config.get("fail") == "user":
        raise UserError("there is no source 'mth'. Did you mean 'math'?")
    if config.get("fail") == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.get("fail") == "exit":
        sys.exit(0)
    (spec.folder / "output.txt").write_text(f"{spec.name}({', '.join(inputs.values())})")
