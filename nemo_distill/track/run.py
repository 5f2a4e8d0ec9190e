"""A run as trackers see it: which folders to read, and what is new in them.

declare(run)                                 # RUNS/.track/ID/run.json, which its steps find
followed = TrackedRun.load(runs, run.facts.beside.tracked.id)
sent, points = followed.news(Sent())         # what is not sent yet, and the mark once it is
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.outcome.scores import scores_of
from nemo_distill.run.facts import Tracked
from nemo_distill.run.inside import text_of
from nemo_distill.run.manifest import Run
from nemo_distill.run.progress import write_atomically
from nemo_distill.run.step import is_done
from nemo_distill.track.tracker import About, Point
from nemo_distill.train.losses import HELD_OUT_FILE, read_losses

FOLDER = ".track"
"""Folder among the runs with what is known of tracked runs, and TensorBoard's files; no output is judged by it."""
FILE = "run.json"
PAGE = "report.html"
TEACHER, PRUNED = "teacher", "pruned"
_DISTILL, _EVALUATE, _REPORT = (f"nemo_distill.steps.{name}" for name in ("distill", "evaluate", "report"))


@dataclass(frozen=True)
class Sent:
    """What a tracker has of a run."""

    iteration: int = 0
    """Last iteration of the losses."""
    evaluations: tuple[str, ...] = ()
    """Names of the evaluations."""
    report: bool = False
    """Whether it knows where the report lies."""
    held_out: int = -1
    """Last iteration of what was measured on held-out documents."""

    @classmethod
    def read(cls, path: Path) -> "Sent":
        """As `write` left it; nothing where it was damaged, since sending twice does less harm than not at all."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            record = json.loads(text_of(path))
            return cls(
                int(record["iteration"]),
                tuple(record["evaluations"]),
                bool(record["report"]),
                int(record.get("held_out", -1)),  # of a version that measured none
            )
        return cls()

    def write(self, path: Path) -> None:
        """Keep it in `path`."""
        write_atomically(path, json.dumps(dataclasses.asdict(self)))


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """One run and the folders that its curves are in."""

    runs: Path
    """The folder of all runs."""
    about: About
    """What trackers say of it as a whole."""
    segments: dict[str, str]
    """Folder of each segment by its step's name, under that of all runs, in order."""
    evaluations: dict[str, str]
    """Folder of each evaluation by what it evaluates: `teacher`, `pruned`, or a milestone's label."""
    iterations: dict[str, int]
    """Iteration of each milestone by its label."""
    report: str = ""
    """Folder of the report; empty where the run has none."""
    partly_asked: tuple[str, ...] = ()
    """Those of `evaluations` that ask less than the teacher's: they have no average that compares, as on the pages."""

    @property
    def folder(self) -> Path:
        """Where what is sent is kept in mind."""
        return self.runs / FOLDER / self.about.id

    @classmethod
    def of(cls, run: Run) -> "TrackedRun | None":
        """The tracked run of `run`; None where nothing is trained. Its first segment decides which it is, so a run
        that gets a milestone more goes on with the same."""
        folders = {name: os.path.relpath(spec.folder, run.runs) for name, spec in run.specs.items()}
        modules = {name: spec.module for name, spec in run.specs.items()}
        segments = [spec for name, spec in run.specs.items() if modules[name] == _DISTILL]
        if not segments:
            return None
        config = {"executor": run.facts.executor, "scale": run.facts.scale, "seed": run.facts.seed, **run.facts.recipe}
        report = [folders[name] for name in run.specs if modules[name] == _REPORT]
        asked = {s.config["label"]: s.config.get("tasks") for s in run.specs.values() if s.module == _EVALUATE}
        return cls(
            runs=run.runs,
            about=About(id=segments[0].fingerprint, name=run.name, config=config),
            segments={spec.name: folders[spec.name] for spec in segments},
            evaluations={
                spec.config["label"]: folders[name] for name, spec in run.specs.items() if modules[name] == _EVALUATE
            },
            iterations={spec.name.removeprefix("distill-"): spec.config["until"] for spec in segments},
            report=report[0] if report else "",
            partly_asked=tuple(label for label, tasks in asked.items() if tasks != asked.get(TEACHER)),
        )

    def save(self) -> None:
        """Write the run's file, which its steps read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        record = dataclasses.asdict(self)
        del record["runs"]
        write_atomically(self.folder / FILE, json.dumps(record, indent=1))

    def and_known(self) -> "TrackedRun":
        """This run with what an earlier launch knew of it and this one was not asked for (`--until`)."""
        try:
            known = self.load(self.runs, self.about.id)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return self
        return dataclasses.replace(
            self,
            segments=known.segments | self.segments,
            evaluations=known.evaluations | self.evaluations,
            iterations=known.iterations | self.iterations,
            report=self.report or known.report,
            partly_asked=self.partly_asked
            + tuple(label for label in known.partly_asked if label not in self.evaluations),
        )

    @classmethod
    def load(cls, runs: Path, number: str) -> "TrackedRun":
        """Read what `save` wrote."""
        record = json.loads(text_of(runs / FOLDER / number / FILE))
        return cls(**record | {"runs": runs, "about": About(**record["about"])})

    def news(self, sent: Sent) -> tuple[Sent, list[Point]]:
        """What came after `sent`, and the mark for when that is sent as well."""
        points = [Point(line["iteration"], time, _values(line)) for time, line in self._lines(after=sent.iteration)]
        iteration = max([sent.iteration, *(point.iteration for point in points)])
        held_out = [Point(line["iteration"], time, _held_out(line)) for time, line in self._measured(sent.held_out)]
        points += held_out
        measured = max([sent.held_out, *(point.iteration for point in held_out)])
        done = {
            label: self.runs / folder
            for label, folder in self.evaluations.items()
            if label not in sent.evaluations and is_done(self.runs / folder)
        }
        for label, folder in done.items():
            group = TEACHER if label == TEACHER else "scores"
            scores = scores_of(folder, average=label not in self.partly_asked)
            values = {f"{group}/{title}": score for title, score in scores.items()}
            points.append(Point(self.iterations.get(label, 0), folder.stat().st_mtime, values))
        evaluations, report = (*sent.evaluations, *done), sent.report or self.page is not None
        return Sent(iteration, evaluations, report, measured), points

    @property
    def page(self) -> Path | None:
        """The report's page, once it is there."""
        page = self.runs / self.report / PAGE
        return page if self.report and page.is_file() else None

    def _lines(self, *, after: int) -> Iterator[tuple[float, dict]]:
        """(time, line) of every iteration `after` that one; times are counted back from when the file was written."""
        for name, folder in self.segments.items():
            path = self.runs / folder / "losses.jsonl"
            if self.iterations[name.removeprefix("distill-")] <= after or not path.exists():
                continue
            lines, time = read_losses(path), path.stat().st_mtime
            left = sum(line["seconds"] for line in lines)
            for line in lines:
                left -= line["seconds"]
                if line["iteration"] > after:
                    yield time - left, line

    def _measured(self, after: int) -> Iterator[tuple[float, dict]]:
        """(time, line) of every measurement on held-out documents `after` that iteration."""
        for folder in self.segments.values():
            path = self.runs / folder / HELD_OUT_FILE
            for line in read_losses(path):
                if line["iteration"] > after:
                    yield path.stat().st_mtime, line


