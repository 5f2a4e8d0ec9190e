"""Holds what the report of several runs shows: their judgement, and views of it in the order of the page.

comparison = Comparison(judge({"pre_sft_v1": report, "pt_v1v2": other}), commands)
comparison.finals                       # the blends' rows where all is summed up, the highest Average first
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from evaluator.report.colours import numbers_of
from evaluator.results.run import AVERAGE, BlendPart, Report, Row
from evaluator.verdicts.judge import Judgement, Standing


@dataclass(frozen=True)
class Comparison:
    """All that the report shows."""

    judgement: Judgement
    """What the runs' answers show."""
    commands: Mapping[str, str]
    """Command, by the run's name, that shows its own report, and so each of its numbers."""

    @property
    def reports(self) -> Mapping[str, Report]:
        """A report of each blend, of several runs their mean, by the blend's name."""
        return self.judgement.reports

    @cached_property
    def runs(self) -> Mapping[str, Report]:
        """The runs' own reports, by the names that the runs go by."""
        return {name: report for blend in self.judgement.blends.values() for name, report in blend.runs.items()}

    @property
    def replicated(self) -> dict[str, list[str]]:
        """Names of the runs of each blend that has more than one."""
        return {name: list(blend.runs) for name, blend in self.judgement.blends.items() if len(blend.runs) > 1}

    @property
    def first(self) -> Report:
        """One of them, for what all share: the suite and the teacher."""
        return next(iter(self.reports.values()))

    @property
    def title(self) -> str:
        """Names of all blends."""
        return " · ".join(self.reports)

    def number(self, name: str) -> int:
        """Number of the blend, from 1, which decides its colour and symbol; of a run, its blend's."""
        return self._numbers[name]

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        """Number of each blend and run by its name."""
        blends = numbers_of(self.judgement.blends)
        runs = {run: blends[blend.name] for blend in self.judgement.blends.values() for run in blend.runs}
        return runs | blends

    @property
    def columns(self) -> list[str]:
        """Title of the average, which is what is tested first, and of the benchmarks."""
        return [AVERAGE, *(title for _, title in self.first.columns)]

    @property
    def without_answers(self) -> list[str]:
        """Titles of the benchmarks whose harness kept no single answers of some checkpoint."""
        lacking = {title for report in self.runs.values() for title in report.without_answers}
        return [title for _, title in self.first.columns if title in lacking]

    @property
    def pruned(self) -> Row | None:
        """The pruned student, where all runs began from one."""
        rows = [report.row("pruned") for report in self.reports.values()]
        return rows[0] if all(row.summaries == rows[0].summaries for row in rows) else None

    @property
    def references(self) -> list[Row]:
        """The teacher and, where all runs began from one, the pruned student."""
        return [self.first.row("teacher"), *filter(None, [self.pruned])]

    @property
    def elsewhere(self) -> list[str]:
        """Blends without the milestone at which all is summed up."""
        return [name for name in self.reports if name not in self.finals]

    @property
    def at(self) -> str:
        """Title of the milestone at which all is summed up."""
        return self.judgement.title(self.judgement.last_common)

    @property
    def finals(self) -> dict[str, Row]:
        """Row of each blend that has the milestone at which all is summed up, the highest average first."""
        rows = self.judgement.shared[self.judgement.last_common]
        return dict(sorted(rows.items(), key=lambda item: -item[1].average.mean))

    @property
    def ordered(self) -> list[str]:
        """All blends, the highest average first, last those without that milestone."""
        return [*self.finals, *self.elsewhere]

    @property
    def standings(self) -> list[Standing]:
        """Who leads in each column there, the average first."""
        return sorted(self.judgement.standings(self.at), key=lambda one: one.column != AVERAGE)

    @property
    def rows(self) -> list[tuple[str, Row]]:
        """Every checkpoint once, with the name of its run; teachers and pruned students that are one under none."""
        found: dict[str, tuple[str, Row]] = {}
        for name, report in self.runs.items():
            for row in report.rows:
                shared = row.role == "teacher" or (row.role == "pruned" and self.pruned)
                found.setdefault(row.role if shared else f"{name} {row.title}", ("" if shared else name, row))
        return list(found.values())

    @property
    def means(self) -> list[tuple[str, Row]]:
        """Milestones that are means of several runs, with the name of their blend."""
        return [
            (name, row)
            for name, blend in self.judgement.blends.items()
            for row in blend.report.milestones
            if len(blend.at(row.seen)) > 1
        ]

    @property
    def sources(self) -> list[tuple[str, list[BlendPart | None]]]:
        """Every source with its part in each run's blend; None where a blend has none of it."""
        blends = [{part.source: part for part in self.reports[name].blend} for name in self.ordered]
        names = dict.fromkeys(name for blend in blends for name in blend)
        return [(name, [blend.get(name) for blend in blends]) for name in names]

    @property
    def available(self) -> list[int]:
        """Tokens of every source, in the order of `sources`."""
        return [next(part.tokens_available for part in parts if part) for _, parts in self.sources]
