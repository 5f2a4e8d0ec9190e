"""Reads files that others wrote: whatever is wrong with one is a single sentence that names it.

    read_object(folder / "results.json")["tasks"]        # ValueError: '.../results.json' is no JSON: ...
    with form("'samples.jsonl', line 3,"):               # ValueError: 'samples.jsonl', line 3, has no 'score'.
        score = number(record["score"], "score", most=1)

JSON's grammar is Python's but for NaN and the infinities, which no score, error or length can be and which are refused.
"""

import contextlib
import errno
import json
import math
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

LONGEST_TEXT = 2**30
"""Most bytes of a file that is read whole."""
LONGEST_LINE = 2**26
"""Bytes of a line at which it is not read any further."""


def read_text(path: Path) -> str:
    """The text of a file. Raises ValueError when it is not there, no file, not readable or not UTF-8."""
    with _file(path):
        with _opened(path) as file:
            content = file.read(LONGEST_TEXT + 1)
        if len(content) > LONGEST_TEXT:
            raise OSError(errno.EFBIG, f"it holds more than {LONGEST_TEXT:,} bytes")
        return content.decode("utf-8")


def read_json(path: Path) -> Any:
    """What a file of JSON says. Raises ValueError naming the file."""
    text = read_text(path)
    if not text.strip():
        raise ValueError(f"'{path}' is empty.")
    return _parsed(text, f"'{path}'", lines=True)


def read_object(path: Path) -> dict:
    """The object that a file of JSON holds. Raises ValueError naming the file."""
    return mapping(read_json(path), f"'{path}'")


def json_lines(path: Path, *, passed_over: Callable[[bytes], bool] | None = None) -> Iterator[tuple[str, dict]]:
    """The objects of a file with one a line, each with what to call it in a sentence.

    Args:
        path: The file. It is never held whole.
        passed_over: Whether a line, as bytes, need not be parsed; asked of those alone that end as they should.

    Raises ValueError naming the file and the line; a file without any line is refused as well.
    """
    number = 0
    with _file(path), _opened(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
            where = f"'{path}', line {number},"
            if len(line) == LONGEST_LINE:
                raise ValueError(f"{where} is no object that was written here: it goes on for {LONGEST_LINE:,} bytes.")
            if passed_over and line.endswith(b"}\n") and passed_over(line):
                continue
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{where} is not UTF-8: {error.reason} at byte {error.start}.") from None
            yield where, mapping(_parsed(text, where), where)
    if not number:
        raise ValueError(f"'{path}' is empty.")


@contextlib.contextmanager
def form(what: str) -> Iterator[None]:
    """Whatever is wrong inside, with the form or with a value of what it says, is a ValueError about `what`."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{what} has no {error}.") from error
    except (AttributeError, IndexError, TypeError, OverflowError) as error:
        raise ValueError(f"{what} is not of the form that it should have: {error}.") from error
    except ValueError as error:
        if str(error).startswith(what):  # which says so itself
            raise
        raise ValueError(f"{what} is not right: {error}") from error


def mapping(value: Any, what: str) -> dict:
    """`value`, if it is a mapping; ValueError about `what` otherwise."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} holds {_kind(value)} where names with values are expected.")
    return value


def text(value: Any, what: str) -> str:
    """`value`, if it is text; ValueError about `what` otherwise."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is {_kind(value)}, not text.")
    return value


def items(value: Any, what: str) -> list:
    """`value`, if it is a list; ValueError about `what` otherwise."""
    if not isinstance(value, list):
        raise ValueError(f"{what} is {_kind(value)}, not a list.")
    return value


def number(value: Any, what: str, *, least: float = 0.0, most: float = math.inf) -> float:
    """`value`, if it is a finite number in that range; ValueError about `what` otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{what} is {_kind(value)}, not a number.")
    if abs(value) > sys.float_info.max or value != value:
        raise ValueError(f"{what} is {value if isinstance(value, float) else 'too large'}: no number to count with.")
    if not least <= value <= most:
        up_to = "" if most == math.inf else f" to {most:g}"
        raise ValueError(f"{what} is {value:g}; it is from {least:g}{up_to or ' up'}.")
    return float(value)


LARGEST = 10**18
"""No tokens, requests or iterations are as many."""


def whole(value: Any, what: str, *, least: int = 0) -> int:
    """`value`, if it is a whole number from `least` up; ValueError about `what` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{what} is {_kind(value)}, not a whole number.")
    if value > LARGEST:
        raise ValueError(f"{what} is above {LARGEST:,}, as nothing here can be.")
    if value < least:
        raise ValueError(f"{what} is {value}; it is from {least} up.")
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text {value[:30]!r}"
    if isinstance(value, (bool, int, float)):
        return repr(value)
    return "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else f"a {type(value)}"


@contextlib.contextmanager
def _file(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"'{path}' is missing.") from None
    except IsADirectoryError:
        raise ValueError(f"'{path}' is a folder, not a file.") from None
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not UTF-8: {error.reason} at byte {error.start}.") from None


def _opened(path: Path) -> BinaryIO:
    """The file, if it is one; raises OSError, of a pipe too, which would be waited for."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode):
        os.close(number)
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, "it is no file")
    return open(number, "rb")


def _parsed(text: str, what: str, *, lines: bool = False) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}" if lines else f"column {error.colno}"
        raise ValueError(f"{what} is no whole JSON ({error.msg}, {where}): cut short or overwritten?") from None
    except RecursionError:
        raise ValueError(f"{what} is no JSON that was written here: it is nested too deeply.") from None
    except ValueError as error:  # a number of thousands of digits, or none at all
        raise ValueError(f"{what} is not to be read: {error}.") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}")
