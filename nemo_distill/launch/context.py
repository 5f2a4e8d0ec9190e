"""What a recipe is given beside its settings, and the two ways to start one.

    @entrypoint
    def distill_v1v3(ctx: Context, settings: Settings = Settings(blend=BLEND)): ...

A parameter that is a `Settings` is set by its fields, `distill.learning_rate=1e-3`; any other by its own name.

`nemo-run recipes/x.py --executor local` calls `Context.execute`, and so does NeMo-Run's own `python recipes/x.py
run.executor=local`, through `main`. NeMo-Run is loaded for the latter, and to launch: a preview does without it.
"""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nemo_distill.config.mistakes import explained, made_by
from nemo_distill.config.overrides import override
from nemo_distill.config.settings import Settings
from nemo_distill.config.values import hints_of
from nemo_distill.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USER_ERROR,
    RunFailed,
    UserError,
    say_error,
)
from nemo_distill.launch import executors
from nemo_distill.launch.executors import Executor
from nemo_distill.run import secrets
from nemo_distill.run.provenance import hides

F = TypeVar("F", bound=Callable[..., None])
MARK = "is_recipe"
"""Attribute of the function that a recipe is started by."""


def entrypoint(recipe: F) -> F:
    """Mark the function that a recipe is started by; its first parameter is the `Context`."""
    setattr(recipe, MARK, True)
    return recipe


def main(recipe: Callable[..., None]) -> None:
    """Start `recipe` as NeMo-Run starts a script: `python recipes/x.py run.executor=local key=value`."""
    import nemo_run

    class FromNeMoRun(nemo_run.cli.RunContext):
        """NeMo-Run's own prints every argument twice, asks before it runs, and exits 0 on errors."""

        def cli_execute(self, fn: Callable, args: list[str], entrypoint_type: str = "experiment") -> None:
            # NeMo-Run's default is the function's name.
            named = self.name != fn.__name__
            Context(name=self.name, named=named, dryrun=self.dryrun, detach=self.detach).execute(fn, args)

    nemo_run.cli.main(nemo_run.cli.entrypoint(recipe, type="experiment", run_ctx_cls=FromNeMoRun))


@dataclass(kw_only=True)
class Context:
    """How a recipe is run."""

    name: str
    """Name of the run, as far as its settings are the recipe's (`nemo_distill.run.naming`)."""
    named: bool = False
    """Whether the user gave that name, which is then the whole name."""
    dryrun: bool = False
    """Whether it is only previewed."""
    detach: bool = False
    """Whether its jobs are left to the cluster once they are queued."""
    preflight: int | None = None
    """Iterations that are tried where what the run needs is only checked; None: it is made."""
    until: str = ""
    """The step after which to stop; empty: none."""
    command: Sequence[str] = dataclasses.field(default_factory=lambda: list(sys.argv))
    """The command as it was typed, word by word."""
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Settings as they were typed, by dotted key."""
    own: Settings | None = None
    """The recipe's own settings; None where it makes them itself."""
    recipe: str = ""
    """Name of the recipe's file without its ending."""
    _executor: Executor | None = None

    @property
    def executor(self) -> Executor:
        """What launches the run."""
        assert self._executor, "a recipe is run by `execute`, which chooses the executor"
        return self._executor

    def execute(self, recipe: Callable[..., None], words: Sequence[str]) -> None:
        """Run the function `recipe` with `words` (`run.executor=NAME`, `run.executor.attr=value`, `key=value`).

        Exits with 2 for what the user can mend, 1 when a step failed, 130 after Ctrl-C.
        """
        own = [word.removeprefix("run.") for word in words if word.startswith("run.")]
        settings = [word for word in words if not word.startswith("run.")]
        with secrets.scope():
            self._execute(recipe, own, settings)

    def _execute(self, recipe: Callable[..., None], own: list[str], settings: list[str]) -> None:
        try:
            with executors.settings_beside(Path(inspect.getfile(recipe))):
                self.choose_executor(own)
                hidden = executors.hidden_values(self.executor)
                secrets.remember(hidden)
                if open_to_see := _typed(own, hidden):
                    say_error(open_to_see)
                self.recipe = Path(inspect.getfile(recipe)).stem
                self.own = settings_of(recipe)
                arguments, defaults = _overridden(recipe, settings), _defaults(recipe)
                as_they_were = [name for name, value in defaults.items() if arguments[name] == value]
                typed = {key: text for key, _, text in (word.partition("=") for word in settings)}
                self.words = {key: text for key, text in typed.items() if key.partition(".")[0] not in as_they_were}
                try:
                    recipe(self, **arguments)
                except Exception as error:
                    file = Path(inspect.getfile(recipe))
                    if isinstance(error, UserError | RunFailed) or not made_by(error, file):
                        raise
                    raise explained(error, file) from None
        except UserError as error:
            say_error(secrets.star_values(str(error)))
            sys.exit(EXIT_USER_ERROR)
        except RunFailed:
            sys.exit(EXIT_FAILED)
        except KeyboardInterrupt:
            say_error("interrupted; the same command goes on from here.")
            sys.exit(EXIT_INTERRUPTED)

    def choose_executor(self, words: Sequence[str]) -> None:
        """Set `executor` from `executor=NAME` and `executor.attr=value`; the default is `local`."""
        name = next((word.partition("=")[2] for word in words if word.startswith("executor=")), "local")
        executor = executors.room(name).make()
        changes = [word for word in words if not word.startswith("executor=")]
        self._executor = executors.overridden(executor, changes)


def _typed(words: Sequence[str], hidden: Mapping[str, str]) -> str:
    """The sentence on secrets that stand in the command itself; empty where none does."""
    said = [word for word in words if hides(*word.partition("=")[::2])]
    names = [
        name
        for name, value in hidden.items()
        if secrets.worth_hiding(name, value) and any(value in word and name in word for word in said)
    ]
    if not names:
        return ""
    return (
        f"the value of {', '.join(names)} is in the command: `ps` shows it to every user of this machine while that "
        f"runs, and the shell's history keeps it. Export {names[0]} and write '${{oc.env:{names[0]}}}' in its place, "
        "in quotes here or in the site's file."
    )


def _overridden(recipe: Callable[..., None], words: Sequence[str]) -> dict[str, Any]:
    """The arguments of `recipe`: its defaults, with every `key=value` of `words` applied."""
    defaults = _defaults(recipe)
    spread = next((name for name, value in defaults.items() if isinstance(value, Settings)), None)
    if spread is None:
        return override(defaults, words)
    settings = defaults.pop(spread)
    fields = {field.name: getattr(settings, field.name) for field in dataclasses.fields(Settings)}
    chosen = override(defaults | fields, words, kinds=hints_of(Settings))
    if chosen["blend"].shares != settings.blend.shares:
        # Other shares than the recipe's cannot claim its sources for them.
        chosen["blend"] = dataclasses.replace(chosen["blend"], provenance="set on the command line")
    return {**{name: chosen[name] for name in defaults}, spread: Settings(**{name: chosen[name] for name in fields})}


def settings_of(recipe: Callable[..., None]) -> Settings | None:
    """The settings that a recipe declares; None where it makes them itself."""
    return next((value for value in _defaults(recipe).values() if isinstance(value, Settings)), None)


def _defaults(recipe: Callable[..., None]) -> dict[str, Any]:
    """The arguments of `recipe` that have one, by name."""
    parameters = inspect.signature(recipe).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
