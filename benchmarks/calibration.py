"""How often what `nemo-run report` says is right: pages whose truth is known, through the code that judges real ones.

    python benchmarks/calibration.py [--quick] [--only null power ...] [--into PAGE.md]

Draws answers from chances (`benchmarks/made_up_answers.py`), gives them to `evaluator.verdicts`, and counts what is
said of them. Prints a table of rates beside their goals, then the tables that it sums up. Two processes; `--quick`
takes a fiftieth of the pages, which shows that it runs and not much more.
"""

import argparse
import math
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from made_up_answers import OWN, PRUNED, STUDY, TEACHER, TITLES, Lost, MadeUpPage

from evaluator.results.run import AVERAGE, Report
from evaluator.verdicts.contrasts import BETTER, WORSE
from evaluator.verdicts.judge import judge, judge_alone

SEED = 20260601
MILESTONES = ("2.5B", "5B", "20B", "40B", "60B", "80B", "100B")
PARTS = 16
"""Parts into which the pages of a measure are cut, so that two processes end together."""
Counts = Counter
"""What was counted, by name; `pages` is how many were judged."""


@dataclass(frozen=True)
class Measure:
    """Something to count over pages that are drawn alike."""

    part: str
    """Which of `--only` it belongs to."""
    name: str
    """What it is called in the table."""
    pages: int
    """Pages that are drawn."""
    draw: Callable[[np.random.Generator], Counts]
    """Draws a page, has it judged, and counts."""


class Page(MadeUpPage):
    """A page with a teacher and a pruned student, as the study's."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(rng)
        self.teacher = self.answers(self.model(TEACHER))
        self.pruned = self.answers(self.model(PRUNED))

    def run(self, name: str, curve: dict, quirks=None, shift: float = 0.0, lost: tuple[str, Lost] | None = None):
        """Report of a run with these scores at its milestones; `lost` names a milestone and what it lost."""
        quirks = quirks or self.quirks()
        milestones = {}
        for label, scores in curve.items():
            gone = lost[1] if lost and lost[0] == label else None
            milestones[label] = self.answers(self.like(scores, quirks, shift), gone)
        return self.report(name, self.teacher, self.pruned, milestones)


def said(contrasts: Iterable) -> bool:
    """Whether any of the contrasts claims a difference."""
    return any(contrast.verdict in (BETTER, WORSE) for contrast in contrasts)


def is_failure(flag) -> bool:
    """Whether a finding says that a score may be of an evaluation that failed."""
    return "failed evaluation" in flag.title


def count_flags(flags: Iterable, found: Counts) -> None:
    """Count pages with any flag of each kind."""
    kinds = {
        "failed": is_failure,
        "degrades": lambda f: "degrades" in f.title,
        "unstable": lambda f: "unstable" in f.title,
    }
    for kind, applies in kinds.items():
        found[kind] += any(map(applies, flags))


# --- null -----------------------------------------------------------------------------------------------------------


def null_page(runs: int, labels: tuple[str, ...], scores: dict, own: float = OWN) -> Callable:
    """Runs that are equally good at all their milestones, each with difficulties of its own."""

    def draw(rng: np.random.Generator) -> Counts:
        page = Page(rng)
        reports = {
            f"r{number}": page.run(f"r{number}", dict.fromkeys(labels, scores), page.quirks(own))
            for number in range(runs)
        }
        judgement = judge(reports)
        found = Counter(between=said(judgement.between), within=any(map(said, judgement.within.values())))
        count_flags(judgement.flags, found)
        return found

    return draw


# --- power ----------------------------------------------------------------------------------------------------------


def power_page(runs: int, labels: tuple[str, ...], points: float, titles: tuple[str, ...]) -> Callable:
    """One run of several that is better by so many points in `titles`, at all milestones."""

    def draw(rng: np.random.Generator) -> Counts:
        page, base = Page(rng), STUDY["40B"]
        better = base | {title: min(99.5, base[title] + points) for title in titles}
        reports = {f"r{number}": page.run(f"r{number}", dict.fromkeys(labels, base)) for number in range(runs - 1)}
        reports["best"] = page.run("best", dict.fromkeys(labels, better))
        judgement = judge(reports)
        found: Counts = Counter()
        for contrast in judgement.between:
            if contrast.at == labels[-1] and {contrast.one, contrast.other} == {"r0", "best"}:
                right = BETTER if contrast.one == "best" else WORSE
                found[contrast.column] += contrast.verdict == right
        return found

    return draw


# --- where to stop --------------------------------------------------------------------------------------------------


def study_curve() -> dict:
    """The study's own scores, milestone by milestone."""
    return dict(STUDY)


def flat_from(label: str) -> dict:
    """The study's scores up to a milestone, and those of that milestone after it."""
    labels = list(STUDY)
    return {one: STUDY[one if labels.index(one) < labels.index(label) else label] for one in labels}


def stopping_page(curve: dict) -> Callable:
    """One run with these scores; counts where it is said that it could have stopped, and points lost by that."""
    means = {label: float(np.mean(list(scores.values()))) for label, scores in curve.items()}

    def draw(rng: np.random.Generator) -> Counts:
        page = Page(rng)
        # Milestones of one run differ by what each alone finds hard, too; less than blends do.
        quirks = page.quirks(0.6)
        milestones = {}
        for label, scores in curve.items():
            own = [one + more for one, more in zip(quirks, page.quirks(0.4), strict=True)]
            milestones[label] = page.answers(page.like(scores, own))
        stop, _ = judge_alone("run", page.report("run", page.teacher, page.pruned, milestones))
        label = stop.row.title
        return Counter({f"stop {label}": 1, "lost": max(means.values()) - means[label]})

    return draw


