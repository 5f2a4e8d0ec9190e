"""Reads the study's own tables: five blends, their scores over tokens, and what may be compared with what.

>>> from nemo_distill.study.tables import load_study
>>> study = load_study()
>>> blend = study.blend("30pre_70post_v3")
>>> blend.checkpoint("80B").score("IFEval").points
65.5
>>> chosen = study.blend("30pre_70post_v1v3").checkpoint("80B")
>>> chosen.score("AIME 2025").minus(blend.checkpoint("80B").score("AIME 2025"))
Traceback (most recent call last):
    ...
ValueError: AIME 2025 as average of 32 and AIME 2025 as single shot are two protocols and are not compared.

The numbers stand in published.yaml, from 0 to 100, each table with its source. A score knows how often its questions
were asked; two scores meet (in a difference, a curve or a panel) only if that was as often. Single answers were not
published, so of a standard error only bounds are known: see `evaluator.stats.scores.ErrorRange`.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from evaluator.stats.scores import ErrorRange, Estimate, average, binomial_stderr
from evaluator.suites.catalogue import STUDY
from evaluator.suites.suite import Benchmark
from nemo_distill.config.blend import PUBLISHED, Blend, reconstructed
from nemo_distill.config.schedule import Schedule

FILE = Path(__file__).parent / "published.yaml"
"""The study's numbers."""
CLEAR_ERRORS = 2
"""A difference is clear when it is more than this many standard errors from zero."""


@dataclass(frozen=True)
class Difference:
    """One score less another."""

    points: float
    """Difference in points, from -100 to 100."""
    stderr: ErrorRange
    """Its standard error in points, the answers taken as independent; over the same questions it may be smaller."""

    @property
    def verdict(self) -> str:
        """`clear`: sampling error alone does not explain it, whatever the answers were. `error`: it may, even if all
        questions were alike. `open`: between the two. Only the single answers, paired, could tell more."""
        size = abs(self.points)
        if size > CLEAR_ERRORS * self.stderr.most:
            return "clear"
        return "error" if size <= CLEAR_ERRORS * self.stderr.least else "open"


@dataclass(frozen=True)
class Score:
    """One cell of a table."""

    points: float
    """As published, from 0 to 100."""
    benchmark: Benchmark
    """What was asked, with the repeats it was asked with."""

    @property
    def stderr(self) -> ErrorRange:
        """Its standard error in points, over questions."""
        error = binomial_stderr(self.points / 100, questions=self.benchmark.independent, repeats=self.benchmark.repeats)
        return ErrorRange(100 * error.least, 100 * error.most)

    @property
    def estimate(self) -> Estimate:
        """From 0 to 1, with the larger standard error."""
        return Estimate(mean=self.points / 100, stderr=self.stderr.most / 100)

    def minus(self, other: "Score") -> Difference:
        """How far it is above `other`. Raises ValueError for another benchmark or protocol."""
        common_benchmark([self, other])
        # 66.2 - 41.8 is 24.4 and no 24.400000000000006: a hair past two standard errors is not past them.
        return Difference(round(self.points - other.points, 6), self.stderr.with_other(other.stderr))


def common_benchmark(scores: Iterable[Score]) -> Benchmark:
    """The benchmark of all `scores`; raises ValueError unless they are of one, asked as often."""
    asked = {(score.benchmark.title, score.benchmark.repeats): score.benchmark for score in scores}
    if len(asked) > 1:
        named = " and ".join(f"{title} as {repeats_text(repeats)}" for title, repeats in asked)
        raise ValueError(f"{named} are two protocols and are not compared.")
    return asked.popitem()[1]


def repeats_text(repeats: int) -> str:
    """`single shot` or `average of 8`."""
    return "single shot" if repeats == 1 else f"average of {repeats}"


