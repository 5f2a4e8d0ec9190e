"""Renders the model card of one checkpoint in the Hub's format: YAML for machines, then Markdown for people.

    card = Card(name="distill_v1v3 80B", report=report, row=report.milestones[-1], ...)
    Path("README.md").write_text(render(card))

Everything in it is the run's: what it was made of, how it was trained, its scores with errors and numbers of questions,
the command that makes it again, and what the report found to hold against it. What no run knows, the licence, is left
to whoever publishes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evaluator.report.held_out import nats_text, of_blend
from evaluator.report.pages import render_page
from evaluator.results.run import BlendPart, Pruning, Report, Row
from evaluator.verdicts.finding import Finding
from evaluator.verdicts.quantised import Cost, judge_quantised
from evaluator.verdicts.seeds import SEED_SD

HARNESS = ("NeMo Evaluator", "https://docs.nvidia.com/nemo/evaluator")
"""What asked the questions, and where it is described."""


@dataclass(frozen=True, kw_only=True)
class FewerBits:
    """A checkpoint after quantising, published in place of itself as it was trained."""

    format: str
    """What sentences call the format, e.g. FP8."""
    checkpoint: str
    """Where its weights are, under the folder of all runs."""
    sentences: tuple[str, ...]
    """What is quantised, what is not, and what becomes of the bytes."""
    row: Row | None
    """Its scores; None: nothing was asked of it."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """All that the card shows."""

    name: str
    """What the model is called."""
    report: Report
    """Report of the run."""
    row: Row
    """The checkpoint, as it was trained."""
    fewer_bits: FewerBits | None = None
    """What the card is of, where it is the checkpoint after quantising."""
    findings: tuple[Finding, ...]
    """What the run's answers hold against it."""
    why: str
    """Why this checkpoint: the recommended stopping point's reason, or that it was chosen by hand."""
    command: str
    """That makes it again."""
    license: str = "other"
    """An identifier of the hub's, or `other`."""
    base_model: str | None = None
    """The teacher's name on the hub; None where it has none."""
    datasets: tuple[str, ...] = ()
    """Names on the hub of what the blend drew on; empty where it drew on files of this machine."""
    synthetic: bool = False
    """Trained on synthetic text, at the debug or middle scale, which shows the pipeline and nothing else."""
    layout: str = ""
    """What the training was spread over."""
    seed_sd: float = SEED_SD
    """What another training seed is assumed to move a score (standard deviation, from 0 to 1)."""

    @property
    def scored(self) -> Row:
        """Whose scores the card gives: the checkpoint's as it was trained where nothing was asked of it quantised."""
        return (self.fewer_bits and self.fewer_bits.row) or self.row

    @property
    def asked(self) -> bool:
        """Whether the model's own answers are what is scored."""
        return self.fewer_bits is None or self.fewer_bits.row is not None

    @property
    def checkpoint(self) -> str:
        """Where the weights are, under the folder of all runs."""
        return self.fewer_bits.checkpoint if self.fewer_bits else self.row.checkpoint

    @property
    def recovered(self) -> float | None:
        """Share of the gap between pruned student and teacher that the checkpoint has closed."""
        return self.report.recovered(self.scored)

    @property
    def stderr_with_seed(self) -> float:
        """Standard error of the average, from 0 to 1, with what another training seed is assumed to change."""
        return math.hypot(self.scored.average.stderr, self.seed_sd)

    @property
    def held_out(self) -> str:
        """Divergence from the teacher on held-out documents, over the blend; empty where it was not measured."""
        point = next((one for one in self.report.held_out if one.iteration == self.row.iteration), None)
        mean = of_blend(point, self.report) if point else None
        return nats_text(mean) if mean else ""

    @property
    def pruning(self) -> Pruning | None:
        """How the teacher became the student."""
        return self.report.pruning

    @property
    def parts(self) -> Sequence[BlendPart]:
        """The blend, with the tokens drawn up to the checkpoint; the report's are those up to the last milestone."""
        share = self.row.seen / self.report.milestones[-1].seen
        return [replace(part, tokens_used=part.tokens_used * share) for part in self.report.blend]

    @property
    def rows(self) -> Sequence[Row]:
        """What the table compares: teacher, pruned student, the checkpoint, and what is quantised of it."""
        return (
            self.report.row("teacher"),
            self.report.row("pruned"),
            self.row,
            *(one.quantised.row for one in self.quantised),
        )

    @property
    def quantised(self) -> Sequence[Cost]:
        """The checkpoint in fewer bits, where the run has it."""
        return [one for one in judge_quantised(self.report) if one.quantised.of == self.row]


def render(card: Card) -> str:
    """The text of README.md."""
    text = render_page("card.md.j2", card=card, report=card.report, row=card.row, seed_sd=card.seed_sd)
    return f"---\n{metadata(card)}\n---\n\n{text}"


def metadata(card: Card) -> str:
    """The YAML, by the hub's own library."""
    from huggingface_hub import EvalResult, ModelCardData

    results = []
    for benchmark in card.report.suite.benchmarks if card.asked else ():
        summary = card.scored.summaries[benchmark.task]
        protocol = {
            "questions": summary.questions,
            "repeats": summary.repeats,
            "standard_error": round(100 * summary.stderr, 2),
            "protocol": benchmark.protocol,
        }
        often = "pass@1" if summary.repeats == 1 else f"pass@1, average of {summary.repeats}"
        results.append(
            EvalResult(
                task_type="text-generation",
                task_name="Text Generation",
                dataset_type=benchmark.task,
                dataset_name=benchmark.title,
                metric_type="accuracy",
                metric_name=often,
                metric_value=round(100 * summary.mean, 2),
                metric_args=protocol,
                source_name=HARNESS[0],
                source_url=HARNESS[1],
            )
        )
    quantised = [card.fewer_bits.format.lower(), "modelopt"] if card.fewer_bits else []
    data = ModelCardData(
        model_name=card.name,
        language="en",
        license=card.license,
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=card.base_model,
        datasets=list(card.datasets) or None,
        tags=["nemotron-h", "mamba2", "pruned", "distilled", *quantised, "nemo-distill"],
        eval_results=results or None,
    )
    return data.to_yaml().strip()
