"""Copies standard input to standard output and to an open file, with secrets starred: `python -I -S copier.py NUMBER`.

`nemo_distill.run.starred` starts it, beside a process whose output is to be kept. It runs by itself, with `secrets.py`
beside it and without the package, so that it is there in a few hundredths of a second.
"""

import importlib.util
import os
import select
import signal
import sys

CHUNK = 1 << 16
IDLE_SECONDS = 0.1
"""How long the beginning of a line waits for its end."""
LONGEST = 1 << 20
"""Bytes of a line that are kept back at most."""


def copy(source: int, targets: list[int], secrets) -> None:
    """Copy from `source` to `targets` until it ends, line by line, `secrets` being that module."""
    held, in_key = b"", False
    while True:
        more = not held or bool(select.select([source], [], [], IDLE_SECONDS)[0])
        chunk = os.read(source, CHUNK) if more else b""
        ended = more and not chunk
        held += chunk
        if ended or len(held) > LONGEST:
            cut = len(held)
        else:
            cut = max(held.rfind(b"\n"), held.rfind(b"\r")) + 1
            if (
                not more and not in_key and b"-----" not in held
            ):  # a prompt, or a progress bar: it is not kept from who looks at it
                tail = held.decode(errors="surrogateescape")
                told = tail[: len(tail) - secrets.beginning_of_one(tail)]
                cut = len(told.encode(errors="surrogateescape"))
        ready, held = held[:cut], held[cut:]
        text, in_key = _without_key(ready.decode(errors="surrogateescape"), in_key)
        try:
            said = secrets.star_values(text).encode(errors="surrogateescape")
        except Exception as error:  # rather a line less than a secret, and never an end of what is copied
            said = f"(left out: it could not be searched for secrets, {type(error).__name__})\n".encode()
        for target in targets:
            _write(target, said)
        if ended:
            return
        if not more and held:  # the beginning of a secret, perhaps: for its end there is time
            select.select([source], [], [])


def _without_key(text: str, in_key: bool) -> tuple[str, bool]:
    """`text` without what belongs to a private key that has begun before, and whether one goes on behind it."""
    if in_key:
        end = text.find("-----END ")
        if end < 0:
            return "", True
        text = text[text.find("\n", end) + 1 or len(text) :]
    begin = text.rfind("PRIVATE KEY-----")
    return text, begin >= 0 and "-----BEGIN " in text[max(0, begin - 40) : begin] and "-----END " not in text[begin:]


def _write(target: int, said: bytes) -> None:
    """Write all of it, or nothing more where that fails: on a full disk, or to a terminal that is gone."""
    try:
        while said:
            said = said[os.write(target, said) :]
    except OSError:
        return


def _main(log: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when nobody is left to write: the last words count
    where = os.path.join(os.path.dirname(os.path.abspath(__file__)), "secrets.py")
    found = importlib.util.spec_from_file_location("secrets_of_a_run", where)
    assert found and found.loader
    secrets = importlib.util.module_from_spec(found)
    found.loader.exec_module(secrets)
    copy(0, [log, 1], secrets)  # the log first: nobody keeps it waiting


if __name__ == "__main__":
    _main(int(sys.argv[1]))
