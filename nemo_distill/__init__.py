"""Prune and distil Nemotron-H models, one data blend at a time. `nemo-run --help` is the way in.

What a recipe says, it says in the names below:

    from nemo_distill import PUBLISHED, Blend, Context, Distill, Settings, Source, entrypoint, main, run_experiment

Each is imported when it is first asked for, and none needs torch or NeMo.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nemo_distill.config.benchmarks import Benchmark, Questions
    from nemo_distill.config.blend import PUBLISHED, Blend, reconstructed
    from nemo_distill.config.settings import (
        Distill,
        Evaluate,
        Health,
        Layout,
        Prepare,
        Prune,
        Quantize,
        ServeBench,
        Settings,
    )
    from nemo_distill.config.sources import Source
    from nemo_distill.errors import UserError
    from nemo_distill.experiment import run_experiment
    from nemo_distill.launch.context import Context, entrypoint, main

__version__ = "0.2.0"
__all__ = [
    "PUBLISHED",
    "Benchmark",
    "Blend",
    "Context",
    "Distill",
    "Evaluate",
    "Health",
    "Layout",
    "Prepare",
    "Prune",
    "Quantize",
    "Questions",
    "ServeBench",
    "Settings",
    "Source",
    "UserError",
    "entrypoint",
    "main",
    "reconstructed",
    "run_experiment",
]

_HOME = {
    **dict.fromkeys(("Benchmark", "Questions"), "config.benchmarks"),
    **dict.fromkeys(("PUBLISHED", "Blend", "reconstructed"), "config.blend"),
    **dict.fromkeys(
        ("Distill", "Evaluate", "Health", "Layout", "Prepare", "Prune", "Quantize", "ServeBench", "Settings"),
        "config.settings",
    ),
    **dict.fromkeys(("Context", "entrypoint", "main"), "launch.context"),
    "Source": "config.sources",
    "UserError": "errors",
    "run_experiment": "experiment",
}
"""The module that each name of the façade is from."""


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
