"""Training frameworks, one package each behind one interface: what the project needs from a framework, and no more.

    backend = backends.prepared()                        # NeMo's; in a step's main, before anything else is imported
    with backend.session(runtime) as session:
        module = backend.build(session, shape, tokenizer=folder, runtime=runtime)
        backend.load(module, state)
        backend.save(session, module, Path("checkpoint"))
    backend.train(Training(student=..., teacher=..., course=..., until=..., listeners=[...]))

A backend is a module `nemo_distill.backends.NAME` with the functions of `Backend`. Nothing outside of `backends` and
`compat` imports `nemo` or `lightning`. Shapes, courses, blends, the loss and what listens to a training are the
project's own; weights go from one backend to another as a Hugging Face folder, never as an optimizer's state. A
checkpoint says in its file `backend` whose it is; those made before there was one are NeMo's.
"""

import importlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from torch import Tensor, nn

from nemo_distill.errors import UserError
from nemo_distill.kd.options import Options
from nemo_distill.nemotron_h.model import Runtime
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.run.garbage import uncollected
from nemo_distill.run.ranks import Ranks
from nemo_distill.train.course import Course
from nemo_distill.train.events import Listener

logger = logging.getLogger(__name__)
NEMO = "nemo"
BACKEND_FILE = "backend"
"""File in a checkpoint that holds the name of the backend whose it is."""


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """A model to be trained from random weights."""

    shape: Shape
    """Sizes of the model."""
    runtime: Runtime
    """How it runs."""
    tokenizer: Path
    """Folder of the tokenizer's Hugging Face files."""
    seed: int
    """Seed of the weights."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a course that a training goes on with, its models and optimizer as they are."""

    until: int
    """Iteration of the course that ends this part."""
    folder: Path
    """Folder for what the framework writes by itself."""
    ranks: Ranks
    """This process among all that train, for what is agreed about this part."""
    listeners: Sequence[Listener]
    """What is told of every iteration, in this order."""


class Onward(Protocol):
    """What a training asks when a part of its course is over; on every rank."""

    def due(self) -> bool:
        """Whether another part is to be trained after this one, in this process; the same on every rank."""

    def begin(self) -> Part:
        """That part, once the listeners have been told of the end of the one before. All ranks together."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """A part of a course, to be trained in this process and in the other ranks'."""

    student: Path | Fresh
    """Checkpoint that holds the model and its first weights, or a fresh model."""
    teacher: Path | Fresh | None = None
    """Checkpoint that the student is distilled from, or, for a fresh student, another fresh model, whose weights are
    random too; None trains with plain cross-entropy."""
    course: Course
    """The whole training run."""
    until: int
    """Iteration of the course that ends this part."""
    blend: list[str]
    """Megatron's weighted blend: weight, prefix, weight, prefix, ..."""
    index_folder: Path
    """Folder of Megatron's indices over the blend."""
    folder: Path
    """Folder for what the framework writes by itself."""
    resume_from: Path | None = None
    """Checkpoint of the same course to go on from, optimizer included."""
    kd: Options = field(default_factory=Options)
    """How student and teacher compute."""
    intermediate_layers: Sequence[Sequence[str]] = ()
    """Pairs of [student, teacher] module names whose outputs are compared too."""
    recompute: str = "none"
    """Activation recomputation of the student: a name in `settings.RECOMPUTE`."""
    overlap_saves: bool = False
    """Whether checkpoints are written while the training goes on."""
    ranks: Ranks = field(default_factory=Ranks)
    """This process among all that train."""
    listeners: Sequence[Listener] = ()
    """What is told of every iteration, in this order."""
    onward: Onward | None = None
    """What comes after this part; None: nothing does."""