# --- seeds ----------------------------------------------------------------------------------------------------------


def seeds_page(shift: float, replicates: int) -> Callable:
    """Two blends that are equally good, each trained with so many seeds that move every benchmark by `shift` points."""

    def draw(rng: np.random.Generator) -> Counts:
        page = Page(rng)
        reports: dict[str, Report] = {}
        for blend in "ab":
            quirks = page.quirks()
            for replicate in range(replicates):
                name = f"{blend}{replicate or ''}"
                reports[name] = page.run(name, {"80B": STUDY["80B"]}, quirks, shift)
        judgement = judge(reports)
        average = [contrast for contrast in judgement.between if contrast.column == AVERAGE]
        return Counter(any=said(judgement.between), average=said(average))

    return draw


# --- failed evaluations ---------------------------------------------------------------------------------------------


def failure_page(title: str, share: float, where: str, runs: int, by: str = "answer") -> Callable:
    """Runs with the study's scores, of which the first lost answers of one benchmark at one milestone."""
    labels = ("80B",) if where == "only" else tuple(STUDY)
    at = {"first": labels[0], "middle": labels[len(labels) // 2], "last": labels[-1], "only": labels[0]}[where]

    def draw(rng: np.random.Generator) -> Counts:
        page = Page(rng)
        curve = {label: STUDY[label] for label in labels}
        reports = {"broken": page.run("broken", curve, lost=(at, Lost(title, share, by)))}
        reports |= {f"r{number}": page.run(f"r{number}", curve) for number in range(1, runs)}
        flags = judge(reports).flags if runs > 1 else judge_alone("broken", reports["broken"])[1]
        failed = [flag.title for flag in flags if is_failure(flag)]
        right = [one for one in failed if one.startswith(f"{title} of broken at {at}")]
        return Counter(flagged=bool(right), others=len(failed) > len(right))

    return draw


def sound_page(curves: tuple[dict, ...]) -> Callable:
    """Runs of which nothing failed, with these scores; counts flags."""

    def draw(rng: np.random.Generator) -> Counts:
        page = Page(rng)
        reports = {f"r{number}": page.run(f"r{number}", curve) for number, curve in enumerate(curves)}
        flags = judge(reports).flags if len(reports) > 1 else judge_alone("r0", reports["r0"])[1]
        found: Counts = Counter()
        count_flags(flags, found)
        return found

    return draw


# --- counting -------------------------------------------------------------------------------------------------------


def measures() -> list[Measure]:
    """All that is counted."""
    flat, one = STUDY["80B"], ("80B",)
    all_points = [
        Measure("null", "two blends, one milestone", 2000, null_page(2, one, flat)),
        Measure("null", "the same, own difficulties of 1.5 logits", 1000, null_page(2, one, flat, 1.5)),
        Measure("null", "five blends, seven milestones, flat", 300, null_page(5, MILESTONES, flat)),
        Measure("power", "five blends, one milestone, Average +2", 300, power_page(5, one, 2, TITLES)),
        Measure("power", "five blends, seven milestones, Average +2", 100, power_page(5, MILESTONES, 2, TITLES)),
        Measure("power", "two blends, one milestone, all +5", 300, power_page(2, one, 5, TITLES)),
        Measure("stopping", "study", 400, stopping_page(study_curve())),
    ]
    all_points += [
        Measure("stopping", f"flat from {at}", 400, stopping_page(flat_from(at))) for at in ("20B", "40B", "60B")
    ]
    all_points += [
        Measure("seeds", f"sd {shift}, {count} each", 500, seeds_page(shift, count))
        for shift in (0.0, 0.5, 1.0)
        for count in (1, 2)
    ]
    return all_points


def work(task: tuple[str, int, int, int]) -> tuple[str, Counts]:
    """Draw some pages of a measure, in a process of its own."""
    name, part, pages, number = task
    measure = next(one for one in measures() if f"{one.part}: {one.name}" == name)
    rng = np.random.default_rng([SEED, part, number])
    found: Counts = Counter()
    for _ in range(pages):
        found.update(measure.draw(rng))
        found["pages"] += 1
    return name, found


def count(chosen: list[Measure], scale: float) -> dict[str, Counts]:
    """What was counted, by the measure's part and name."""
    tasks = []
    for number, measure in enumerate(chosen):
        pages = max(2, math.ceil(measure.pages * scale))
        parts = min(PARTS, pages)
        sizes = [pages // parts + (index < pages % parts) for index in range(parts)]
        tasks += [(f"{measure.part}: {measure.name}", index, size, number) for index, size in enumerate(sizes)]
    found: dict[str, Counts] = {f"{measure.part}: {measure.name}": Counter() for measure in chosen}
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for name, counts in pool.imap_unordered(work, tasks):
            found[name].update(counts)
    return found


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--into", type=Path)
    options = parser.parse_args()
    begin = time.perf_counter()
    chosen = [measure for measure in measures() if not options.only or measure.part in options.only]
    found = count(chosen, 0.02 if options.quick else 1.0)
    print(f"{time.perf_counter() - begin:.0f} s")
    for name, counts in found.items():
        rates = {key: round(value / counts["pages"], 3) for key, value in counts.items() if key != "pages"}
        print(name, counts["pages"], rates)


if __name__ == "__main__":
    main()
