"""All changes to third-party code, and those that a process needs before it imports Megatron or NeMo.

prepare()                                    # by a step's main, once per process; returns what was changed
python -m nemo_distill.compat.registry       # writes the table of docs/reference/compat.md
"""

import functools
from pathlib import Path

from nemo_distill.compat import (
    context,
    cpu,
    distillation,
    documents,
    kernels,
    mamba_ssm,
    nemo_run,
    optimizer_state,
    readers,
    upstream_fixes,
)
from nemo_distill.compat.changes import PAGE, Change, changes_made
from nemo_distill.compat.device import on_gpu

FIRST = (mamba_ssm.STAND_IN, *cpu.BEFORE_IMPORT, upstream_fixes.ALLOCATORS)
"""What has to be in place before Megatron is imported, in order."""
CHANGES: tuple[Change, ...] = (
    *FIRST,
    *(change for change in cpu.CHANGES if change not in FIRST),
    *(change for change in upstream_fixes.CHANGES if change not in FIRST),
    *optimizer_state.CHANGES,
    *readers.CHANGES,
    *kernels.CHANGES,
    *documents.CHANGES,
    *context.CHANGES,
    *distillation.CHANGES,
    mamba_ssm.TRANSFORMERS_OWN,
    *nemo_run.CHANGES,
)
"""Every change, in the order in which `prepare` makes those that it makes."""
INTRODUCTION = """\
# Changes to third-party code

Every change that this project makes to code that is not its own, in one room, `nemo_distill/compat`. None is made when
a module is imported: a step makes those it needs when it starts, the rest are made by the code that asks for them. Each
goes by what it mends and by no version: where what it mends is not there any more it is left out, and where the code is
neither as the change expects nor mended, the step ends with one sentence that names the change. Written by
`python -m nemo_distill.compat.registry`; a test compares.
"""


@functools.cache
def prepare() -> tuple[str, ...]:
    """Make Megatron, NeMo and ModelOpt importable and runnable here; returns the names of the changes made.

    Once per process, before `megatron` or `nemo` is imported. Calling it again changes nothing.
    """
    for change in CHANGES:
        if change.when != "on request" and not (change.when == "no GPU" and on_gpu()):
            change.apply()
    return changes_made()


def page() -> str:
    """The page of the documentation that lists all changes."""
    rows = ["| change | to | when | made for | why | upstream |", "|---|---|---|---|---|---|"]
    for one in CHANGES:
        cells = (f"`{one.name}`", one.changes, one.when, one.versions, one.why, one.upstream)
        rows.append(f"| {' | '.join(cells)} |")
    return INTRODUCTION + "\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    Path(PAGE).write_text(page(), encoding="utf-8")
