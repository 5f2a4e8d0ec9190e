"""Compares finished runs: the evaluator judges them, and the page is written beside the runs.

comparison, folder = write_comparison_report([find(name, runs=runs) for name in names], runs)
"""

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from evaluator.report.colours import MOST
from evaluator.report.comparison import Comparison, write_comparison
from evaluator.text import joined
from evaluator.verdicts.judge import judge
from evaluator.verdicts.stopping import MARGIN
from nemo_distill.errors import UserError
from nemo_distill.outcome.gather import finished_report, gather
from nemo_distill.outcome.replicates import group
from nemo_distill.run.manifest import Run


def write_comparison_report(
    found: Sequence[Run],
    runs: Path,
    elsewhere: str = "",
    *,
    seed_sd: float | None = None,
    margin: float = MARGIN,
) -> tuple[Comparison, Path]:
    """Write the comparison of finished runs into RUNS/comparisons/NAME-vs-NAME and return it with its folder.

    Args:
        found: The runs; those of one blend that differ in their seed only are averaged.
        runs: The folder of all runs.
        elsewhere: Follows each run's name in the commands on the page: where the folder of runs is not the usual one.
        seed_sd: What another seed is assumed to move a score, as `evaluator.verdicts.judge.judge` has it.
        margin: What stopping early may cost of the Average, from 0 to 1.

    Raises `UserError` when they cannot be compared; nothing is written then.
    """
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"'{name}' is named twice: a run is compared with others.")
    groups = group(found)
    if len(groups) > MOST:
        raise UserError(f"{len(groups)} blends are too many for one page; at most {MOST} are compared.")
    if len(groups) == 1:
        raise UserError(
            f"{joined(names)} are one blend, trained under several seeds: name a run of another blend, too."
        )
    labels = _labels(groups)
    blends = {
        label: [labels[run.name] for run in runs] for label, runs in zip(_blend_labels(groups), groups, strict=True)
    }
    try:
        reports = {labels[one.name]: gather(finished_report(one)) for one in found}
        judgement = judge(reports, replicates=blends, seed_sd=seed_sd, margin=margin)
    except ValueError as error:
        raise UserError(str(error)) from None
    commands = {labels[one.name]: f"nemo-run report {one.name}{elsewhere}" for one in found}
    made = Comparison(judgement, commands)
    folder = runs / "comparisons" / comparison_name(names)
    with tempfile.TemporaryDirectory(prefix="comparison-") as scratch:
        try:
            write_comparison(made, Path(scratch))
        except ValueError as error:  # answers that are damaged
            raise UserError(str(error)) from error
        folder.mkdir(parents=True, exist_ok=True)
        for file in Path(scratch).iterdir():
            shutil.move(file, folder / file.name)
    return made, folder


def _blend_labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """What the page calls each blend: by its own name, or by its first run's where two would have one."""
    blends = [runs[0].facts.blend for runs in groups]
    return blends if all(blends) and len(set(blends)) == len(groups) else [runs[0].name for runs in groups]


def _labels(groups: Sequence[Sequence[Run]]) -> dict[str, str]:
    """What the page calls each run, by its name: as its blend, or by its own name where the blend has several."""
    named = zip(_blend_labels(groups), groups, strict=True)
    return {run.name: label if len(runs) == 1 else _with_seed(run) for label, runs in named for run in runs}


def _with_seed(run: Run) -> str:
    """A run's name and, where it is known, its seed."""
    return run.name if run.facts.seed is None else f"{run.name} (seed {run.facts.seed})"


def comparison_name(names: list[str]) -> str:
    """Name of the folder of a comparison; a long one is cut and ends in a hash of all names."""
    whole = "-vs-".join(names)
    return whole if len(whole) <= 120 else f"{whole[:107]}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"