def tracked(run: Run, kinds: tuple[str, ...]) -> Tracked | None:
    """What the steps of `run` are told, so that trackers of these `kinds` follow it; None where there is nothing to."""
    found = TrackedRun.of(run) if kinds else None
    return Tracked(id=found.about.id, kinds=kinds) if found else None


def declare(run: Run) -> None:
    """Write down which folders the trackers of `run` follow, if it has any."""
    if run.facts.beside.tracked and (found := TrackedRun.of(run)):
        found.and_known().save()


def where_tracked(run: Run) -> list[str]:
    """A line on where the run can be followed; none where no tracker follows it."""
    found = run.facts.beside.tracked
    if not found:
        return []
    files = f"; tensorboard --logdir {run.runs / FOLDER / 'tensorboard'}" if "tensorboard" in found.kinds else ""
    return [f"Tracked by {', '.join(found.kinds)} as {found.id}{files}"]


def _held_out(line: dict) -> dict[str, float]:
    """What was measured on held-out documents, by the names that trackers show."""
    return {
        f"held_out/{source}/{name}": values[name]
        for source, values in line["sources"].items()
        for name in ("kl", "loss")
    }


def _values(line: dict) -> dict[str, float]:
    """The numbers of one iteration, by the names that trackers show."""
    per_iteration = line["tokens"] / line["iteration"]
    values = {
        "train/loss": line["loss"],
        "train/learning_rate": line["learning_rate"],
        "train/tokens": line["tokens"],
        "speed/tokens_per_second": per_iteration / line["seconds"],
        "speed/seconds_per_iteration": line["seconds"],
    }
    values |= {f"train/{part}": line[part] for part in ("kd_loss", "cross_entropy") if part in line}
    if "grad_norm" in line:
        values["train/gradient_norm"] = line["grad_norm"]
    if "memory_gib" in line:
        values["speed/peak_memory_gib"] = line["memory_gib"]
    return values
