"""What two runs have otherwise: settings, versions, the content of sources, what is asked, scores: `nemo-run diff`.

    found = compare(find("distill_v1v3-debug", runs=runs), find("distill_v1v3-debug-seed2", runs=runs))
    found["settings"]               # {"seed": [1234, 2]}
    print_difference(found, Console())

It reads what the runs left and judges nothing: whether scores differ by more than chance says `nemo-run report`.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nemo_distill.config.plain import fingerprint
from nemo_distill.outcome.files import SCORES, points_of, read_csv
from nemo_distill.run.inside import text_of
from nemo_distill.run.manifest import Run
from nemo_distill.run.naming import deciding_in
from nemo_distill.run.overview import SCHEMA, overall
from nemo_distill.run.sources import PREPARE, SOURCES_FILE
from nemo_distill.run.step import SPEC_FILE

EVALUATE = "nemo_distill.steps.evaluate"
NOT_ASKED = ("label", "seed", "checkpoint", "sha256", "threads")
"""Keys of an evaluation's config that say of what it is, and not what is asked."""
_SECTIONS = {
    "settings": "Settings",
    "beside": "What no result depends on",
    "code": "Code",
    "packages": "Packages",
    "sources": "Content of sources",
    "protocol": "What is asked",
    "scores": "Scores",
}


def compare(one: Run, other: Run) -> dict[str, Any]:
    """What the two have otherwise, as plain data: by section and key, the first run's value and the other's."""
    of_both: list[dict[str, Any]] = [_described(run) for run in (one, other)]
    sections = {name: _otherwise(*(described[name] for described in of_both)) for name in _SECTIONS}
    folders = {spec.folder for spec in other.specs.values()}
    shared = [name for name, spec in one.specs.items() if spec.folder in folders]
    return {
        "schema": SCHEMA,
        "runs": [one.name, other.name],
        "states": [overall(run).value for run in (one, other)],
        "shared_steps": shared,
        **sections,
    }


def print_difference(found: Mapping[str, Any], console: Console) -> None:
    """A table per section in which the two differ, and what they share."""
    names = found["runs"]
    states = [f"{name} ({state})" for name, state in zip(names, found["states"], strict=True)]
    console.print(", ".join(states), highlight=False, soft_wrap=True)
    same = []
    for section, title in _SECTIONS.items():
        if not found[section]:
            same.append(title[0].lower() + title[1:])
            continue
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        table.add_column("", overflow="fold")
        for name in names:
            table.add_column(name, overflow="fold", justify="right" if section == "scores" else "left")
        if section == "scores":
            table.add_column("difference", justify="right")
        for key, pair in found[section].items():
            table.add_row(key, *_cells(section, pair))
        console.print()
        console.print(table)
    console.print()
    if same:
        console.print(f"The same: {', '.join(same)}.", highlight=False)
    if found["shared_steps"]:
        console.print(f"Steps of both, done once: {', '.join(found['shared_steps'])}.", highlight=False)
    if found["scores"]:
        command = f"nemo-run report {' '.join(names)}"
        console.print(f"What of it is more than chance: {command}", highlight=False, soft_wrap=True)


def _cells(section: str, pair: list) -> list[str]:
    if section != "scores":
        return ["-" if value is None else _text(value) for value in pair]
    shown = ["" if value is None else points_of(value) for value in pair]
    return [*shown, "" if None in pair else points_of(pair[1] - pair[0], signed=True)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _otherwise(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list]:
    """The pairs of values that differ, by key; None stands where one says nothing."""
    keys = dict.fromkeys([*one, *other])
    return {key: [one.get(key), other.get(key)] for key in keys if one.get(key) != other.get(key)}


def _described(run: Run) -> dict[str, dict[str, Any]]:
    """The sections of a run, each plain data by key."""
    made_by = [record for spec in run.specs.values() if (record := provenance_of(spec.folder))]
    return {
        "settings": deciding_in(run),
        "beside": _beside(run),
        "code": {"commit": _joined(map(commit_text, made_by))},
        "packages": _packages(made_by),
        "sources": _sources(run),
        "protocol": _asked(run),
        "scores": _scores(run),
    }


def provenance_of(folder: Path) -> dict[str, Any]:
    """What a step in `folder` ran with; empty where it did not run, or says nothing."""
    try:
        return json.loads(text_of(folder / SPEC_FILE)).get("provenance") or {}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def commit_text(provenance: Mapping[str, Any]) -> str:
    """The commit of the code, and whether it was changed."""
    git = provenance.get("git") or {}
    commit = (git.get("commit") or "unknown")[:12]
    return f"{commit} with changes" if git.get("dirty") else commit


def _joined(texts: Iterable[str]) -> str | None:
    return ", ".join(dict.fromkeys(texts)) or None


def _packages(made_by: list[dict[str, Any]]) -> dict[str, str | None]:
    """Versions by package, several where steps ran with several."""
    versions: dict[str, dict[str, None]] = {}
    for record in made_by:
        for name, version in {**record.get("packages", {}), "python": record.get("python")}.items():
            if version:
                versions.setdefault(name, {})[version] = None
    return {name: _joined(versions[name]) for name in sorted(versions)}


def _beside(run: Run) -> dict[str, Any]:
    beside = run.facts.beside
    parts = {"layout": dataclasses.asdict(beside.layout), "health": dataclasses.asdict(beside.health)}
    said = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    said |= {"evaluate.max_unasked": beside.max_unasked, "evaluate.vllm": beside.vllm or None}
    return {"executor": run.facts.executor, **said}


def _sources(run: Run) -> dict[str, Any]:
    """Of every tokenised source its tokens and digests: of the files that were read, and of what became of them."""
    found: dict[str, Any] = {}
    for spec in run.specs.values():
        if spec.module != PREPARE:
            continue
        try:
            listed = json.loads(text_of(spec.folder / SOURCES_FILE))
            cards = {
                name: json.loads(text_of((spec.folder / source["prefix"]).parent / "card.json"))
                for name, source in listed.items()
            }
            found |= {name: _card_text(card) for name, card in sorted(cards.items())}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # none, or damaged
            continue
    return found


def _card_text(card: dict[str, Any]) -> str:
    read = fingerprint([one.get("content") for one in card.get("inputs", ())])
    return f"{card['tokens']:,} tokens, read {read}, made {card.get('sha256', {}).get('.bin', '')[:12]}"


def _asked(run: Run) -> dict[str, Any]:
    """What the checkpoints are asked, and how, as far as all are asked alike; else by evaluation."""
    asked = {
        spec.name: {key: value for key, value in spec.config.items() if key not in NOT_ASKED}
        for spec in run.specs.values()
        if spec.module == EVALUATE
    }
    return {
        f"{name.removeprefix('evaluate-')}: {key}": value
        for name, config in asked.items()
        for key, value in config.items()
        if value is not None
    }


def _scores(run: Run) -> dict[str, float]:
    """Means from 0 to 100 by checkpoint and benchmark, of a run that has a report."""
    report = run.specs.get("report")
    if report is None or not report.done:
        return {}
    return {
        f"{row['checkpoint']}: {row['benchmark']}": 100 * row["mean"]
        for row in read_csv(report.folder / SCORES)
        if isinstance(row.get("mean"), int | float)
    }
