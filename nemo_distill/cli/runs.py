"""The commands that look at runs, end them, clear up after them and send them away."""

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

from nemo_distill.errors import UserError, nearest
from nemo_distill.run.terminal import Terminal

RUNS_FOLDER = Path("runs")
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
QuantisedOption = Annotated[
    bool, typer.Option("--quantised", "--quantized", help="Of the checkpoint after quantising, not as it was trained.")
]
MarginOption = Annotated[
    float, typer.Option("--margin", metavar="POINTS", help="What stopping early may cost of the Average.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]


def list_(runs: RunsOption = RUNS_FOLDER, json: JsonOption = False) -> None:
    """List all runs: settings, state, scores, size on disk, age."""
    from nemo_distill.run.overview import SCHEMA, as_json
    from nemo_distill.upkeep.listing import list_runs
    from nemo_distill.upkeep.show import print_runs

    if not runs.is_dir():
        raise UserError(f"there is no folder {runs}.")
    listed, unreadable = list_runs(runs.resolve())
    if not (listed or unreadable or json):
        raise UserError(f"there is no run in the folder '{runs}'.")
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
    return Terminal(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)


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
    from nemo_distill.launch.launch import check_folder
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
        check_folder(runs.resolve())
        show.print_published(write_tables(runs / "published"), runs / "published", Terminal())
        return
    if not run:
        raise UserError("name a run, as nemo-run status does, or give --published for the study's own tables.")
    found = [find(name, runs=runs) for name in run]
    for one in found:
        finished_report(one)
    names = [one.name for one in found]
    if len(found) == 1:
        folder = found[0].specs["report"].folder
        print(as_json(record_of(names, folder))) if json else show.print_outcome(found[0], Terminal())
    else:
        elsewhere = "" if runs == RUNS_FOLDER else f" --runs {runs}"
        judged, folder = compare.write_comparison_report(found, runs, elsewhere, **assumed)
        print(as_json(record_of(names, folder))) if json else show.print_comparison(judged, folder, Terminal())


def _in_shares(seed_sd: float | None, margin: float) -> dict[str, Any]:
    """Both from 0 to 1. Raises `UserError` for what is no number of points."""
    for option, points in (("--seed-sd", seed_sd), ("--margin", margin)):
        if points is not None and not 0 <= points <= 100:
            raise UserError(f"{option} {points:g} is no number of points from 0 to 100.")
    return {"seed_sd": None if seed_sd is None else seed_sd / 100, "margin": margin / 100}


def board(
    folders: Annotated[
        list[str] | None, typer.Argument(metavar="RUNS", help="Folders of runs, or names of runs; else all of --runs.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The page; else in RUNS/board. Its table: .csv.")] = None,
    benchmark: Annotated[str, typer.Option("--benchmark", help="What is scored, as tables call it.")] = "Average",
    setting: Annotated[
        str | None,
        typer.Option("--setting", metavar="IN/OUT", help="Tokens in and out at which tokens/s are, e.g. 32768/1024."),
    ] = None,
    runs: RunsOption = RUNS_FOLDER,
) -> None:
    """Show what every model of runs scores against tokens/s and GiB: what compression bought."""
    from nemo_distill.outcome import show
    from nemo_distill.outcome.board import find_runs, write_board_page

    if not folders and not runs.is_dir():
        raise UserError(f"there is no folder {runs}.")
    found = find_runs(folders or [str(runs)], runs=runs)
    command = shlex.join(["nemo-run", *sys.argv[1:]])
    show.print_board(*write_board_page(found, out, command, benchmark=benchmark, setting=setting), Terminal())


def card(
    run: Annotated[str, typer.Argument(help="A run's name or file.")],
    milestone: Annotated[str | None, typer.Option(help="Of the checkpoint, e.g. 80B; else where to stop.")] = None,
    quantised: QuantisedOption = False,
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
    chosen = {"milestone": milestone, "quantised": quantised, "license": license, **assumed}
    print(write_card(find(run, runs=runs), output=output, **chosen))


def push(
    run: Annotated[str, typer.Argument(help="A run's name or file.")],
    to: Annotated[
        str, typer.Option("--to", metavar="ORG/NAME", help="Repository on the hub; made where there is none.")
    ],
    milestone: Annotated[str | None, typer.Option(help="Of the checkpoint, e.g. 80B; else where to stop.")] = None,
    quantised: QuantisedOption = False,
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
    parcel = pack(find(run, runs=runs), milestone=milestone, quantised=quantised, license=license, **assumed)
    console = Terminal()
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
    console = Terminal()
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


COMMANDS: dict[str, Callable] = {
    "list": list_,
    "status": status,
    "report": report,
    "board": board,
    "diff": diff,
    "reproduce": reproduce,
    "card": card,
    "cancel": cancel,
    "push": push,
    "clean": clean,
}
"""The commands that look at runs."""
