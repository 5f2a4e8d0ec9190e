"""Where steps run: each executor is a room of this folder, `local` and `slurm` so far, found by its name.

    nemo-run recipes/distill_v1v3.py --executor slurm executor.account=nvr executor.time=04:00:00

A room is a package whose `__init__` imports nothing heavy and has a `Room`'s functions: one that makes an `Executor`
from the site's settings, and one that follows a run it launched. Nothing outside a room asks which executor it has.

What a site fills in is in `executors/NAME.yaml` beside the recipe, or else in `recipes/executors/NAME.yaml` under the
current folder (OmegaConf: `${oc.env:VARIABLE}` resolves); `executor.attr=value` on the command line comes last. Where
there is neither, `NAME.example.yaml` in these places is read, of which a site's own file is a copy.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from nemo_distill import launch
from nemo_distill.config.overrides import override
from nemo_distill.config.rules import HIDDEN
from nemo_distill.config.values import Misfit, fields_of
from nemo_distill.config.written import Said, Unreadable, read, resolve
from nemo_distill.errors import UserError, nearest
from nemo_distill.run.job import Job
from nemo_distill.run.manifest import Run
from nemo_distill.run.secrets import assigned

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = ".example.yaml"
"""Ends the name of a file that ships with the recipes to be copied; a copy ends in `.yaml`, and git ignores it."""
MISSING = "???"
"""OmegaConf's mark of a value that has to be filled in."""
_OF_ENVIRONMENT = "${oc.env:"

_recipe_folder: ContextVar[Path] = ContextVar("recipe_folder", default=Path("recipes"))


@runtime_checkable
class Executor(Protocol):
    """What launches a run; its other fields, those of a dataclass, are what `executor.attr=value` sets."""

    name: ClassVar[str]
    """Name that `--executor` and a run's file know it by."""
    scale: ClassVar[str]
    """Name of the scale of a run whose command does not say `scale=`."""

    def evaluations(self) -> Mapping[str, Any]:
        """What the site says of the cluster that suites of nemo-evaluator-launcher run on."""

    def check(self, run: Run, *, dryrun: bool, detach: bool) -> None:
        """Raise `UserError` for what it cannot do, before anything is written."""

    def describe(self, run: Run) -> list[str]:
        """Lines of the preview on where and how the steps will run."""

    def launch(self, run: Run, console: Console, *, detach: bool) -> None:
        """Run the steps that are not done; return when they are or, where `detach` asks for it, when they will be.

        Raises `RunFailed` when a step failed; the failure has been printed.
        """


@runtime_checkable
class Dealing(Protocol):
    """An executor that has a machine's GPUs to give to steps."""

    parallel_steps: int
    """How many steps without a GPU run at the same time."""

    @property
    def gpu_names(self) -> tuple[str, ...]:
        """Names of the GPUs."""


class Following(Protocol):
    """A run's jobs, as any process that sees the runs folder can ask for them."""

    silent: str | None
    """Why the queue did not answer when it was last asked; None: it did."""

    def look(self) -> Mapping[str, Job]:
        """The jobs by step."""

    def cancel(self) -> list[str]:
        """Cancel those that live; returns sentences on what became of them. Raises `UserError` if nobody answers."""


class Room(Protocol):
    """An executor's module."""

    def make(self) -> Executor:
        """The executor as the site's settings have it."""

    def follow(self, run: Run) -> Following | None:
        """The jobs of a run that it launched; None where its steps end with the command that started them."""


def names() -> list[str]:
    """The executors that there are."""
    return [module.name for module in pkgutil.iter_modules(launch.__path__) if module.ispkg]


def room(name: str) -> Room:
    """The room of the executor called `name`; raises `UserError` with the nearest name there is."""
    if name not in names():
        raise UserError(f"there is no executor '{name}'. {nearest(name, names())}")
    return importlib.import_module(f"{launch.__name__}.{name}")


def follow(run: Run) -> Following | None:
    """The jobs of `run`, whichever executor launched it; None: it has none."""
    return room(run.facts.executor).follow(run) if run.facts.executor in names() else None


@contextlib.contextmanager
def settings_beside(recipe: Path) -> Iterator[None]:
    """Within the block, site settings are looked for beside `recipe` first."""
    folder, here = recipe.resolve().parent, Path.cwd()
    token = _recipe_folder.set(folder.relative_to(here) if folder.is_relative_to(here) else folder)
    try:
        yield
    finally:
        _recipe_folder.reset(token)


