"""Ways to damage a file that others wrote, whatever is in it, and a pickle that somebody planted."""

import os
from pathlib import Path


def empty(path: Path) -> None:
    path.write_bytes(b"")


def gone(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    """Whoever opens it as a file is left to wait."""
    path.unlink()
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def deep(path: Path) -> None:
    path.write_text("[" * 100_000)


class Runs:
    """A pickle of it runs a command."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)