@dataclass(frozen=True)
class Checkpoint:
    """A row of a table."""

    title: str
    """Tokens as published, or the name of a reference model."""
    scores: tuple[Score, ...]
    """In the order of the columns; empty when it was not evaluated."""
    source: str
    """Where the row was published."""
    role: str = "milestone"
    """`milestone`, or which reference it is: `teacher`, `pruned`, `larger`."""
    iteration: int | None = None
    """Iterations of distillation; None where it is not published."""
    model: str = ""
    """Name of it on the hub, where that is said."""

    @property
    def tokens(self) -> float:
        """Tokens of distillation as its title says, which is cut to two digits."""
        assert self.title.endswith("B"), self.title
        return float(self.title[:-1]) * 1e9

    def score(self, title: str) -> Score:
        """Its score in the column called `title`."""
        return next(score for score in self.scores if score.benchmark.title == title)

    @property
    def average(self) -> Estimate:
        """Average of all columns, from 0 to 1, with the larger standard error."""
        return average([score.estimate for score in self.scores])


@dataclass(frozen=True)
class BlendTable:
    """One table: a blend's checkpoints, all collected in one way."""

    name: str
    """The study's name for it."""
    about: str
    """What it is made of, in half a sentence."""
    source: str
    """Where the table was published."""
    columns: tuple[Benchmark, ...]
    """The benchmarks, with the repeats of this table."""
    composition: Blend
    """Its sources and their shares, published or reconstructed."""
    rows: tuple[Checkpoint, ...]
    """By tokens; one without scores was not evaluated."""

    @property
    def evaluated(self) -> tuple[Checkpoint, ...]:
        """Rows that have scores."""
        return tuple(row for row in self.rows if row.scores)

    @property
    def last(self) -> Checkpoint:
        """The evaluated row with most tokens."""
        return self.evaluated[-1]

    def checkpoint(self, title: str) -> Checkpoint | None:
        """The evaluated row of that many tokens, if there is one."""
        return next((row for row in self.evaluated if row.title == title), None)

    def at(self, title: str) -> Checkpoint:
        """The evaluated row of that many tokens. Raises ValueError when there is none."""
        if row := self.checkpoint(title):
            return row
        raise ValueError(
            f"{self.name} has no scores at {title}; it has them at {[row.title for row in self.evaluated]}."
        )


@dataclass(frozen=True)
class PublishedSchedule:
    """The study's learning rate over iterations, the same for every blend."""

    source: str
    """Where it was published."""
    course: Schedule
    """Batch, length and learning rate."""
    milestones: dict[str, int]
    """Iteration of a row, where it is published."""

    def tokens(self, title: str) -> float:
        """Tokens of the row called `title`: of its iterations, or as the title says where none are published."""
        if title in self.milestones:
            return float(self.course.tokens(self.milestones[title]))
        return Checkpoint(title, (), self.source).tokens


@dataclass(frozen=True)
class Served:
    """How fast a model was served, and what its weights take."""

    model: str
    """`teacher` or `student`."""
    format: str
    """Of its weights: bf16, FP8."""
    tokens_per_second: float
    """Generated tokens per second, on one GPU."""
    gib: float
    """Weights in GiB, as the server loads them."""


@dataclass(frozen=True)
class Serving:
    """What was published of serving."""

    source: str
    """Where it was published."""
    gpu: str
    """Kind of the GPU."""
    setting: tuple[int, int]
    """Tokens of every prompt and of every answer."""
    models: tuple[Served, ...]
    """What was served."""

    def of(self, model: str, format: str) -> Served:
        """The one of that model and format."""
        return next(one for one in self.models if (one.model, one.format) == (model, format))


@dataclass(frozen=True)
class Claim:
    """Something the study says of its own numbers."""

    says: str
    """The claim, in the words of the report."""
    source: str
    """Key of the source that makes it."""
    check: str
    """The function of `nemo_distill.study.claims` that holds it against the numbers."""
    given: dict
    """Its arguments."""


