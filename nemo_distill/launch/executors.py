"""Where steps run: the executors `local` and `slurm`, registered with NeMo-Run as factories.

    nemo-run recipes/distill_v1v3.py --executor slurm executor.account=nvr executor.time=04:00:00

What a site fills in is in `executors/NAME.yaml` beside the recipe, or else in `recipes/executors/NAME.yaml` under the
current folder (OmegaConf: `${oc.env:VARIABLE}` resolves); `executor.attr=value` on the command line comes last. Where
there is neither, `NAME.example.yaml` in these places is read, of which a site's own file is a copy.
"""

import contextlib
import dataclasses
import os
import shlex
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nemo_run as run
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nemo_distill.compat.nemo_run import EXECUTORS
from nemo_distill.errors import UserError, nearest
from nemo_distill.launch.slurm.commands import ssh

EXAMPLE = ".example.yaml"
"""Ends the name of a file that ships with the recipes to be copied; a copy ends in `.yaml`, and git ignores it."""
MISSING = "???"
"""OmegaConf's mark of a value that has to be filled in."""

SCALE_OF = {"local": "debug", "slurm": "full"}
"""The scale that an executor stands for when the command does not say `scale=`."""
UNCOMMITTED = ("package", "refuse")


_recipe_folder: ContextVar[Path] = ContextVar("recipe_folder", default=Path("recipes"))


@dataclass(kw_only=True)
class LocalExecutor(run.LocalExecutor):
    """NeMo-Run's local executor, told how many steps may run at once."""

    parallel_steps: int = 2
    """Steps that run at the same time: a milestone is evaluated while the next one trains."""


@dataclass(kw_only=True)
class SlurmExecutor(run.SlurmExecutor):
    """NeMo-Run's Slurm executor, and what a site says of jobs beyond Slurm's own options."""

    modules: list[str] = dataclasses.field(default_factory=list)
    """Environment modules that a job loads."""
    steps: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Other values for some steps, e.g. `{"evaluate": {"time": "01:00:00"}}` for evaluate-2.5B and the like."""
    uncommitted: str = "package"
    """What becomes of uncommitted changes to this package: `package` them with the code, or `refuse` to launch."""
    requeues: int = 3
    """How often a step whose job ended for no fault of its own (time limit, preemption, lost node) is begun again."""
    warn_seconds: int = 120
    """This long before its time limit a job is ended and requeued, so that what waits for it goes on waiting."""
    poll_seconds: float = 3.0
    """How often the queue is asked about."""

    def of_step(self, name: str) -> "SlurmExecutor":
        """A copy with what `steps` says of the step `name`: its whole name, or the part before a dash, counts."""
        executor = self.clone()
        for key in sorted(self.steps, key=len):  # the longest match has the last word
            if name == key or name.startswith(f"{key}-"):
                for field_name, value in self.steps[key].items():
                    setattr(executor, field_name, value)
        return executor


@dataclass(kw_only=True)
class LocalTunnel(run.LocalTunnel):
    """NeMo-Run's, whose commands leave standard input alone: a terminal stops what reads it in the background."""

    def __post_init__(self):
        super().__post_init__()
        self.session.config.run.in_stream = False


@dataclass(kw_only=True)
class SharedTunnel(LocalTunnel):
    """Runs Slurm's commands on a host that is reached by ssh and sees the runs folder, so that nothing is copied."""

    host: str
    user: str | None = None
    port: int | None = None
    identity: str | None = None
    """A private key."""
    config: str | None = None
    """A configuration of ssh's, in place of ~/.ssh/config."""

    @property
    def facts(self) -> dict:
        """How to get there, as plain JSON data."""
        return {name: getattr(self, name) for name in ("host", "user", "port", "identity", "config")}

    def run(self, command: str, hide: bool = True, warn: bool = False, **settings):
        return super().run(shlex.join([*ssh(self.facts), command]), hide=hide, warn=warn, **settings)


def register() -> None:
    """Let NeMo-Run know our executors."""
    EXECUTORS.apply({LocalExecutor: run.LocalExecutor, SlurmExecutor: run.SlurmExecutor})


@run.cli.factory
def local() -> run.Config[run.Executor]:
    """Steps as processes on this machine."""
    settings = site_settings("local", LocalExecutor)
    environment = {
        "PATH": f"{_python_folder()}:{os.environ['PATH']}",
        # One thread per step: two run at once, and sums come out in the same order every time.
        "OMP_NUM_THREADS": "1",
    }
    environment |= settings.pop("env_vars", {})
    return run.Config(LocalExecutor, **settings, env_vars=environment)


@run.cli.factory
def slurm() -> run.Config[run.Executor]:
    """Steps as Slurm jobs, submitted here or through SSH."""
    settings = site_settings("slurm", SlurmExecutor)
    tunnel = {key: value for key, value in (settings.pop("tunnel", None) or {}).items() if value is not None}
    kind = SharedTunnel if "host" in tunnel else LocalTunnel
    return run.Config(
        SlurmExecutor,
        **{key: value for key, value in settings.items() if value is not None},
        tunnel=run.Config(kind, **{"job_dir": "", **tunnel}),
        packager=run.Config(run.Packager),
        poll_estimated_start_time=False,
    )


@contextlib.contextmanager
def settings_beside(recipe: Path) -> Iterator[None]:
    """Within the block, site settings are looked for beside `recipe` first; NeMo-Run's factories take no arguments."""
    folder, here = recipe.resolve().parent, Path.cwd()
    token = _recipe_folder.set(folder.relative_to(here) if folder.is_relative_to(here) else folder)
    try:
        yield
    finally:
        _recipe_folder.reset(token)


def name_of(executor: run.Executor) -> str:
    """The name that `--executor` knows it by."""
    return "slurm" if isinstance(executor, run.SlurmExecutor) else "local"


def missing(executor: run.Executor) -> str | None:
    """The sentence, with file and line, on what the site's settings leave to be filled in; None: nothing."""
    for field in dataclasses.fields(executor):
        if getattr(executor, field.name, None) == MISSING:
            path = site_file(name_of(executor))
            line = _line_of(path, field.name)
            given = f"or give executor.{field.name}=... on the command line."
            if path.name.endswith(EXAMPLE):
                own = path.with_name(path.name.replace(EXAMPLE, ".yaml"))
                return f"{path} is an example: cp {path} {own} and fill in {field.name} there, on line {line}, {given}"
            return f"{path}:{line}: fill in {field.name}, {given}"
    return None


def site_file(name: str) -> Path | None:
    """Where the settings of the executor `name` are, a site's own before an example; None when there is no file."""
    folders = (_recipe_folder.get() / "executors", Path("recipes/executors"))
    paths = [folder / f"{name}{ending}" for ending in (".yaml", EXAMPLE) for folder in folders]
    return next((path for path in paths if path.is_file()), None)


def site_settings(name: str, kind: type) -> dict:
    """The settings of the executor `name`, its keys checked against the fields of `kind`."""
    path = site_file(name)
    if path is None:
        if name == "slurm":
            raise UserError("there is no recipes/executors/slurm.yaml here to say which account and partition to use.")
        return {}
    try:
        settings = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from None
    known = {field.name for field in dataclasses.fields(kind) if field.init}
    for key in settings or {}:
        if key not in known:
            raise UserError(f"{path}:{_line_of(path, key)}: there is no setting '{key}'. {nearest(key, known)}")
    return settings or {}


def _line_of(path: Path, key: str) -> int:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if line.startswith(f"{key}:")), 1)


def _python_folder() -> str:
    """The folder of this Python, which steps are to be run with too."""
    return str(Path(sys.executable).parent)
