"""Writes the model card of a run's checkpoint: what the run knows, in the form of `evaluator.report.card`.

write_card(find("distill_v1v3-debug", runs=Path("runs")), milestone="80B")
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.report.card import Card, FewerBits, render
from evaluator.results.files import form
from evaluator.results.run import Report, Row
from evaluator.verdicts.judge import judge_alone
from evaluator.verdicts.seeds import SEED_SD
from evaluator.verdicts.stopping import MARGIN
from nemo_distill.data.models import split_revision
from nemo_distill.errors import UserError, nearest
from nemo_distill.outcome.gather import finished_report, gather, quantised_sentences
from nemo_distill.outcome.models import FORMATS
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import Spec

FILE = "README.md"
"""What the hub calls a model's card."""
CARDS = "cards"
"""Folder of cards in the folder of all runs."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class MilestoneCard:
    """A card and whose it is."""

    title: str
    """What tables call the checkpoint."""
    step: str
    """Name of the step that writes the checkpoint, into `hf/`."""
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
    quantised: bool = False,
    license: str = "other",
    seed_sd: float | None = None,
    margin: float = MARGIN,
) -> MilestoneCard:
    """The card of a milestone.

    Args:
        run: A run whose report stands.
        milestone: Title of the checkpoint, as the report's tables have it; None: the recommended stopping point.
        quantised: Whether the card is of the milestone after quantising, and not as it was trained.
        license: The hub's identifier.
        seed_sd: What another training seed is assumed to move a score, from 0 to 1; None: `seeds.SEED_SD`.
        margin: What stopping early may cost of the Average, from 0 to 1.

    Raises `UserError` for a run that has no report, or no such milestone, or has it not quantised.
    """
    report = gather(finished_report(run))
    blend = run.facts.blend or run.name
    stop, findings = judge_alone(blend, report, margin=margin)
    rows = {row.title: row for row in report.milestones}
    if milestone is not None and milestone not in rows:
        for one in report.quantised:
            if milestone == one.row.title:
                raise UserError(
                    f"'{milestone}' is {one.of.title} quantised: say --milestone {one.of.title} --quantised."
                )
        raise UserError(f"{run.name} has no milestone '{milestone}'. {nearest(milestone, rows)}")
    row = rows[milestone] if milestone else stop.row
    quantising = _quantising(run, row.title) if quantised else None
    recommended = row == stop.row
    chosen = "It is the recommended stopping point." if recommended else f"The report would stop at {stop.row.title}."
    teacher, _ = split_revision(report.row("teacher").checkpoint)
    try:
        with form(f"the run's file {run.path}"):
            datasets, layout = _datasets(run), _layout(run)
        fewer_bits = _fewer_bits(quantising, report, row) if quantising else None
        title = f"{row.title}-{quantising.config['format']}" if quantising else row.title
    except ValueError as error:
        raise UserError(str(error)) from error
    text = render(
        Card(
            name=f"{blend} {title}",
            report=report,
            row=row,
            fewer_bits=fewer_bits,
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
    return MilestoneCard(title, quantising.name if quantising else f"export-{row.title}", text)


def _fewer_bits(step: Spec, report: Report, row: Row) -> FewerBits:
    """What a step has made of the milestone `row`."""
    return FewerBits(
        format=FORMATS[step.config["format"]],
        checkpoint=f"{step.name}/{step.fingerprint}/hf",
        sentences=quantised_sentences(step.folder),
        row=next((one.row for one in report.quantised if one.of == row), None),
    )


def _quantising(run: Run, milestone: str) -> Spec:
    """The step that has quantised the milestone. Raises `UserError` where there is none, or it is not done."""
    again = "give the run's command again"
    steps = {name.removeprefix("quantize-"): step for name, step in run.specs.items() if name.startswith("quantize-")}
    if not steps:
        raise UserError(f"{run.name} has nothing quantised: {again} with quantize.format=fp8.")
    if milestone not in steps:
        raise UserError(
            f"{milestone} of {run.name} is not quantised, and {', '.join(steps)} is: say --milestone {[*steps][-1]}"
            f", or {again} with quantize.milestones=all."
        )
    if not steps[milestone].done:
        raise UserError(f"{steps[milestone].name} of {run.name} is not done: {again}.")
    return steps[milestone]


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
