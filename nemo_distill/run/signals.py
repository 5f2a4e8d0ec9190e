"""Ctrl-C and SIGTERM, for as long as a run is launched or followed."""

import contextlib
import signal
from collections.abc import Callable, Iterator


class Terminated(KeyboardInterrupt):
    """SIGTERM: nobody is there to be asked."""


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Within the block SIGTERM raises `Terminated`, and so ends the steps too, as Ctrl-C does."""

    def interrupt(signal_number: int, frame) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def interrupts_kept() -> Iterator[Callable[[], bool]]:
    """Within the block Ctrl-C and SIGTERM raise nothing; the callable that it gives says whether one has come.

    An exception raised wherever the signal happens to meet us can be lost: NeMo-Run asks for a job's state in a
    `finally` that returns, which drops a KeyboardInterrupt as well.
    """
    come: list[int] = []
    before = {
        number: signal.signal(number, lambda n, frame: come.append(n)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(come)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
