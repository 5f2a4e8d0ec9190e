"""The terminal: what data says is shown on it and never obeyed.

    console = Terminal()

Names, errors and logs come from files that others write. Control characters in them, which would set a terminal's
title, its clipboard or a link, are shown as they are written in Python, and square brackets are no markup.
"""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment

from nemo_distill.errors import printable


class Terminal(Console):
    """A console that prints text as text, unless a call says `markup=True`."""

    def __init__(self, **settings: Any):
        super().__init__(**{"markup": False, **settings})

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        shown = (one if one.control else one._replace(text=printable(one.text)) for one in buffer)
        return super()._render_buffer(shown)
