"""A few iterations of the distillation at the asked shape: random weights, random tokens, everything else as in a run.

    made = train(trial, folder=folder, ranks=ranks, layout=layout, tuned=folder / ".tuned")    # on every rank
    iterations(trial, made)                                                                   # on rank 0

Models, layout, batch, sequence length, loss, kernels, precision and optimizer are the run's, through its own backend,
so that what does not fit into memory, or is slow, shows. What they do not go through: the weights of checkpoints, the
sources, and the writing of a training checkpoint in the framework's form.
"""

import dataclasses
import math
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nemo_distill import backends
from nemo_distill.compat.device import on_gpu
from nemo_distill.config.plain import PACKAGE
from nemo_distill.config.resolved import Parallelism
from nemo_distill.data.indexed import IndexedWriter
from nemo_distill.kd.options import Options
from nemo_distill.nemotron_h.model import Runtime
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.preflight.results import Check
from nemo_distill.run.ranks import Ranks
from nemo_distill.train.autotuning import Autotuning
from nemo_distill.train.course import Course
from nemo_distill.train.events import Iteration, Listener

SCRATCH = "iterations"
"""Folder of what is written for them and removed after."""
TOKENIZER = PACKAGE / "debug" / "teacher"
"""Any tokenizer does: what it would make of text is not trained on."""
SEQUENCES = 64
"""Sequences of random tokens, which come again where the iterations take more."""
TIMED = 3
"""Iterations at the end, by which the time is told: in the first, kernels are tuned and memory is taken."""
SLOWER = 2.0
"""Times the preview's own estimate, from which on an iteration is too slow: a GPU that throttles, a wrong link."""
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is tried."""

    iterations: int
    """Number of iterations."""
    course: Course
    """The run's course."""
    kd: Mapping[str, Any]
    """Fields of `kd.options.Options`."""
    intermediate_layers: Sequence[Sequence[str]]
    """Pairs of layers whose outputs are compared too."""
    teacher: Shape
    """Sizes of the teacher."""
    student: Shape
    """Sizes of the student."""
    layer_spec: str
    """What layers are made of (`nemotron_h.model.Runtime`)."""
    expected_seconds: float | None = None
    """Time of an iteration by the preview; None: it says none."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Trial":
        """What plain JSON data says."""
        shapes = {name: Shape(**record[name]) for name in ("teacher", "student")}
        return cls(**{**record, **shapes, "course": Course(**record["course"])})

    def record(self) -> dict[str, Any]:
        """As plain JSON data."""
        return dataclasses.asdict(self) | {"course": self.course.config()}

    @property
    def short(self) -> Course:
        """The run's course, but so many iterations long."""
        length = self.iterations
        return dataclasses.replace(self.course, max_iterations=length, warmup_iterations=min(1, length - 1))


class _Kept(Listener):
    """Keeps every iteration."""

    def __init__(self) -> None:
        self.made: list[Iteration] = []

    def iteration_done(self, iteration: Iteration) -> None:
        self.made.append(iteration)


def train(trial: Trial, *, folder: Path, ranks: Ranks, layout: Parallelism, tuned: Path) -> list[dict[str, Any]]:
    """Make the iterations on this rank and the others; returns loss, seconds and peak memory of each.

    Args:
        trial: What is tried.
        folder: Where scratch files go, seen by all ranks.
        ranks: This process among all.
        layout: How they share the work.
        tuned: Folder that keeps results of autotuning.
    """
    scratch, course, kept = folder / SCRATCH, trial.short, _Kept()
    backend = backends.prepared()
    ranks.agree("random tokens", lambda: write_tokens(scratch / "tokens", trial))
    runtime = Runtime(precision=course.precision, layer_spec=trial.layer_spec, seq_length=course.seq_length)
    student, teacher = (
        backends.Fresh(shape=shape, runtime=runtime, tokenizer=TOKENIZER, seed=course.seed)
        for shape in (trial.student, trial.teacher)
    )
    backend.train(
        backends.Training(
            student=student,
            teacher=teacher,
            course=course,
            until=trial.iterations,
            blend=["100.0", str(scratch / "tokens")],
            index_folder=scratch / "index",
            folder=scratch,
            kd=Options(**trial.kd),
            intermediate_layers=trial.intermediate_layers,
            recompute=layout.recompute,
            ranks=ranks,
            listeners=[*([Autotuning(tuned)] if on_gpu() else []), kept],
        )
    )
    if ranks.first:
        shutil.rmtree(scratch, ignore_errors=True)
    return [{"loss": one.loss, "seconds": one.seconds, "memory": one.memory} for one in kept.made]


def write_tokens(prefix: Path, trial: Trial) -> None:
    """Write random tokens in Megatron's form."""
    shutil.rmtree(prefix.parent, ignore_errors=True)  # of an attempt that was cut
    prefix.parent.mkdir(parents=True)
    length = trial.course.seq_length + 1
    random, vocabulary = np.random.default_rng(trial.course.seed), trial.teacher.vocab_size
    with IndexedWriter(prefix, vocab_size=vocabulary) as writer:
        writer.add(random.integers(0, vocabulary, SEQUENCES * length), np.full(SEQUENCES, length))
        writer.finish()


def iterations(trial: Trial, made: Sequence[Sequence[Mapping[str, Any]]]) -> Check:
    """Whether the iterations went as they should; `made` is what each rank has of them."""
    first = made[0]
    if len(first) < trial.iterations:
        return Check.failed("iterations", f"The training ended after {len(first)} of {trial.iterations} iterations.")
    lost = [number for number, one in enumerate(first, 1) if not math.isfinite(one["loss"])]
    seconds = statistics.median(one["seconds"] for one in first[-TIMED:])
    memory = max(one["memory"] or 0 for rank in made for one in rank)
    figure = f"{seconds:.3g} s each"
    if lost:
        return Check.failed("iterations", f"The loss of iteration {lost[0]} is {first[lost[0] - 1]['loss']}.", figure)
    rate = trial.course.tokens_per_iteration / seconds
    expected = trial.expected_seconds
    if expected and seconds > SLOWER * expected:
        return Check.failed(
            "iterations", f"The preview reckons with {expected:.3g} s, and its GPU-hours with that: an iteration that "
            f"takes {SLOWER:g} times as long is worth a look before it is paid for.", figure
        )  # fmt: skip
    beside = f"; the preview says {expected:.3g} s" if expected else ""
    return Check.ok(
        "iterations",
        f"{trial.iterations} of {trial.course.global_batch_size} sequences of {trial.course.seq_length:,} tokens, "
        f"{rate:,.0f} tokens/s, peak memory {memory / GIB:.1f} GiB a rank{beside}.",
        figure,
    )
