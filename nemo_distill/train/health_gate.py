"""`nemo_distill.train.health` as a listener: it ends the run on all ranks.

It comes before the listener that saves, so that what a run is ended for is in no checkpoint: the last one stays, and
the step goes on from there when the cause is mended.
"""

import dataclasses
import logging
import math
from pathlib import Path

from nemo_distill.config.settings import Health
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.run.ranks import Ranks
from nemo_distill.run.step import Spec
from nemo_distill.train import health
from nemo_distill.train.checkpoints import complete_checkpoints
from nemo_distill.train.events import Iteration, Listener, View

logger = logging.getLogger(__name__)


def gate(spec: Spec, ranks: Ranks, *, sources: dict[str, dict] | None, resume_from: Path | None) -> "HealthGate":
    """The listener for a segment that goes on from the checkpoint `resume_from`, one of its own or another's.

    Without `sources` teacher and vocabularies are not looked at: the segment before has, in this process. Raises
    `UserError` when teacher, student, tokenizer and `sources` (of `prepared.read_sources`) do not share a vocabulary.
    """
    begin = spec.config["first"]
    if resume_from is not None and resume_from.parent == spec.folder:
        begin = int(resume_from.name.rpartition("_")[2])

    def look() -> dict:
        teacher, student = (Shape.load(spec.upstream[name] / "shape.json") for name in ("import-teacher", "prune"))
        limits, mismatch = spec.beside.health, None
        if sources is not None:
            mismatch = health.vocabulary_mismatch(
                teacher=teacher.vocab_size,
                student=student.vocab_size,
                tokenizer=max(source["tokenizer"]["vocab_size"] for source in sources.values()),
                sources=sources,
            )
        return {
            "mismatch": mismatch,
            "vocabulary": teacher.vocab_size,
            "limits": dataclasses.asdict(limits),
            "history": health.history_of(spec, until=begin, window=limits.window),
        }

    seen = ranks.agree("health", look)
    if seen["mismatch"]:
        raise UserError(seen["mismatch"])
    limits = Health(**seen["limits"])
    vocabulary = seen["vocabulary"] if sources is not None else None
    return HealthGate(limits, seen["history"], vocabulary=vocabulary, folder=spec.folder)


class HealthGate(Listener):
    """Ends the run with `UserError` when it is not worth going on; without a `vocabulary` the teacher is not asked."""

    def __init__(self, limits: Health, history: list[dict], *, vocabulary: int | None, folder: Path):
        self.limits, self.watch, self.folder = limits, health.Watch(limits, history), folder
        self.vocabulary = vocabulary

    def start(self, view: View) -> None:
        super().start(view)
        if self.vocabulary is None:
            return
        loss, guess = view.teacher_loss(), math.log(self.vocabulary)
        logger.info("the teacher's own next-token loss on the blend: %.3f nats, a guess has %.3f", loss, guess)
        if not loss <= self.limits.teacher_loss * guess:  # nor NaN
            view.stop(
                f"the teacher's own next-token loss on the blend is {loss:.2f} nats, where a guess among all "
                f"{self.vocabulary:,} tokens has {guess:.2f}: it cannot read this data. Look at the "
                "tokenizer the sources were prepared with and at the import of the teacher; the limit is "
                f"health.teacher_loss={self.limits.teacher_loss:g} of a guess."
            )

    def iteration_done(self, iteration: Iteration) -> None:
        reason = self.watch.look(
            {
                "iteration": iteration.number,
                "loss": iteration.loss,
                "learning_rate": iteration.learning_rate,
                "grad_norm": iteration.grad_norm,
            }
        )
        if reason:
            self.view.finish_saving()
            saved = complete_checkpoints(self.folder)
            self.view.stop(f"{reason} {f'{saved[-1].name} is kept.' if saved else 'Nothing of it was saved yet.'}")
