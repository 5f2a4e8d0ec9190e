"""The `nemo-run` command: recipes, and looking at the runs they made.

    nemo-run new my_study
    nemo-run recipes/distill_v1v3.py --executor local
    nemo-run recipes/distill_v1v3.py --dryrun prune.parameters=0.7 blend.shares.stem=5 blend.shares.science-mcq=8
    nemo-run recipes/*.py --executor slurm --dryrun
    nemo-run status --watch
    nemo-run list
    nemo-run diff distill_v1v3-debug distill_v1v3-debug-seed2
    nemo-run reproduce distill_v1v3-debug
    nemo-run report distill_v1v3-debug
    nemo-run report --published
    nemo-run card distill_v1v3-debug --milestone 0.61M
    nemo-run push distill_v1v3-debug --to org/name --dryrun
    nemo-run clean --delete

NeMo-Run, and the torch it imports, are loaded only to launch a run: help, refusals and previews answer at once.
"""

import contextlib
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand
from typer.exceptions import TyperException

from nemo_distill.config.files import load, recipe_files, summary
from nemo_distill.config.mistakes import entry_point
from nemo_distill.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError, nearest, say_error, slip_of

RUNS_FOLDER = Path("runs")
_COMPARE = "'nemo-run report RUN RUN' compares runs, 'nemo-run diff RUN RUN' what they were asked for."
_LOOK = "'nemo-run list' shows all runs, 'nemo-run status RUN' how far one is."
_START = "A run is started by its recipe: nemo-run recipes/NAME.py."
_ROOM = "'nemo-run clean' shows what need not be kept, and removes it with --delete."
CALLED = {
    **dict.fromkeys(("compare", "scores", "results"), _COMPARE),
    **dict.fromkeys(("lists", "ls", "ps", "show", "runs", "log", "logs", "info", "watch"), _LOOK),
    **dict.fromkeys(("run", "train", "distill", "prune", "evaluate", "eval", "start", "launch", "resume"), _START),
    **dict.fromkeys(("gc", "rm", "delete", "remove", "prune-runs", "cleanup", "du"), _ROOM),
    **dict.fromkeys(("stop", "kill", "abort", "scancel"), "'nemo-run cancel RUN' cancels its jobs on a cluster."),
    **dict.fromkeys(("upload", "publish", "share"), "'nemo-run push RUN --to ORG/NAME' puts a checkpoint on the hub."),
    "export": "A run exports its milestones; 'nemo-run push RUN --to ORG/NAME' puts one on the hub.",
    **dict.fromkeys(("init", "create"), "'nemo-run new FOLDER' writes a study to start from."),
    "dryrun": "Say nemo-run recipes/NAME.py --dryrun.",
}
"""What to say to words that other tools have for commands."""

NO_RECIPE = "There is no recipe in ./recipes; `nemo-run new my_study` writes some, with all that they need."

