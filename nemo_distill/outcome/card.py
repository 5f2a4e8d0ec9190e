"""Writes the model card of a run's checkpoint: what the run knows, in the form of `evaluator.report.card`.

write_card(find("distill_v1v3-debug", runs=Path("runs")), milestone="80B")
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.report.card import Card, render
from evaluator.results.files import form
from evaluator.verdicts.judge import judge_alone
from evaluator.verdicts.seeds import SEED_SD
from evaluator.verdicts.stopping import MARGIN
from nemo_distill.data.models import split_revision
from nemo_distill.errors import UserError, nearest
from nemo_distill.outcome.gather import finished_report, gather
from nemo_distill.run.manifest import Run

FILE = "README.md"
"""What the hub calls a model's card."""
CARDS = "cards"
"""Folder of cards in the folder of all runs."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class MilestoneCard:
    """A card and whose it is."""

    title: str
    """What tables call the milestone, as in its steps' names."""
    text: str
    """Markdown with the hub's metadata before it."""


def write_card(run: Run, *, output: Path | None = None, **chosen: Any) -> Path:
    """Write the card and return its path, RUNS/cards/RUN-MILESTONE/README.md unless `output` says otherwise.

    `output` is a file, or a folder that takes it as README.md; what is `chosen` is as `card_of` has it. Where that
    raises, nothing is written.
    """
    card = card_of(run, **chosen)
    path = output or run.runs / CARDS / f"{run.name}-{card.title}" / FILE
    if path.is_dir():
        path = path / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(card.text, encoding="utf-8")
    return path


def card_of(
    run: Run,
    *,
    milestone: str | None = None,
    license: str = "other",
    seed_sd: float | None = None,
    margin: float = MARGIN,
) -> MilestoneCard:
    """The card of a milestone.

    Args:
        run: A run whose report stands.
        milestone: Title of the checkpoint, as the report's tables have it; None: the recommended stopping point.
        license: The hub's identifier.
        seed_sd: What another training seed is assumed to move a score, from 0 to 1; None: `seeds.SEED_SD`.
        margin: What stopping early may cost of the Average, from 0 to 1.

    Raises `UserError` for a run that has no report, or no such milestone.
    """
    report = gather(finished_report(run))
    blend = run.facts.blend or run.name
    stop, findings = judge_alone(blend, report, margin=margin)
    rows = {row.title: row for row in report.milestones}
    if milestone is not None and milestone not in rows:
        raise UserError(f"{run.name} has no milestone '{milestone}'. {nearest(milestone, rows)}")
    row = rows[milestone] if milestone else stop.row
    recommended = row == stop.row
    chosen = "It is the recommended stopping point." if recommended else f"The report would stop at {stop.row.title}."
    teacher, _ = split_revision(report.row("teacher").checkpoint)
    try:
        with form(f"the run's file {run.path}"):
            datasets, layout = _datasets(run), _layout(run)
    except ValueError as error:
        raise UserError(str(error)) from error
    text = render(
        Card(
            name=f"{blend} {row.title}",
            report=report,
            row=row,
            findings=findings,
            why=f"{chosen} {stop.text}",
            command=report.facts.get("Command") or shlex.join(run.facts.beside.command or ("nemo-run", run.name)),
            license=license,
            base_model=teacher if _HUB_NAME.fullmatch(teacher) else None,
            datasets=datasets,
            synthetic="world" in run.specs,  # which made the text that it was trained on
            layout=layout,
            seed_sd=SEED_SD if seed_sd is None else seed_sd,
        )
    )
    return MilestoneCard(row.title, text)


def _datasets(run: Run) -> tuple[str, ...]:
    """Names on the hub of the blend's sources; empty where they were read from files of this machine."""
    sources = {source["name"]: source for source in run.specs["prepare"].config.get("sources", ())}
    names = [name for name in run.specs["report"].config["blend"] if name in sources]
    return tuple(dict.fromkeys(sources[name]["dataset"] for name in names if sources[name].get("dataset")))


def _layout(run: Run) -> str:
    """What the training was spread over; empty where that was no GPU."""
    layout = run.facts.beside.layout
    if layout.gpu is None:
        return ""
    context = f", context parallel {layout.context_parallel}" if layout.context_parallel > 1 else ""
    return f"{layout.nodes} x {layout.gpus_per_node} {layout.gpu}, tensor parallel {layout.tensor_parallel}{context}"
