"""Ctrl-C, SIGTERM and a lost terminal (SIGHUP), for as long as a run is launched or followed."""

import contextlib
import signal
from collections.abc import Callable, Iterator


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: nobody is there to be asked."""


def _terminating() -> list[signal.Signals]:
    """Signals that end a command: not the loss of a terminal where whoever started it had it ignored (`nohup`)."""
    lost = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, *lost]


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise `Terminated`, and so end the steps too, as Ctrl-C does."""

    def interrupt(signal_number: int, frame) -> None:
        raise Terminated

    before = {number: signal.signal(number, interrupt) for number in _terminating()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interrupts_kept() -> Iterator[Callable[[], bool]]:
    """Within the block Ctrl-C, SIGTERM and SIGHUP raise nothing; the callable that it gives says whether one has come.

    An exception raised wherever the signal happens to meet us can be lost: NeMo-Run asks for a job's state in a
    `finally` that returns, which drops a KeyboardInterrupt as well.
    """
    come: list[int] = []
    awaited = (signal.SIGINT, *_terminating())
    before = {number: signal.signal(number, lambda n, frame: come.append(n)) for number in awaited}
    try:
        yield lambda: bool(come)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