RunsOption = Annotated[Path, typer.Option("--runs", help="The folder of all runs.")]
SeedOption = Annotated[
    float | None,
    typer.Option(
        "--seed-sd",
        metavar="POINTS",
        help="What another training seed moves any score, the Average too (standard deviation). Without it: what runs "
        "of one blend under several seeds show, where several are compared, else 0.5, twice what the study's own "
        "averages scatter about their curves.",
    ),
]
MarginOption = Annotated[
    float, typer.Option("--margin", metavar="POINTS", help="What stopping early may cost of the Average.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line `arguments` (without the program's name) and return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["experiment"]:
            return _nemo_run_itself(arguments)
        return command_line(arguments)(arguments or ["--help"], standalone_mode=False) or 0
    except TyperException as error:  # of what was typed
        say_error(error.format_message())
        return EXIT_USER_ERROR
    except UserError as error:
        say_error(str(error))
        return EXIT_USER_ERROR
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED


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
    for name, command in _OF_RUNS.items():
        app.command(name, rich_help_panel="Runs")(command)
    app.command("experiment", rich_help_panel="Runs", help="NeMo-Run's own: list, status, logs, cancel.")(lambda: None)
    commands = ["new", *_OF_RUNS, "experiment"]
    first = arguments[0] if arguments else "--help"
    if not first.startswith("-") and first not in commands:
        chosen = Path(first)
        if chosen.suffix != ".py" or not chosen.is_file():
            how = NO_RECIPE if chosen.suffix == ".py" and not recipes else _meant(first, recipes, commands)
            raise UserError(f"there is no recipe or command '{first}'. {how}")
        recipes = [chosen, *(path for path in recipes if path != chosen)]
    for path in recipes:
        add = app.command(
            first if path == Path(first) else str(path),  # as it was typed: ./recipes/x.py is recipes/x.py too
            cls=_with_settings(path, arguments),
            help=summary(path),
            rich_help_panel="Recipes",
        )
        add(_recipe_command(path, ["nemo-run", *arguments]))
    return app


def _meant(word: str, recipes: list[Path], commands: list[str]) -> str:
    """What may have been meant by a word that is neither a recipe nor a command."""
    files = list(map(str, recipes))
    if by_stem := [str(path) for path in recipes if path.stem == word.removesuffix(".py")]:
        return f"Did you mean '{by_stem[0]}'?"
    if "/" in word or word.endswith(".py"):
        near = slip_of(Path(word).stem, [path.stem for path in recipes])
        meant = [str(path) for path in recipes if path.stem == near]
        return f"Did you mean '{meant[0]}'?" if meant else nearest("", files)
    if word in CALLED and word not in commands:
        return CALLED[word]
    return nearest(word, [*files, *commands]) if slip_of(word, [*files, *commands]) else nearest(word, commands)


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


def _with_settings(recipe: Path, arguments: list[str]) -> type[TyperCommand]:
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
            console = Console()
            console.print(manual(named or found), highlight=False)
            if not named:
                names = dict.fromkeys(group.name or "run" for group in found)
                console.print(f"\nOne group of these: --help {'|'.join(names)}", highlight=False, markup=False)

    return WithSettings


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


def list_(runs: RunsOption = RUNS_FOLDER, json: JsonOption = False) -> None:
    """List all runs: settings, state, scores, size on disk, age."""
    from nemo_distill.run.overview import SCHEMA, as_json
    from nemo_distill.upkeep.listing import list_runs
    from nemo_distill.upkeep.show import print_runs

    if not runs.is_dir():
        raise UserError(f"there is no folder {runs}.")
    listed, unreadable = list_runs(runs.resolve())
    if not (listed or unreadable or json):
        raise UserError(f"there is no run in {runs}.")
    if json:
        print(
            as_json({"schema": SCHEMA, "runs": [one.record() for one in listed], "unreadable": [*map(str, unreadable)]})
        )
    else:
        print_runs(listed, unreadable, _console())


def status(
    run: Annotated[str | None, typer.Argument(help="A run's name or file; without it, the one begun last.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing it until nothing is at work.")] = False,
    runs: RunsOption = RUNS_FOLDER,
    json: JsonOption = False,
) -> None:
    """Show how far a run is, step by step."""
    from nemo_distill.launch.executors import follow
    from nemo_distill.run.display import print_status, watched
    from nemo_distill.run.job import NO_JOBS
    from nemo_distill.run.manifest import find
    from nemo_distill.run.overview import as_json, record_of

    if watch and json:
        raise UserError("--watch shows a run to people and --json once to machines: give one of them.")
    found, jobs, console = find(run, runs=runs), NO_JOBS, _console()
    following = follow(found)
    if watch:
        watched(found, console, following.look if following else lambda: NO_JOBS)
    if following:
        jobs = following.look()
        if following.silent and not json:
            console.print(f"Slurm does not answer: {following.silent}. This is what the folders say.", style="yellow")
    if json:
        print(as_json(record_of(found, jobs)))
    else:
        print_status(found, console, jobs)


def _console() -> Console:
    """The terminal; a pipe has no width to fit into."""
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)


def diff(
    one: Annotated[str, typer.Argument(metavar="RUN", help="A run's name or file.")],
    other: Annotated[str, typer.Argument(metavar="RUN", help="Another's.")],
    runs: RunsOption = RUNS_FOLDER,
    json: JsonOption = False,
) -> None:
    """Show what two runs have otherwise: settings, versions, sources, what is asked, scores."""
    from nemo_distill.run.manifest import find
    from nemo_distill.run.overview import as_json
    from nemo_distill.upkeep.difference import compare, print_difference

    found = compare(find(one, runs=runs), find(other, runs=runs))
    print(as_json(found)) if json else print_difference(found, _console())


def reproduce(
    run: Annotated[str, typer.Argument(help="A run's name or file.")], runs: RunsOption = RUNS_FOLDER
) -> None:
    """Print what makes a run again: code, packages, command; or why that cannot be said."""
    from nemo_distill.run.manifest import find
    from nemo_distill.upkeep.reproduce import reproduction

    found = reproduction(find(run, runs=runs), checkout=Path.cwd())
    print(*found.lines(), sep="\n")
    if found.obstacles:
        raise UserError(f"it would be another run. {' '.join(found.obstacles)}")


def cancel(
    run: Annotated[str, typer.Argument(help="A run's name or file.")],
    runs: RunsOption = RUNS_FOLDER,
) -> None:
    """Cancel the jobs of a run on a cluster; the run's own command goes on from there."""
    from nemo_distill.launch.executors import follow
    from nemo_distill.run.manifest import find

    found = find(run, runs=runs)
    following = follow(found)
    print(*(following.cancel() if following else [f"{found.name} has no jobs to cancel."]), sep="\n")


def report(
    run: Annotated[list[str] | None, typer.Argument(help="Names or files of runs; two or more are compared.")] = None,
    published: Annotated[bool, typer.Option("--published", help="The study's own tables, which need no run.")] = False,
    seed_sd: SeedOption = None,
    margin: MarginOption = 1.0,
    runs: RunsOption = RUNS_FOLDER,
    json: JsonOption = False,
) -> None:
    """Show the scores of a finished run and where its report is, or compare several runs."""
    from nemo_distill.outcome import compare, show
    from nemo_distill.outcome.files import record_of
    from nemo_distill.outcome.gather import finished_report
    from nemo_distill.run.manifest import find
    from nemo_distill.run.overview import as_json
    from nemo_distill.study.report import write_tables

    assumed = _in_shares(seed_sd, margin)
    if published and run:
        raise UserError(f"--published shows the study's own tables and no run: leave out '{run[0]}' or --published.")
    if published and json:
        raise UserError("--published shows tables of the package, nemo_distill/study/published.yaml: leave out --json.")
    if published:
        show.print_published(write_tables(runs / "published"), runs / "published", Console())
        return
    if not run:
        raise UserError("name a run, as nemo-run status does, or give --published for the study's own tables.")
    found = [find(name, runs=runs) for name in run]
    for one in found:
        finished_report(one)
    names = [one.name for one in found]
    if len(found) == 1:
        folder = found[0].specs["report"].folder
        print(as_json(record_of(names, folder))) if json else show.print_outcome(found[0], Console())
    else:
        elsewhere = "" if runs == RUNS_FOLDER else f" --runs {runs}"
        judged, folder = compare.write_comparison_report(found, runs, elsewhere, **assumed)
        print(as_json(record_of(names, folder))) if json else show.print_comparison(judged, folder, Console())


def _in_shares(seed_sd: float | None, margin: float) -> dict[str, Any]:
    """Both from 0 to 1. Raises `UserError` for what is no number of points."""
    for option, points in (("--seed-sd", seed_sd), ("--margin", margin)):
        if points is not None and not 0 <= points <= 100:
            raise UserError(f"{option} {points:g} is no number of points from 0 to 100.")
    return {"seed_sd": None if seed_sd is None else seed_sd / 100, "margin": margin / 100}


def card(
    run: Annotated[str, typer.Argument(help="A run's name or file.")],
    milestone: Annotated[str | None, typer.Option(help="Of the checkpoint, e.g. 80B; else where to stop.")] = None,
    output: Annotated[Path | None, typer.Option(help="The file, or its folder; else in RUNS/cards.")] = None,
    license: Annotated[str, typer.Option(help="The hub's name for it.")] = "other",
    seed_sd: SeedOption = None,
    margin: MarginOption = 1.0,
    runs: RunsOption = RUNS_FOLDER,
) -> None:
    """Write the model card of a checkpoint, for the Hugging Face hub."""
    from nemo_distill.outcome.card import write_card
    from nemo_distill.run.manifest import find

    assumed = _in_shares(seed_sd, margin)
    print(write_card(find(run, runs=runs), milestone=milestone, output=output, license=license, **assumed))


def push(
    run: Annotated[str, typer.Argument(help="A run's name or file.")],
    to: Annotated[
        str, typer.Option("--to", metavar="ORG/NAME", help="Repository on the hub; made where there is none.")
    ],
    milestone: Annotated[str | None, typer.Option(help="Of the checkpoint, e.g. 80B; else where to stop.")] = None,
    license: Annotated[str, typer.Option(help="The hub's name for it.")] = "other",
    public: Annotated[bool, typer.Option("--public", help="A repository that is made is public, not private.")] = False,
    dryrun: Annotated[bool, typer.Option("--dryrun", help="Show what would be sent; send nothing.")] = False,
    seed_sd: SeedOption = None,
    margin: MarginOption = 1.0,
    runs: RunsOption = RUNS_FOLDER,
) -> None:
    """Put a checkpoint and its model card on the Hugging Face hub."""
    from nemo_distill.run.manifest import find
    from nemo_distill.upkeep.push import check_repository, pack
    from nemo_distill.upkeep.show import print_parcel

    check_repository(to)
    assumed = _in_shares(seed_sd, margin)
    parcel = pack(find(run, runs=runs), milestone=milestone, license=license, **assumed)
    console = Console()
    print_parcel(parcel, to, console, dryrun=dryrun)
    if not dryrun:
        console.print(parcel.send(to, private=not public), highlight=False, soft_wrap=True)


def clean(
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", help="optimizer: states of milestones trained past. unreferenced: folders of no run."),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without this it is only shown.")] = False,
    runs: RunsOption = RUNS_FOLDER,
) -> None:
    """Show what the folder of all runs need not hold any more and, with --delete, remove it."""
    if not runs.is_dir():
        raise UserError(f"there is no folder {runs}.")
    console = Console()
    with _quiet():  # what is imported to read a checkpoint
        from nemo_distill.upkeep.clean import RULES, look
        from nemo_distill.upkeep.show import print_found, print_removed

        for name in rule or ():
            if name not in RULES:
                raise UserError(f"--rule cannot be '{name}'. {nearest(name, RULES)}")
        found = look(runs.resolve(), rule or RULES)
        print_found(found, runs.resolve(), console, delete=delete)
        for item in found.removable if delete else ():
            item.remove()
            print_removed(item, console)


