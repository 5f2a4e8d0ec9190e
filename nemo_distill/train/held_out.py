"""Measures the student on held-out documents while it learns, and logs it: `held_out.jsonl`.

    HeldOutLog(folder / "held_out.jsonl", course, Measuring(every=100, tokens=65_536), documents, until=400)

A line: iteration, tokens (since the start of the course), seconds, and `sources`: of each its `kl` (the forward KL
divergence from the teacher), `loss` (the cross-entropy of the next token), `teacher_loss` (the teacher's own), each a
mean over tokens in nats, the first two with a standard error, `_stderr`, clustered by document, and the `documents` and
`tokens` that they are of. `documents` are read in `nemo_distill.data.held_out`.
"""

import json
import logging
import math
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from nemo_distill.config.held_out import Measuring
from nemo_distill.data import held_out
from nemo_distill.data.held_out import HeldOutDocument
from nemo_distill.kd.held_out import SUMS
from nemo_distill.run import beats
from nemo_distill.train.course import Course
from nemo_distill.train.events import Iteration, Listener, View
from nemo_distill.train.losses import cut_past

WITH_ERROR = ("kl", "loss")
"""What is logged with a standard error."""
logger = logging.getLogger(__name__)


def read_documents(
    sources: Mapping[str, dict], plan: Measuring, *, seq_length: int
) -> dict[str, list[HeldOutDocument]]:
    """The documents of each of `sources`, as `prepared.read_sources` lists them, that `plan` measures."""
    found = {}
    for name, source in sources.items():
        if "held_out" not in source:
            continue
        documents = held_out.read(
            Path(source["held_out"]["prefix"]),
            vocab_size=source["tokenizer"]["vocab_size"],
            tokens=plan.tokens,
            longest=seq_length,
        )
        if documents:
            found[name] = documents
        else:
            logger.warning("source %s: none of its held-out documents has a token to predict", name)
    return found


class HeldOutLog(Listener):
    """Measures before the first iteration, at the milestone, and as often as the plan says in between.

    It comes before the listener that saves, so that what was measured at a checkpoint is never measured again:
    `recorded` are the iterations whose lines stand already. Lines past the iteration that a resumed process starts from
    are cut.
    """

    def __init__(
        self,
        path: Path,
        course: Course,
        plan: Measuring,
        documents: Mapping[str, Sequence[HeldOutDocument]],
        *,
        until: int,
        recorded: Collection[int] = (),
    ):
        self.path, self.course, self.plan, self.until = path, course, plan, until
        self.sources = {name: list(some) for name, some in documents.items()}
        self.recorded = recorded
        longest = min(course.seq_length, plan.tokens // held_out.DOCUMENTS)
        documents_of_all = [document for some in self.sources.values() for document in some]
        self._batches = held_out.batches(
            documents_of_all, longest=longest, tokens=course.micro_batch_size * course.seq_length
        )

    def start(self, view: View) -> None:
        super().start(view)
        if view.first_rank:
            cut_past(self.path, view.iteration)
        if view.iteration not in self.recorded and self._is_due(view.iteration):
            self._measure(view.iteration)

    def iteration_done(self, iteration: Iteration) -> None:
        if self._is_due(iteration.number):
            self._measure(iteration.number)

    def _is_due(self, number: int) -> bool:
        return number in (0, self.until) or bool(self.plan.every and number % self.plan.every == 0)

    def _measure(self, number: int) -> None:
        started = time.perf_counter()
        sums = np.zeros((sum(map(len, self.sources.values())), len(SUMS)))
        counts = np.zeros(len(sums))
        with beats.here().within(beats.Phase.MEASURING):
            measured = self.view.held_out([batch for _, batch in self._batches])
        for (places, batch), made in zip(self._batches, measured):
            sums[places], counts[places] = made, batch.mask.sum(axis=1)
        line = {
            "iteration": number,
            "tokens": number * self.course.tokens_per_iteration,
            "seconds": round(time.perf_counter() - started, 4),
            "sources": self._by_source(sums, counts),
        }
        if self.view.first_rank:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def _by_source(self, sums: np.ndarray, counts: np.ndarray) -> dict[str, dict]:
        found, start = {}, 0
        for name, documents in self.sources.items():
            part = slice(start, start + len(documents))
            found[name] = estimates(sums[part], counts[part])
            start = part.stop
        return found


def estimates(sums: np.ndarray, counts: np.ndarray) -> dict:
    """Means over all tokens, and standard errors clustered by document, of `SUMS` over documents of so many tokens.

    >>> estimates(np.array([[2.0, 4.0, 1.0], [4.0, 4.0, 1.0]]), np.array([2.0, 2.0]))["kl"]
    1.5
    """
    tokens, documents = counts.sum(), len(counts)
    found: dict = {}
    for name, column in zip(SUMS, sums.T):
        mean = column.sum() / tokens
        found[name] = float(mean)
        if name in WITH_ERROR:
            spread = ((column - mean * counts) ** 2).sum() * documents / (documents - 1) if documents > 1 else math.nan
            error = math.sqrt(spread) / tokens
            found[f"{name}_stderr"] = None if math.isnan(error) else error
    return found | {"documents": documents, "tokens": int(tokens)}
