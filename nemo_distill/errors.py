"""The one error a user is meant to read: a sentence with the offending value and the nearest right one.

>>> from nemo_distill.errors import UserError, nearest, slip_of
>>> nearest("locla", ["local", "slurm"])
"Did you mean 'local'?"
>>> raise UserError("no executor is called 'locla'. " + nearest("locla", ["local", "slurm"]))
Traceback (most recent call last):
    ...
nemo_distill.errors.UserError: no executor is called 'locla'. Did you mean 'local'?
"""

import difflib
import errno
import os
import sys
from collections.abc import Iterable, Sequence

EXIT_FAILED = 1
"""A step of the run failed."""
EXIT_USER_ERROR = 2
"""What was asked for cannot be done as asked; nothing was written."""
EXIT_INTERRUPTED = 130
"""Ctrl-C, or SIGTERM."""
ALIKE = 0.7
"""Share of letters, of both words, that a slip leaves alone."""


class UserError(ValueError):
    """What the user asked for cannot be done as asked; its text is one sentence, the exit code is 2."""


class PassingError(UserError):
    """What was asked for cannot be done now and may be later, as it is: a network that is down, a disk that is full."""


_LASTING = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError),
    *(NotImplementedError, RecursionError, SyntaxError, TypeError, ValueError),
)
"""What comes of code and values alone; a RuntimeError or an OSError may come of a device, a network or a disk."""


def bound_to_repeat(error: BaseException) -> bool:
    """Whether what ended a step would end it again as long as nothing is changed.

    >>> bound_to_repeat(UserError("a value")), bound_to_repeat(PassingError("the network"))
    (True, False)
    """
    return isinstance(error, _LASTING) and not isinstance(error, PassingError)


_OF_THE_PLACE = frozenset({
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR),
    *(errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
})  # fmt: skip
"""Errors of a file for what it is, or for whose it is."""


def why_unusable(error: OSError) -> str | None:
    """The sentence on a file that cannot be used for what it is or for whose it is; None for another error.

    >>> why_unusable(PermissionError(13, "Permission denied", "/proc/card.md"))
    '/proc/card.md cannot be used: permission denied.'
    """
    path = error.filename2 or error.filename
    if error.errno not in _OF_THE_PLACE or not isinstance(path, str | bytes | os.PathLike):
        return None
    return f"{os.fsdecode(path)} cannot be used: {(error.strerror or '').lower()}."


class RunFailed(Exception):
    """A step of the run failed; what there is to say about it has been said."""


def nearest(word: str, options: Iterable[str], *, most: int = 12) -> str:
    """A hint that follows a refusal: the option that `word` is a slip of, or else all of them (at most `most`)."""
    known = sorted(set(options))
    if close := slip_of(word, known):
        return f"Did you mean '{close}'?"
    if not known:
        return "There is none."
    listed = ", ".join(f"'{option}'" for option in known[:most])
    return f"Known: {listed}{', ...' if len(known) > most else ''}."


def slip_of(word: str, options: Sequence[str], *, alike: float = ALIKE) -> str | None:
    """The option that `word` is a slip of: another case or punctuation, or about a letter in four; None: it is none.

    >>> slip_of("Learning-Rate", ["learning_rate"]), slip_of("limit", ["suite", "repeats"])
    ('learning_rate', None)
    """
    close = difflib.get_close_matches(_plain(word), list(map(_plain, options)), n=1, cutoff=alike)
    alike_but_case = [option for option in options if close and _plain(option) == close[0]]
    return max(alike_but_case, key=lambda one: difflib.SequenceMatcher(None, word, one).ratio(), default=None)


def _plain(word: str) -> str:
    return str(word).lower().replace("-", "_")


_CONTROLS = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
"""Control characters, and marks that turn the direction of writing, as Python writes them; tab and newline stay."""


def printable(text: str) -> str:
    """`text` with its control characters spelled out, so that a terminal shows them and does not obey them.

    >>> print(printable("a \\x1b]0;title\\x07 b"))
    a \\x1b]0;title\\x07 b
    """
    return text.translate(_CONTROLS)


def say_error(sentence: str) -> None:
    """Print `sentence` to standard error: whole in a pipe, by words on a terminal."""
    # Imported here: steps raise UserError too and have no use for rich.
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stderr)
    console.print(Text.assemble(("nemo-run: ", "bold red"), printable(sentence)), soft_wrap=not console.is_terminal)
