"""NeMo-Run's run context with our manners: settings checked, one sentence for a mistake, an honest exit code.

    @run.cli.entrypoint(type="experiment", run_ctx_cls=Context)
    def distill_v1v3(ctx: Context, settings: Settings = Settings(blend=BLEND)): ...

A parameter that is a `Settings` is set by its fields, `distill.learning_rate=1e-3`; any other by its own name.

Both ways to start a recipe, `nemo-run recipes/x.py --executor local` and NeMo-Run's `python recipes/x.py
run.executor=local`, come through `cli_execute`. NeMo-Run's own version prints every argument twice, asks before it
runs, and exits 0 on errors.
"""

import dataclasses
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import catalogue
import fiddle as fdl
import nemo_run as run
from nemo_run.config import get_type_namespace

from nemo_distill.config.overrides import override
from nemo_distill.config.settings import Settings
from nemo_distill.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError, nearest, say_error
from nemo_distill.launch import executors


class RunFailed(Exception):
    """A step of the run failed; what there is to say about it has been said."""


class Context(run.cli.RunContext):
    """What a recipe is given: NeMo-Run's `executor`, `dryrun`, `name`, `detach`, `command`, as it was typed, and
    `until`, the step after which to stop."""

    command: list[str] | None = None
    until: str = ""

    def cli_execute(self, fn: Callable, args: list[str], entrypoint_type: str = "experiment") -> None:
        """Run the entrypoint `fn` with `args` (`run.executor=NAME`, `run.executor.attr=value`, `key=value`).

        Exits with 2 for what the user can mend, 1 when a step failed, 130 after Ctrl-C.
        """
        assert entrypoint_type == "experiment", f"a recipe is an experiment, {fn.__name__} is a {entrypoint_type}"
        own = [word.removeprefix("run.") for word in args if word.startswith("run.")]
        settings = [word for word in args if not word.startswith("run.")]
        try:
            self.command = self.command or list(sys.argv)
            with executors.settings_beside(Path(inspect.getfile(fn))):
                self._choose_executor(own)
                fn(ctx=self, **_overridden(fn, settings))
        except UserError as error:
            say_error(str(error))
            sys.exit(EXIT_USER_ERROR)
        except RunFailed:
            sys.exit(EXIT_FAILED)
        except KeyboardInterrupt:
            say_error("interrupted; the same command goes on from here.")
            sys.exit(EXIT_INTERRUPTED)

    def _choose_executor(self, words: list[str]) -> None:
        """Set `self.executor` from `executor=NAME` and `executor.attr=value`; the default is `local`."""
        name = next((word.partition("=")[2] for word in words if word.startswith("executor=")), "local")
        if name not in executor_factories():
            raise UserError(f"there is no executor '{name}'. {nearest(name, executor_factories())}")
        changes = [word for word in words if not word.startswith("executor=")]
        executor = fdl.build(executor_factories()[name]())
        self.executor = override({"executor": executor}, changes)["executor"]
        self.plugins = []


def _overridden(fn: Callable, words: list[str]) -> dict:
    """The arguments of the entrypoint `fn`: its defaults, with every `key=value` of `words` applied."""
    parameters = inspect.signature(fn).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    spread = next((name for name, value in defaults.items() if isinstance(value, Settings)), None)
    if spread is None:
        return override(defaults, words)
    settings = defaults.pop(spread)
    fields = {field.name: getattr(settings, field.name) for field in dataclasses.fields(Settings)}
    chosen = override(defaults | fields, words)
    if chosen["blend"].shares != settings.blend.shares:
        # Other shares than the recipe's cannot claim its sources for them.
        chosen["blend"] = dataclasses.replace(chosen["blend"], provenance="set on the command line")
    return {**{name: chosen[name] for name in defaults}, spread: Settings(**{name: chosen[name] for name in fields})}


def executor_factories() -> dict[str, Callable[[], run.Config[run.Executor]]]:
    """The factories registered for executors, by name.

    Looked up without NeMo-Run's `list_factories`, which imports every package that has factories: NeMo's take 12 s.
    """
    return catalogue.create(get_type_namespace(run.Executor)).get_all()
