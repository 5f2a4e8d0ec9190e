"""What `benchmarks/calibration.py` counts: pages whose truth is known, drawn, judged, and what is said of them."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from made_up_answers import OWN, PRUNED, STUDY, TEACHER, TITLES, Lost, MadeUpPage

from evaluator.results.pairs import difference, difference_needed, difference_p
from evaluator.results.run import AVERAGE, Report
from evaluator.suites.catalogue import get_suite
from evaluator.suites.suite import Suite
from evaluator.verdicts.contrasts import BETTER, WORSE, check_comparable
from evaluator.verdicts.failures import find_failures
from evaluator.verdicts.judge import judge, judge_alone
from nemo_distill.study.tables import load_study

SEVEN = ("2.5B", "5B", "20B", "40B", "60B", "80B", "100B")
FLAT = dict.fromkeys(SEVEN, STUDY["80B"])
ONE = {"80B": STUDY["80B"]}
WHERE = {"first": "2.5B", "middle": "40B", "last": "80B", "only": "80B"}
"""Milestone whose evaluation fails, by what the table calls it."""
SHARES = (0.5, 0.7, 0.9)
"""Shares of a benchmark's answers that are lost."""
SITUATIONS = (
    ("AIME 2025", 5.0, "questions"),
    ("GPQA Diamond", 3.0, "questions"),
    ("LCB v6", 2.0, "questions"),
    ("MATH-500", 1.0, "questions"),
    ("SciCode", 2.0, "questions"),
    ("MMLU Pro", 1.0, "questions"),
    ("IFEval", 4.0, "questions"),
    ("LCB v6", 3.0, "repeats"),
    ("SciCode", 4.0, "repeats"),
    ("AIME 2025", 10.0, "repeats"),
)
"""True differences in points, and which of the two numbers that are named is then asked."""
LEVEL_TOLD = 0.05 / 8
"""Level of the test that has to find them: of eight benchmarks of one pair, the first step of Holm's procedure."""


@dataclass(frozen=True)
class Measure:
    """Something to count over pages that are drawn alike."""

    part: str
    """Which of `--only` it belongs to."""
    name: str
    """What it is called in the tables."""
    pages: int
    """Pages that are drawn."""
    draw: Callable[[np.random.Generator], Counter]
    """Draws a page, has it judged, and counts."""


class Page(MadeUpPage):
    """A page with a teacher and a pruned student, as the study's."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(rng)
        self.teacher = self.answers(self.model(TEACHER))
        self.pruned = self.answers(self.model(PRUNED))

    def run(
        self,
        name: str,
        curve: Mapping[str, Mapping[str, float]],
        *,
        own: float = OWN,
        quirks: list | None = None,
        lost: tuple[str, Lost] | None = None,
    ) -> Report:
        """Report of a run with these scores at its milestones; `lost` names a milestone and what it lost."""
        quirks = quirks or self.quirks(own)
        milestones = {}
        for label, scores in curve.items():
            gone = lost[1] if lost and lost[0] == label else None
            milestones[label] = self.answers(self.like(scores, quirks), gone)
        return self.report(name, self.teacher, self.pruned, milestones)


def claims(contrasts: Iterable, kind: str) -> bool:
    """Whether any of the contrasts says that one is better, in the verdict of that name."""
    return any(getattr(contrast, kind) in (BETTER, WORSE) for contrast in contrasts)


def flags_of(flags: Iterable) -> Counter:
    """Whether a page has any flag of each kind."""
    titles = [flag.title for flag in flags]
    words = {"failed": "failed evaluation", "degrades": "degrades", "unstable": "unstable"}
    return Counter({kind: any(word in title for title in titles) for kind, word in words.items()})


def null_page(runs: int, curve: dict, own: float = OWN) -> Callable:
    """Runs that are equally good, each with difficulties of its own."""

    def draw(rng: np.random.Generator) -> Counter:
        page = Page(rng)
        judgement = judge({f"r{number}": page.run(f"r{number}", curve, own=own) for number in range(runs)})
        found = flags_of(judgement.flags)
        for kind in ("in_answers", "verdict"):
            found[kind] += claims(judgement.between, kind)
        return found

    return draw


def power_page(runs: int, points: float, titles: Iterable[str] = TITLES) -> Callable:
    """One run of several that is better by so many points in `titles`; counts where it is found better than another."""
    base = STUDY["40B"]
    better = base | {title: min(99.5, base[title] + points) for title in titles}

    def draw(rng: np.random.Generator) -> Counter:
        page = Page(rng)
        reports = {f"r{number}": page.run(f"r{number}", {"40B": base}) for number in range(runs - 1)}
        reports["best"] = page.run("best", {"40B": better})
        found: Counter = Counter()
        for contrast in judge(reports).between:
            if {contrast.one, contrast.other} == {"r0", "best"} and contrast.column == AVERAGE:
                right = BETTER if contrast.one == "best" else WORSE
                found["in_answers"] += contrast.in_answers == right
                found["verdict"] += contrast.verdict == right
        return found

    return draw


def flat_from(label: str) -> dict:
    """The study's scores up to a milestone, and those of that milestone after it."""
    labels = list(STUDY)
    return {one: STUDY[one if labels.index(one) < labels.index(label) else label] for one in labels}


