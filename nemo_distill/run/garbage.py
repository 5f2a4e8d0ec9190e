"""Garbage collection, left out where there is none to be found: it takes a third of the time of importing NeMo.

>>> from nemo_distill.run.garbage import uncollected
>>> with uncollected():
...     import json
"""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Within the block, which imports and makes hardly any garbage, nothing looks for it; nor ever among what is there
    at its end."""
    looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if looking:
            gc.enable()
