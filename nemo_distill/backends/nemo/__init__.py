"""NeMo 2.7 as the training framework (`nemo_distill.backends.Backend`). Importing this imports no NeMo."""

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from nemo_distill import backends
from nemo_distill.nemotron_h import model as megatron
from nemo_distill.nemotron_h.model import Runtime
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.train.course import Course

if TYPE_CHECKING:
    from nemo_distill.backends.nemo.model import Session

PACKAGES = ("torch", "nemo_toolkit", "megatron-core", "nvidia-modelopt", "transformers", "tokenizers")
state_of = megatron.state_of
load = megatron.load


def prepare() -> tuple[str, ...]:
    from nemo_distill.compat import registry

    return registry.prepare()


def versions() -> dict[str, str]:
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # put on the path by hand
        return "of unknown version"


def supports() -> backends.Supports:
    return backends.Supports(
        tensor_parallel=True,
        pipeline_parallel=False,
        context_parallel=True,
        fp8=frozenset({"none", "teacher", "both"}),
        recompute=frozenset({"none", "mlp"}),
    )


@contextmanager
def session(runtime: Runtime) -> Iterator["Session"]:
    from nemo_distill.backends.nemo import model

    with model.session(runtime) as made:
        yield made


def build(session: "Session", shape: Shape, *, tokenizer: Path, runtime: Runtime) -> Any:
    from nemo_distill.backends.nemo import model

    return model.build(session, shape, tokenizer=tokenizer, runtime=runtime)


def save(session: "Session", module: nn.Module, folder: Path) -> None:
    from nemo_distill.backends.nemo import model

    model.save(session, module, folder)


def read(checkpoint: Path) -> dict[str, Tensor]:
    from nemo_distill.backends.nemo.checkpoint import read_weights

    return read_weights(checkpoint)


def optimizer_size(checkpoint: Path) -> int:
    from nemo_distill.backends.nemo import checkpoint as files

    return files.optimizer_size(checkpoint)


def without_optimizer(checkpoint: Path, folder: Path) -> None:
    from nemo_distill.backends.nemo import checkpoint as files

    files.without_optimizer(checkpoint, folder)


def tokenizer_of(checkpoint: Path) -> Path:
    from nemo_distill.backends.nemo.checkpoint import context_tokenizer

    return context_tokenizer(checkpoint)


def build_indices(course: Course, blend: list[str], *, tokenizer: Path, folder: Path) -> None:
    from nemo_distill.backends.nemo import indices

    indices.build_indices(course, blend, tokenizer=tokenizer, folder=folder)


def train(training: backends.Training) -> None:
    from nemo_distill.backends.nemo import trainer

    supports().check(training, backends.NEMO)
    trainer.train(training)
