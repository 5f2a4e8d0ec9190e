"""How many GPUs a step takes, and which it was given.

    gpus_of(spec, layout)           # 8 of a segment where layout.gpus_per_node=8, 1 of the pruning, 0 of `prepare`
    given(spec.folder)              # ("2", "3") of a step that an executor gave these

A step's module says `GPUS = 1`, and `GPUS_IF = "engine"` where that holds only if its config has such a key; one with
`MANY_RANKS = True` takes those of a machine of the layout. Without either a step takes none. `MORE_GPUS = True`: it
uses all that it is given. `GPU_NEEDED = True`: no CPU does in their place.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from nemo_distill.config.resolved import Parallelism
from nemo_distill.run.step import SPEC_FILE, Spec, module_constant

LOCKS = "NEMO_DISTILL_GPUS"
"""Environment variable of a step that was given GPUs: their locks' files (`nemo_distill.launch.local.cards`)."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""CUDA's own variable: names of the GPUs that a process may use."""


def gpus_of(spec: Spec, layout: Parallelism) -> int:
    """GPUs that the step takes on each of its machines."""
    if spec.many_ranks:
        return layout.gpus_per_node
    key = module_constant(spec.module, "GPUS_IF")
    return int(module_constant(spec.module, "GPUS") or 0) if key is None or key in spec.config else 0


def uses_more(spec: Spec) -> bool:
    """Whether the step is as much faster with more GPUs than it takes at least."""
    return bool(module_constant(spec.module, "MORE_GPUS"))


def needs(specs: Iterable[Spec], layout: Parallelism, *, there: int) -> dict[str, int]:
    """GPUs by step, on a machine that has so many.

    Where it has none and the layout asks for none, a CPU takes their place in the steps that one can do.
    """
    on_cpu = not there and layout.gpu is None
    return {
        spec.name: 0 if on_cpu and not module_constant(spec.module, "GPU_NEEDED") else gpus_of(spec, layout)
        for spec in specs
    }


def why_short(
    specs: Iterable[Spec], layout: Parallelism, names: tuple[str, ...], *, nearest: str | None = None
) -> str | None:
    """The sentence on a step of those `specs` that takes more GPUs than there are, called `names`; None: there is none.

    `nearest` is the layout that fits in as many, as settings, empty where none does; None: it follows from `layout`.
    """
    given = list(specs)
    wanted = needs(given, layout, there=len(names))
    most = max(wanted, key=wanted.__getitem__, default="")
    if not most or wanted[most] <= len(names):
        return None
    there = f"this machine has {len(names)} to give ({', '.join(names)})" if names else "this machine has none to give"
    count = wanted[most]
    said = f"{most} takes {count} {'GPU' if count == 1 else 'GPUs'}"
    if any(spec.many_ranks for spec in given if spec.name == most):
        said += f" (layout.gpus_per_node={layout.gpus_per_node})"
    said += ", and"
    if not names:
        return f"{said} {there}: take a machine that has them, or --executor slurm."
    nearest = _fewer(layout, len(names)) if nearest is None else nearest
    fitting = f"the nearest layout that fits is {nearest}" if nearest else "no layout fits in the memory of so few"
    return f"{said} {there}: {fitting}."


def _fewer(layout: Parallelism, most: int) -> str:
    """The settings of the layout with at most so many GPUs, whose copies share the batch as evenly."""
    parts = [part for part in range(1, most + 1) if layout.gpus_per_node % part == 0]
    whole = [part for part in parts if part % (layout.tensor_parallel * layout.context_parallel) == 0]
    if whole:
        return f"layout.gpus_per_node={whole[-1]}"
    undone = " layout.context_parallel=1" if layout.context_parallel > 1 else ""
    return (
        f"layout.gpus_per_node={parts[-1]} layout.tensor_parallel={math.gcd(parts[-1], layout.tensor_parallel)}{undone}"
    )


def given_here() -> dict[str, list[str]]:
    """What this process was given, for the record of its step: empty where nobody deals out GPUs."""
    if LOCKS not in os.environ:
        return {}
    return {"gpus": [name for name in os.environ.get(VISIBLE, "").split(",") if name]}


def given(folder: Path) -> tuple[str, ...]:
    """The GPUs that the step at work in `folder` was given, by their names for CUDA; none where nobody deals them."""
    try:
        record: Mapping = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
        return tuple(str(name) for name in record.get("gpus") or ())
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return ()


def in_words(names: Iterable[str]) -> str:
    """`GPU 0`, `GPUs 2, 3`; empty of none.

    >>> in_words(["2", "3"]), in_words(["0"]), in_words([])
    ('GPUs 2, 3', 'GPU 0', '')
    """
    listed = list(names)
    return f"{'GPU' if len(listed) == 1 else 'GPUs'} {', '.join(listed)}" if listed else ""