_OF_RUNS: dict[str, Callable] = {
    "list": list_,
    "status": status,
    "report": report,
    "diff": diff,
    "reproduce": reproduce,
    "card": card,
    "cancel": cancel,
    "push": push,
    "clean": clean,
}
"""The commands that look at runs."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither warnings nor logs, which are those of others' packages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _recipe_command(path: Path, command: list[str]) -> Callable:
    def run_recipe(
        settings: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="key.sub=value",
                help="Settings, and executor.attr=value for the executor's; with --dryrun, more recipes too.",
            ),
        ] = None,
        executor: Annotated[str, typer.Option("--executor", "-e", help="Where steps run: local, slurm.")] = "local",
        dryrun: Annotated[bool, typer.Option("--dryrun", help="Show what would be done; write nothing.")] = False,
        detach: Annotated[bool, typer.Option("--detach", help="Queue the jobs and leave them to the cluster.")] = False,
        name: Annotated[
            str, typer.Option("--name", "-n", help="Name of the run; else its recipe's, with what is set otherwise.")
        ] = "",
        until: Annotated[str, typer.Option("--until", help="Stop after this step, and run only what it needs.")] = "",
    ) -> None:
        from nemo_distill.launch.context import Context

        paths: list[Path] = [path]
        words: list[str] = []
        for word in settings or []:
            if word.startswith("executor="):
                executor = word.removeprefix("executor=")
            elif word.endswith(".py") and "=" not in word:
                paths.append(Path(word))
            else:
                words.append(f"run.{word}" if word.startswith("executor.") else word)
        if len(paths) > 1:
            _check_recipes(paths, dryrun=dryrun, name=name)
        worst = 0
        for recipe in paths:
            entrypoint = load_recipe(recipe)
            context = Context(
                name=name or recipe.stem, named=bool(name), dryrun=dryrun, detach=detach, until=until, command=command
            )
            try:
                context.execute(entrypoint, [f"run.executor={executor}", *words])
            except SystemExit as refused:
                worst = max(worst, int(refused.code or 0))
        if worst:
            sys.exit(worst)

    return run_recipe


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


def _nemo_run_itself(arguments: list[str]) -> int:
    home = RUNS_FOLDER / ".nemo-run"
    if home.is_dir():
        os.environ.setdefault("NEMORUN_HOME", str(home.resolve()))
    from nemo_run.__main__ import app

    sys.argv = ["nemo-run", *arguments]
    return app(standalone_mode=False) or 0


if __name__ == "__main__":
    sys.exit(main())
