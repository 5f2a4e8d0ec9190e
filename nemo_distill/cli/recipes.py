"""The commands that recipes are: what they take, what they show, and how one is started."""

import contextlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from nemo_distill.config.files import load, recipe_files
from nemo_distill.config.mistakes import entry_point
from nemo_distill.errors import UserError, nearest
from nemo_distill.run.terminal import Terminal

ExecutorOption = Annotated[str, typer.Option("--executor", "-e", help="Where steps run: local, slurm.")]


def new(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where it goes; there is nothing yet.")],
) -> None:
    """Write a study to start from: recipes, data, questions and a site file, which run as they are."""
    from nemo_distill.starter import write_study

    write_study(folder)
    print(
        f"{folder} holds two recipes, their data, questions and a README.md that says where yours go. To go on:",
        f"    cd {shlex.quote(str(folder))}",
        "    nemo-run recipes/balanced.py --dryrun",
        sep="\n",
    )


def command_of(path: Path, command: list[str]) -> Callable:
    def run_recipe(
        settings: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="key.sub=value",
                help="Settings, and executor.attr=value for the executor's; with --dryrun, more recipes too.",
            ),
        ] = None,
        executor: ExecutorOption = "local",
        dryrun: Annotated[bool, typer.Option("--dryrun", help="Show what would be done; write nothing.")] = False,
        detach: Annotated[bool, typer.Option("--detach", help="Queue the jobs and leave them to the cluster.")] = False,
        name: Annotated[
            str, typer.Option("--name", "-n", help="Name of the run; else its recipe's, with what is set otherwise.")
        ] = "",
        until: Annotated[str, typer.Option("--until", help="Stop after this step, and run only what it needs.")] = "",
    ) -> None:
        from nemo_distill.launch.context import Context

        more, words = _told(settings or [], executor)
        paths = [path, *more]
        if len(paths) > 1:
            _check_recipes(paths, dryrun=dryrun, name=name)
        worst = 0
        for recipe in paths:
            entrypoint = load_recipe(recipe)
            context = Context(
                name=name or recipe.stem, named=bool(name), dryrun=dryrun, detach=detach, until=until, command=command
            )
            try:
                context.execute(entrypoint, words)
            except SystemExit as refused:
                worst = max(worst, int(refused.code or 0))
        if worst:
            sys.exit(worst)

    return run_recipe


def _told(typed: list[str], executor: str) -> tuple[list[Path], list[str]]:
    """The recipes among the words that were typed after the first, and all others as `Context.execute` takes them."""
    recipes, words = [], []
    for word in typed:
        if word.startswith("executor="):
            executor = word.removeprefix("executor=")
        elif word.endswith(".py") and "=" not in word:
            recipes.append(Path(word))
        else:
            words.append(f"run.{word}" if word.startswith("executor.") else word)
    return recipes, [f"run.executor={executor}", *words]


def preflight(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe of the run to come.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="key.sub=value", help="Its settings, as for the run.")
    ] = None,
    executor: ExecutorOption = "local",
    iterations: Annotated[
        int, typer.Option("--iterations", min=0, max=100, help="Iterations that are tried; 0 for none.")
    ] = 5,
    dryrun: Annotated[bool, typer.Option("--dryrun", help="Show what would be checked; write nothing.")] = False,
    name: Annotated[str, typer.Option("--name", "-n", help="Name of the run to come.")] = "",
) -> None:
    """Check what a run will need, in one short job at its layout: GO, or NO-GO and why."""
    from nemo_distill.launch.context import Context

    more, words = _told(settings or [], executor)
    if more:
        raise UserError(f"preflight takes one recipe at a time: {recipe} or {more[0]}.")
    if recipe.suffix != ".py" or not recipe.is_file():
        raise UserError(f"there is no recipe '{recipe}'. {nearest(str(recipe), map(str, recipe_files()))}")
    context = Context(name=name or recipe.stem, named=bool(name), dryrun=dryrun, preflight=iterations)
    context.execute(load_recipe(recipe), words)


def _check_recipes(paths: list[Path], *, dryrun: bool, name: str) -> None:
    """Raise `UserError` for what several recipes cannot be done with in one command."""
    for path in paths:
        if not path.is_file():
            raise UserError(f"there is no recipe '{path}'. {nearest(str(path), map(str, recipe_files()))}")
    if not dryrun:
        raise UserError(f"{len(paths)} recipes are previewed together, with --dryrun, but run one at a time.")
    if name:
        raise UserError(f"--name {name} cannot be the name of {len(paths)} runs.")


def load_recipe(path: Path) -> Callable[..., None]:
    """Import the recipe and return the function that it is started by."""
    from nemo_distill.launch.context import MARK

    return entry_point(load(path), path, MARK)


def with_settings(recipe: Path, arguments: list[str]) -> type[TyperCommand]:
    """The kind of command whose `--help` goes on with what can be set; with groups named, those alone."""

    class WithSettings(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            from nemo_distill.config.manual import groups, manual, of_executor
            from nemo_distill.launch.context import settings_of
            from nemo_distill.launch.local.executor import LocalExecutor
            from nemo_distill.launch.slurm.executor import SlurmExecutor

            own = None
            with contextlib.suppress(UserError):  # a recipe that cannot be read is said to be by its summary
                own = settings_of(load_recipe(recipe))
            found = [*groups(own), of_executor("local", LocalExecutor), of_executor("slurm", SlurmExecutor)]
            after = arguments[max(map(arguments.index, {"--help", "-h"} & set(arguments)), default=len(arguments)) :]
            named = [group for group in found if (group.name or "run") in after]
            if not named:
                super().format_help(ctx, formatter)
            console = Terminal()
            console.print(manual(named or found), highlight=False)
            if not named:
                names = dict.fromkeys(group.name or "run" for group in found)
                console.print(f"\nOne group of these: --help {'|'.join(names)}", highlight=False, markup=False)

    return WithSettings
