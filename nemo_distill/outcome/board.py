"""Makes the board of runs: every model, what it scores, what it weighs, how fast it was served; and its page.

found = find_runs(["runs", "elsewhere/runs"], runs=Path("runs"))
board = gather_board(found, benchmark="MATH-500", setting="32768/1024")
board_of(specs)                     # of one run, for its report
"""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evaluator.report.board import View, view
from evaluator.report.board_page import write_board
from evaluator.report.colours import numbers_of
from evaluator.results.board import Board, Model
from evaluator.results.run import AVERAGE
from nemo_distill.errors import UserError, nearest
from nemo_distill.outcome.models import models_of
from nemo_distill.outcome.rates import at_setting, with_own_rates, with_rates
from nemo_distill.run.manifest import Run, find
from nemo_distill.run.step import Spec
from nemo_distill.study.board import published_models
from nemo_distill.study.tables import load_study

MEASURE = "serve_bench.settings=32768/1024x16 measures rates in a run"
"""How a rate comes about, as a sentence without its end."""
FOLDER, PAGE = "board", "board.html"
"""Where the page goes in the folder of all runs, and its name."""


def find_runs(words: Sequence[str], *, runs: Path) -> list[Run]:
    """All runs in folders, and those named, of `runs`. Raises `UserError` for what is neither."""
    found: dict[Path, Run] = {}
    for word in words:
        for run in _runs_in(Path(word)) if Path(word).is_dir() else [_run(word, runs)]:
            found.setdefault(run.path, run)
    return list(found.values())


def _run(word: str, runs: Path) -> Run:
    names = [path.stem for path in runs.glob("*.json")]
    if word in names or Path(word).is_file():
        return find(word, runs=runs)
    raise UserError(f"there is no folder '{word}', and no run of that name in '{runs}'. {nearest(word, names)}")


def _runs_in(folder: Path) -> list[Run]:
    found = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(UserError, OSError):  # something else that lies there
            found.append(Run.load(path))
    if not found:
        raise UserError(f"'{folder}' is no folder of runs: no run's file, NAME.json, is in it.")
    return found


def write_board_page(
    found: Sequence[Run], out: Path | None, command: str, *, benchmark: str, setting: str | None
) -> tuple[View, Path]:
    """Write the page, RUNS/board/board.html unless `out` says otherwise, its table beside it, and return both.

    Where `gather_board` raises, nothing is written.
    """
    path = out or found[0].runs / FOLDER / PAGE
    path = path / PAGE if path.is_dir() else path
    if path.suffix != ".html":
        raise UserError(f"--out {path}: the page is a file .html, and its table goes beside it as .csv.")
    board = gather_board(found, benchmark=benchmark, setting=setting)
    labels = list(dict.fromkeys(label or run.facts.blend or run.name for run, label in _labelled(found)))
    number = numbers_of(labels)[labels[0]] if len(found) == 1 else None
    shown = view(board, number=number, of=" · ".join(labels), command=command)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_board(shown, path)
    return shown, path


def gather_board(found: Sequence[Run], *, benchmark: str = AVERAGE, setting: str | None = None) -> Board:
    """The models of these runs with the study's, their score, and their rates at `setting`; None: at the study's where
    any was measured there, else where most were.

    Raises `UserError` for a benchmark or a setting that there is not, with the nearest, and where no model has a score.
    """
    models: list[Model] = []
    for run, label in _labelled(found):
        own = models_of(run.specs, teacher=run.facts.beside.teacher, blend=label)
        models += with_own_rates(own, run.specs.values())
    models = _once(models)
    if not any(model.scores for model in models):
        name = found[0].name
        raise UserError(f"no model of these runs was evaluated yet: nemo-run status {name} shows how far {name} is.")
    titles = list(dict.fromkeys(title for model in models for title in model.scores))
    known = {title.lower(): title for title in (AVERAGE, *titles)}
    if benchmark.lower() not in known:
        raise UserError(f"--benchmark {benchmark}: no model was asked that. {nearest(benchmark, known.values())}")
    benchmark = known[benchmark.lower()]
    if not any(model.is_scored(benchmark) for model in models):
        raise UserError(f"no model has an {benchmark}: name a benchmark that was asked, as --benchmark '{titles[0]}'.")
    study = load_study()
    models = with_rates(models, {label: run.specs.values() for run, label in _labelled(found)})
    chosen, models = at_setting(models, setting, study.serving.setting)
    return Board(
        models=(*models, *published_models(study, benchmark)), benchmark=benchmark, setting=chosen, measure=MEASURE
    )


def board_of(specs: Mapping[str, Spec], *, teacher: str = "") -> Board | None:
    """The board of one run's own models, for its report; None where neither sizes nor rates are known."""
    models = with_own_rates(models_of(specs, teacher=teacher), specs.values())
    models = with_rates(models, {"": specs.values()})
    if not any(model.gib is not None or model.rates for model in models):
        return None
    setting, models = at_setting(models, None, _study_setting())
    return Board(models=tuple(models), setting=setting, measure=MEASURE)


@functools.cache
def _study_setting() -> tuple[int, int]:
    """How the study served its models, read once for all runs."""
    return load_study().serving.setting


def _labelled(found: Sequence[Run]) -> list[tuple[Run, str]]:
    """The runs, each with what its models are called beside others': nothing where there is one run."""
    blends = [run.facts.blend for run in found]
    own = all(blends) and len(set(blends)) == len(blends)
    return [
        (run, "" if len(found) == 1 else blend if own else run.name) for run, blend in zip(found, blends, strict=True)
    ]


def _once(models: Sequence[Model]) -> list[Model]:
    """Every checkpoint once, as the first of all runs has it, with all runs' rates; a pruned student that is the only
    one of its protocol is of no blend."""
    found: dict[str, Model] = {}
    for model in models:
        key = model.folder or model.checkpoint
        there = found.get(key)
        found[key] = replace(there, rates=tuple(dict.fromkeys((*there.rates, *model.rates)))) if there else model
    pruned = [model.protocol for model in found.values() if model.role == "pruned"]
    return [
        replace(model, blend="") if model.role == "pruned" and pruned.count(model.protocol) == 1 else model
        for model in found.values()
    ]
