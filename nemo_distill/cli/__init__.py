"""The `nemo-run` command: recipes, and looking at the runs they made.

    nemo-run new my_study
    nemo-run recipes/distill_v1v3.py --executor local
    nemo-run recipes/distill_v1v3.py --dryrun prune.parameters=0.7 blend.shares.stem=5 blend.shares.science-mcq=8
    nemo-run recipes/*.py --executor slurm --dryrun
    nemo-run preflight recipes/distill_v1v3.py --executor slurm
    nemo-run status --watch
    nemo-run list
    nemo-run diff distill_v1v3-debug distill_v1v3-debug-seed2
    nemo-run reproduce distill_v1v3-debug
    nemo-run report distill_v1v3-debug
    nemo-run report --published
    nemo-run board runs
    nemo-run card distill_v1v3-debug --milestone 0.61M
    nemo-run push distill_v1v3-debug --to org/name --dryrun
    nemo-run clean --delete

NeMo-Run, and the torch it imports, are loaded only to launch a run: help, refusals and previews answer at once.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from typer.exceptions import TyperException

from nemo_distill.cli import runs
from nemo_distill.cli.recipes import command_of, load_recipe, new, preflight, with_settings
from nemo_distill.cli.words import meant, sentence_of
from nemo_distill.config.files import recipe_files, summary
from nemo_distill.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError, say_error, why_unusable
from nemo_distill.run.full_disk import is_full
from nemo_distill.run.output import lost, make_forgiving
from nemo_distill.run.secrets import star_values
from nemo_distill.run.sharing import records_of

__all__ = ["command_line", "load_recipe", "main"]
NO_RECIPE = "There is no recipe in ./recipes; `nemo-run new my_study` writes some, with all that they need."


def main(arguments: list[str] | None = None) -> int:
    """Run the command line `arguments` (without the program's name) and return the exit code."""
    make_forgiving()
    code = _call(sys.argv[1:] if arguments is None else arguments)
    if unsaid := lost():
        say_error(unsaid)
    return code or (EXIT_FAILED if unsaid else 0)


def _call(arguments: list[str]) -> int:
    try:
        if arguments[:1] == ["experiment"]:
            return _nemo_run_itself(arguments)
        return command_line(arguments)(arguments or ["--help"], standalone_mode=False) or 0
    except TyperException as error:  # of what was typed
        say_error(sentence_of(error.format_message(), arguments))
        return EXIT_USER_ERROR
    except UserError as error:
        say_error(star_values(str(error)))
        return EXIT_USER_ERROR
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_FAILED if stop.code else 0
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except OSError as error:
        if is_full(error):
            say_error(f"{error.filename or 'a file'} could not be written: {error.strerror}.")
            return EXIT_FAILED
        if (said := why_unusable(error)) is None:
            raise
        say_error(said)
        return EXIT_USER_ERROR


def command_line(arguments: list[str]) -> typer.Typer:
    """The commands: one per recipe at hand, and those that look at runs.

    Raises `UserError` when `arguments` begin with something that is neither.
    """
    recipes = recipe_files()
    app = typer.Typer(
        name="nemo-run",
        help="Prune and distil Nemotron-H models, one data blend at a time.",
        epilog=None if recipes else NO_RECIPE,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    app.command("new", rich_help_panel="Recipes")(new)
    app.command("preflight", rich_help_panel="Recipes")(preflight)
    for name, command in runs.COMMANDS.items():
        app.command(name, rich_help_panel="Runs")(command)
    app.command("experiment", rich_help_panel="Runs", help="NeMo-Run's own: list, status, logs, cancel.")(lambda: None)
    commands = ["new", "preflight", *runs.COMMANDS, "experiment"]
    first = arguments[0] if arguments else "--help"
    if not first.startswith("-") and first not in commands:
        chosen = Path(first)
        if chosen.suffix != ".py" or not chosen.is_file():
            how = NO_RECIPE if chosen.suffix == ".py" and not recipes else meant(first, recipes, commands)
            raise UserError(f"there is no recipe or command '{first}'. {how}")
        recipes = [chosen, *(path for path in recipes if path != chosen)]
    for path in recipes:
        add = app.command(
            first if path == Path(first) else str(path),  # as it was typed: ./recipes/x.py is recipes/x.py too
            cls=with_settings(path, arguments),
            help=escape(summary(path)),
            rich_help_panel="Recipes",
        )
        add(command_of(path, ["nemo-run", *arguments]))
    return app


def _version(asked: bool) -> None:
    """Print what a report of a fault needs to say, and end."""
    if asked:
        from nemo_distill.run.provenance import version_line

        print(version_line())
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version, and those it rests on."),
    ] = False,
) -> None:
    """Take what stands before a command."""


def _nemo_run_itself(arguments: list[str]) -> int:
    home = records_of(runs.RUNS_FOLDER)
    if home.is_dir():
        os.environ.setdefault("NEMORUN_HOME", str(home.resolve()))
    from nemo_run.__main__ import app

    sys.argv = ["nemo-run", *arguments]
    return app(standalone_mode=False) or 0
