"""Compares finished runs: the evaluator judges them, and the page is written beside the runs.

comparison, folder = write_comparison_report([find(name, runs=runs) for name in names], runs)
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from evaluator.report.comparison import MOST_RUNS, Comparison, write_comparison
from evaluator.verdicts.judge import judge
from nemo_distill.errors import UserError
from nemo_distill.outcome.gather import finished_report, gather
from nemo_distill.run.manifest import Run


def write_comparison_report(found: Sequence[Run], runs: Path, elsewhere: str = "") -> tuple[Comparison, Path]:
    """Write the comparison of finished runs into RUNS/comparisons/NAME-vs-NAME and return it with its folder.

    `elsewhere` follows each run's name in the commands on the page: where the folder of runs is not the usual one.
    Raises `UserError` when they cannot be compared; nothing is written then.
    """
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"'{name}' is named twice: a run is compared with others.")
    if len(found) > MOST_RUNS:
        raise UserError(f"{len(found)} runs are too many for one page; at most {MOST_RUNS} are compared.")
    blends = [run.facts.blend for run in found if run.facts.blend]
    # A reader knows the blends; the run's name is needed where two runs have one.
    labels = blends if len(set(blends)) == len(found) else names
    try:
        judgement = judge({label: gather(finished_report(one)) for label, one in zip(labels, found, strict=True)})
    except ValueError as error:
        raise UserError(str(error)) from None
    commands = {label: f"nemo-run report {one.name}{elsewhere}" for label, one in zip(labels, found, strict=True)}
    made = Comparison(judgement, commands)
    folder = runs / "comparisons" / comparison_name(names)
    folder.mkdir(parents=True, exist_ok=True)
    write_comparison(made, folder)
    return made, folder


def comparison_name(names: list[str]) -> str:
    """Name of the folder of a comparison; a long one is cut and ends in a hash of all names."""
    whole = "-vs-".join(names)
    return whole if len(whole) <= 120 else f"{whole[:107]}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"