@dataclass(frozen=True, kw_only=True)
class Supports:
    """What a backend can do."""

    tensor_parallel: bool
    """Whether several ranks can share each layer."""
    pipeline_parallel: bool
    """Whether several ranks can share the stack of layers."""
    context_parallel: bool
    """Whether several ranks can share a sequence."""
    fp8: frozenset[str]
    """Models whose matrix products can be in FP8: names in `settings.FP8`."""
    recompute: frozenset[str]
    """Activation recomputation: names in `settings.RECOMPUTE`."""

    def check(self, training: Training, name: str) -> None:
        """Raise `UserError` for what the backend `name` cannot do of `training`."""
        if training.ranks.tensor_parallel > 1 and not self.tensor_parallel:
            raise UserError(f"layout.tensor_parallel={training.ranks.tensor_parallel}: backend {name} takes 1.")
        if training.ranks.context_parallel > 1 and not self.context_parallel:
            raise UserError(f"layout.context_parallel={training.ranks.context_parallel}: backend {name} takes 1.")
        for setting, value, known in (
            ("distill.fp8", training.kd.fp8, self.fp8),
            ("distill.recompute", training.recompute, self.recompute),
        ):
            if value not in known:
                raise UserError(f"{setting}={value}: backend {name} takes {', '.join(sorted(known))}.")


class Backend(Protocol):
    """The functions of a backend's module."""

    def prepare(self) -> tuple[str, ...]:
        """Make the framework importable and runnable here; returns the names of the changes made to third-party code.

        Once per process, before anything of the framework is imported; calling it again changes nothing.
        """

    def versions(self) -> dict[str, str]:
        """Versions of the packages that decide what is computed."""

    def supports(self) -> Supports:
        """What the backend can do."""

    def session(self, runtime: Runtime) -> AbstractContextManager[Any]:
        """Process groups for one process that needs models but no training; torn down on leaving."""

    def build(self, session: Any, shape: Shape, *, tokenizer: Path, runtime: Runtime) -> Any:
        """Megatron's module of `shape`, bare, with fresh weights; `tokenizer` goes into its checkpoints."""

    def state_of(self, module: nn.Module) -> dict[str, Tensor]:
        """A copy of the module's parameters in our names, which are Transformer Engine's."""

    def load(self, module: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Copy tensors, in our names, into the module; every parameter must be given."""

    def save(self, session: Any, module: nn.Module, folder: Path) -> None:
        """Save the module, the last one that the session built, as a checkpoint."""

    def read(self, checkpoint: Path) -> dict[str, Tensor]:
        """The model's tensors in a checkpoint, in our names; needs neither the framework nor a GPU."""

    def optimizer_size(self, checkpoint: Path) -> int:
        """Bytes of the optimizer's state in a checkpoint; 0 where it was left out."""

    def without_optimizer(self, checkpoint: Path, folder: Path) -> None:
        """Write the checkpoint without the optimizer's state into `folder`: `read` still reads it, `train` does not."""

    def tokenizer_of(self, checkpoint: Path) -> Path:
        """Folder of the tokenizer that is kept in a checkpoint."""

    def build_indices(self, course: Course, blend: list[str], *, tokenizer: Path, folder: Path) -> None:
        """Build Megatron's indices over the blend for the whole course, in one process without a trainer."""

    def train(self, training: Training) -> None:
        """Train to `until`, and on while `onward` says so, or raise what ended the training."""


def get(name: str = NEMO) -> Backend:
    """The backend of that name; importing it imports no framework."""
    return cast(Backend, importlib.import_module(f"{__name__}.{name}"))


def prepared(name: str = NEMO) -> Backend:
    """The backend of that name, prepared, with all that it imports; the log says what runs and what was changed for it.

    A step may be forked from a process that has called this.
    """
    backend = get(name)
    with uncollected():
        changes = backend.prepare()
        importlib.import_module(f"{__name__}.{name}.preload")
    versions = ", ".join(f"{package} {version}" for package, version in backend.versions().items())
    logger.info("backend %s: %s; changes to third-party code: %s", name, versions, ", ".join(changes) or "none")
    return backend


def of(checkpoint: Path) -> Backend:
    """The backend whose the checkpoint is."""
    file = checkpoint / BACKEND_FILE
    return get(file.read_text(encoding="utf-8").strip() if file.is_file() else NEMO)


def restore(backend: Backend, session: Any, checkpoint: Path, shape: Shape, *, runtime: Runtime) -> Any:
    """Megatron's module of the model in a checkpoint of any backend, built by `backend`, weights loaded."""
    source = of(checkpoint)
    module = backend.build(session, shape, tokenizer=source.tokenizer_of(checkpoint), runtime=runtime)
    backend.load(module, source.read(checkpoint))
    return module