def stopping_page(curve: dict) -> Callable:
    """One run with these scores; counts where it could have stopped, as is said, and points of the Average lost."""
    means = {label: float(np.mean(list(scores.values()))) for label, scores in curve.items()}

    def draw(rng: np.random.Generator) -> Counter:
        page = Page(rng)
        quirks, milestones = page.quirks(0.6), {}
        for label, scores in curve.items():  # milestones of one run differ by what each alone finds hard, too
            own = [one + more for one, more in zip(quirks, page.quirks(0.4), strict=True)]
            milestones[label] = page.answers(page.like(scores, own))
        stop, _ = judge_alone("run", page.report("run", page.teacher, page.pruned, milestones))
        return Counter({stop.row.title: 1, "lost": list(means.values())[-1] - means[stop.row.title]})

    return draw


def seeds_page(sd: float, replicates: int, together: bool) -> Callable:
    """Two equally good blends, each trained so often under seeds that move scores by `sd` points.

    `together`: all benchmarks of a run move alike, and so its Average by as much; else each by itself.
    """

    def draw(rng: np.random.Generator) -> Counter:
        page, reports, groups = Page(rng), {}, {}
        for blend in "ab":
            quirks, groups[blend] = page.quirks(), [f"{blend}{number}" for number in range(replicates)]
            for name in groups[blend]:
                moved = rng.normal(0, sd) * np.ones(len(TITLES)) if together else rng.normal(0, sd, len(TITLES))
                scores = {title: STUDY["80B"][title] + by for title, by in zip(TITLES, moved, strict=True)}
                reports[name] = page.run(name, {"80B": scores}, quirks=quirks)
        judgement = judge(reports, replicates=groups)
        return Counter({kind: claims(judgement.between, kind) for kind in ("in_answers", "verdict")})

    return draw


def failure_page(title: str, share: float, where: str) -> Callable:
    """A run with the study's scores that lost answers of one benchmark at one milestone: alone, and beside another."""
    curve = ONE if where == "only" else STUDY

    def draw(rng: np.random.Generator) -> Counter:
        page, at = Page(rng), WHERE[where]
        broken, sound = page.run("broken", curve, lost=(at, Lost(title, share))), page.run("sound", curve)
        alone = find_failures({"broken": broken})["broken"]
        beside = find_failures({"broken": broken, "sound": sound})
        return Counter(
            alone=(title, at) in alone,
            beside=(title, at) in beside["broken"],
            others=bool(set(alone) - {(title, at)} or set(beside["broken"]) - {(title, at)} or beside["sound"]),
        )

    return draw


def sound_page(*curves: dict) -> Callable:
    """Runs of which nothing failed, with these scores; counts flags."""

    def draw(rng: np.random.Generator) -> Counter:
        page = Page(rng)
        reports = {f"r{number}": page.run(f"r{number}", curve) for number, curve in enumerate(curves)}
        return flags_of(judge(reports).flags if len(reports) > 1 else judge_alone("r0", reports["r0"])[1])

    return draw


def published() -> list[dict]:
    """The study's five blends, as published: some worse than others, and with ups and downs."""
    nearest = {"19B": "20B", "56B": "60B"}  # one blend was evaluated a little earlier; runs meet at equal tokens
    return [
        {
            nearest.get(row.title, row.title): {title: row.score(title).points for title in TITLES}
            for row in blend.evaluated
        }
        for blend in load_study().blends
    ]