@dataclass(frozen=True)
class Study:
    """All of published.yaml."""

    title: str
    """Title of the study."""
    sources: dict[str, str]
    """What each source is, by its key."""
    schedule: PublishedSchedule
    """Learning rate and milestones of every blend."""
    blends: tuple[BlendTable, ...]
    """Tables of the blends, in the study's order."""
    references: tuple[Checkpoint, ...]
    """Models that stand beside the blends: teacher, pruned student and a larger one."""
    claims: tuple[Claim, ...]
    """What the study says of its own numbers."""
    serving: Serving
    """How fast its models were served, and what they weigh."""

    def blend(self, name: str) -> BlendTable:
        """The blend called `name`."""
        return next(blend for blend in self.blends if blend.name == name)

    def reference(self, role: str) -> Checkpoint:
        """The teacher, the pruned student or the larger model."""
        return next(row for row in self.references if row.role == role)

    @cached_property
    def comparable(self) -> tuple[BlendTable, ...]:
        """Blends all of whose columns were collected as the teacher's and the pruned student's."""
        repeats = [score.benchmark.repeats for score in self.reference("teacher").scores]
        return tuple(blend for blend in self.blends if [column.repeats for column in blend.columns] == repeats)

    @cached_property
    def columns(self) -> tuple[Benchmark, ...]:
        """Every benchmark in every protocol that there is: what may share a curve or a column, and nothing else."""
        rank = {benchmark.title: index for index, benchmark in enumerate(STUDY.benchmarks)}
        found = {(c.title, c.repeats): c for blend in self.blends for c in blend.columns}
        return tuple(sorted(found.values(), key=lambda c: (rank[c.title], c.repeats)))

    def is_split(self, title: str) -> bool:
        """Whether the benchmark called `title` was collected in more than one protocol."""
        return sum(column.title == title for column in self.columns) > 1

    def column_title(self, column: Benchmark) -> str:
        """Its title, with the protocol where there are two."""
        return f"{column.title}, {repeats_text(column.repeats)}" if self.is_split(column.title) else column.title


def load_study(path: Path = FILE) -> Study:
    """Read published.yaml. Raises ValueError with the table that cannot be."""
    record = yaml.safe_load(path.read_text(encoding="utf-8"))
    columns = {
        name: tuple(_column(title, protocol["repeats"]) for title in record["columns"])
        for name, protocol in record["protocols"].items()
    }
    published = record["schedule"]
    schedule = PublishedSchedule(published["source"], Schedule(**published["course"]), published["milestones"])

    def row(title: str, points: list | None, table: dict, **more) -> Checkpoint:
        if points is None:
            return Checkpoint(title, (), table["source"], **more)
        if len(points) != len(record["columns"]) or not all(0 <= value <= 100 for value in points):
            raise ValueError(f"{title} of {table.get('about', 'the references')!r} has the scores {points}.")
        scores = tuple(Score(value, column) for value, column in zip(points, columns[table["protocol"]], strict=True))
        return Checkpoint(title, scores, table["source"], **more)

    blends = tuple(
        BlendTable(
            name=name,
            about=table["about"],
            source=table["source"],
            columns=columns[table["protocol"]],
            composition=_composition(name, table["shares"]),
            rows=tuple(
                row(title, points, table, iteration=schedule.milestones.get(title))
                for title, points in table["scores"].items()
            ),
        )
        for name, table in record["blends"].items()
    )
    references = tuple(
        row(model["title"], model["scores"], model, role=role, model=model.get("model", ""))
        for role, model in record["references"].items()
    )
    claims = tuple(Claim(**claim) for claim in record["claims"])
    told = record["serving"]
    served = tuple(Served(**one) for one in told["models"])
    serving = Serving(told["source"], told["gpu"], tuple(told["setting"]), served)
    study = Study(record["title"], record["sources"], schedule, blends, references, claims, serving)
    named = [*(blend.source for blend in blends), *(row.source for row in references), *(one.source for one in claims)]
    for name in (schedule.source, serving.source, *named):
        if name not in study.sources:
            raise ValueError(f"published.yaml names the source {name!r}; it has {', '.join(study.sources)}.")
    return study


def _composition(name: str, shares: dict[str, list]) -> Blend:
    rows = ((source, share, why if why == PUBLISHED else reconstructed(why)) for source, (share, why) in shares.items())
    return Blend.of(name, *rows)


def _column(title: str, repeats: dict[str, int]) -> Benchmark:
    benchmark = next((one for one in STUDY.benchmarks if one.title == title), None)
    if benchmark is None:
        raise ValueError(f"published.yaml has a column {title!r}, which the study's suite does not.")
    return dataclasses.replace(benchmark, repeats=repeats.get(title, benchmark.repeats))
