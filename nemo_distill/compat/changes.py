"""What a change to third-party code is: an object that says why, since when it is not needed, and how it is made.

    FINAL_NORM = Change(name="final-norm", changes="...", why="...", ..., applies=..., mended=..., make=...)
    FINAL_NORM.apply()               # makes it once per process, or finds it mended upstream

A change goes by what it mends and by no version. Where neither what it mends is there nor its mended form, upstream has
moved: `apply` then ends with one sentence that names it.
"""

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from nemo_distill.errors import UserError

PAGE = "docs/reference/compat.md"
When = Literal["always", "no GPU", "no Transformer Engine", "on request"]

_made: dict[str, None] = {}


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change to third-party code."""

    name: str
    """Short name, unique among all changes."""
    changes: str
    """Dotted names of what is replaced, registered or set."""
    why: str
    """Reason, in a sentence or two."""
    upstream: str
    """Link to the upstream thread or fix; where there is none, who would have to change what."""
    versions: str
    """Package and versions that the change was made for and is tested with."""
    when: When
    """What `registry.prepare` makes it for; `on request`: the code that needs it calls `apply`."""
    applies: Callable[[], bool]
    """Whether what it mends is there, as the change expects it."""
    mended: Callable[[], bool]
    """Whether there is nothing to mend (any more)."""
    make: Callable[..., None] = dataclasses.field(repr=False)
    """Makes the change; given what `apply` is given."""

    def apply(self, *given: Any) -> bool:
        """Make the change; returns whether it is made. A second time changes nothing that the first did not.

        Raises `UserError` where upstream is neither as the change expects it nor mended.
        """
        if self.name in _made and self.when != "on request":  # which are given something each time
            return True
        if self.applies():
            self.make(*given)
            _made[self.name] = None
            return True
        self.check_mended()
        return False

    def check(self) -> None:
        """Raise `UserError` where upstream is neither as the change expects it nor mended; for changes that are made to
        one object at a time."""
        if not self.applies():
            self.check_mended()

    def check_mended(self) -> None:
        """Raise `UserError` unless there is nothing to mend."""
        if not self.mended():
            raise UserError(
                f"the change {self.name!r} to {self.changes} was made for {self.versions}, and what is installed is "
                f"neither as it expects nor mended: install that version, or see {PAGE}."
            )


def changes_made() -> tuple[str, ...]:
    """Names of the changes that this process has made, in order."""
    return tuple(_made)


def never() -> bool:
    """`mended` of a change that upstream cannot make unneeded: where it does not apply, something has moved."""
    return False


def find(path: str) -> Any:
    """What the path `module:name.name` names, or the module `module`; None where it is not there."""
    module, _, names = path.partition(":")
    found: Any
    try:
        found = importlib.import_module(module)
    except ImportError:
        return None
    for name in names.split(".") if names else ():
        found = getattr(found, name, None)
    return found


def source_of(path: str) -> str:
    """Python source of what `path` names (`find`), as upstream wrote it; empty where it is not there."""
    found = find(path)
    return "" if found is None else inspect.getsource(inspect.unwrap(found))


def wrap(owner: Any, name: str, replacement: Callable) -> None:
    """Let `owner.name` call `replacement`, with what was there in front of its arguments; a second time changes
    nothing."""
    original = getattr(owner, name)
    if getattr(original, "replacement", None) is replacement:
        return

    @functools.wraps(original)
    def wrapped(*args, **kwargs):
        return replacement(original, *args, **kwargs)

    wrapped.replacement = replacement  # type: ignore[attr-defined]
    setattr(owner, name, wrapped)