def missing(executor: Executor) -> str | None:
    """The sentence, with file and line, on what the site's settings leave to be filled in; None: nothing."""
    assert dataclasses.is_dataclass(executor)
    for field in dataclasses.fields(executor):
        if getattr(executor, field.name, None) == MISSING:
            path = site_file(executor.name)
            given = f"or give executor.{field.name}=... on the command line."
            if path is None:
                return f"fill in {field.name}, {given}"
            line = _said(path).line((field.name,))
            if path.name.endswith(EXAMPLE):
                own = path.with_name(path.name.replace(EXAMPLE, ".yaml"))
                return f"{path} is an example: cp {path} {own} and fill in {field.name} there, on line {line}, {given}"
            return f"{path}:{line}: fill in {field.name}, {given}"
    return None


def hidden_values(said: object) -> dict[str, str]:
    """The values below `config.rules.HIDDEN` in an executor or in settings of one, by the names of their variables."""
    found: dict[str, str] = {}
    if dataclasses.is_dataclass(said) and not isinstance(said, type):
        said = {field.name: getattr(said, field.name) for field in dataclasses.fields(said)}
    if isinstance(said, Mapping):
        for key, value in said.items():
            if key in HIDDEN:
                values = assigned(value) if isinstance(value, str) else value or {}
                found |= {str(name): str(one) for name, one in values.items()}
            else:
                found |= hidden_values(value)
    return found


def overridden(executor: Executor, words: Sequence[str]) -> Executor:
    """The executor with `attr=value` of a command applied, and what `${oc.env:NAME}` in them stands for.

    Raises `UserError`.
    """
    changed = override({"executor": executor}, map(_ready, words))["executor"]
    typed = " ".join(word for word in words if _OF_ENVIRONMENT in word)
    changed = _with_resolved(changed, typed) if typed else changed
    assert isinstance(changed, Executor)
    return changed


def _ready(word: str) -> str:
    """A word of a command, resolved; a list or a dict is read before, as what goes into it may hold quotes."""
    key, equals, text = word.partition("=")
    return word if text[:1] in ("[", "{", "(") else f"{key}{equals}{_resolved(text, key)}"


def _with_resolved(value: Any, typed: str) -> Any:
    """`value` with its texts resolved that were typed so; those of a file are what that file stands for already."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        new = {name: _with_resolved(one, typed) for name, one in fields.items()}
        return value if new == fields else dataclasses.replace(value, **new)
    if isinstance(value, dict):
        return {key: _with_resolved(one, typed) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with_resolved(one, typed) for one in value)
    return _resolved(value, "executor") if isinstance(value, str) and value in typed else value


def _resolved(text: str, key: str) -> str:
    """What `text`, the value of `key`, stands for."""
    if _OF_ENVIRONMENT not in text:
        return text
    said = Said({"value": text})
    try:
        resolve(said)
    except Unreadable as error:
        raise UserError(f"{key}: {error}") from None
    return str(said.data["value"])


def site_file(name: str) -> Path | None:
    """Where the settings of the executor `name` are, a site's own before an example; None when there is no file."""
    folders = (_recipe_folder.get() / "executors", Path("recipes/executors"))
    paths = [folder / f"{name}{ending}" for ending in (".yaml", EXAMPLE) for folder in folders]
    return next((path for path in paths if path.is_file()), None)


def site_settings(name: str, kind: type) -> dict[str, Any]:
    """The settings of the executor `name`, as fields of the dataclass `kind`; empty without a file.

    Raises `UserError`, with file and line, for what cannot be.
    """
    path = site_file(name)
    if path is None:
        return {}
    try:
        said = _said(path)
        return fields_of((), said.data, kind)
    except Unreadable as error:
        raise UserError(f"{path}:{error.at}: {error}") from None
    except Misfit as error:
        raise UserError(f"{path}:{said.line(error.path)}: {error}") from None


def _said(path: Path) -> Said:
    try:
        said = read(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    said.data = {} if said.data is None else said.data
    if not isinstance(said.data, dict):
        raise Unreadable("settings look like `key: value`.", line=1, column=1)
    resolve(said)
    return said
