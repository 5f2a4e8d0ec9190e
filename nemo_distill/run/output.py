"""Standard output and error that no command fails on: a terminal that is gone, a reader that has gone, few letters.

    make_forgiving()                     # first thing in a command
    lost()                               # last thing: why what was said did not arrive, where that has to be known

A run goes on whoever listens. What an encoding has no letter for is written in its nearest plain letters.
"""

import codecs
import contextlib
import io
import os
import sys
from typing import TextIO

from nemo_distill.run.full_disk import is_full

PLAIN = {
    "±": "+-",
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "·": "-",
    "†": "*",
    "×": "x",
    "²": "2",
    "━": "#",
    "─": "-",
}
"""Letters that tables and sentences have, in ASCII."""
_HANDLER = "nemo_distill.plain"


class _Stream(io.FileIO):
    """An open file to which writing fails without an error; the first is kept."""

    failed: OSError | None = None

    def write(self, data) -> int:
        """Write, or drop what cannot be written."""
        try:
            return super().write(data)
        except OSError as error:
            self.failed = self.failed or error
            return len(data)


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(PLAIN.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


codecs.register_error(_HANDLER, _plain)


def make_forgiving() -> None:
    """Make standard output and error of this process so, unless they were replaced, by a test say."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed by who started this: the next file that is opened would be taken for it
            os.open(os.devnull, os.O_RDWR)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, stream := io.TextIOWrapper(io.BufferedWriter(io.FileIO(number, "w", closefd=False))))
        elif stream is not getattr(sys, f"__{name}__") or _stream_of(stream):
            continue
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
            raw = _Stream(os.dup(stream.fileno()), "w")
            forgiving = io.TextIOWrapper(
                io.BufferedWriter(raw),
                encoding=stream.encoding,
                errors=_HANDLER,
                line_buffering=stream.line_buffering or stream.isatty(),
                write_through=stream.write_through,
            )
            setattr(sys, name, forgiving)
            setattr(sys, f"__{name}__", forgiving)


def lost() -> str | None:
    """The sentence on output that a full disk has no room for; None: all has arrived, or nobody is left to read it."""
    stream = _stream_of(sys.stdout)
    if stream is None:
        return None
    sys.stdout.flush()
    if stream.failed and is_full(stream.failed):
        return f"what this says could not be written: {stream.failed.strerror}."
    return None


def _stream_of(stream: TextIO) -> _Stream | None:
    """The forgiving file that `stream` writes to; None: it was replaced, by a test say."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Stream) else None
