"""What a run writes to disk, before it does: a disk that runs full ends it in the middle.

>>> from nemo_distill.plan.figures import STUDY
>>> sizes = sizes_of(STUDY, segments=("2.5B", "20B"), tokens=38_000_000_000)
>>> round(sizes["distill-20B"] / GB), round(sizes["prepare"] / GB)
(98, 152)
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from nemo_distill.plan.cost import Job
from nemo_distill.plan.estimate import Estimate
from nemo_distill.plan.flops import BF16, FP32
from nemo_distill.plan.quantisation import bytes_of
from nemo_distill.run.sharing import nearest_there

GB = 1e9
STATE = BF16 + 3 * FP32
"""Bytes per parameter in a training checkpoint: the weight, and Adam's float32 weight and two moments."""
TOKEN = 4
"""Bytes of a token: a vocabulary of 131,072 takes more than two."""


def sizes_of(job: Job, *, segments: Iterable[str], tokens: int, quantised: Iterable[str] = ()) -> dict[str, float]:
    """Bytes of every step that keeps much, by its name.

    `segments` are the milestones' labels, `quantised` those that there are in fewer bits as well, which are counted at
    their most, `tokens` what the sources hold. The hub's own files are not counted.
    """
    student = job.student.parameters()
    sizes: dict[str, float] = {
        "import-teacher": BF16 * job.teacher.parameters(),
        "prepare": TOKEN * tokens,
        "prune": BF16 * student,
        "export-pruned": BF16 * student,
    }
    for label in segments:
        sizes |= {f"distill-{label}": STATE * student, f"export-{label}": BF16 * student}
    sizes |= {f"quantize-{label}": bytes_of(job.student, "fp8", "conservative") for label in quantised}
    return sizes


def disk_remark(estimate: Estimate, *, tokens: int, runs: Path) -> tuple[str, str]:
    """(sentence, style): what the run keeps, what is still to come, and what the disk of the folder `runs` has free."""
    sizes = sizes_of(estimate.job, segments=estimate.segments, tokens=tokens, quantised=estimate.quantised)
    left = {step: size for step, size in sizes.items() if step not in estimate.done}
    # while a checkpoint is replaced, the one before it stands
    replaced = STATE * estimate.job.student.parameters() if any(step.startswith("distill") for step in left) else 0.0
    needed = sum(left.values()) + replaced
    free = free_bytes(runs)
    checkpoints = sum(size for step, size in sizes.items() if step.startswith("distill"))
    sentence = (
        f"Disk: {_gb(sum(sizes.values()))} GB in the end (checkpoints {_gb(checkpoints)}, tokens "
        f"{_gb(sizes['prepare'])}), {_gb(needed)} still to come at its peak, and {_gb(free)} free."
    )
    return sentence, "bold red" if needed > free else ""


def free_bytes(folder: Path) -> int:
    """What is free where `folder` lies, or will lie."""
    return shutil.disk_usage(nearest_there(folder)).free


def _gb(size: float) -> str:
    return f"{size / GB:,.0f}"