def told_page(title: str, points: float, by: str) -> Callable:
    """Two checkpoints whose difference is seen as it is; asks what is said to be needed; counts if that finds it."""

    def pair(rng: np.random.Generator, **asked: int) -> list:
        page, base = MadeUpPage(rng, one_benchmark(title, **asked)), STUDY["40B"]
        return [page.answers(page.model(base | {title: base[title] + more}))[0] for more in (points, 0.0)]

    def draw(rng: np.random.Generator) -> Counter:
        while True:
            one, other = pair(rng)
            seen = difference(one, other)
            if abs(seen.mean - points / 100) < 0.15 * max(seen.stderr, points / 500):
                break
        more = difference_needed(one, other, significance=LEVEL_TOLD)
        number = getattr(more, by) if more else None
        if number is None:
            return Counter(silent=1)
        found = [difference_p(*pair(rng, **{by: number})) < LEVEL_TOLD for _ in range(3)]
        return Counter(found=sum(found), asked=len(found), named=number)

    return draw


def one_benchmark(title: str, questions: int = 0, repeats: int = 0) -> Suite:
    """The study's suite with one benchmark, asked otherwise."""
    suite = get_suite("study")
    (benchmark,) = (one for one in suite.benchmarks if one.title == title)
    if questions:
        problems = round(questions * benchmark.problems / benchmark.questions)
        benchmark = dataclasses.replace(benchmark, questions=questions, problems=problems)
    benchmark = dataclasses.replace(benchmark, repeats=repeats or benchmark.repeats)
    return dataclasses.replace(suite, benchmarks=(benchmark,))


def teachers_page(rng: np.random.Generator) -> Counter:
    """Five runs, each of which evaluated the same teacher for itself."""
    page = MadeUpPage(rng)
    teacher, student = page.model(TEACHER), page.answers(page.model(STUDY["80B"]))
    reports = {
        f"r{number}": page.report(f"r{number}", page.answers(teacher), student, {"80B": student}) for number in range(5)
    }
    try:
        check_comparable(reports)
    except ValueError:
        return Counter(refused=1)
    return Counter(refused=0)


def measures() -> list[Measure]:
    """All that is counted."""
    found = [
        Measure("null", "two blends, one milestone", 800, null_page(2, ONE)),
        Measure("null", "the same, own difficulties of 1.5 logits", 400, null_page(2, ONE, 1.5)),
        Measure("null", "five blends, seven milestones, flat", 60, null_page(5, FLAT)),
    ]
    found += [
        Measure("power", f"{runs} blends, all {points} points better", 120, power_page(runs, points))
        for runs in (2, 5)
        for points in (1, 2, 3)
    ]
    curves = {"the study's table": dict(STUDY)} | {f"flat from {at}": flat_from(at) for at in ("20B", "40B", "60B")}
    found += [Measure("stopping", name, 200, stopping_page(curve)) for name, curve in curves.items()]
    found += [
        Measure(
            "seeds",
            f"sd {sd}, {'all benchmarks alike' if together else 'each benchmark by itself'}, "
            f"{'two replicates' if count > 1 else '0.5 assumed'}",
            200,
            seeds_page(sd, count, together),
        )
        for sd, count in ((0.5, 1), (0.5, 2), (1.0, 2))
        for together in (False, True)
    ]
    found += [
        Measure("failures", failure_name(title, where, share), 40, failure_page(title, share, where))
        for title in TITLES
        for where in WHERE
        for share in SHARES
    ]
    found += [
        Measure("sound", "one run, flat", 200, sound_page(FLAT)),
        Measure("sound", "one run, the study's table", 200, sound_page(STUDY)),
        Measure("sound", "one run of one milestone", 400, sound_page(ONE)),
        Measure("sound", "two runs, the study's table", 100, sound_page(STUDY, STUDY)),
        Measure("sound", "the five published blends", 50, sound_page(*published())),
    ]
    found += [
        Measure("told", told_name(title, points, by), 100, told_page(title, points, by))
        for title, points, by in SITUATIONS
    ]
    return [*found, Measure("teachers", "five runs, a teacher's evaluation each", 200, teachers_page)]


def failure_name(title: str, where: str, share: float) -> str:
    """Name of the measure of a cell."""
    return f"{title}, {where}, {share:.0%}"


def told_name(title: str, points: float, by: str) -> str:
    """Name of the measure of a situation."""
    return f"{title} {points:+g}, {by}"
