"""Whether a training run is worth its GPUs: what is looked at before its first iteration and after each.

    watch = Watch(Health(), history)            # lines of `losses.jsonl` so far
    reason = watch.look(line)                   # None, or the sentence with which the run ends

A loss that is no number, one that after some iterations is above where it began, gradients that are again and again
many times their running median: each costs hours before a person looks. Vocabularies that do not match, or a teacher
that cannot read the data (`health_gate`), are found before anything is trained. All ranks know the numbers of the whole
batch, so they come to the same verdict at the same iteration.
"""

import math
import statistics
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nemo_distill.config.settings import Health
from nemo_distill.data.indexed import token_type
from nemo_distill.run.step import SPEC_FILE, Spec
from nemo_distill.train.losses import read_losses

START = 5
"""Iterations whose median is the loss at the start; as many, the last ones, are compared with it."""
LEARNED = 10
"""Gradient norms that a median takes at least."""
BLOCKS, BLOCK = 256, 4096
"""Places in a source's tokens that are looked at for ids past the vocabulary, evenly spaced, and tokens at each."""


class Watch:
    """Looks at every iteration's line of `losses.jsonl`, in order."""

    def __init__(self, limits: Health, history: Iterable[dict] = ()):
        self.limits = limits
        self.start: list[float] = []
        self.recent: deque[float] = deque(maxlen=START)
        self.norms: deque[float] = deque(maxlen=limits.window)
        self.spikes: deque[int] = deque(maxlen=limits.spikes)
        for line in history:  # what it was stopped for is not held against a run that goes on
            self._keep(line)

    def look(self, line: dict) -> str | None:
        """The sentence that ends the run at this iteration, or None."""
        iteration, loss, norm = line["iteration"], line["loss"], line.get("grad_norm")
        if not math.isfinite(loss):
            return (
                f"the loss is {loss} at iteration {iteration}: look at distill.learning_rate "
                f"({line['learning_rate']:g} there) and at the precision of teacher and student."
            )
        if norm is not None and not math.isfinite(norm):
            return (
                f"the gradient norm is {norm} at iteration {iteration}, where the loss is {loss:.4f}: look at the "
                "precision of the student's backward pass."
            )
        median = statistics.median(self.norms) if len(self.norms) >= LEARNED else None
        self._keep(line)
        return self._spiking(iteration, norm, median) or self._risen(iteration)

    def _keep(self, line: dict) -> None:
        if len(self.start) < START:
            self.start.append(line["loss"])
        self.recent.append(line["loss"])
        if line.get("grad_norm") is not None:
            self.norms.append(line["grad_norm"])

    def _spiking(self, iteration: int, norm: float | None, median: float | None) -> str | None:
        if not median or norm is None or norm <= self.limits.spike * median:
            return None
        self.spikes.append(iteration)
        if len(self.spikes) < self.limits.spikes or iteration - self.spikes[0] >= self.limits.window:
            return None
        times = "once" if len(self.spikes) == 1 else f"{len(self.spikes)} times"
        return (
            f"the gradient norm was above {self.limits.spike:g} times its running median {times} within "
            f"{self.limits.window} iterations, at iteration {iteration} {norm:.4g} where that is {median:.4g}: look at "
            "distill.learning_rate and at the data there, or raise health.spike."
        )

    def _risen(self, iteration: int) -> str | None:
        if iteration < max(self.limits.grace_iterations, 2 * START):
            return None
        start, now = statistics.median(self.start), statistics.median(self.recent)
        if now <= self.limits.loss_above_start * start:
            return None
        return (
            f"the loss is {now:.4f} after {iteration} iterations and was {start:.4f} at the start: look at "
            "distill.learning_rate and whether the student's checkpoint was read, or raise health.loss_above_start."
        )


def history_of(spec: Spec, *, until: int, window: int) -> list[dict]:
    """The course's first lines of `losses.jsonl` and the last before iteration `until`, over all of its segments."""
    lines: list[dict] = []
    folder: Path | None = spec.folder
    while folder is not None:
        lines = _lines(folder / "losses.jsonl", until=until) + lines
        upstream = Spec.load(folder / SPEC_FILE).upstream if (folder / SPEC_FILE).exists() else spec.upstream
        folder = next((where for name, where in upstream.items() if name.startswith("distill")), None)
    return lines if len(lines) <= START + window else lines[:START] + lines[-window:]


def _lines(path: Path, *, until: int) -> list[dict]:
    return [line for line in read_losses(path, until=until) if math.isfinite(line["loss"])]


def vocabulary_mismatch(*, teacher: int, student: int, tokenizer: int, sources: dict[str, dict]) -> str | None:
    """The sentence for vocabularies that do not match, or None.

    Args:
        teacher: Rows of its embedding.
        student: Rows of its embedding.
        tokenizer: Ids that it can give.
        sources: As `prepared.read_sources` lists them; of each, tokens at `BLOCKS` places are looked at.
    """
    if teacher != student:
        return (
            f"the teacher has a vocabulary of {teacher:,} and the student one of {student:,}: they are compared word "
            "by word, so the student has to be pruned from this teacher."
        )
    if tokenizer > teacher:
        return (
            f"the tokenizer gives {tokenizer:,} ids and the teacher has an embedding of {teacher:,}: it is another "
            "model's tokenizer."
        )
    for name, source in sources.items():
        largest = largest_token(Path(source["prefix"]), vocab_size=source["tokenizer"]["vocab_size"])
        if largest >= teacher:
            return (
                f"source {name!r} holds the token {largest:,} and the teacher's vocabulary ends at {teacher - 1:,}: "
                f"{source['prefix']}.bin was made with another tokenizer or is damaged; remove its folder and run "
                "again."
            )
    return None


def largest_token(prefix: Path, *, vocab_size: int) -> int:
    """The largest id at `BLOCKS` places, evenly spaced, of `PREFIX.bin`; all of it where it is small."""
    tokens = np.memmap(f"{prefix}.bin", dtype=token_type(vocab_size), mode="r")
    if len(tokens) <= BLOCKS * BLOCK:
        return int(tokens.max())
    starts = np.linspace(0, len(tokens) - BLOCK, BLOCKS).astype(np.int64)
    return max(int(tokens[start : start + BLOCK].max()) for start in starts)
