"""Results of Triton's autotuning of the kernels of the Mamba scan, kept for the processes that come after.

    recall(folder)        # before the first iteration
    remember(folder)      # after it

Triton compiles and runs several variants of every kernel when it is first needed and goes on with the fastest: part of
the long first iteration of every process, on every GPU of a job at once. Which variants those are depends on the GPU
and on versions, by which the file is named. A segment that takes them from there tries none, needs no memory for those
that spill, and adds up in the same order as the segment before it. Triton's own `TRITON_CACHE_AUTOTUNING` leaves out
kernels whose variants clear a buffer first, which are most of the backward pass.
"""

import importlib
import json
import logging
import re
from pathlib import Path

import torch

from nemo_distill.compat.kernels import AUTOTUNING, ONE_VARIANT, autotuners
from nemo_distill.run.inside import text_of
from nemo_distill.run.progress import write_atomically

logger = logging.getLogger(__name__)
PACKAGES = ("triton", "mamba_ssm")
"""Whose versions count; and the second one's kernels are meant."""


def recall(folder: Path) -> int:
    """Give Triton the autotuning results that are kept in `folder`; returns of how many kernels."""
    file, every, results = tuning_file(folder), tuners(), []
    try:
        for name, found in json.loads(text_of(file)).items():
            if name in every:
                variants = {str(variant): variant for variant in every[name].configs}
                chosen = {tuple(key): variants[variant] for key, variant in found if variant in variants}
                results.append((every[name], chosen))
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:  # another user's, or damaged
        logger.warning("the results of autotuning in %s are left aside: %s", file, error)
        return 0
    if results:
        AUTOTUNING.apply(results)
    return len(results)


def remember(folder: Path) -> int:
    """Write down the results of autotuning in this process; returns of how many kernels.

    A folder that cannot be written is no reason to end a training: it is logged.
    """
    chosen = {
        name: [(key, str(variant)) for key, variant in tuner.cache.items()]
        for name, tuner in sorted(tuners().items())
        if tuner.cache
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(tuning_file(folder), json.dumps(chosen, indent=1))
    except OSError as error:
        logger.warning("the results of autotuning are not kept: %s", error)
    return len(chosen)


def keep_one_variant() -> dict[str, str]:
    """Leave every kernel one variant, the same in every process, in place of the fastest; returns it by kernel."""
    every = tuners()
    if every:
        ONE_VARIANT.apply(list(every.values()))
    return {name: str(tuner.configs[0]) for name, tuner in sorted(every.items())}


def tuning_file(folder: Path) -> Path:
    """The file in `folder` that holds for this GPU and these versions."""
    versions = (f"{name}-{importlib.import_module(name).__version__}" for name in PACKAGES)
    facts = (torch.cuda.get_device_name(), *versions)
    return folder / (re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(facts)) + ".json")


def tuners() -> dict:
    """Every kernel of mamba-ssm's, in the modules that are loaded, of which Triton has variants to choose from."""
    return autotuners(PACKAGES[1])
